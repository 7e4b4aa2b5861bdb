"""What a run reads beside its data, and where it writes: code, the model, the disk. Runs no code of them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from justrl_recipe.checks import code, model, sizes
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.errors import UserError
from justrl_recipe.planning import cost, model_shape

MODEL = "actor_rollout_ref.model.path"


def problems(config: Config, base: Config, folder: Path) -> Iterator[Problem]:
    """What is wrong with the files, and what could not be looked at.

    Args:
        folder: where the run will write; it need not be there yet.
    """
    yield from code.problems(config, base)
    name = config.values["actor_rollout_ref"]["model"]["path"]
    if name is None:
        return
    try:
        found = model_shape.find(str(name))
    except UserError as error:
        fix = "give a model's folder; the recipe's head says where its own comes from (verl cat)"
        yield Problem("model", MODEL, str(error), fix)
        return
    yield from model.problems(config, str(name))
    if found is None:
        why = f"{name} is not here, so its context and the disk for its checkpoints were not checked"
        yield Problem("model", MODEL, why, f"download it first (hf download {name}), or give a folder", "unchecked")
        return
    yield from sizes.of_model(config, found)
    yield from full_disk(config, base, found, folder)


def full_disk(config: Config, base: Config, found: model_shape.Shape, folder: Path) -> Iterator[Problem]:
    """Checkpoints that take more than the disk has."""
    local = config.values["trainer"]["default_local_dir"]
    if local != base.values["trainer"]["default_local_dir"]:
        folder = Path(str(local))
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    saves, each = cost.checkpoints(config.values), cost.checkpoint_bytes(config.values, found)
    need, free = saves * each, shutil.disk_usage(there).free
    if need > free:
        why = (
            f"{saves} checkpoints of {each / 1e9:.0f} GB take {need / 1e9:,.0f} GB, and {free / 1e9:,.0f} GB are free"
        )
        most = int(free // each)
        fix = f"keep fewer (trainer.max_actor_ckpt_to_keep={most})" if most else "set trainer.save_freq=-1"
        yield Problem("disk", "trainer.save_freq", why, f"{fix}, or give a larger disk (--out)", "warning")
