"""What the recipe names as its reward: the rule-based score in training, the robust verifier in validation.

As in the authors' run, whose in-training validation on AIME24, AIME25 and AMC23 is scored by math-verify, so that
validation curves compare with theirs, and those of two arms with each other. Training rewards never pass through a
verifier.
"""

from typing import Any

from justrl_recipe.reward_fns import robust_verifier, rule_based

VALIDATION_BENCHMARKS = ("AIME24", "AIME25", "AMC23")
VALIDATION_SOURCES = (*VALIDATION_BENCHMARKS, "word_problems_validation")


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict | None = None, **kwargs: Any
) -> dict[str, Any]:
    """Score one response by the verifier of its source; see `rule_based` and `robust_verifier`.

    Args:
        data_source: one of `VALIDATION_SOURCES` goes to the robust verifier, every other to the rule-based reward.
    """
    scorer = robust_verifier if data_source in VALIDATION_SOURCES else rule_based
    return scorer.compute_score(data_source, solution_str, ground_truth, extra_info, **kwargs)
