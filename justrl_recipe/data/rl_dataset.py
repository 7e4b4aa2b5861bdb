"""A data file as veRL reads it (verl/utils/dataset/rl_dataset.py): its rows with their types, its prompts in tokens.

veRL loads .parquet, .json and .jsonl with `datasets` and leaves every value as it is, so a column of integers reaches
the reward as integers. What veRL or its reward manager would fail on is refused here, by column and row.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute

from justrl_recipe import files
from justrl_recipe.data import json_rows, parquet
from justrl_recipe.data.json_rows import JSON
from justrl_recipe.data.parquet import Coded
from justrl_recipe.errors import UserError, first_line
from justrl_recipe.quick_imports import quick_imports

SUFFIXES = (".parquet", ".json", ".jsonl")  # that veRL reads
ARRAY_BYTES, ARRAY_ROWS = 26 << 20, 70_000  # `datasets` reads an array whole, in ten times its size
HOW = "`verl data train` and `verl data benchmarks` prepare files"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model"),
    *("vocab.json", "vocab.txt"),
)


class SchemaError(UserError):
    """A file that can be read, and is not what veRL reads."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive rows, the first of them at `start` (counted from 0)."""

    start: int
    prompts: Coded  # lists of messages; None or an empty list where a row has none
    golds: Coded
    sources: Coded

    @property
    def rows(self) -> int:
        return len(self.golds.codes)


def read(file: Path, prompt_key: str = "prompt") -> Iterator[Batch]:
    """The rows of a file in veRL's schema, batch by batch: it may be larger than memory.

    Args:
        prompt_key: the column of the prompts, veRL's `data.prompt_key`.

    Raises:
        UserError: it cannot be read; SchemaError where veRL or its reward manager would fail on it. The message names
            the column and, where it is one row's, the row (counted from 1).
    """
    files.require_content(file)
    if file.suffix not in SUFFIXES:
        raise UserError(f"{file}: veRL reads {', '.join(SUFFIXES)}")
    for batch in _of_parquet(file, prompt_key) if file.suffix == ".parquet" else _of_json(file, prompt_key):
        if any(isinstance(source, list | dict) for source in batch.sources.values):
            raise SchemaError(f"{file}: column data_source is not text, and veRL groups by it; {HOW}")
        yield batch


def text(messages: list[dict[str, Any]] | None) -> str:
    """What the messages of a prompt say, one after another."""
    return "\n".join(_content_text(message["content"]) for message in messages or () if message)


def _content_text(content: Any) -> str:
    if isinstance(content, list):  # parts, as of a multimodal prompt
        return "\n".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _of_parquet(file: Path, prompt_key: str) -> Iterator[Batch]:
    types = parquet.column_types(file)
    _require_columns(file, prompt_key, types)
    _require_messages(file, prompt_key, types[prompt_key])
    _require_ground_truth(file, types["reward_model"])
    extra = types.get("extra_info", pyarrow.null())
    if not pyarrow.types.is_struct(extra) and not pyarrow.types.is_null(extra):
        raise SchemaError(f"{file}: column extra_info is {extra}, and veRL needs a struct")
    done = 0
    for batch in parquet.batches(file, [prompt_key, "reward_model.ground_truth", "data_source"]):
        reward_model = batch.column("reward_model")
        if reward_model.null_count:
            row = done + reward_model.is_null().index(True).as_py() + 1
            raise SchemaError(f"{file}: row {row} has no reward_model, and veRL reads its ground_truth")
        with parquet.reading(file):
            golds = parquet.coded(pyarrow.compute.struct_field(reward_model, "ground_truth"))
            prompts, sources = parquet.coded(batch.column(prompt_key)), parquet.coded(batch.column("data_source"))
        yield Batch(done, prompts, golds, sources)
        done += batch.num_rows


def _require_columns(file: Path, prompt_key: str, columns: Mapping[str, Any]) -> None:
    for column in (prompt_key, "reward_model", "data_source"):
        if column not in columns:
            raise SchemaError(f"{file}: no column {column}; {HOW}")


def _require_messages(file: Path, column: str, kind: pyarrow.DataType) -> None:
    message = kind.value_type if isinstance(kind, parquet.LISTS) else None
    if message is None or not pyarrow.types.is_struct(message):
        what = "plain text" if parquet.is_text(kind) else str(kind)
        raise SchemaError(f"{file}: prompts in column {column} are {what}, and veRL needs a list of messages; {HOW}")
    for name in ("role", "content"):
        if message.get_field_index(name) < 0:
            raise SchemaError(f"{file}: the messages in column {column} have no {name}; {HOW}")


def _require_ground_truth(file: Path, kind: pyarrow.DataType) -> None:
    if not pyarrow.types.is_struct(kind):
        what = "text (JSON is not decoded)" if parquet.is_text(kind) else str(kind)
        raise SchemaError(f"{file}: column reward_model is {what}, and veRL needs a struct with ground_truth; {HOW}")
    if kind.get_field_index("ground_truth") < 0:
        raise SchemaError(f"{file}: column reward_model has no ground_truth; {HOW}")


