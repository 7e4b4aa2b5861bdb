"""The data of a run: files veRL cannot read, rows the reward cannot reward, too few rows for the steps."""

import importlib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy
import pyarrow.parquet

from justrl_recipe.checks.problem import Level, Problem
from justrl_recipe.config import Config
from justrl_recipe.data import check, columns, hub, training
from justrl_recipe.data.findings import SHARE, Finding
from justrl_recipe.data.prompts import Lengths, NoTemplate
from justrl_recipe.errors import UserError

REWARD = "reward.custom_reward_function.path"
OUR_REWARDS = "pkg://justrl_recipe.reward_fns."
MODEL = "actor_rollout_ref.model"
# What verl/utils/reward_score/__init__.py (veRL 0.9.1) scores by itself, of what JustRL's data may be called.
STOCK = re.compile(r"math_dapo|math|math_dapo_reasoning|aime.*|openai/gsm8k|lighteval/MATH|HuggingFaceH4/MATH-500")
MOST_COUNTED = 20_000  # prompts whose tokens are counted: about 10 seconds


def problems(config: Config) -> list[Problem]:
    """What is wrong with a config's data. Reads all rows, in bounded memory; runs no reward but this package's."""
    if (config.values["data"].get("custom_cls") or {}).get("path"):
        return []  # a dataset class of the user's own reads what it likes
    found: list[Problem] = []
    rows: dict[str, int] = {}
    for key in ("train_files", "val_files"):
        of_key, count = _files(config, key)
        found += of_key
        if count is not None:
            rows[key] = count
    return [*found, *(_amounts(config, rows) if rows else ())]


def _named(config: Config, key: str) -> list[str]:
    value = config.values["data"][key]
    return [str(name) for name in (value if isinstance(value, list) else [value])] if value else []


def _files(config: Config, key: str) -> tuple[list[Problem], int | None]:
    """What is wrong with each file, and the rows of all of them; None where one cannot be read."""
    names = _named(config, key)
    if not names:
        return [Problem("data-file", f"data.{key}", "it names no file", f"set data.{key}=FILE")], None
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
        fix = f"make it with `verl data {_maker(key, file)} --out {file.parent}`, or set data.{key}=FILE"
        return Problem("data-file", f"data.{key}", f"no file {file}", fix)
    if file.suffix not in columns.SUFFIXES:
        why = f"{file}: veRL reads {', '.join(columns.SUFFIXES)}"
        return Problem("data-file", f"data.{key}", why, "`verl data train --source FILE` writes .parquet")
    return None


def _maker(key: str, file: Path) -> str:
    """The subcommand of `verl data` that makes this file, which its own default folder tells."""
    if file.parent.name == "words":
        return "words"
    return "train" if key == "train_files" else "benchmarks"


def _content(config: Config, key: str, file: Path) -> tuple[list[Problem], int | None]:
    """What is wrong in a file, and its rows; None where it cannot be read."""
    data = config.values["data"]
    of_schema = check.of_prompts(data["filter_overlong_prompts"])
    of_content = _questions(config, key)
    name = f"data.{key}"
    try:
        report = check.ask(file, [*of_schema, *of_content], data["prompt_key"])
        stock = list(_stock_scorer(config, file))
    except columns.SchemaError as error:
        return [Problem("data-schema", name, str(error), "give a file in veRL's schema")], None
    except UserError as error:
        return [Problem("data-file", name, str(error), "make it again, or give another file")], None
    fix = f"see `verl data check {file}`; `verl data {_maker(key, file)}` writes a file that fits"
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
    """What this recipe's own rewards need; the types that a user's reward takes are the user's business."""
    reward = config.values["reward"]["custom_reward_function"]
    path = str(reward["path"] or "")
    module = path.removeprefix("pkg://")
    if not path.startswith(OUR_REWARDS) or find_spec(module) is None:
        return []
    score = getattr(importlib.import_module(module), str(reward["name"]), None)
    golds = check.of_ground_truths(score) if score else []
    return [*golds, *check.of_boxes(), *([check.repeated()] if key == "train_files" else [])]


