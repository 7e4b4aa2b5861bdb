"""The rows of a run's data: too few for a batch or for the steps, also once too long prompts are left out."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy

from justrl_recipe.checks.model import local_file
from justrl_recipe.checks.problem import Level, Problem
from justrl_recipe.config import Config
from justrl_recipe.data import rl_dataset, training
from justrl_recipe.data.check import SHARE
from justrl_recipe.data.rl_dataset import Lengths, NoTemplate
from justrl_recipe.errors import UserError

FILES = ("train_files", "val_files")
MODEL = "actor_rollout_ref.model"
MOST_COUNTED = 20_000  # prompts whose tokens are counted: about 10 seconds


def named_files(config: Config, key: str) -> list[str]:
    value = config.values["data"][key]
    return [str(name) for name in (value if isinstance(value, list) else [value])] if value else []


def of_counts(config: Config, rows: int) -> Iterator[Problem]:
    """Too few rows of training data, whose number is given: for a batch, or for the steps."""
    if not _has_sizes(config):
        return
    data, batch = config.values["data"], config.values["data"]["train_batch_size"]
    taken = _taken(config, rows)
    if taken < batch:
        which = f" (data.train_max_samples={data['train_max_samples']})" if taken < rows else ""
        why = f"{', '.join(named_files(config, 'train_files'))}: {taken} rows{which}, and a batch takes {batch}"
        yield Problem("data-rows", "data.train_files", why, "give more data, or a smaller data.train_batch_size")
    elif _too_few_for_steps(config, taken):
        yield _too_few_steps(config, taken)


def of_prompts(config: Config) -> Iterator[Problem]:
    """What veRL leaves out of data that is fit by `of_counts`: prompts that are too long for the run, by the model's
    tokenizer and chat template. Imports transformers, and takes up to 10 seconds for MOST_COUNTED prompts.
    """
    if not _has_sizes(config):
        return
    try:
        lengths = _lengths(config)
    except NoTemplate as error:
        why = f"{error.why}, with which veRL makes the prompts"
        yield Problem("chat-template", f"{MODEL}.path", why, error.fix)
        return
    except UserError as error:
        level: Level = "error" if os.path.isdir(_tokenizer(config)) else "unchecked"
        fix = "download the model again, or give its folder"
        yield Problem("chat-template", f"{MODEL}.path", str(error), fix, level)
        return
    if lengths is None:
        return
    data, training_rows, validation_rows = config.values["data"], *(_count(config, key) for key in FILES)
    if training_rows is not None and _taken(config, training_rows) >= data["train_batch_size"]:
        yield from _training(config, training_rows, lengths)
    if validation_rows is not None and data["filter_overlong_prompts"]:
        usable = _usable(config, "val_files", validation_rows, lengths, 1)
        if usable.empty:
            yield _empty("val_files", usable)
        elif not usable.rows:
            yield _too_long(config, "val_files", usable, lengths, "and none is left for validation")


def _has_sizes(config: Config) -> bool:
    """Whether a batch and the epochs are numbers; checks/known_keys.py names those that are not."""
    sizes = (config.flat.get(name) for name in ("data.train_batch_size", "trainer.total_epochs"))
    return all(isinstance(size, int) and size > 0 for size in sizes)


def _count(config: Config, key: str) -> int | None:
    """The rows of all files; None where one cannot be read, or where what reads them is not known."""
    names, data = named_files(config, key), config.values["data"]
    if not names or not all(map(os.path.isfile, names)) or (data.get("custom_cls") or {}).get("path"):
        return None
    try:
        return sum(batch.rows for name in names for batch in rl_dataset.read(Path(name), data["prompt_key"]))
    except UserError:  # checks/data_files.py says what is wrong with it
        return None


def _taken(config: Config, rows: int) -> int:
    """Of so many rows of training data, those that veRL takes."""
    most = config.values["data"].get("train_max_samples") or -1
    return min(rows, most) if most > 0 else rows


def _training(config: Config, total: int, lengths: Lengths) -> Iterator[Problem]:
    data, trainer = config.values["data"], config.values["trainer"]
    batch, epochs, steps = data["train_batch_size"], trainer["total_epochs"], trainer["total_training_steps"]
    rows = _taken(config, total)
    wanted = batch * (math.ceil(steps / epochs) if isinstance(steps, int) and steps > 0 else 1)
    usable = _usable(config, "train_files", total, lengths, wanted if wanted <= rows else batch)
    if usable.empty:
        yield _empty("train_files", usable)
        return
    left = usable.rows if data["filter_overlong_prompts"] and usable.rows < wanted else rows
    if left < batch:
        yield _too_long(config, "train_files", usable, lengths, f"and a batch takes {batch}")
        return
    if usable.long:
        yield from _some_too_long(config, usable)
    if _too_few_for_steps(config, left) and not _too_few_for_steps(config, rows):
        yield _too_few_steps(config, left)


def _too_few_for_steps(config: Config, rows: int) -> bool:
    trainer, steps = config.values["trainer"], config.values["trainer"]["total_training_steps"]
    batches = rows // config.values["data"]["train_batch_size"]
    return isinstance(steps, int) and batches * trainer["total_epochs"] < steps


def _too_few_steps(config: Config, rows: int) -> Problem:
    trainer, batch = config.values["trainer"], config.values["data"]["train_batch_size"]
    epochs, steps, batches = trainer["total_epochs"], trainer["total_training_steps"], rows // batch
    why = f"{rows:,} rows give {batches} batches of {batch}, and {epochs} epochs of them {batches * epochs} steps"
    why += f", fewer than trainer.total_training_steps={steps}"
    fix = f"set trainer.total_epochs={math.ceil(steps / batches)}, or trainer.total_training_steps={batches * epochs}"
    return Problem("data-steps", "trainer.total_epochs", why, fix)


@dataclass(frozen=True)
class Usable:
    """The rows whose prompts fit.

    Attributes:
        rows: how many; where only `counted` prompts were looked at, what these let expect of all.
        counted: prompts that were looked at, until there were enough or `MOST_COUNTED`.
        long: of these, the ones that are too long, or that the chat template refuses.
        refused: of these, the ones that the chat template refuses.
        empty: of those that were looked at, the ones without a token of their text.
    """

    rows: int
    counted: int
    long: int
    refused: int
    empty: int


def _usable(config: Config, key: str, total: int, lengths: Lengths, enough: int) -> Usable:
    data = config.values["data"]
    chosen = _chosen(data, "train_max_samples" if key == "train_files" else "val_max_samples", total)
    known: dict[bytes, int | None] = {}
    seen = long = refused = empty = start = 0
    for name in named_files(config, key):
        for batch in rl_dataset.read(Path(name), data["prompt_key"]):
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
                empty += tokens == 0
                long += tokens is None or tokens > data["max_prompt_length"]
                if seen - long >= enough:
                    return Usable(enough, seen, long, refused, empty)
                if len(known) >= MOST_COUNTED:
                    all_rows = total if chosen is None else int(chosen.sum())
                    return Usable((seen - long) * all_rows // seen, seen, long, refused, empty)
            start += batch.rows
    return Usable(seen - long, seen, long, refused, empty)


def _chosen(data: dict, key: str, total: int) -> numpy.ndarray | None:
    """The rows that veRL takes, an array of shape (total,); None for all. Without a seed, a sample like veRL's."""
    most = data.get(key) or -1
    if not 0 < most < total:
        return None
    chosen = numpy.zeros(total, bool)
    if data["shuffle"]:
        chosen[numpy.random.default_rng(abs(data["seed"] or 0)).choice(total, size=most, replace=False)] = True
    else:
        chosen[:most] = True
    return chosen


