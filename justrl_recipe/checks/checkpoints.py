"""Checkpoints: whether a run can resume from the one that it names, and whether its own are kept and have space."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from justrl_recipe.checks.problem import Level, Problem
from justrl_recipe.config import Config, nearest
from justrl_recipe.planning import cost
from justrl_recipe.planning.model_shape import Shape

RESUME_MODES = ("disable", "auto", "resume_path")
LATEST = "latest_checkpointed_iteration.txt"  # veRL's own note of its newest checkpoint
NEEDED_TO_RESUME = ("model", "optimizer", "extra")


def problems(config: Config, base: Config) -> Iterator[Problem]:
    yield from resume(config, base)
    yield from can_be_lost(config)


def resume(config: Config, base: Config) -> Iterator[Problem]:
    """A checkpoint to resume from that is not there, or would not restore everything."""
    trainer = config.values["trainer"]
    mode, path = trainer["resume_mode"], trainer["resume_from_path"]
    instead = "set trainer.resume_mode=resume_path and trainer.resume_from_path=RUN/checkpoints/global_step_N"
    if mode not in RESUME_MODES:
        fix = nearest(str(mode), RESUME_MODES)
        yield Problem("resume", "trainer.resume_mode", f"veRL has no mode {mode!r}", fix)
    elif mode == "auto":
        why = f"veRL 0.9.1 takes the checkpoint that {LATEST} names, whole or not"
        yield Problem("resume", "trainer.resume_mode", why, "continue a run with `verl run --resume FOLDER`")
    elif mode == "resume_path":
        yield from _checkpoint(config, "trainer.resume_from_path", str(path) if path else "", instead)
        yield from _parts(config, "load_contents", "the run would continue from another state than the saved one")


def _parts(config: Config, name: str, why: str, level: Level = "error") -> Iterator[Problem]:
    """What a checkpoint has to hold, or to give back, for a run that resumes."""
    named = config.values["actor_rollout_ref"]["actor"]["checkpoint"][name] or []
    if missing := [part for part in NEEDED_TO_RESUME if part not in named]:
        key, why = f"actor_rollout_ref.actor.checkpoint.{name}", f"without {', '.join(missing)} {why}"
        yield Problem("resume", key, why, "set it to [model,optimizer,extra]", level)


def _checkpoint(config: Config, key: str, path: str, instead: str) -> Iterator[Problem]:
    """What veRL needs of a checkpoint (verl/trainer/ppo/v1/trainer_base.py, _load_checkpoint)."""
    trainer, actor = config.values["trainer"], Path(path, "actor")
    step = path.rpartition("global_step_")[2]
    if not path:
        yield Problem("resume", key, "it does not name a checkpoint", instead)
        return
    if not step.isdecimal() or step == path:
        yield Problem("resume", key, f"{path} does not end in global_step_N", instead)
        return
    files = [found.name for found in actor.glob("model_world_size_*.pt")] if os.path.isdir(actor) else []
    if not files:
        yield Problem("resume", key, f"{path} is not a checkpoint: it has no actor/*.pt", instead)
        return
    if not os.path.isfile(Path(path, "data.pt")):
        why = f"{path} has no data.pt, so the data would start from the beginning"
        yield Problem("resume", key, why, "give a complete checkpoint")
    yield from _ranks(key, path, files, trainer["nnodes"])
    steps = trainer["total_training_steps"]
    if int(step) >= steps:
        why = f"{path} is at or beyond trainer.total_training_steps={steps}: nothing is left to train"
        yield Problem("resume", key, why, f"raise trainer.total_training_steps above {int(step)}")


def _ranks(key: str, path: str, files: Sequence[str], nodes: int) -> Iterator[Problem]:
    """A checkpoint that lacks a GPU's files. Several nodes may each hold their own."""
    saved_by = sorted({int(size) for name in files for size in re.findall(r"^model_world_size_(\d+)_rank", name)})
    if saved_by and nodes == 1:
        gpus = saved_by[0]
        missing = [rank for rank in range(gpus) if f"model_world_size_{gpus}_rank_{rank}.pt" not in files]
        if missing:
            why = f"{path} lacks the files of rank {missing[0]} of {gpus}"
            yield Problem("resume", key, why, "give a complete checkpoint")


def can_be_lost(config: Config) -> Iterator[Problem]:
    """Ways of saving in which a checkpoint can be lost or is no longer found."""
    trainer, saving = config.values["trainer"], config.values["actor_rollout_ref"]["actor"]["checkpoint"]
    if saving["async_save"]:
        why = "veRL 0.9.1 then says that it is saved before it is, and nothing can be resumed"
        fix = "set actor_rollout_ref.actor.checkpoint.async_save=false"
        yield Problem("checkpoint", "actor_rollout_ref.actor.checkpoint.async_save", why, fix)
    if trainer["save_freq"] > 0:
        yield from _parts(config, "save_contents", "the run cannot be resumed", "warning")


def full_disk(config: Config, base: Config, found: Shape, folder: Path) -> Iterator[Problem]:
    """Checkpoints that take more than the disk has."""
    local = config.values["trainer"]["default_local_dir"]
    if local != base.values["trainer"]["default_local_dir"]:
        folder = Path(str(local))
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    saves, each = cost.checkpoints(config.values), cost.checkpoint_bytes(config.values, found)
    need, free = saves * each, shutil.disk_usage(there).free
    if need > free:
        why = f"checkpoints take {cost.disk(config.values, found)}, and {cost.readable(free)} are free"
        most = int(free // each) - cost.beside_the_last(config.values)
        fix = f"keep fewer (trainer.max_actor_ckpt_to_keep={most})" if most > 0 else "set trainer.save_freq=-1"
        yield Problem("disk", "trainer.save_freq", why, f"{fix}, or give a larger disk (--out)", "warning")
