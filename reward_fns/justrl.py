"""What the recipe names as its reward: the rule-based score in training, the robust verifier in validation.

As in the authors' run, whose in-training validation on AIME24, AIME25 and AMC23 is scored by math-verify, so that
validation curves compare with theirs, and those of two arms with each other. Training rewards never pass through a
verifier.
"""

from collections.abc import Collection
from typing import Any

from justrl_recipe.reward_fns import robust_verifier, rule_based


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict | None = None,
    validation_sources: Collection[str] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Score one response by the verifier of its source; see `rule_based` and `robust_verifier`.

    Args:
        validation_sources: the data sources that the robust verifier scores, from the recipe's
            `reward.custom_reward_function.reward_kwargs`; every other goes to the rule-based reward.
    """
    scorer = robust_verifier if data_source in (validation_sources or ()) else rule_based
    return scorer.compute_score(data_source, solution_str, ground_truth, extra_info, **kwargs)