def _empty(key: str, usable: Usable) -> Problem:
    which = f"{usable.empty:,} of the first {usable.counted:,} prompts"
    why = f"the model's tokenizer makes no token of {which}, or only special ones"
    fix = "see whether tokenizer.json is whole and what chat_template.jinja leaves out, in the model's folder"
    return Problem("chat-template", f"data.{key}", why, fix)


def _too_long(config: Config, key: str, usable: Usable, lengths: Lengths, but: str) -> Problem:
    limit = config.values["data"]["max_prompt_length"]
    if usable.refused == usable.counted:
        why = f"the model's chat template refuses all {usable.counted:,} prompts that were tried ({lengths.refusal})"
        fix = "see chat_template.jinja or tokenizer_config.json in the model's folder"
        return Problem("chat-template", f"data.{key}", why, fix)
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
    file = local_file(name, "tokenizer_config.json")
    if file is None or not (model.get("tokenizer_path") or (file.parent / "config.json").is_file()):
        return None  # checks/model.py says what is wrong with the model
    if any((file.parent / f"{kind}_config.json").is_file() for kind in ("processor", "preprocessor")):
        return None
    arguments = config.values["data"].get("apply_chat_template_kwargs")
    return Lengths(str(file.parent), model.get("custom_chat_template"), arguments)
