"""How a run continues after it ended early: from its last whole checkpoint, with the metrics up to that step."""

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from justrl_recipe import checkpoints, files, masking
from justrl_recipe.config import Config, leaves
from justrl_recipe.deviations import Deviation, deviations
from justrl_recipe.errors import UserError
from justrl_recipe.metrics import REWARD, VALIDATION_PREFIX
from justrl_recipe.responses import reading
from justrl_recipe.run import manifest, start
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.terminal import warn

BACKOFF, LONGEST_WAIT = 10.0, 600.0  # seconds before the first restart, doubled for each next one


def prepare(config: Mapping[str, Any], folder: RunFolder) -> start.Begin:
    """Make a run folder ready for its next attempt, and say why later checkpoints are not used.

    Raises:
        UserError: the run folder cannot be written, or checkpoints that it must have are not there, or no checkpoint
            of it says whether it is whole.
    """
    saved = Path(config["trainer"]["default_local_dir"])
    checkpoint, passed_over = checkpoints.latest_whole(saved)
    for line in passed_over:
        warn(line)
    if passed_over and not checkpoint and "first_step" not in files.read_json_object(folder.manifest):
        last = checkpoints.saved(saved)[0]
        raise UserError(
            f"{folder.path} is a run of justrl-recipe 0.1, which did not say which of its checkpoints are whole: "
            f"start a new run with trainer.resume_mode=resume_path trainer.resume_from_path={last}"
        )
    if not checkpoint and not passed_over:
        refuse_lost_checkpoints(folder, saved)
    if checkpoint:
        tell_resharding(config, checkpoint)
    step = checkpoints.step_of(checkpoint) or 0 if checkpoint else 0
    folder.keep_attempt()
    rewind(folder, step, checkpoint)
    validate = lost_validation(config, folder, step)
    rewind_responses(folder, step if checkpoint else -1, validate)
    return start.Begin(step, checkpoint, validate)


def refuse_lost_checkpoints(folder: RunFolder, saved: Path) -> None:
    """Stop where the last attempt went on after a step that it saved, and there is no checkpoint.

    Raises:
        UserError: so it is.
    """
    save_freq, steps = files.read_yaml(folder.config)["trainer"]["save_freq"], [step for step, _ in folder.steps()]
    if save_freq > 0 and any(0 < step < steps[-1] and step % save_freq == 0 for step in steps):
        raise UserError(
            f"{folder.path} has steps up to {steps[-1]}, and {saved} none of their checkpoints: restore them, or "
            "start a new run with another --out"
        )


def tell_resharding(config: Mapping[str, Any], checkpoint: Path) -> None:
    """Say where the checkpoint is of another number of GPUs (verl_hooks/resharding.py)."""
    before = checkpoints.world_size(checkpoint / "actor")
    now = config["trainer"]["nnodes"] * config["trainer"]["n_gpus_per_node"]
    if before != now:
        warn(
            f"{checkpoint} was saved with world size {before}: resuming with world size {now}, from all of its shards"
        )


def rewind(folder: RunFolder, step: int, checkpoint: Path | None) -> None:
    """Cut the run folder's metrics back to the step where an attempt begins, so that it appends to them.

    The line of that step is taken from the checkpoint where the run ended between its save and its log.
    """
    kept = [(found, data) for found, data in folder.steps() if checkpoint and found <= step]
    if checkpoint and not any(found == step and REWARD in data for found, data in kept):
        kept.append((step, checkpoints.metrics(checkpoint)))
    _write_lines(folder.metrics, [{"step": found, "data": data} for found, data in kept])
    _write_lines(folder.lost_responses, [entry for entry in folder.lost() if checkpoint and entry["step"] <= step])


