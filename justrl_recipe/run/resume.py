"""How a run continues after it ended early: from its last whole checkpoint, with metrics up to that step."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from justrl_recipe import checkpoints, files
from justrl_recipe.metrics import REWARD, VALIDATION_PREFIX
from justrl_recipe.run.folder import RunFolder


@dataclass(frozen=True)
class Continuation:
    """Where an attempt begins.

    checkpoint: None where the run has none, and starts from the beginning.
    passed_over: why each later checkpoint is not used, a sentence each.
    """

    step: int
    checkpoint: Path | None
    passed_over: list[str]


def find(config: Mapping[str, Any]) -> Continuation:
    """The last whole checkpoint of a run; reads all of it."""
    checkpoint, passed_over = checkpoints.latest_whole(Path(config["trainer"]["default_local_dir"]))
    return Continuation(checkpoints.step_of(checkpoint) or 0 if checkpoint else 0, checkpoint, passed_over)


def rewind(folder: RunFolder, start: Continuation) -> None:
    """Cut the run folder's metrics back to the step where an attempt begins, so that it appends to them.

    The line of that step is taken from the checkpoint where the run ended between its save and its log.

    Raises:
        UserError: the run folder cannot be written.
    """
    kept = [(step, data) for step, data in folder.steps() if start.checkpoint and step <= start.step]
    if start.checkpoint and not any(step == start.step and REWARD in data for step, data in kept):
        kept.append((start.step, checkpoints.metrics(start.checkpoint)))
    lines = [json.dumps({"step": step, "data": data}) for step, data in kept]
    files.write_text(folder.metrics, "".join(f"{line}\n" for line in lines))
    lost = [json.dumps(entry) for entry in folder.lost() if start.checkpoint and entry["step"] <= start.step]
    files.write_text(folder.lost_responses, "".join(f"{line}\n" for line in lost))


def resumed(config: Mapping[str, Any], folder: RunFolder, start: Continuation) -> dict[str, Any]:
    """The config of an attempt that begins at `start`: what the run was, and where veRL loads its state from.

    veRL validates at the start only where the validation of that step was lost.
    """
    trainer = dict(config["trainer"])
    if start.checkpoint:
        due = trainer["test_freq"] > 0 and (
            start.step % trainer["test_freq"] == 0 or start.step == trainer["total_training_steps"]
        )
        trainer |= {
            "resume_mode": "resume_path",
            "resume_from_path": str(start.checkpoint.absolute()),
            "val_before_train": due and start.step not in _validated(folder),
        }
    return {**config, "trainer": trainer}


def _validated(folder: RunFolder) -> Iterator[int]:
    return (step for step, data in folder.steps() if any(name.startswith(VALIDATION_PREFIX) for name in data))
