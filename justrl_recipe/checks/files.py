"""What a run reads, and where it writes: data files, the reward's file, the model, the disk. Runs no code of them."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

from justrl_recipe.checks import data, sizes
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.errors import UserError
from justrl_recipe.planning import disk, shape

REWARD = "reward.custom_reward_function.path"
MODEL = "actor_rollout_ref.model.path"


def problems(config: Config, folder: Path) -> tuple[list[Problem], list[Problem]]:
    """What is wrong with the files, and what could not be looked at.

    Args:
        folder: where the run will write; it need not be there yet.
    """
    found = [*reward_file(config), *data.problems(config)]
    try:
        model = shape.find(str(config.values["actor_rollout_ref"]["model"]["path"]))
    except UserError as error:
        fix = "give a model's folder; the recipe's head says where its own comes from (verl cat)"
        return [*found, Problem(MODEL, str(error), fix)], []
    if model is None:
        return found, [_unknown_model(config)]
    return [*found, *sizes.of_model(config, model), *full_disk(config, model, folder)], []


def _unknown_model(config: Config) -> Problem:
    name = config.values["actor_rollout_ref"]["model"]["path"]
    why = f"{name} is not here, so its context and the disk for its checkpoints were not checked"
    return Problem(MODEL, why, f"download it first (hf download {name}), or give a folder")


def reward_file(config: Config) -> Iterator[Problem]:
    """A reward file that is not there, or lacks its function."""
    reward = config.values["reward"]["custom_reward_function"]
    path, name = str(reward["path"] or "").removeprefix("file://"), reward["name"]
    if path and not path.startswith("pkg://"):
        if not Path(path).is_file():
            yield Problem(REWARD, f"no file {path}", "give a Python file, or take the override out")
        elif not _defines(Path(path), name):
            yield Problem(REWARD, f"{path} is no Python file that defines {name}()", f"define {name}() in it")


def _defines(file: Path, name: str) -> bool:
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return False
    assigned = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    imported = {
        alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    return name in defined | assigned | imported


def full_disk(config: Config, model: shape.Shape, folder: Path) -> Iterator[Problem]:
    """Checkpoints that take more than the disk has."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    need, free = disk.of_run(config.values, model), shutil.disk_usage(there).free
    if need > free:
        saves, each = disk.kept(config.values), disk.of_checkpoint(config.values, model)
        why = (
            f"{saves} checkpoints of {each / 1e9:.0f} GB take {need / 1e9:,.0f} GB, and {free / 1e9:,.0f} GB are free"
        )
        most = int(free // each)
        fix = f"keep fewer (trainer.max_actor_ckpt_to_keep={most})" if most else "take trainer.save_freq=-1"
        yield Problem("trainer.save_freq", why, f"{fix}, or give --out on a larger disk")