def _of_json(file: Path, prompt_key: str) -> Iterator[Batch]:
    """By `datasets` itself, which guesses the types: it turns the text 2020-01-01 into a date."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    is_array = json_rows.is_array(file)
    if is_array and os.path.getsize(file) > ARRAY_BYTES:
        raise UserError(f"{file}: an array of more than {ARRAY_BYTES >> 20} MB: give JSON lines or parquet")
    json_rows.require_safe(file)
    if is_array:
        _require_rows(file, prompt_key)
    done = 0
    with tempfile.TemporaryDirectory() as cache, parquet.reading(file, JSON):
        try:
            loaded = datasets.load_dataset("json", data_files=str(file), cache_dir=cache)["train"]
        except datasets.exceptions.DatasetsError as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise UserError(f"{file} is not {JSON}: {first_line(cause)}") from error
        for rows in loaded.iter(batch_size=parquet.BATCH_ROWS):
            _require_columns(file, prompt_key, rows)
            pairs = zip(rows[prompt_key], rows["reward_model"], strict=True)
            for row, (prompt, reward_model) in enumerate(pairs, done + 1):
                _require_row(file, row, prompt_key, prompt, reward_model)
            golds = Coded.of(entry["ground_truth"] for entry in rows["reward_model"])
            yield Batch(done, Coded.of(rows[prompt_key]), golds, Coded.of(rows["data_source"]))
            done += len(rows["data_source"])
    if not done:
        raise UserError(f"{file} has no rows")


def _require_rows(file: Path, prompt_key: str) -> None:
    """Check the rows of a JSON array, which `datasets` reads whole: many empty ones would take 40 times its size.

    Raises:
        UserError: it has a row that veRL does not read, or too many.
    """
    with parquet.reading(file, JSON):
        for row, entry in enumerate(json_rows.read(file), 1):
            if row > ARRAY_ROWS:
                raise UserError(f"{file}: an array of more than {ARRAY_ROWS:,} rows: give JSON lines or parquet")
            if not isinstance(entry, dict):
                raise SchemaError(f"{file}: row {row} is not a JSON object")
            _require_row(file, row, prompt_key, entry.get(prompt_key), entry.get("reward_model"))


def _require_row(file: Path, row: int, column: str, prompt: Any, reward_model: Any) -> None:
    if not isinstance(reward_model, dict) or "ground_truth" not in reward_model:
        raise SchemaError(f"{file}: row {row}: reward_model is not an object with ground_truth; {HOW}")
    if prompt is None:
        return
    if not isinstance(prompt, list) or not all(
        isinstance(m, dict) and {"role", "content"} <= m.keys() for m in prompt
    ):
        what = "plain text" if isinstance(prompt, str) else "not a list of messages"
        raise SchemaError(f"{file}: row {row}: column {column} is {what}, and veRL needs a list of messages; {HOW}")


class NoTemplate(UserError):
    """A tokenizer that cannot make a prompt of messages: why, and what to do."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(f"{why}: {fix}")
        self.why, self.fix = why, fix


class Lengths:
    """Counts a prompt's tokens with the tokenizer of a model folder, or of a name on the hub.

    Args:
        template: in place of the tokenizer's own chat template.
        arguments: of the chat template, veRL's `data.apply_chat_template_kwargs`.

    Raises:
        UserError: there is no tokenizer that can be loaded without running code of its own.
        NoTemplate: it has no chat template.
    """

    def __init__(self, model: str, template: str | None = None, arguments: Mapping[str, Any] | None = None) -> None:
        if os.path.isdir(model) and not any((Path(model) / name).is_file() for name in TOKENIZER_FILES):
            raise UserError(f"folder {model} has no tokenizer (none of {', '.join(TOKENIZER_FILES)})")
        if os.path.isdir(model):
            files.require_regular(Path(model))
        with quick_imports():
            from transformers import AutoTokenizer

        try:  # trust_remote_code: without a value transformers asks on the terminal
            self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        except Exception as error:  # the tokenizers library raises plain Exceptions at what it cannot read
            why = f"{type(error).__name__}: {first_line(error)[:150]}"
            raise UserError(f"no tokenizer {model} that transformers can load ({why})") from error
        if template is not None:
            self.tokenizer.chat_template = template
        try:
            self.tokenizer.get_chat_template()
        except ValueError as error:  # none, or several and none of them the default
            fix = "set actor_rollout_ref.model.custom_chat_template, or take an instruction-tuned model"
            raise NoTemplate(f"the tokenizer {model} has no chat template", fix) from error
        skipped = ("tokenize", "return_dict", "return_tensors")
        self.arguments = {name: value for name, value in (arguments or {}).items() if name not in skipped}
        self.special = set(self.tokenizer.all_special_ids)
        self.refusal = ""

    def of(self, messages: list[dict[str, Any]] | None) -> int | None:
        """The number of tokens; None where the chat template refuses the prompt, which veRL counts as too long.

        0 where all tokens are special: transformers 5 makes a tokenizer also without the file of its vocabulary.
        What the template raised first is in `refusal`.
        """
        try:
            tokens = self.tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=False, **self.arguments
            )
        except Exception as error:  # a template is a program of the model's author, and veRL catches the same here
            self.refusal = self.refusal or f"{type(error).__name__}: {first_line(error)[:150]}"
            return None
        return len(tokens) if set(tokens) - self.special else 0
