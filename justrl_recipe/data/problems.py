"""Problems and their ground truths out of any file: parquet, JSON lines or a JSON array, in either schema.

The schemas are veRL's (`prompt`, a text or messages, and `reward_model.ground_truth`) and the plain one
(`problem` and `answer`). Parquet and JSON lines are read in batches, so a file may be larger than memory.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.compute

from justrl_recipe import files
from justrl_recipe.data import columns
from justrl_recipe.data.columns import Coded, require_file
from justrl_recipe.errors import UserError

BATCH_ROWS = 50_000
EXACT_FLOAT = 2**53  # whole floats beyond it are rounded
# (column of the problem, column of the ground truth), by name of the schema
SCHEMAS = (("prompt", "reward_model"), ("problem", "answer"), ("question", "answer"))


@dataclass(frozen=True)
class Batch:
    """The distinct pairs among consecutive rows, in the order of their first occurrence."""

    rows: int
    problems: list[str]
    golds: list[str]


def count_rows(file: Path) -> int | None:
    """How many rows a parquet file has; None for JSON, which would have to be read for it."""
    require_file(file)
    return columns.open_parquet(file).metadata.num_rows if file.suffix == ".parquet" else None


def read(file: Path) -> Iterator[Batch]:
    """The problems of a file, batch by batch; a pair of problem and gold once per batch.

    Raises:
        UserError: no such file, a folder, an empty or truncated one, an unknown schema or a missing value; it names
            the file, the column and the row (counted from 1).
    """
    require_file(file)
    if file.suffix == ".parquet":
        yield from _read_parquet(file)
    elif file.suffix in (".json", ".jsonl"):
        yield from _read_json(file)
    else:
        raise UserError(f"{file}: neither .parquet, .json nor .jsonl")


def prepared_pairs(file: Path) -> Iterator[tuple[str, str]]:
    """Prompt and ground truth of every row of a file in veRL's schema; errors as in `columns.read` and `text_of`."""
    for batch in columns.read(file):
        for row, (prompt, gold) in enumerate(zip(batch.prompts.codes, batch.golds.codes, strict=True), batch.start):
            yield (
                text_of(file, "prompt", row, batch.prompts.values[prompt]),
                text_of(file, "reward_model.ground_truth", row, batch.golds.values[gold]),
            )


def schema_of(file: Path, columns: list[str]) -> tuple[str, str]:
    for problem, gold in SCHEMAS:
        if problem in columns and gold in columns:
            return problem, gold
    known = ", or ".join(f"{problem} and {gold}" for problem, gold in SCHEMAS)
    raise UserError(f"{file}: unknown schema: columns {', '.join(columns)}; expected {known}")


def _read_parquet(file: Path) -> Iterator[Batch]:
    schema = columns.open_parquet(file).schema_arrow
    names = schema_of(file, schema.names)
    wrapped = pyarrow.types.is_struct(schema.field(names[1]).type)
    if wrapped and schema.field(names[1]).type.get_field_index("ground_truth") < 0:
        raise UserError(f"{file}: column {names[1]} has no field ground_truth")
    gold_name = f"{names[1]}.ground_truth" if wrapped else names[1]
    done = 0
    for batch in columns.parquet_batches(file, [names[0], gold_name], BATCH_ROWS):
        gold = batch.column(names[1])
        with columns.reading(file, "whole parquet file"):
            problems = columns.coded(batch.column(names[0]))
            golds = columns.coded(pyarrow.compute.struct_field(gold, "ground_truth") if wrapped else gold)
        yield _distinct(file, (names[0], gold_name), problems, golds, done)
        done += batch.num_rows
    if not done:
        raise UserError(f"{file} has no rows")


def _distinct(file: Path, names: tuple[str, str], problems: Coded, golds: Coded, done: int) -> Batch:
    """The batch's distinct pairs, since Python takes a minute for what DAPO's 100 copies repeat."""
    _, first = numpy.unique(problems.codes * len(golds.values) + golds.codes, return_index=True)
    rows = sorted(first.tolist())
    texts: dict[int, str] = {}  # a problem that stands with several golds is one object
    for row in rows:
        code = int(problems.codes[row])
        if code not in texts:
            texts[code] = text_of(file, names[0], done + row, problems.values[code])
    found = [text_of(file, names[1], done + row, golds.values[golds.codes[row]]) for row in rows]
    return Batch(len(problems.codes), [texts[int(problems.codes[row])] for row in rows], found)


def _read_json(file: Path) -> Iterator[Batch]:
    rows, names, problems, golds = 0, None, [], []
    for entry in _json_rows(file):
        names = names or schema_of(file, list(entry))
        problems.append(text_of(file, names[0], rows, entry.get(names[0])))
        golds.append(text_of(file, names[1], rows, entry.get(names[1])))
        rows += 1
        if len(problems) == BATCH_ROWS:
            yield Batch(len(problems), problems, golds)
            problems, golds = [], []
    if not rows:
        raise UserError(f"{file} has no rows")
    if problems:
        yield Batch(len(problems), problems, golds)


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    with columns.reading(file, "JSON (an array or a line per row)"):
        for number, entry in enumerate(files.json_rows(file), 1):
            if not isinstance(entry, dict):
                raise UserError(f"{file}: row {number} is no JSON object")
            yield entry


def text_of(file: Path, column: str, row: int, value: Any) -> str:
    """The text of a problem or a ground truth, whichever way its schema wraps it; a whole float as an integer's.

    Args:
        row: counted from 0.

    Raises:
        UserError: it has no text, or a number whose text an answer need not have (0.5, .5 and 1/2 are one float).
    """
    if isinstance(value, dict):
        column, value = f"{column}.ground_truth", value.get("ground_truth")
    if isinstance(value, list) and value and all(isinstance(message, dict) for message in value):
        if [message.get("role") for message in value] != ["user"]:
            raise UserError(f"{file}: row {row + 1}: column {column} is no single message of a user")
        column, value = f"{column}[].content", value[0].get("content")
    elif isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = ", ".join(value)  # a gold of several parts
    where = f"{file}: row {row + 1}: column {column}"
    if isinstance(value, float | Decimal):
        value = _whole(where, value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise UserError(f"{where} has {'no text' if value is None else repr(value)[:60]}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can hold half of a surrogate pair
        raise UserError(f"{where} has a character that is no Unicode text: {value[error.start]!r}") from error
    return value


def _whole(where: str, value: float | Decimal) -> int:
    if math.isfinite(value) and value == int(value) and (isinstance(value, Decimal) or abs(value) <= EXACT_FLOAT):
        return int(value)
    raise UserError(f"{where} has the number {value}, which can be written in several ways: give it as text")
