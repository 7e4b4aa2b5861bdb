"""What a run reads, and where it writes: data files, the reward's file, the model, the disk. Runs no code of them."""

import ast
import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from justrl_recipe.checks import sizes
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.data import check
from justrl_recipe.data.problems import count_rows
from justrl_recipe.errors import UserError
from justrl_recipe.planning import disk, shape

REWARD = "reward.custom_reward_function.path"
OUR_REWARDS = "pkg://justrl_recipe.reward_fns."
MODEL = "actor_rollout_ref.model.path"
# What verl/utils/reward_score/__init__.py (veRL 0.9.1) scores by itself, of what JustRL's data may be called.
STOCK = re.compile(r"math_dapo|math|math_dapo_reasoning|aime.*|openai/gsm8k|lighteval/MATH|HuggingFaceH4/MATH-500")


def problems(config: Config, folder: Path) -> tuple[list[Problem], list[Problem]]:
    """What is wrong with the files, and what could not be looked at.

    Args:
        folder: where the run will write; it need not be there yet.
    """
    found = [*reward_file(config), *data_files(config)]
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


def _maker(key: str, file: Path) -> str:
    """The subcommand of `verl data` that makes this file, which its own default folder tells."""
    if file.parent.name == "words":
        return "words"
    return "train" if key == "train_files" else "benchmarks"


def data_files(config: Config) -> Iterator[Problem]:
    """Data files that are missing, in another schema, too small, or at odds with the reward."""
    reward = config.values["reward"]["custom_reward_function"]["path"]
    for key in ("train_files", "val_files"):
        value = config.values["data"][key]
        if not value:
            yield Problem(f"data.{key}", "it names no file", f"set data.{key}=FILE")
        for name in value if isinstance(value, list) else [value]:
            file = Path(str(name))
            if not file.is_file():
                command = f"verl data {_maker(key, file)} --out {file.parent}"
                yield Problem(f"data.{key}", f"no file {file}", f"make it with `{command}`, or set data.{key}=FILE")
            elif file.suffix == ".parquet":
                yield from _content(config, key, file, None if reward is None else str(reward))


def _content(config: Config, key: str, file: Path, reward: str | None) -> Iterator[Problem]:
    try:
        if reward is None:
            yield from _stock_scorer(file)
        elif reward.startswith(OUR_REWARDS):
            for why in check.before_a_run(file):
                yield Problem(f"data.{key}", why, f"see `verl data check {file}`, and `verl data` for one that fits")
        if key == "train_files":
            yield from _few_rows(config, file)
    except UserError as error:
        yield Problem(f"data.{key}", str(error), "`verl data train` and `verl data benchmarks` make files that fit")


def _few_rows(config: Config, file: Path) -> Iterator[Problem]:
    rows, batch = count_rows(file), config.values["data"]["train_batch_size"]
    if isinstance(config.values["data"]["train_files"], str) and rows is not None and rows < batch:
        why = f"{file} has {rows} rows, and a batch takes {batch}"
        yield Problem("data.train_files", why, "give more data, or a smaller data.train_batch_size")


def _stock_scorer(file: Path) -> Iterator[Problem]:
    """Without a reward function of its own a run has veRL's, which raises at a data_source that it does not know."""
    rows = list(islice(check.read(file), check.AT_START))
    strange = sorted({row.source for row in rows if not STOCK.fullmatch(row.source)})
    fix = "set reward.custom_reward_function.path"
    if strange:
        yield Problem(REWARD, f"veRL's own scorer does not take data_source {strange[0]!r} of {file}", fix)
    if any(row.source == "math_dapo" and "Answer:" not in row.prompt for row in rows):
        why = f"veRL's own scorer wants `Answer: ...`, and prompts of {file} do not ask for it"
        yield Problem(REWARD, why, fix)


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