def _stock_scorer(config: Config, file: Path) -> Iterator[Problem]:
    """Without a reward function of its own a run has veRL's, which raises at a data_source that it does not know."""
    if config.values["reward"]["custom_reward_function"]["path"] is not None:
        return
    strange: set[str] = set()
    rows, unasked, no_text = 0, 0, 0
    for batch in columns.read(file, config.values["data"]["prompt_key"]):
        rows += batch.rows
        strange |= {repr(s) for s in batch.sources.values if not isinstance(s, str) or not STOCK.fullmatch(s)}
        no_text += int(
            numpy.array([not isinstance(g, str) for g in batch.golds.values], bool)[batch.golds.codes].sum()
        )
        dapo = numpy.array([source == "math_dapo" for source in batch.sources.values], bool)[batch.sources.codes]
        texts = [columns.text(messages) for messages in batch.prompts.values]
        asks = numpy.array(["Answer:" in text for text in texts], bool)[batch.prompts.codes]
        unasked += int((dapo & ~asks).sum())
    fix = "set reward.custom_reward_function.path"
    if strange:
        why = f"veRL's own scorer does not take data_source {min(strange)} of {file}"
        yield Problem("stock-scorer", REWARD, why, fix)
    if no_text:
        why = f"veRL's own scorer fails at a ground truth that is no text, as {no_text:,} of {rows:,} in {file}"
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
            why = f"veRL cannot join {parquet[0]} and {name}: {columns.first_line(error)[:150]}"
            yield Problem("data-schema", f"data.{key}", why, "give their columns the same types")


def _amounts(config: Config, rows: dict[str, int]) -> Iterator[Problem]:
    """Too few rows: for a batch, for the steps, or once veRL has left out the prompts that are too long."""
    sizes = {name: config.flat.get(name) for name in ("data.train_batch_size", "trainer.total_epochs")}
    if not all(isinstance(size, int) and size > 0 for size in sizes.values()):
        return  # checks/sizes.py names them
    lengths = None
    try:
        lengths = _lengths(config)
    except NoTemplate as error:
        yield Problem("chat-template", f"{MODEL}.path", str(error), "veRL makes the prompts with it")
    except UserError as error:
        level: Level = "error" if os.path.isdir(_tokenizer(config)) else "unchecked"
        yield Problem(
            "chat-template", f"{MODEL}.path", str(error), "download the model again, or give its folder", level
        )
    if "train_files" in rows:
        yield from _training(config, rows["train_files"], lengths)
    if "val_files" in rows and lengths is not None and config.values["data"]["filter_overlong_prompts"]:
        usable = _usable(config, "val_files", rows["val_files"], lengths, 1)
        if not usable.rows:
            yield _too_long(config, "val_files", usable, "and none is left for validation")


def _training(config: Config, total: int, lengths: Lengths | None) -> Iterator[Problem]:
    data, trainer = config.values["data"], config.values["trainer"]
    batch, epochs, steps = data["train_batch_size"], trainer["total_epochs"], trainer["total_training_steps"]
    most = data.get("train_max_samples") or -1
    rows = min(total, most) if most > 0 else total
    if rows < batch:
        which = f" (data.train_max_samples={most})" if rows < total else ""
        why = f"{', '.join(_named(config, 'train_files'))}: {rows} rows{which}, and a batch takes {batch}"
        yield Problem("data-rows", "data.train_files", why, "give more data, or a smaller data.train_batch_size")
        return
    wanted = batch * (math.ceil(steps / epochs) if isinstance(steps, int) and steps > 0 else 1)
    if lengths is not None:
        usable = _usable(config, "train_files", total, lengths, wanted if wanted <= rows else batch)
        if data["filter_overlong_prompts"]:
            rows = usable.rows if usable.rows < wanted else rows
        if rows < batch:
            yield _too_long(config, "train_files", usable, f"and a batch takes {batch}")
            return
        if usable.long:
            yield from _some_too_long(config, usable)
    have = rows // batch * epochs
    if isinstance(steps, int) and have < steps:
        why = f"{rows:,} rows give {rows // batch} batches of {batch}, and {epochs} epochs of them {have} steps"
        why += f", fewer than trainer.total_training_steps={steps}"
        fix = f"set trainer.total_epochs={math.ceil(steps / (rows // batch))}, or trainer.total_training_steps={have}"
        yield Problem("data-steps", "trainer.total_epochs", why, fix)


@dataclass(frozen=True)
class Usable:
    """The rows whose prompts fit.

    Attributes:
        rows: how many; where only `counted` prompts were looked at, what these let expect of all.
        counted: prompts that were looked at, until there were enough or `MOST_COUNTED`.
        long: of these, the ones that are too long, or that the chat template refuses.
        refused: of these, the ones that the chat template refuses.
    """

    rows: int
    counted: int
    long: int
    refused: int


