"""The reward of the recipe: exact match of the last box. tests/contract compares it with veRL's own."""

import pytest

from justrl_recipe.reward_fns.rule_based import compute_score


@pytest.mark.parametrize("gold", ["", " ", "\n", None])
@pytest.mark.parametrize(
    "response", ["\\boxed{}", "\\boxed{ }", "\\boxed{\n}", "so \\boxed{}.", "\\boxed{", "", None]
)
def test_an_empty_ground_truth_is_never_rewarded(response, gold):
    assert compute_score("math_dapo", response, gold)["score"] == -1.0


@pytest.mark.parametrize("response", [None, 34, b"\\boxed{34}", ["\\boxed{34}"]])
@pytest.mark.parametrize("gold", ["34", None, 34])
def test_anything_but_text_scores_minus_one(response, gold):
    assert compute_score("math_dapo", response, gold)["score"] == -1.0


def test_takes_every_data_source_and_ignores_the_answer_format():
    assert compute_score("AIME24", "\\boxed{34}", "34", extra_info={"index": 1}, more=2)["acc"] is True
    assert compute_score("AIME24", "Answer: 34", "34")["acc"] is False
