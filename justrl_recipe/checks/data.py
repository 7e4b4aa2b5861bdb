"""The data files of a run."""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.data import check
from justrl_recipe.data.problems import count_rows
from justrl_recipe.errors import UserError

REWARD = "reward.custom_reward_function.path"
OUR_REWARDS = "pkg://justrl_recipe.reward_fns."
# What verl/utils/reward_score/__init__.py (veRL 0.9.1) scores by itself, of what JustRL's data may be called.
STOCK = re.compile(r"math_dapo|math|math_dapo_reasoning|aime.*|openai/gsm8k|lighteval/MATH|HuggingFaceH4/MATH-500")


def _maker(key: str, file: Path) -> str:
    """The subcommand of `verl data` that makes this file, which its own default folder tells."""
    if file.parent.name == "words":
        return "words"
    return "train" if key == "train_files" else "benchmarks"


def problems(config: Config) -> Iterator[Problem]:
    """Data files that are missing, in another schema, too small, or at odds with the reward."""
    reward = config.values["reward"]["custom_reward_function"]["path"]
    for key in ("train_files", "val_files"):
        value = config.values["data"][key]
        if not value:
            yield Problem("data-file", f"data.{key}", "it names no file", f"set data.{key}=FILE")
        for name in value if isinstance(value, list) else [value]:
            file = Path(str(name))
            if not os.path.isfile(file):
                command = f"verl data {_maker(key, file)} --out {file.parent}"
                yield Problem(
                    "data-file", f"data.{key}", f"no file {file}", f"make it with `{command}`, or set data.{key}=FILE"
                )
            elif file.suffix == ".parquet":
                yield from _content(config, key, file, None if reward is None else str(reward))


def _content(config: Config, key: str, file: Path, reward: str | None) -> Iterator[Problem]:
    try:
        if reward is None:
            yield from _stock_scorer(file)
        elif reward.startswith(OUR_REWARDS):
            for why in check.before_a_run(file):
                yield Problem(
                    "data-content",
                    f"data.{key}",
                    why,
                    f"see `verl data check {file}`, and `verl data` for one that fits",
                )
        if key == "train_files":
            yield from _few_rows(config, file)
    except UserError as error:
        yield Problem(
            "data-schema",
            f"data.{key}",
            str(error),
            "`verl data train` and `verl data benchmarks` make files that fit",
        )


def _few_rows(config: Config, file: Path) -> Iterator[Problem]:
    rows, batch = count_rows(file), config.values["data"]["train_batch_size"]
    if isinstance(config.values["data"]["train_files"], str) and rows is not None and rows < batch:
        why = f"{file} has {rows} rows, and a batch takes {batch}"
        yield Problem("data-rows", "data.train_files", why, "give more data, or a smaller data.train_batch_size")


def _stock_scorer(file: Path) -> Iterator[Problem]:
    """Without a reward function of its own a run has veRL's, which raises at a data_source that it does not know."""
    rows = list(islice(check.read(file), check.AT_START))
    strange = sorted({row.source for row in rows if not STOCK.fullmatch(row.source)})
    fix = "set reward.custom_reward_function.path"
    if strange:
        yield Problem(
            "stock-scorer", REWARD, f"veRL's own scorer does not take data_source {strange[0]!r} of {file}", fix
        )
    if any(row.source == "math_dapo" and "Answer:" not in row.prompt for row in rows):
        why = f"veRL's own scorer wants `Answer: ...`, and prompts of {file} do not ask for it"
        yield Problem("stock-scorer", REWARD, why, fix)
