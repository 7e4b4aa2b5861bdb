"""The bars of absolute values: which of them belong together, whether or not LaTeX says which side each is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from justrl_recipe.reward_fns.mathematics.brackets import with_bars_enclosed
from justrl_recipe.reward_fns.mathematics.parsing import expression
from justrl_recipe.reward_fns.mathematics.spelling import spelled

INNERMOST = ["x", "-y", "x+y", "z-3", "-x-2"]
SUMS = st.recursive(
    st.sampled_from(INNERMOST),
    lambda inside: st.lists(st.tuples(st.integers(2, 9), inside), min_size=1, max_size=3).map(
        lambda terms: "-".join(f"{factor}\\left|{term}\\right|" for factor, term in terms)
    ),
    max_leaves=5,
)
AT = {"x": -7, "y": 2, "z": 5}


def computed(text: str) -> float:
    """By Python, whose abs() has sides."""
    return eval(text.replace("\\left|", "*abs(").replace("\\right|", ")"), {}, AT)


def read(text: str) -> float:
    parsed = expression(spelled(text), True)
    return parsed.subs({symbol: AT[symbol.name] for symbol in parsed.free_symbols})


@settings(max_examples=60)
@given(SUMS)
def test_sides_that_latex_says_are_kept(text):
    assert read(text) == computed(text)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(2, 9), st.sampled_from(INNERMOST)), min_size=2, max_size=4))
def test_bars_side_by_side_pair_without_sides(terms):
    sided = "-".join(f"{factor}\\left|{term}\\right|" for factor, term in terms)
    assert read(sided.replace("\\left", "").replace("\\right", "")) == computed(sided)


@pytest.mark.parametrize(
    ("text", "enclosed"),
    [
        ("|x||y|+1", "((|x|)(|y|))+1"),
        ("||x|-|y||", "(|(|x|)-(|y|)|)"),
        ("|2|x|-1|", "(|2(|x|)-1|)"),
        ("|1-2|x||", "(|1-2(|x|)|)"),
        ("|x|x|", None),
        ("(|x)||", None),
    ],
)
def test_how_bars_pair(text, enclosed):
    assert with_bars_enclosed(text) == enclosed
