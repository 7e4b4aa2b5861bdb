"""What a training process has left: its log, which says why it failed, and its metrics, which say what it did."""

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from justrl_recipe import masking
from justrl_recipe.metrics import REWARD, VALIDATION_PREFIX
from justrl_recipe.processes import DIED, ending, errors, log_lines
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.terminal import plain

FULL = 1 << 20  # bytes that are left on a full disk
OURS = re.compile(r"^justrl_recipe(?:\.\w+)*\.(?=\w+:)")  # the module of an error of this package
# Ray 2.60's raylet, and the first lines of its ActorDiedError.
DEAD_WORKER = re.compile(r"A worker died or was killed .* Worker PID: (\d+)")
ACTOR = re.compile(r"class_name: (?:\S*\.)?(\w+)\n(?:.*\n){0,3}?.*\bpid: (\d+)")
SPEAKER = re.compile(r"\((\w+) pid=(\d+)")


def reason(log: Path, returncode: int, lost_server: str | None = None) -> str:
    """Why a training process ended: the first error or dead worker in its log, and the last error if it is another.

    veRL continues for a while without a worker or a response, so the last error is seldom the cause.

    Args:
        lost_server: one of Ray's that died before the process ended, which Ray's own errors do not name.
    """
    if shutil.disk_usage(log.parent).free < FULL:  # the log itself ends before the reason then
        return f"the disk of {log.parent} is full"
    found = [OURS.sub("", line) for line in errors(log)]
    if dead := _dead_worker(log, before=found[0] if found else None):
        found = [dead, *(line for line in found if not line.startswith("ray."))]
    if lost_server and (not found or found[0].startswith("ray.")):
        found = [f"{lost_server} {DIED}", *found]
    if not found:
        return ending(returncode)
    return found[0] if found[-1] == found[0] else f"{found[0]}; then {found[-1]}"


def _dead_worker(log: Path, before: str | None) -> str | None:
    """The first worker that died without an error of its own, where no other error came before it."""
    text = plain(log.read_text(errors="replace"))
    names = {pid: name for name, pid in SPEAKER.findall(text)} | {pid: name for name, pid in ACTOR.findall(text)}
    for line in log_lines(log):
        if dead := DEAD_WORKER.search(line):
            who = f"{names.get(dead[1], 'a worker')} (pid {dead[1]})"
            return f"{who} {DIED}"
        if before is not None and OURS.sub("", line) == before:
            break
    return None


def write_masked(source: IO[bytes], log: Path) -> None:
    """Write what a process prints to its log, without the secrets in it."""
    with source:
        with suppress(OSError), log.open("w", encoding="utf-8", buffering=1) as target:
            for line in source:
                target.write(masking.masked(line.decode(errors="replace")))
        for _ in source:  # the disk is full, which the process meets as well; it must not wait for a reader
            pass


def logged(folder: RunFolder) -> dict[str, Any]:
    """For the manifest: the last step that was logged, how many responses were lost, validation included, and which
    trackers failed."""
    steps = [step for step, metrics in folder.steps() if REWARD in metrics]
    return {
        "last_step": max(steps, default=0),
        "lost_responses": sum(entry["lost"] for entry in folder.lost()),
        "tracker_failures": {entry["tracker"]: entry["error"] for entry in folder.failed_trackers()},
    }


def unfinished(config: Mapping[str, Any], folder: RunFolder) -> str | None:
    """What is missing after a training process ended without an error; None where nothing is.

    veRL 0.9.1 ends without an error when its epochs are over, whatever the step (`fit` in
    verl/trainer/ppo/v1/trainer_base.py).
    """
    trainer = config["trainer"]
    steps: dict[int, dict[str, Any]] = {}
    for step, metrics in folder.steps():  # a validation that is made up for has a line of its own
        steps.setdefault(step, {}).update(metrics)
    if trainer.get("val_only"):
        return None if any(map(_validated, steps.values())) else "it ended without the validation of trainer.val_only"
    wanted = trainer["total_training_steps"]
    last = max((step for step, metrics in steps.items() if REWARD in metrics), default=0)
    if last < wanted:
        return (
            f"it ended at step {last} of {wanted}: trainer.total_epochs={trainer['total_epochs']} over the rows of "
            "data.train_files gives no more; raise trainer.total_epochs or lower trainer.total_training_steps"
        )
    checkpoint = Path(trainer["default_local_dir"]) / f"global_step_{wanted}" / "actor"
    if trainer["save_freq"] > 0 and not (checkpoint.is_dir() and any(checkpoint.iterdir())):
        return f"it ended without its last checkpoint, {checkpoint.parent}"
    if trainer["test_freq"] > 0 and not _validated(steps.get(wanted, {})):
        return f"it ended without the validation of step {wanted}"
    return None


def _validated(metrics: Mapping[str, Any]) -> bool:
    return any(name.startswith(VALIDATION_PREFIX) for name in metrics)
