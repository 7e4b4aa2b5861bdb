"""The robust verifier's verdicts, a table per kind of answer; test_math_workers.py in e2e tests its processes."""

import itertools
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.reward_fns.mathematics.literals import plain_number
from justrl_recipe.reward_fns.mathematics.spelling import spelled
from justrl_recipe.reward_fns.mathematics.units import without_units
from justrl_recipe.reward_fns.robust_verifier import compute_score, too_costly

ANSWERS = yaml.safe_load((Path(__file__).parents[1] / "answers.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("column", "accepted"), [("equal", True), ("other", False)])
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_kind_of_answer_is_judged_right(kind, column, accepted):
    """Each of its answers: one test for all of them, since each test takes longer than a verdict."""
    pairs = [(row["gold"], answer) for row in ANSWERS[kind] for answer in row.get(column, [])]
    scores = [compute_score("any", f"so the answer is \\boxed{{{answer}}}.", gold) for gold, answer in pairs]
    found = [(score["acc"], score["score"]) for score in scores]
    expected = (accepted, 1.0 if accepted else -1.0)
    assert [pair for pair, verdict in zip(pairs, found, strict=True) if verdict != expected] == []


def test_the_verdict_does_not_depend_on_the_points_that_are_drawn():
    """They are drawn anew in each call."""
    for answer, gold in [
        ("\\ln|\\sec x|", "-\\ln|\\cos x|"),
        ("\\frac{\\pi}{2}-\\arcsin x", "\\arccos x"),
    ]:
        assert all(compute_score("any", f"\\boxed{{{answer}}}", gold)["acc"] for _ in range(8))


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ("\\boxed{1}, no: \\boxed{2}", True),
        ("\\boxed{2}, no: \\boxed{1}", False),
        ("\\boxed{2}" + "." * 5000, True),  # no window, unlike the rule-based reward
        ("\\boxed{\\boxed{2}}", True),
        ("the answer is 2", False),
        ("\\boxed{2} or \\boxed{", False),  # the last box is never closed
        ("\\boxed{2", False),
    ],
)
def test_the_last_box_is_the_answer(response, correct):
    assert compute_score("any", response, "2")["acc"] is correct


@pytest.mark.parametrize(
    "response", [None, 2, b"\\boxed{2}", "", "\\boxed{}", "\\boxed{ }", "\\boxed{$$}", "\\boxed{\\text{}}"]
)
@pytest.mark.parametrize("gold", ["2", "", " ", "$$", "\\boxed{}", None, 2])
def test_nothing_is_never_an_answer(response, gold):
    assert compute_score("any", response, gold)["acc"] is False


def test_gives_the_box_as_the_prediction():
    found = compute_score("any", "\\boxed{ \\frac12 }", "0.5")
    assert found == {"score": 1.0, "acc": True, "pred": " \\frac12 ", "reason": "number"}


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_integers_are_compared_exactly(a, b):
    assert compute_score("any", f"\\boxed{{{a:,}}}", str(b))["acc"] is (a == b)


@given(st.fractions(max_denominator=10**6))
def test_a_fraction_is_its_value_however_it_is_written(value):
    n, d = value.numerator, value.denominator
    for text in (f"{n}/{d}", f"\\frac{{{n}}}{{{d}}}", f"\\dfrac{{{3 * n}}}{{{3 * d}}}", f"{2 * n} / {2 * d}"):
        number = plain_number(without_units(spelled(text)))
        assert number is not None and number.value == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**9), max_value=10**9))
def test_a_decimal_is_its_exact_value(value):
    number = plain_number(without_units(spelled(f"{value:f}")))
    assert number is not None and number.value == Fraction(value)


@given(st.text(max_size=300))
def test_spelling_takes_any_text_and_is_stable(text):
    once = without_units(spelled(text))
    plain_number(once), too_costly(once)
    assert compute_score("any", f"\\boxed{{{text}}}", text)["acc"] in (True, False)


