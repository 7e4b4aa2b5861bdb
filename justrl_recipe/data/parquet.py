"""The rows of a data file as the trainer hands them to the reward: values with their types, not their text.

verl/utils/dataset/rl_dataset.py loads .parquet, .json and .jsonl with `datasets` and leaves every value as it is, so
a column of integers reaches the reward as integers. Parquet is read here by Arrow, which gives the same values, with
its dictionaries kept: a text that stands in many rows is held and looked at once, and a row that unpacks to
gigabytes is refused before it is unpacked.
"""

import contextlib
import json
import os
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from justrl_recipe import files
from justrl_recipe.errors import UserError

SUFFIXES = (".parquet", ".json", ".jsonl")  # that veRL reads
BATCH_ROWS, PLAIN_ROWS = 20_000, 5_000
BUFFER = 1 << 20  # bytes of a column that are read at once
ARRAY_BYTES, ARRAY_ROWS = 26 << 20, 70_000  # `datasets` reads an array whole, in ten times its size
ROW_BYTES = 16 << 20  # of one row's text
BATCH_BYTES = 64 << 20
CHUNK_BYTES, CHUNK_RATIO = 256 << 20, 1000  # a column chunk that is larger and compresses better is no text
MOST_ROWS, ROWS_PER_BYTE = 10_000_000, 10  # a larger file with more rows to a byte holds nothing
VALUES_PER_ROW = 100  # of a list column, on average over a row group
OUTSIDE = numpy.ones(256, bool)  # bytes that no JSON has outside of objects and lists
OUTSIDE[list(b" \t\r\n[]{}")] = False
LEVELS = numpy.zeros(256, numpy.int8)
LEVELS[list(b"[{")], LEVELS[list(b"]}")] = 1, -1
HOW = "`verl data train` and `verl data benchmarks` prepare files"


class SchemaError(UserError):
    """A file that can be read, and is not what veRL reads."""


@dataclass(frozen=True)
class Coded:
    """A column: its distinct values, and for each row the place of its own, an array of shape (rows,)."""

    values: list[Any]
    codes: numpy.ndarray

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Coded":
        places: dict[Any, int] = {}
        distinct: list[Any] = []
        codes = []
        for value in values:
            key = (type(value), value if isinstance(value, str | int | float | bytes | None) else repr(value))
            if key not in places:
                places[key] = len(distinct)
                distinct.append(value)
            codes.append(places[key])
        return cls(distinct, numpy.array(codes, dtype=numpy.int64))

    def map(self, function: Any) -> "Coded":
        return Coded([function(value) for value in self.values], self.codes)

    def first_rows(self) -> numpy.ndarray:
        """The first row of each value, an array of shape (values,)."""
        first = numpy.empty(len(self.values), dtype=numpy.int64)
        first[self.codes[::-1]] = numpy.arange(len(self.codes))[::-1]
        return first


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
    require_file(file)
    if file.suffix == ".parquet":
        yield from _of_parquet(file, prompt_key)
    elif file.suffix in SUFFIXES:
        yield from _of_json(file, prompt_key)
    else:
        raise UserError(f"{file}: veRL reads {', '.join(SUFFIXES)}")


def text(messages: list[dict[str, Any]] | None) -> str:
    """What the messages of a prompt say, one after another."""
    return "\n".join(_content_text(message["content"]) for message in messages or () if message)


def _content_text(content: Any) -> str:
    if isinstance(content, list):  # parts, as of a multimodal prompt
        return "\n".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def require_file(file: Path) -> None:
    if os.path.isdir(file):  # Path.is_dir raises at a name that no file can have
        raise UserError(f"{file} is a folder: give a file")
    if not os.path.lexists(file):
        raise UserError(f"no file {file}")
    with files.open_bytes(file) as opened:
        if not os.fstat(opened.fileno()).st_size:
            raise UserError(f"{file} is empty")


