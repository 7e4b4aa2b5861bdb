"""The recipe's reward against veRL's own, on anything that a model may write."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from verl.utils.reward_score import math_dapo

from justrl_recipe.reward_fns.rule_based import compute_score

PIECES = st.sampled_from(
    [
        "\\boxed{",
        "\\boxed",
        "\\fbox{",
        "{",
        "}",
        "\\",
        "34",
        " 34",
        "\\frac{1}{2}",
        "Answer: 34",
        "\n",
        " ",
        "é",
        "∀",
        "x" * 97,
    ]
)


RESPONSES = st.one_of(
    st.text(), st.lists(PIECES, max_size=12).map("".join), st.tuples(st.text(), PIECES).map("".join)
)


GOLDS = st.one_of(st.text(max_size=5), st.sampled_from(["34", "\\frac{1}{2}", "", "{34}"]))


@settings(max_examples=3000)
@given(RESPONSES, GOLDS)
def test_scores_what_verl_scores_strictly(response, gold):
    assume(gold.strip())  # an empty one is the next test's
    expected = math_dapo.compute_score(response, gold, strict_box_verify=True)
    found = compute_score("math_dapo", response, gold)
    assert {name: found[name] for name in expected} == expected


@given(st.text(max_size=120), st.text(alphabet="0123456789x\\{} ", max_size=20))
def test_accepts_a_boxed_gold_near_the_end(prefix, gold):
    assume(gold.strip())
    opened = gold.count("{") == gold.count("}") and not gold.startswith("}")
    expected = math_dapo.compute_score(f"{prefix}\\boxed{{{gold}}}", gold, strict_box_verify=True)
    found = compute_score("any", f"{prefix}\\boxed{{{gold}}}", gold)
    assert {name: found[name] for name in expected} == expected
    if opened and gold.isdigit():
        assert expected["score"] == 1.0


def test_no_box_and_no_ground_truth_is_no_success():
    assert math_dapo.compute_score("no box", None, strict_box_verify=True)["score"] == 1.0  # the accident left out
    assert compute_score("math_dapo", "no box", None)["score"] == -1.0
