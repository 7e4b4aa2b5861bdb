"""Problems and their ground truths out of any file: parquet, JSON lines or a JSON array, in either schema.

The schemas are veRL's (`prompt`, a text or messages, and `reward_model.ground_truth`) and the plain one
(`problem` and `answer`). Parquet and JSON lines are read in batches, so a file may be larger than memory.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from justrl_recipe.errors import UserError

BATCH_ROWS = 50_000
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
    return _parquet(file).metadata.num_rows if file.suffix == ".parquet" else None


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


def require_file(file: Path) -> None:
    if file.is_dir():
        raise UserError(f"{file} is a folder: give a file")
    if not file.is_file():
        raise UserError(f"no file {file}")
    if file.stat().st_size == 0:
        raise UserError(f"{file} is empty")


def schema_of(file: Path, columns: list[str]) -> tuple[str, str]:
    for problem, gold in SCHEMAS:
        if problem in columns and gold in columns:
            return problem, gold
    known = ", or ".join(f"{problem} and {gold}" for problem, gold in SCHEMAS)
    raise UserError(f"{file}: unknown schema: columns {', '.join(columns)}; expected {known}")


def _parquet(file: Path) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file} is no whole parquet file: {first_line(error)}") from error


def _read_parquet(file: Path) -> Iterator[Batch]:
    parquet = _parquet(file)
    columns = schema_of(file, parquet.schema_arrow.names)
    done = 0
    try:
        for batch in parquet.iter_batches(BATCH_ROWS, columns=list(columns)):
            yield _distinct(file, columns, batch, done)
            done += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file} is no whole parquet file: {first_line(error)}") from error
    if not done:
        raise UserError(f"{file} has no rows")


def _distinct(file: Path, columns: tuple[str, str], batch: pyarrow.RecordBatch, done: int) -> Batch:
    """The batch's distinct pairs by Arrow, since Python takes a minute for what DAPO's 100 copies repeat."""
    pairs = pyarrow.table([batch.column(0), batch.column(1), pyarrow.array(range(batch.num_rows))], ["p", "g", "row"])
    try:
        flat = pairs.set_column(0, "p", _text(pairs["p"])).set_column(1, "g", _text(pairs["g"]))
        grouped = flat.group_by(["p", "g"], use_threads=False).aggregate([("row", "min")])
        first = sorted(grouped["row_min"].to_pylist())
    except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowKeyError, KeyError):
        first = list(range(batch.num_rows))  # an unusual type: text_of names the row that it cannot read
    rows = pairs.take(pyarrow.array(first, pyarrow.int64())).to_pylist()
    problems = [text_of(file, columns[0], done + entry["row"], entry["p"]) for entry in rows]
    golds = [text_of(file, columns[1], done + entry["row"], entry["g"]) for entry in rows]
    return Batch(batch.num_rows, problems, golds)


def _text(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """A column by whose text its rows can be told apart."""
    if pyarrow.types.is_struct(column.type):
        return pyarrow.compute.struct_field(column, "ground_truth")
    if pyarrow.types.is_list(column.type) and pyarrow.types.is_struct(column.type.value_type):
        contents = pyarrow.compute.struct_field(pyarrow.compute.list_flatten(column), "content")
        if len(contents) != len(column):
            raise KeyError("several messages, or none")
        return contents
    return column


def _read_json(file: Path) -> Iterator[Batch]:
    rows, columns, problems, golds = 0, None, [], []
    for entry in _json_rows(file):
        columns = columns or schema_of(file, list(entry))
        problems.append(text_of(file, columns[0], rows, entry.get(columns[0])))
        golds.append(text_of(file, columns[1], rows, entry.get(columns[1])))
        rows += 1
        if len(problems) == BATCH_ROWS:
            yield Batch(len(problems), problems, golds)
            problems, golds = [], []
    if not rows:
        raise UserError(f"{file} has no rows")
    if problems:
        yield Batch(len(problems), problems, golds)


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        try:
            if lines.read(1) == "[":
                lines.seek(0)
                entries: Iterable[tuple[int, Any]] = enumerate(json.load(lines), 1)
            else:
                lines.seek(0)
                entries = ((number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip())
            for number, entry in entries:
                if not isinstance(entry, dict):
                    raise UserError(f"{file}: row {number} is no JSON object")
                yield entry
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is no JSON (an array or a line per row): {first_line(error)}") from error


def text_of(file: Path, column: str, row: int, value: Any) -> str:
    """The text of a problem or a ground truth, whichever way its schema wraps it."""
    if isinstance(value, dict):
        column, value = f"{column}.ground_truth", value.get("ground_truth")
    if isinstance(value, list) and value and all(isinstance(message, dict) for message in value):
        if [message.get("role") for message in value] != ["user"]:
            raise UserError(f"{file}: row {row + 1}: column {column} is no single message of a user")
        column, value = f"{column}[].content", value[0].get("content")
    elif isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        value = ", ".join(value)  # a gold of several parts
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise UserError(
            f"{file}: row {row + 1}: column {column} has {'no text' if value is None else repr(value)[:60]}"
        )
    return value


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