@contextlib.contextmanager
def reading(file: Path, kind: str) -> Iterator[None]:
    """A block that reads a file, whose content may be anything.

    Raises:
        UserError: it is no file of this kind.
    """
    try:
        yield
    # A wrong encoding and a number of too many digits are ValueErrors, nesting too deep is a RecursionError, and a
    # name with a null character, where Arrow cuts it off, is a KeyError of `datasets`.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError, KeyError) as error:
        raise UserError(f"{file} is no {kind}: {first_line(error)}") from error


def open_parquet(file: Path) -> pyarrow.parquet.ParquetFile:
    with reading(file, "whole parquet file"):
        return pyarrow.parquet.ParquetFile(file)


def parquet_batches(file: Path, columns: list[str], rows: int = BATCH_ROWS) -> Iterator[pyarrow.RecordBatch]:
    """The columns (or `column.field`s of a struct) of a parquet file, with dictionaries in place of texts.

    Args:
        rows: the most rows of a batch.

    Raises:
        UserError: it is damaged, or unpacks to more than a text can be.
    """
    with reading(file, "whole parquet file"):
        plain = pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
        leaves = [plain.schema.column(number) for number in range(len(plain.schema))]
        needed = {
            number
            for number, leaf in enumerate(leaves)
            if any(leaf.path == column or leaf.path.startswith(f"{column}.") for column in columns)
        }
        rows_in_all, size = plain.metadata.num_rows, os.path.getsize(file)
        if rows_in_all > MOST_ROWS and rows_in_all > ROWS_PER_BYTE * size:
            raise UserError(f"{file}: {rows_in_all:,} rows in {size:,} bytes")
        _require_whole_metadata(file, plain.metadata, needed)
        for group in range(plain.metadata.num_row_groups):
            _require_bounded(file, plain.metadata.row_group(group), needed)
        texts = [leaves[number].path for number in needed if leaves[number].physical_type == "BYTE_ARRAY"]
        parquet = pyarrow.parquet.ParquetFile(file, read_dictionary=texts, buffer_size=BUFFER, pre_buffer=False)
        done = 0
        for group in range(plain.metadata.num_row_groups):
            for batch in _of_group(parquet, plain, group, columns, rows):
                batch.validate(full=True)  # a damaged file has indices beyond its dictionary
                yield from _cut(file, batch, done)
                done += batch.num_rows


def _of_group(
    parquet: pyarrow.parquet.ParquetFile,
    plain: pyarrow.parquet.ParquetFile,
    group: int,
    columns: list[str],
    rows: int,
) -> Iterator[pyarrow.RecordBatch]:
    """A row group's batches: with dictionaries while the file has one, in smaller batches of texts from there."""
    done = 0
    try:
        for batch in parquet.iter_batches(rows, row_groups=[group], columns=columns):
            yield batch
            done += batch.num_rows
        return
    except pyarrow.ArrowNotImplementedError:  # Arrow cannot nest a dictionary that is given up within a batch
        pass
    for batch in plain.iter_batches(min(rows, PLAIN_ROWS), row_groups=[group], columns=columns):
        if batch.num_rows > done:
            yield batch.slice(done)
        done = max(0, done - batch.num_rows)


def _cut(file: Path, batch: pyarrow.RecordBatch, done: int) -> Iterator[pyarrow.RecordBatch]:
    """A batch in pieces whose texts fit into memory, `done` rows of the file before it."""
    sizes = sum((_bytes_of_rows(column) for column in batch.columns), numpy.zeros(batch.num_rows, numpy.int64))
    if len(sizes) and sizes.max() > ROW_BYTES:
        row = done + int(sizes.argmax()) + 1
        raise UserError(f"{file}: row {row} unpacks to {sizes.max() / 1e6:,.0f} MB of text")
    cuts = numpy.flatnonzero(numpy.diff(numpy.cumsum(sizes) // BATCH_BYTES)) + 1
    for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), batch.num_rows], strict=True):
        yield batch.slice(start, stop - start)


