"""Parquet files of others, read in bounded memory: batches of columns as their distinct values.

A text that stands in many rows is held once, as the dictionary that the file has of it, and a row that unpacks to
gigabytes is refused before it is unpacked. The values are those that `datasets`, and so veRL, reads.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from justrl_recipe.errors import UserError, first_line

BATCH_ROWS, PLAIN_ROWS = 20_000, 5_000
BUFFER = 1 << 20  # bytes of a column that are read at once
ROW_BYTES = 16 << 20  # of one row's text
BATCH_BYTES = 64 << 20
CHUNK_BYTES, CHUNK_RATIO = 256 << 20, 1000  # a column chunk that is larger and compresses better is not text
MOST_ROWS, ROWS_PER_BYTE = 10_000_000, 10  # a larger file with more rows to a byte holds nothing
VALUES_PER_ROW = 100  # of a list column, on average over a row group
LISTS = (
    *(pyarrow.ListType, pyarrow.LargeListType, pyarrow.FixedSizeListType),
    *(pyarrow.ListViewType, pyarrow.LargeListViewType),
)


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

    def map(self, function: Callable[[Any], Any]) -> "Coded":
        return Coded([function(value) for value in self.values], self.codes)

    def where(self, test: Callable[[Any], bool]) -> numpy.ndarray:
        """Whether the test is true of each row's value, an array of shape (rows,); asks each distinct value once."""
        return numpy.array([test(value) for value in self.values], bool)[self.codes]

    def pairs(self, other: "Coded") -> "Coded":
        """The pairs of both columns' values."""
        count = len(other.values)
        pairs, codes = numpy.unique(self.codes * count + other.codes, return_inverse=True)
        return Coded([(self.values[pair // count], other.values[pair % count]) for pair in pairs.tolist()], codes)

    def first_rows(self) -> numpy.ndarray:
        """The first row of each value, an array of shape (values,)."""
        first = numpy.empty(len(self.values), dtype=numpy.int64)
        first[self.codes[::-1]] = numpy.arange(len(self.codes))[::-1]
        return first


@contextlib.contextmanager
def reading(file: Path, kind: str = "a whole parquet file") -> Iterator[None]:
    """A block that reads a file, whose content may be anything.

    Raises:
        UserError: it is not a file of this kind.
    """
    try:
        yield
    # A wrong encoding and a number of too many digits are ValueErrors, nesting too deep is a RecursionError, and a
    # name with a null character, where Arrow cuts it off, is a KeyError of `datasets`.
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError, KeyError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else first_line(error)
        raise UserError(f"{file} is not {kind}: {why}") from error


def count_rows(file: Path) -> int:
    with reading(file):
        return pyarrow.parquet.read_metadata(file).num_rows


def column_types(file: Path) -> dict[str, pyarrow.DataType]:
    """The columns' names and types.

    Raises:
        UserError: it is damaged, or names a column twice.
    """
    with reading(file):
        schema = pyarrow.parquet.read_schema(file)
        if twice := [name for name, count in Counter(schema.names).items() if count > 1]:
            raise UserError(f"{file}: two columns are called {twice[0]!r}: rename one")
        return {field.name: field.type for field in schema}


def batches(file: Path, columns: list[str], rows: int = BATCH_ROWS) -> Iterator[pyarrow.RecordBatch]:
    """The columns (or `column.field`s of a struct) of a parquet file, with dictionaries in place of texts.

    Args:
        rows: the most rows of a batch.

    Raises:
        UserError: it is damaged, or unpacks to more than a text can be.
    """
    with reading(file):
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
        coded = pyarrow.parquet.ParquetFile(file, read_dictionary=texts, buffer_size=BUFFER, pre_buffer=False)
        done = 0
        for group in range(plain.metadata.num_row_groups):
            for batch in _of_group(coded, plain, group, columns, rows):
                batch.validate(full=True)  # a damaged file has indices beyond its dictionary
                yield from _cut(file, batch, done)
                done += batch.num_rows
    if not done:
        raise UserError(f"{file} has no rows")


def _of_group(
    coded: pyarrow.parquet.ParquetFile,
    plain: pyarrow.parquet.ParquetFile,
    group: int,
    columns: list[str],
    rows: int,
) -> Iterator[pyarrow.RecordBatch]:
    """A row group's batches: with dictionaries while the file has one, in smaller batches of texts from there."""
    done = 0
    try:
        for batch in coded.iter_batches(rows, row_groups=[group], columns=columns):
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
    """Look at the columns' metadata in a copy of this process first: at damaged ones Arrow 26 ends the process."""
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
        raise UserError(f"{file} is not a whole parquet file: the metadata of its columns are damaged")


def _require_bounded(file: Path, group: pyarrow.parquet.RowGroupMetaData, needed: set[int]) -> None:
    for number in needed:
        chunk = group.column(number)
        column, size = f"{file}: column {chunk.path_in_schema}", chunk.total_uncompressed_size
        ratio = size / max(1, chunk.total_compressed_size)
        if size > CHUNK_BYTES and ratio > CHUNK_RATIO:
            raise UserError(f"{column} unpacks to {size / 1e6:,.0f} MB, {ratio:,.0f} times")
        if chunk.num_values > 1_000_000 + VALUES_PER_ROW * group.num_rows:
            raise UserError(f"{column} has {chunk.num_values:,} values in {group.num_rows:,} rows")


def _bytes_of_rows(array: pyarrow.Array) -> numpy.ndarray:
    """The bytes of text in each row, an array of shape (rows,); other values are small."""
    kind = array.type
    if pyarrow.types.is_dictionary(kind):
        return numpy.append(_bytes_of_rows(array.dictionary), 0)[_indices(array)]
    if is_text(kind) or pyarrow.types.is_binary(kind):
        return pyarrow.compute.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(numpy.int64)
    if pyarrow.types.is_struct(kind):
        fields = (_bytes_of_rows(array.field(number)) for number in range(kind.num_fields))
        return sum(fields, numpy.zeros(len(array), numpy.int64))
    if isinstance(kind, LISTS):
        rows = pyarrow.compute.list_parent_indices(array)
        return numpy.bincount(rows, _bytes_of_rows(array.flatten()), len(array)).astype(numpy.int64)
    return numpy.zeros(len(array), numpy.int64)


def _indices(array: pyarrow.DictionaryArray) -> numpy.ndarray:
    """The place of each row's value in the dictionary; the place behind the last where it has none."""
    return array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False).astype(numpy.int64)


def is_text(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind)


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
        texts = coded(array.storage.cast(pyarrow.string()))
        return texts.map(lambda value: None if value is None else json.loads(value))
    return Coded.of(array.to_pylist())


def _single_messages(array: pyarrow.Array) -> Coded | None:
    """Lists of one message with a role and a text each, as nearly every prompt is; None for any other column."""
    kind = array.type
    if not pyarrow.types.is_list(kind) or not pyarrow.types.is_struct(kind.value_type):
        return None
    messages = array.flatten()
    names = [field.name for field in kind.value_type]
    lengths = pyarrow.compute.list_value_length(array)
    if set(names) != {"role", "content"} or array.null_count or messages.null_count:
        return None
    if not pyarrow.compute.all(pyarrow.compute.equal(lengths, 1)).as_py():
        return None
    first, second = (coded(messages.field(name)) for name in names)
    return first.pairs(second).map(lambda pair: [dict(zip(names, pair, strict=True))])
