"""What a run reads beside its data, and where it writes: code, the model, the disk. Runs no code of them."""

import ast
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from justrl_recipe.checks import model, sizes
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.errors import UserError
from justrl_recipe.planning import disk, shape

REWARD = "reward.custom_reward_function.path"
MODEL = "actor_rollout_ref.model.path"
# Keys that name a module (`pkg://module` or a dotted name) or a Python file, and the key of the name in it.
CODE = {
    REWARD: "reward.custom_reward_function.name",
    "reward.reward_manager.module.path": None,
    "data.custom_cls.path": "data.custom_cls.name",
    "trainer.v1.sampler.custom_sampler.path": "trainer.v1.sampler.custom_sampler.name",
    "actor_rollout_ref.rollout.agent.custom_async_server.path": None,
}
DOTTED = ("actor_rollout_ref.model.external_lib", "trainer.checkpoint_callback_class")


def problems(config: Config, base: Config, folder: Path) -> Iterator[Problem]:
    """What is wrong with the files, and what could not be looked at.

    Args:
        folder: where the run will write; it need not be there yet.
    """
    yield from code(config)
    name = config.values["actor_rollout_ref"]["model"]["path"]
    if name is None:
        return
    try:
        found = shape.find(str(name))
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


def code(config: Config) -> Iterator[Problem]:
    """Modules and Python files that are not there, or lack the name that is looked for in them."""
    values = config.flat
    for key, name_key in CODE.items():
        path, name = values.get(key), values.get(name_key or "")
        if not isinstance(path, str) or not path:
            continue
        if path.startswith("pkg://"):
            yield from _module(key, path.removeprefix("pkg://").replace("/", "."))
        else:
            yield from _python_file(key, Path(path.removeprefix("file://")), name)
    for key in DOTTED:
        if values.get(key):
            yield from _module(key, str(values[key]))


def _python_file(key: str, file: Path, name: Any) -> Iterator[Problem]:
    if not file.is_file():
        yield Problem("import-path", key, f"no file {file}", "give a Python file, or remove the override")
    elif isinstance(name, str) and not _defines(file, name):
        why = f"{file} is no Python file that defines {name}()"
        yield Problem("import-path", key, why, f"define {name}() in it")


def _defines(file: Path, name: str) -> bool:
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
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
    return name in defined | assigned | imported or "*" in imported


def _module(key: str, dotted: str) -> Iterator[Problem]:
    """Whether a module, or the module of a class, is there: looked up by its files, since importing would run it."""
    parts = dotted.split(".")
    try:
        spec = importlib.util.find_spec(parts[0])
    except (ImportError, ValueError, AttributeError):
        spec = None
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    if spec is None:
        yield Problem("import-path", key, f"no module {parts[0]!r} is installed", "install it, or name another")
        return
    for number, part in enumerate(parts[1:], 1):
        if not places:
            return  # inside a module: a class or a function, which only importing could tell
        modules = [file for place in places for file in (*place.glob(f"{part}.py"), *place.glob(f"{part}.*.so"))]
        packages = [place / part for place in places if (place / part).is_dir()]
        if not modules and not packages:
            if number == len(parts) - 1 and part[:1].isupper():
                return  # a class that a package's __init__ may define
            fix = "check the name; the package is installed and has no such module"
            yield Problem("import-path", key, f"no module {'.'.join(parts[: number + 1])!r}", fix)
            return
        places = packages


def full_disk(config: Config, base: Config, found: shape.Shape, folder: Path) -> Iterator[Problem]:
    """Checkpoints that take more than the disk has."""
    local = config.values["trainer"]["default_local_dir"]
    if local != base.values["trainer"]["default_local_dir"]:
        folder = Path(str(local))
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    need, free = disk.of_run(config.values, found), shutil.disk_usage(there).free
    if need > free:
        saves, each = disk.kept(config.values), disk.of_checkpoint(config.values, found)
        why = (
            f"{saves} checkpoints of {each / 1e9:.0f} GB take {need / 1e9:,.0f} GB, and {free / 1e9:,.0f} GB are free"
        )
        most = int(free // each)
        fix = f"keep fewer (trainer.max_actor_ckpt_to_keep={most})" if most else "set trainer.save_freq=-1"
        yield Problem("disk", "trainer.save_freq", why, f"{fix}, or give a larger disk (--out)", "warning")