def _require_whole_metadata(file: Path, metadata: pyarrow.parquet.FileMetaData, needed: set[int]) -> None:
    """Look at the columns' metadata in a copy of this process first: at damaged ones Arrow 26 ends the process.

    Raises:
        UserError: it did.
    """
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for group in range(metadata.num_row_groups):
                for number in needed:
                    metadata.row_group(group).column(number)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(child, 0)[1] != 0:
        raise UserError(f"{file} is no whole parquet file: the metadata of its columns are damaged")


def _require_bounded(file: Path, group: pyarrow.parquet.RowGroupMetaData, needed: set[int]) -> None:
    for number in needed:
        chunk = group.column(number)
        size, ratio = (
            chunk.total_uncompressed_size,
            chunk.total_uncompressed_size / max(1, chunk.total_compressed_size),
        )
        if size > CHUNK_BYTES and ratio > CHUNK_RATIO:
            raise UserError(
                f"{file}: column {chunk.path_in_schema} unpacks to {size / 1e6:,.0f} MB, {ratio:,.0f} times"
            )
        if chunk.num_values > 1_000_000 + VALUES_PER_ROW * group.num_rows:
            values = f"{chunk.num_values:,} values in {group.num_rows:,} rows"
            raise UserError(f"{file}: column {chunk.path_in_schema} has {values}")


def _bytes_of_rows(array: pyarrow.Array) -> numpy.ndarray:
    """The bytes of text in each row, an array of shape (rows,); other values are small."""
    kind = array.type
    if pyarrow.types.is_dictionary(kind):
        lengths = pyarrow.compute.binary_length(array.dictionary).fill_null(0).to_numpy(zero_copy_only=False)
        return numpy.append(lengths, 0)[_indices(array)].astype(numpy.int64)
    if is_text(kind) or pyarrow.types.is_binary(kind):
        return pyarrow.compute.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(numpy.int64)
    if pyarrow.types.is_struct(kind):
        fields = (_bytes_of_rows(array.field(number)) for number in range(kind.num_fields))
        return sum(fields, numpy.zeros(len(array), numpy.int64))
    if pyarrow.types.is_fixed_size_list(kind) or pyarrow.types.is_list_view(kind):
        array, kind = array.cast(pyarrow.list_(kind.value_type)), pyarrow.list_(kind.value_type)
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        offsets = array.offsets.to_numpy()
        sizes = numpy.append(0, numpy.cumsum(_bytes_of_rows(array.values)))
        return sizes[offsets[1:]] - sizes[offsets[:-1]]
    return numpy.zeros(len(array), numpy.int64)


def _indices(array: pyarrow.DictionaryArray) -> numpy.ndarray:
    """The place of each row's value in the dictionary; the place behind the last where it has none."""
    return array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False).astype(numpy.int64)


def coded(array: pyarrow.Array) -> Coded:
    """An Arrow column as Python's values."""
    if pyarrow.types.is_string(array.type) or pyarrow.types.is_large_string(array.type):
        array = array.dictionary_encode()
    kind = array.type
    if pyarrow.types.is_dictionary(kind):
        used, codes = numpy.unique(_indices(array), return_inverse=True)
        present = used[used < len(array.dictionary)]
        values = array.dictionary.take(pyarrow.array(present)).to_pylist()
        return Coded(values + [None] * (len(used) - len(present)), codes)
    if single := _single_messages(array):
        return single
    if getattr(kind, "extension_name", "") == "arrow.json":  # which `datasets` decodes
        return coded(array.storage.cast(pyarrow.string())).map(
            lambda value: None if value is None else json.loads(value)
        )
    return Coded.of(array.to_pylist())


