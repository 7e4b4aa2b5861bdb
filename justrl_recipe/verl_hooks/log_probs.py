"""The steps whose responses come with vLLM's log-probs.

They are compared with the trainer's (`training/rollout_probs_diff_mean`) and enter no loss, and returning them takes
a third of generation's time (docs/performance.md). So a share of the steps has them:
`actor_rollout_ref.rollout.custom.log_probs_every`.
"""

RETURN_LOG_PROBS = "return_log_probs"  # a field of each training prompt: trainer.py sets it, extensions.py reads it
FIRST_STEPS = 10  # of each attempt, which all have them: a mismatch shows at once


def has_log_probs(step: int, first: int, every: int) -> bool:
    """Whether a step has log-probs, in an attempt that began with the step `first`."""
    return step < first + FIRST_STEPS or step % every == 0
