"""The data files of a run: what veRL cannot read or join, and what its reward cannot reward."""

import importlib
import os
import re
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet

from justrl_recipe.checks import data_rows
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.data import check, rl_dataset
from justrl_recipe.data.check import SHARE, Finding
from justrl_recipe.errors import UserError, first_line

REWARD = "reward.custom_reward_function.path"
WORD_PROBLEMS = "python examples/smollm2/make_data.py"  # which the wheel does not contain
OUR_REWARDS = "pkg://justrl_recipe.reward_fns."
# What verl/utils/reward_score/__init__.py (veRL 0.9.1) scores by itself, of what JustRL's data may be called.
STOCK = re.compile(r"math_dapo|math|math_dapo_reasoning|aime.*|openai/gsm8k|lighteval/MATH|HuggingFaceH4/MATH-500")


def problems(config: Config) -> list[Problem]:
    """What is wrong with a config's data. Reads all rows, in bounded memory; runs no reward but this package's."""
    if (config.values["data"].get("custom_cls") or {}).get("path"):
        return []  # what a user's dataset class reads is not known
    of_training, rows = _files(config, "train_files")
    of_validation, _ = _files(config, "val_files")
    return [*of_training, *of_validation, *(data_rows.of_counts(config, rows) if rows is not None else ())]


def _files(config: Config, key: str) -> tuple[list[Problem], int | None]:
    """What is wrong with each file, and the rows of all of them; None where one cannot be read."""
    names = data_rows.named_files(config, key)
    if not names:
        return [Problem("data-file", f"data.{key}", "it does not name a file", f"set data.{key}=FILE")], None
    found: list[Problem] = []
    counts: list[int | None] = []
    for name in names:
        missing = _missing(key, name)
        of_file, count = ([missing], None) if missing else _content(config, key, Path(name))
        found += of_file
        counts.append(count)
    if None in counts:
        return found, None
    return [*found, *_unlike(key, names)], sum(count for count in counts if count is not None)


def _missing(key: str, name: str) -> Problem | None:
    file = Path(name)
    if name.startswith("hdfs://"):
        return Problem(
            "data-file", f"data.{key}", f"{name} is not here", "copy it to this machine first", "unchecked"
        )
    if not os.path.isfile(file):  # Path.is_file raises at a name that no file can have
        fix = f"make it with {_maker(key, file)}, or set data.{key}=FILE"
        return Problem("data-file", f"data.{key}", f"no file {file}", fix)
    if file.suffix not in rl_dataset.SUFFIXES:
        why = f"{file}: veRL reads {', '.join(rl_dataset.SUFFIXES)}"
        return Problem("data-file", f"data.{key}", why, "`verl data train --source FILE` writes .parquet")
    return None


def _maker(key: str, file: Path) -> str:
    """The command that makes this file, which its own default folder tells."""
    if file.parent.name == "words":
        return f"`{WORD_PROBLEMS} --out {file.parent}` in a clone of the repository"
    return f"`verl data {'train' if key == 'train_files' else 'benchmarks'} --out {file.parent}`"


def _content(config: Config, key: str, file: Path) -> tuple[list[Problem], int | None]:
    """What is wrong in a file, and its rows; None where it cannot be read."""
    data = config.values["data"]
    of_schema = check.of_prompts(data["filter_overlong_prompts"])
    of_content = _questions(config, key)
    name = f"data.{key}"
    try:
        report = check.ask(file, [*of_schema, *of_content], data["prompt_key"])
        stock = list(_stock_scorer(config, file))
    except rl_dataset.SchemaError as error:
        return [Problem("data-schema", name, str(error), "give a file in veRL's schema")], None
    except UserError as error:
        return [Problem("data-file", name, str(error), "write it again, or give another file")], None
    fix = f"see `verl data check {file}`; {_maker(key, file)} writes a file that fits"
    found = [
        Problem(
            check="data-schema" if finding in of_schema else "data-content",
            key=name,
            why=f"{file}: {finding.said(report.rows)}",
            fix=fix,
            level="error" if finding.spoils(report.rows) else "warning",
        )
        for finding in report.findings
        if finding.count
    ]
    return [*found, *stock], report.rows


def _questions(config: Config, key: str) -> list[Finding]:
    """What this recipe's own rewards need; a user's reward may take other types."""
    reward = config.values["reward"]["custom_reward_function"]
    path = str(reward["path"] or "")
    module = path.removeprefix("pkg://")
    if not path.startswith(OUR_REWARDS) or find_spec(module) is None:
        return []
    score = getattr(importlib.import_module(module), str(reward["name"]), None)
    arguments = reward.get("reward_kwargs") or {}
    golds = check.of_ground_truths(partial(score, **arguments)) if score else []
    return [*golds, *check.of_boxes(), *([check.repeated()] if key == "train_files" else [])]


def _stock_scorer(config: Config, file: Path) -> Iterator[Problem]:
    """Without a reward function a run uses veRL's scorer, which raises at a data_source that it does not know."""
    if config.values["reward"]["custom_reward_function"]["path"] is not None:
        return
    strange: set[str] = set()
    rows = not_text = unasked = 0
    for batch in rl_dataset.read(file, config.values["data"]["prompt_key"]):
        rows += batch.rows
        strange |= {repr(s) for s in batch.sources.values if not isinstance(s, str) or not STOCK.fullmatch(s)}
        not_text += int(batch.golds.where(lambda gold: not isinstance(gold, str)).sum())
        is_dapo = batch.sources.where(lambda source: source == "math_dapo")
        unasked += int((is_dapo & batch.prompts.where(lambda prompt: "Answer:" not in rl_dataset.text(prompt))).sum())
    fix = "set reward.custom_reward_function.path"
    if strange:
        why = f"veRL's own scorer does not take data_source {min(strange)} of {file}"
        yield Problem("stock-scorer", REWARD, why, fix)
    if not_text:
        why = f"veRL's own scorer fails at a ground truth that is not text, as {not_text:,} of {rows:,} in {file}"
        yield Problem("stock-scorer", REWARD, why, fix)
    if unasked:
        why = (
            f"veRL's own scorer wants `Answer: ...`, and {unasked:,} of {rows:,} prompts of {file} do not ask for it"
        )
        yield Problem("stock-scorer", REWARD, why, fix, "error" if unasked > SHARE * rows else "warning")


def _unlike(key: str, names: list[str]) -> Iterator[Problem]:
    """Files that `datasets` cannot join, since they give a column another type."""
    parquet = [name for name in names if name.endswith(".parquet")]
    if len(parquet) < 2:
        return
    import datasets

    schemas = [pyarrow.parquet.read_schema(name) for name in parquet]
    empty = [pyarrow.Table.from_arrays([pyarrow.nulls(1, f.type) for f in s], schema=s) for s in schemas]
    tables = [datasets.Dataset(table) for table in empty]
    for name, table in zip(parquet[1:], tables[1:], strict=True):
        try:
            datasets.concatenate_datasets([tables[0], table])
        except (ValueError, TypeError, pyarrow.ArrowException) as error:
            why = f"veRL cannot join {parquet[0]} and {name}: {first_line(error)[:150]}"
            yield Problem("data-schema", f"data.{key}", why, "give their columns the same types")
