"""No answer, however long or odd, makes the verifier slow in the caller's own process, or raise."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from justrl_recipe.reward_fns.mathematics.spelling import spelled
from justrl_recipe.reward_fns.robust_verifier import MAX_CHARACTERS, compute_score

PIECES = [
    *(
        "a",
        "3",
        "|",
        "\\left|",
        "\\right|",
        " ",
        "\t",
        "\n",
        "\u2003",
        ".",
        ",",
        "-",
        "(",
        ")",
        "[",
        "{",
        "}",
        "\\{",
        "\\}",
        "\\",
        "\\\\",
        "$",
        "^",
        "_",
    ),
    *(
        "\\quad",
        "\\text{a}",
        "\\text{",
        "\\frac",
        "\\frac{1}",
        "\\sqrt",
        "\\boxed{",
        "and ",
        "or ",
        " is ",
        "for all ",
        "A",
        "0.",
    ),
    *(
        "²",
        "₂",
        "½",
        "\\unit{",
        "cm ",
        "\\cdot ",
        "1,",
        "<",
        "=",
        "\\in ",
        "\\mathbb{Z}",
        "\\pm ",
        "\\approx ",
        "^\\circ",
        "base ",
    ),
    *(
        "twenty-",
        "the ",
        "not ",
        "\\begin{pmatrix}",
        "&",
        "\\overline{",
        "\\%",
        "million ",
        "th",
        "\\bm{}",
        "\\text{ }",
        "\\forall",
        "n=4k+",
        "!",
        "|",
        "/",
        "x_",
    ),
]


def seconds(answer: str) -> float:
    spelled.cache_clear()
    started = time.process_time()
    spelled(answer)
    return time.process_time() - started


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("5", "!"), ("0.", "x"), ("2 ", "+1"), ("x is ", " cm"), ("1\\forall", "1")]
)
def test_a_repeated_piece_costs_little(piece, before, after):
    repeated = piece * (MAX_CHARACTERS // len(piece))
    answer = (before + repeated)[: MAX_CHARACTERS - len(after)] + after
    assert seconds(answer) < 0.3


ANSWERS = st.lists(st.one_of(st.sampled_from(PIECES), st.characters()), max_size=60).map("".join)


@settings(max_examples=400, deadline=None)
@given(ANSWERS, st.integers(1, 12))
def test_any_mixture_costs_little(answer, times):
    assert seconds((answer * times)[:MAX_CHARACTERS]) < 0.3


@settings(max_examples=300, deadline=None)
@given(ANSWERS, st.sampled_from(["5", "x^2+1", "(1,2)", "\\text{east}", "n \\equiv 1 \\pmod 4", "5\\text{ cm}", "C"]))
def test_any_answer_gets_a_verdict(answer, gold):
    assert compute_score("any", f"so \\boxed{{{answer}}}", gold)["score"] in (1.0, -1.0)
    assert compute_score("any", f"so \\boxed{{{gold}}}", answer)["score"] in (1.0, -1.0)


@pytest.mark.parametrize("space", ["\u2004", "\u00a0", "\u3000", "\u2028", "\x0b", "\x85"])
@pytest.mark.parametrize("form", ["n=4k+{}1, k\\in\\mathbb{{Z}}", "5{}cm", "{}5", "1{}000", "x{}={}5"])
def test_any_kind_of_space_is_read(space, form):
    assert compute_score("any", f"\\boxed{{{form.format(space, space)}}}", "5")["score"] in (1.0, -1.0)
