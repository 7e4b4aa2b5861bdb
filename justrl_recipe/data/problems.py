"""Problems and their ground truths out of any file: parquet, CSV, JSON lines or a JSON array.

The columns are those that the user names, or those of a known schema: veRL's (`prompt`, a text or messages, and
`reward_model.ground_truth`) or a plain one (`problem` or `question`, and `answer`). Files are read in batches, and
may be larger than memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute

from justrl_recipe import files
from justrl_recipe.data import csv_rows, json_rows, parquet, rl_dataset
from justrl_recipe.data.parquet import Coded
from justrl_recipe.errors import UserError

BATCH_ROWS = 50_000
SUFFIXES = (".parquet", ".csv", ".json", ".jsonl")
EXACT_FLOAT = 2**53  # whole floats beyond it are rounded
# (column of the problem, column of the ground truth), by name of the schema
SCHEMAS = (("prompt", "reward_model"), ("problem", "answer"), ("question", "answer"))
Pair = tuple[str, str]  # a problem and its ground truth


@dataclass(frozen=True)
class Batch:
    """Consecutive rows, and their pairs; of a parquet file each distinct pair once, where it stands first."""

    rows: int
    pairs: list[Pair]


def count_rows(file: Path) -> int | None:
    """How many rows a parquet file has; None for JSON, which would have to be read for it."""
    files.require_content(file)
    return parquet.count_rows(file) if file.suffix.lower() == ".parquet" else None


def read(file: Path, columns: Pair | None = None) -> Iterator[Batch]:
    """The problems of a file, batch by batch.

    Args:
        columns: of the problem and of the ground truth, where they are not of a known schema.

    Raises:
        UserError: no such file, a folder, an empty or truncated one, an unknown schema or a value of the wrong type;
            it names the file, the column and the row (counted from 1).
    """
    files.require_content(file)
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{file}: convert it to one of {', '.join(SUFFIXES)}, which its name has to end in")
    if suffix == ".parquet":
        yield from _read_parquet(file, columns)
    elif suffix == ".csv":
        yield from _read_rows(file, csv_rows.read(file), columns)
    else:
        with parquet.reading(file, "JSON (an array or a line per row)"):
            yield from _read_rows(file, json_rows.read(file), columns)


def prepared_pairs(file: Path) -> Iterator[Pair]:
    """Prompt and ground truth of every row of a prepared file; errors as `rl_dataset.read` and `gold_of`."""
    for batch in rl_dataset.read(file):
        codes = zip(batch.prompts.codes, batch.golds.codes, strict=True)
        for row, (prompt, gold) in enumerate(codes, batch.start + 1):
            yield (
                prompt_of(file, "prompt", row, batch.prompts.values[prompt]),
                gold_of(file, "reward_model.ground_truth", row, batch.golds.values[gold]),
            )


def _schema_of(file: Path, columns: list[str], chosen: Pair | None) -> Pair:
    if chosen:
        if missing := [column for column in chosen if column not in columns]:
            there = f"there are {', '.join(columns) or 'none'}; --problem and --answer name columns of every row"
            raise UserError(f"{file}: no column {missing[0]!r}: {there}")
        return chosen
    for problem, gold in SCHEMAS:
        if problem in columns and gold in columns:
            return problem, gold
    known = ", or ".join(f"{problem} and {gold}" for problem, gold in SCHEMAS)
    raise UserError(
        f"{file}: unknown schema: columns {', '.join(columns)}; expected {known}; --problem and --answer name others"
    )


def _read_parquet(file: Path, columns: Pair | None) -> Iterator[Batch]:
    types = parquet.column_types(file)
    problem, gold = _schema_of(file, list(types), columns)
    wrapped = pyarrow.types.is_struct(types[gold])
    if wrapped and types[gold].get_field_index("ground_truth") < 0:
        raise UserError(f"{file}: column {gold} has no field ground_truth")
    leaf = f"{gold}.ground_truth" if wrapped else gold
    done = 0
    for batch in parquet.batches(file, [problem, leaf], BATCH_ROWS):
        answers = batch.column(gold)
        with parquet.reading(file):
            problems = parquet.coded(batch.column(problem))
            golds = parquet.coded(pyarrow.compute.struct_field(answers, "ground_truth") if wrapped else answers)
        yield Batch(batch.num_rows, _distinct(file, (problem, leaf), problems, golds, done))
        done += batch.num_rows


def _distinct(file: Path, columns: Pair, problems: Coded, golds: Coded, done: int) -> list[Pair]:
    """The batch's distinct pairs, since Python takes a minute for what DAPO's 100 copies repeat."""
    texts: dict[int, str] = {}  # a problem that stands with several golds is one object
    pairs = []
    for row in sorted(problems.pairs(golds).first_rows().tolist()):
        problem, gold = int(problems.codes[row]), golds.values[golds.codes[row]]
        if problem not in texts:
            texts[problem] = prompt_of(file, columns[0], done + row + 1, problems.values[problem])
        pairs.append((texts[problem], gold_of(file, columns[1], done + row + 1, gold)))
    return pairs


def _read_rows(file: Path, entries: Iterator[Any], columns: Pair | None) -> Iterator[Batch]:
    row, found, pairs = 0, None, []
    for row, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise UserError(f"{file}: row {row} is not a JSON object")
        problem, gold = found = found or _schema_of(file, list(entry), columns)
        pairs.append((prompt_of(file, problem, row, entry.get(problem)), gold_of(file, gold, row, entry.get(gold))))
        if len(pairs) == BATCH_ROWS:
            yield Batch(len(pairs), pairs)
            pairs = []
    if not row:
        raise UserError(f"{file} has no rows")
    if pairs:
        yield Batch(len(pairs), pairs)


def prompt_of(file: Path, column: str, row: int, value: Any) -> str:
    """The text of a problem: a text, or a user's single message; empty where there is none.

    Args:
        row: counted from 1.

    Raises:
        UserError: it is something else, or not Unicode text.
    """
    if isinstance(value, list) and value and all(isinstance(message, dict) for message in value):
        if [message.get("role") for message in value] != ["user"]:
            raise UserError(f"{file}: row {row}: column {column} is not a single message of a user")
        column, value = f"{column}[].content", value[0].get("content")
    return _text(f"{file}: row {row}: column {column}", value)


def gold_of(file: Path, column: str, row: int, value: Any) -> str:
    """The text of a ground truth, or of `ground_truth` in an object: a text or a whole number; empty where there is
    none.

    Args:
        row: counted from 1.

    Raises:
        UserError: it is something else, not Unicode text, or a number whose text an answer need not have (0.5, .5 and
            1/2 are one float).
    """
    if isinstance(value, dict):
        column, value = f"{column}.ground_truth", value.get("ground_truth")
    where = f"{file}: row {row}: column {column}"
    if isinstance(value, float | Decimal):
        value = _whole(where, value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return _text(where, value)


def _text(where: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        what = "a list" if isinstance(value, list) else "an object"
        raise UserError(f"{where} has {what}, not a text: give one row for each problem")
    if not isinstance(value, str):
        raise UserError(f"{where} has {repr(value)[:60]}, not a text: give it as text, or choose another column")
    if "\0" in value:
        raise UserError(f"{where} has a null character: remove it")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can hold half of a surrogate pair
        raise UserError(f"{where} has a character that is not Unicode text: {value[error.start]!r}") from error
    return value


def _whole(where: str, value: float | Decimal) -> int:
    if math.isfinite(value) and value == int(value) and (isinstance(value, Decimal) or abs(value) <= EXACT_FLOAT):
        return int(value)
    raise UserError(f"{where} has the number {value}, which can be written in several ways: give it as text")