def rewind_responses(folder: RunFolder, step: int, validate: bool) -> None:
    """Leave the kept responses up to a step, so that none of a step is there twice.

    Args:
        validate: whether the attempt validates at `step` again.
    """
    if not folder.responses.is_file():
        return
    with files.replacing(folder.responses) as scratch, scratch.open("wb") as kept:
        for line in files.lines(folder.responses):
            try:
                group = reading.parse(line)
            except ValueError:  # of a disk that was full
                continue
            again = validate and group.step == step and group.batch == reading.VALIDATION
            if group.step <= step and not again:
                kept.write(line)


def _write_lines(file: Path, entries: list[dict[str, Any]]) -> None:
    files.write_text(file, "".join(json.dumps(entry) + "\n" for entry in entries))


def lost_validation(config: Mapping[str, Any], folder: RunFolder, step: int) -> bool:
    """Whether the validation of the step that an attempt begins from was due, and is not among the metrics."""
    trainer = config["trainer"]
    every, last = trainer["test_freq"], trainer["total_training_steps"]
    due = every > 0 and (step % every == 0 or step == last)
    logged = (data for found, data in folder.steps() if found == step)
    return due and not any(name.startswith(VALIDATION_PREFIX) for data in logged for name in data)


def config_of(folder: RunFolder) -> Config:
    """The config that a run was started with, where the run's folder is now: it may have been moved, or be named from
    another working folder.

    Raises:
        UserError: it cannot be read, or has a secret that is not in the environment.
    """
    config = Config.of(OmegaConf.create(masking.from_environment(files.read_yaml(folder.config))))
    trainer = config.values.get("trainer")
    if not isinstance(trainer, dict) or not _were_inside(trainer.get("default_local_dir"), folder):
        return config
    here = str(folder.checkpoints)
    raw = {**config.raw, "trainer.default_local_dir": here}
    return replace(config, raw=raw, values={**config.values, "trainer": {**trainer, "default_local_dir": here}})


def _were_inside(checkpoints_folder: Any, folder: RunFolder) -> bool:
    """Whether a run kept its checkpoints in its folder: they are there, or were to be in a folder of a run."""
    if folder.checkpoints.is_dir():
        return True
    named = Path(str(checkpoints_folder))
    parent = RunFolder(named.parent)
    return named.name == folder.checkpoints.name and (not parent.path.is_dir() or parent.manifest.is_file())


def about(folder: RunFolder) -> dict[str, Any]:
    """What the manifest of a run says of it, beside how its attempts went."""
    known = files.read_json_object(folder.manifest)
    return {name: value for name, value in known.items() if name not in manifest.OF_ATTEMPT}


def changes(folder: RunFolder, config: Mapping[str, Any]) -> list[Deviation]:
    """What of a run's config may not change when it resumes, and has; a secret may.

    More or fewer steps are the same run as far as it goes, since the recipe's learning rate is constant.
    """
    masked, _ = masking.masked_config(config)
    before, now = (Config(dict(leaves(values)), values) for values in (files.read_yaml(folder.config), masked))
    return [d for d in deviations(before, now) if d.key != "trainer.total_training_steps"]


def train(
    config: Mapping[str, Any],
    folder: RunFolder,
    about: Mapping[str, Any],
    options: start.Options,
    begin: start.Begin,
    restarts: int,
    meanwhile: Callable[[], None],
) -> None:
    """Train; after a failure, resume up to `restarts` times, unless the same step fails twice in a row.

    Args:
        meanwhile: for the first attempt, as in `start.run`.

    Raises:
        What `start.run` raises.
    """
    failed_at = None
    for restart in itertools.count(1):
        try:
            return start.run(config, folder, about, options, begin, meanwhile)
        except start.TrainingFailed as failure:
            step = max((step for step, _ in folder.steps()), default=0)
            if restart > restarts or step == failed_at:
                raise
            failed_at = step
            wait = min(BACKOFF * 2 ** (restart - 1), LONGEST_WAIT)
            warn(f"training failed after step {step}: {failure}")
            warn(f"restart {restart} of {restarts} in {wait:.0f} seconds")
        time.sleep(wait)
        begin, meanwhile = prepare(config, folder), lambda: None