def _single_messages(array: pyarrow.Array) -> Coded | None:
    """Lists of one message with a role and a text each, as nearly every prompt is; None for any other column."""
    kind = array.type
    if not pyarrow.types.is_list(kind) or not pyarrow.types.is_struct(kind.value_type):
        return None
    names = {field.name for field in kind.value_type}
    lengths = pyarrow.compute.list_value_length(array)
    messages = array.flatten()
    if names != {"role", "content"} or array.null_count or messages.null_count:
        return None
    if not pyarrow.compute.all(pyarrow.compute.equal(lengths, 1)).as_py():
        return None
    roles, contents = coded(messages.field("role")), coded(messages.field("content"))
    pairs, codes = numpy.unique(contents.codes * len(roles.values) + roles.codes, return_inverse=True)
    order = [field.name for field in kind.value_type]
    values = []
    for pair in pairs.tolist():
        content, role = divmod(pair, len(roles.values))
        message = {"role": roles.values[role], "content": contents.values[content]}
        values.append([{name: message[name] for name in order}])
    return Coded(values, codes)


def _of_parquet(file: Path, prompt_key: str) -> Iterator[Batch]:
    schema = open_parquet(file).schema_arrow
    for column in (prompt_key, "reward_model", "data_source"):
        if column not in schema.names:
            raise SchemaError(f"{file}: no column {column}; {HOW}")
    _require_messages(file, prompt_key, schema.field(prompt_key).type)
    _require_ground_truth(file, schema.field("reward_model").type)
    if "extra_info" in schema.names:
        extra = schema.field("extra_info").type
        if not pyarrow.types.is_struct(extra) and not pyarrow.types.is_null(extra):
            raise SchemaError(f"{file}: column extra_info is {extra}, and veRL needs a struct")
    done = 0
    for batch in parquet_batches(file, [prompt_key, "reward_model.ground_truth", "data_source"]):
        reward_model = batch.column("reward_model")
        if reward_model.null_count:
            row = done + reward_model.is_null().index(True).as_py() + 1
            raise SchemaError(f"{file}: row {row} has no reward_model, and veRL reads its ground_truth")
        with reading(file, "whole parquet file"):
            gold = coded(pyarrow.compute.struct_field(reward_model, "ground_truth"))
            found = Batch(done, coded(batch.column(prompt_key)), gold, coded(batch.column("data_source")))
        _require_sources(file, found.sources)
        yield found
        done += batch.num_rows
    if not done:
        raise UserError(f"{file} has no rows")


def _require_messages(file: Path, column: str, kind: pyarrow.DataType) -> None:
    inner = getattr(kind, "value_type", None) if not pyarrow.types.is_dictionary(kind) else None
    if inner is None or not pyarrow.types.is_struct(inner):
        what = "plain text" if is_text(kind) else str(kind)
        raise SchemaError(f"{file}: prompts in column {column} are {what}, and veRL needs a list of messages; {HOW}")
    for name in ("role", "content"):
        if inner.get_field_index(name) < 0:
            raise SchemaError(f"{file}: the messages in column {column} have no {name}; {HOW}")


def _require_ground_truth(file: Path, kind: pyarrow.DataType) -> None:
    if not pyarrow.types.is_struct(kind):
        what = "text (JSON is not decoded)" if is_text(kind) else str(kind)
        raise SchemaError(f"{file}: column reward_model is {what}, and veRL needs a struct with ground_truth; {HOW}")
    if kind.get_field_index("ground_truth") < 0:
        raise SchemaError(f"{file}: column reward_model has no ground_truth; {HOW}")


def is_text(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind)