def test_plain_answers_cost_no_process_and_microseconds():
    pairs = [(str(n), f"\\boxed{{{n if n % 2 else n + 1}}}") for n in range(2000)]
    started = time.process_time()
    verdicts = [compute_score("any", response, gold)["acc"] for gold, response in pairs]
    assert verdicts == [n % 2 == 1 for n in range(2000)]
    assert time.process_time() - started < 1.0


TOWERS = ["9^9^9", "9^{9^{9}}", "2^{10^{10}}", "(10^9)^{10^9}", "x^{100000}", "5000!", "(99999)!", "2^{100!}"]
TOO_COSTLY = [*TOWERS, "1" * 301, "x" * 401, "{" * 21, "(" * 30 + "1" + ")" * 30]
SENSIBLE = [r"2024^{4046}", r"2^{25}\cdot26!", r"x^{2^{n}}", r"2^{2^3}", r"10^{100}", r"e^{-8x}", r"\frac{26!}{13!}"]


@pytest.mark.parametrize(("text", "costly"), [(t, True) for t in TOO_COSTLY] + [(t, False) for t in SENSIBLE])
def test_what_could_take_long_is_known_by_its_text(text, costly):
    assert too_costly(text) is costly


PAGE = (Path(__file__).parents[2] / "docs" / "verifier.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", PAGE, re.M)


@pytest.mark.parametrize(("gold", "accepted", "rejected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_the_page_says_holds(gold, accepted, rejected):
    assert compute_score("any", f"\\boxed{{{accepted}}}", gold)["acc"] is True
    assert compute_score("any", f"\\boxed{{{rejected}}}", gold)["acc"] is False


def test_the_page_has_its_rows():
    assert len(ROWS) > 50


HELD_OUT = yaml.safe_load((Path(__file__).parents[1] / "held_out_answers.yaml").read_text(encoding="utf-8"))


def test_the_held_out_answers_are_judged_right():
    """A share and not each: they were written before the verifier saw them, to estimate what it does elsewhere."""
    verdicts = {"equal": [], "other": []}
    for row in itertools.chain.from_iterable(HELD_OUT.values()):
        for column, found in verdicts.items():
            found += [
                compute_score("any", f"\\boxed{{{answer}}}", row["gold"])["acc"] for answer in row.get(column, [])
            ]
    right = sum(verdicts["equal"]) + verdicts["other"].count(False)
    assert right >= 0.97 * sum(map(len, verdicts.values()))
    assert sum(verdicts["other"]) <= 0.01 * len(verdicts["other"])


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ("so \\boxed 7", True),
        ("so \\boxed7.", True),
        ("so \\boxed {7}.", True),
        ("so \\boxed\n{7}", True),
        ("so \\boxed{8}, no, \\boxed 7", True),
        ("so \\boxed{7}, no, \\boxed 8", False),
        ("so \\boxed 8", False),
        ("so \\boxed", False),
        ("so \\boxed{7} or \\boxed", False),
        ("so \\boxed.7", False),
    ],
)
def test_a_box_without_braces_is_a_box(response, correct):
    assert compute_score("any", response, "7")["acc"] is correct


def test_no_answer_is_accepted_for_all_golds_that_are_letters():
    """The points at which functions are compared are drawn anew in each process."""
    script = (
        "from justrl_recipe.reward_fns.mathematics.exact import points\nfrom sympy import Symbol\n"
        "print([next(points(Symbol('x'))) for _ in range(3)])"
    )
    runs = {subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout for _ in range(2)}
    assert len(runs) == 2 and "" not in runs
    for gold in ("A", "B", "x", "n", "n^2", "k+1", "a+b", "\\sin x"):
        for answer in ("0.731959", "\\frac{71}{97}", "2.245902", "1.731959", "0.535764", "2.463918"):
            assert compute_score("any", f"\\boxed{{{answer}}}", gold)["acc"] is False
