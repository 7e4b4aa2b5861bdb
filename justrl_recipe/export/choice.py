"""Which checkpoint of a run is exported: a whole one, by its step, as the last, or as the best by validation."""

from collections.abc import Mapping
from pathlib import Path

from justrl_recipe import checkpoints
from justrl_recipe.errors import UserError
from justrl_recipe.metrics import best_first
from justrl_recipe.terminal import warn

BEST, LAST = "best", "last"


def choose(saved: Path, step: str, accuracies: Mapping[int, float]) -> Path:
    """The checkpoint to export; every byte of it has the hash that its marker names.

    Args:
        saved: the folder of a run's checkpoints.
        step: a number, `best` or `last`.
        accuracies: by step, those of the run's validations.

    Raises:
        UserError: there is no such checkpoint, or it is not whole.
    """
    if step == LAST:
        return _last(saved)
    if step == BEST:
        return _best(saved, accuracies)
    if not step.isdecimal():
        raise UserError(f"--step {step}: give the number of a step, {BEST} or {LAST}")
    checkpoint = saved / f"global_step_{int(step)}"
    steps = [str(checkpoints.step_of(path)) for path in reversed(checkpoints.saved(saved))]
    if str(int(step)) not in steps:
        raise UserError(f"no checkpoint of step {int(step)} in {saved}: it has {', '.join(steps) or 'none'}")
    if reason := checkpoints.flaw(checkpoint):
        raise UserError(f"{checkpoint} cannot be exported: {reason}")
    return checkpoint


def _last(saved: Path) -> Path:
    checkpoint, passed_over = checkpoints.latest_whole(saved)
    for line in passed_over:
        warn(line)
    if checkpoint is None:
        raise UserError(f"{saved} holds no whole checkpoint: trainer.save_freq says when one is written")
    return checkpoint


def _best(saved: Path, accuracies: Mapping[int, float]) -> Path:
    """The whole checkpoint with the best validation accuracy; says where another step was better."""
    steps = best_first(accuracies)
    for step in steps:
        checkpoint = saved / f"global_step_{step}"
        if checkpoint.is_dir() and checkpoints.flaw(checkpoint) is None:
            if step != steps[0]:
                better = f"validation was best at step {steps[0]} ({accuracies[steps[0]]:.3f})"
                warn(f"{better}, of which there is no whole checkpoint: step {step} ({accuracies[step]:.3f}) is used")
            return checkpoint
    raise UserError(
        f"{saved} holds no whole checkpoint of a step with a validation (trainer.test_freq): give --step N"
    )