def _of_json(file: Path, prompt_key: str) -> Iterator[Batch]:
    """By `datasets` itself, which guesses the types: it turns the text 2020-01-01 into a date."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    is_array = files.starts_array(file)
    if is_array and os.path.getsize(file) > ARRAY_BYTES:
        raise UserError(f"{file}: an array of more than {ARRAY_BYTES >> 20} MB: give JSON lines or parquet")
    _require_safe(file, is_array)
    if is_array:
        _require_rows(file, prompt_key)
    done = 0
    with tempfile.TemporaryDirectory() as cache, reading(file, "JSON that veRL reads"):
        try:
            loaded = datasets.load_dataset("json", data_files=str(file), cache_dir=cache)["train"]
        except datasets.exceptions.DatasetsError as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise UserError(f"{file} is no JSON that veRL reads: {first_line(cause)}") from error
        for rows in loaded.iter(batch_size=BATCH_ROWS):
            for column in (prompt_key, "reward_model", "data_source"):
                if column not in rows:
                    raise SchemaError(f"{file}: no column {column}; {HOW}")
            for number, (prompt, reward_model) in enumerate(zip(rows[prompt_key], rows["reward_model"], strict=True)):
                _require_row(file, done + number + 1, prompt_key, prompt, reward_model)
            golds = Coded.of(entry["ground_truth"] for entry in rows["reward_model"])
            sources = Coded.of(rows["data_source"])
            _require_sources(file, sources)
            yield Batch(done, Coded.of(rows[prompt_key]), golds, sources)
            done += len(rows["data_source"])
    if not done:
        raise UserError(f"{file} has no rows")


def _require_safe(file: Path, is_array: bool) -> None:
    """Check a JSON file for what ends this process, as Arrow 26 reads it: deep nesting, and a row that is null.

    Raises:
        UserError: it is nested too deep, holds something outside of objects and lists, or has a line that is huge.
    """
    depth, quotes, rest, line = 0, 0, b"", 0
    with reading(file, "JSON that veRL reads"), files.open_bytes(file) as opened:
        if opened.read(len(BOM_UTF8)) != BOM_UTF8:
            opened.seek(0)
        while piece := opened.read(BUFFER):
            line = line + len(piece) if (newline := piece.rfind(b"\n")) < 0 else len(piece) - newline - 1
            if line > files.LINE_BYTES and not is_array:
                raise UserError(f"{file}: a line has more than {files.LINE_BYTES // files.MEGABYTE} MB")
            whole = (rest + piece).rstrip(b"\\")  # what a backslash escapes may be in the next piece
            rest = (rest + piece)[len(whole) :]
            found = numpy.frombuffer(whole.replace(b"\\\\", b"").replace(b'\\"', b""), numpy.uint8)
            counted = quotes + numpy.cumsum(found == ord('"'))
            depths = depth + numpy.cumsum(numpy.where(counted % 2, 0, LEVELS[found]))
            if depths.max(initial=0) > files.MOST_DEEP:
                raise UserError(f"{file}: nested deeper than {files.MOST_DEEP} levels")
            if ((depths <= 0) & OUTSIDE[found]).any():
                raise UserError(f"{file} is no JSON that veRL reads: it has a row that is no object")
            if len(found):
                depth, quotes = int(depths[-1]), int(counted[-1])


def _require_rows(file: Path, prompt_key: str) -> None:
    """Check the rows of a JSON array, which `datasets` reads whole: many empty ones would take 40 times its size.

    Raises:
        UserError: it has a row that veRL does not read, or too many.
    """
    with reading(file, "JSON that veRL reads"):
        for row, entry in enumerate(files.json_rows(file), 1):
            if row > ARRAY_ROWS:
                raise UserError(f"{file}: an array of more than {ARRAY_ROWS:,} rows: give JSON lines or parquet")
            if not isinstance(entry, dict):
                raise SchemaError(f"{file}: row {row} is no JSON object")
            _require_row(file, row, prompt_key, entry.get(prompt_key), entry.get("reward_model"))


def _require_sources(file: Path, sources: Coded) -> None:
    if any(isinstance(source, list | dict) for source in sources.values):
        raise SchemaError(f"{file}: column data_source is no text, and veRL groups by it; {HOW}")


def _require_row(file: Path, row: int, column: str, prompt: Any, reward_model: Any) -> None:
    if not isinstance(reward_model, dict) or "ground_truth" not in reward_model:
        raise SchemaError(f"{file}: row {row}: reward_model is no object with ground_truth; {HOW}")
    if prompt is None:
        return
    if not isinstance(prompt, list) or not all(
        isinstance(m, dict) and {"role", "content"} <= m.keys() for m in prompt
    ):
        what = "plain text" if isinstance(prompt, str) else "no list of messages"
        raise SchemaError(f"{file}: row {row}: column {column} is {what}, and veRL needs a list of messages; {HOW}")


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