def _usable(config: Config, key: str, total: int, lengths: Lengths, enough: int) -> Usable:
    data = config.values["data"]
    chosen = _chosen(data, "train_max_samples" if key == "train_files" else "val_max_samples", total)
    known: dict[bytes, int | None] = {}
    seen = long = refused = start = 0
    for name in _named(config, key):
        for batch in columns.read(Path(name), data["prompt_key"]):
            for row in range(batch.rows):
                if chosen is not None and not chosen[start + row]:
                    continue
                messages = batch.prompts.values[batch.prompts.codes[row]]
                prompt = training.digest(repr(messages))
                if prompt not in known:
                    known[prompt] = lengths.of(messages)
                tokens = known[prompt]
                seen += 1
                refused += tokens is None
                long += tokens is None or tokens > data["max_prompt_length"]
                if seen - long >= enough:
                    return Usable(enough, seen, long, refused)
                if len(known) >= MOST_COUNTED:
                    all_rows = total if chosen is None else int(chosen.sum())
                    return Usable((seen - long) * all_rows // seen, seen, long, refused)
            start += batch.rows
    return Usable(seen - long, seen, long, refused)


def _chosen(data: dict, key: str, total: int) -> numpy.ndarray | None:
    """The rows that veRL takes, an array of shape (total,); None for all. Without a seed, a sample like its own."""
    most = data.get(key) or -1
    if not 0 < most < total:
        return None
    chosen = numpy.zeros(total, bool)
    if data["shuffle"]:
        chosen[numpy.random.default_rng(abs(data["seed"] or 0)).choice(total, size=most, replace=False)] = True
    else:
        chosen[:most] = True
    return chosen


def _too_long(config: Config, key: str, usable: Usable, but: str) -> Problem:
    limit = config.values["data"]["max_prompt_length"]
    if usable.refused == usable.counted:
        why = f"the model's chat template refuses all {usable.counted:,} prompts that were tried"
        return Problem("chat-template", f"data.{key}", why, "see the template in the model's tokenizer_config.json")
    fit = usable.counted - usable.long
    why = f"{fit:,} of {usable.counted:,} prompts have at most data.max_prompt_length={limit} tokens, {but}"
    return Problem("prompt-length", f"data.{key}", why, "set a larger data.max_prompt_length, or give other data")


def _some_too_long(config: Config, usable: Usable) -> Iterator[Problem]:
    """veRL leaves such rows out, or cuts their beginning off, which asks the model something else."""
    data = config.values["data"]
    cut = not data["filter_overlong_prompts"]
    why = (
        f"{usable.long:,} of the first {usable.counted:,} prompts have more than data.max_prompt_length="
        f"{data['max_prompt_length']} tokens, and veRL {'cuts their beginning off' if cut else 'leaves them out'}"
    )
    fix = "set data.filter_overlong_prompts=true" if cut else "set a larger data.max_prompt_length"
    level: Level = "error" if cut and usable.long > SHARE * usable.counted else "warning"
    yield Problem("prompt-length", "data.train_files", why, fix, level)


def _tokenizer(config: Config) -> str:
    model = config.values["actor_rollout_ref"]["model"]
    return str(model.get("tokenizer_path") or model["path"])


def _lengths(config: Config) -> Lengths | None:
    """The model's tokenizer; None where it is not on this machine, or where veRL takes a processor instead.

    Raises:
        UserError: as `Lengths`.
    """
    name, model = _tokenizer(config), config.values["actor_rollout_ref"]["model"]
    folder = Path(name) if os.path.isdir(name) else _cached(name)
    if folder is None or not (model.get("tokenizer_path") or (folder / "config.json").is_file()):
        return None  # checks/files.py says what is wrong with the model
    if (folder / "processor_config.json").is_file() or (folder / "preprocessor_config.json").is_file():
        return None
    arguments = config.values["data"].get("apply_chat_template_kwargs")
    return Lengths(str(folder), model.get("custom_chat_template"), arguments)


def _cached(name: str) -> Path | None:
    """Where the hub's cache holds a model's tokenizer."""
    from huggingface_hub import try_to_load_from_cache

    try:
        hub.require_name(name)
    except UserError:
        return None
    cached = try_to_load_from_cache(name, "tokenizer_config.json")
    return Path(cached).parent if isinstance(cached, str) else None
