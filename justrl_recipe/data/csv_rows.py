"""CSV files of others (RFC 4180: commas, double quotes, a header), read row by row in bounded memory."""

import csv
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from justrl_recipe import files
from justrl_recipe.errors import UserError


class _Lines(Iterator[str]):
    """The lines of a file as text; `size` counts the bytes since it was last set to 0."""

    def __init__(self, file: Path) -> None:
        self.file, self.size, self.number = file, 0, 0
        self._lines = files.lines(file)

    def __next__(self) -> str:
        line = next(self._lines)
        self.size, self.number = self.size + len(line), self.number + 1
        if self.size > files.LINE_BYTES:
            raise UserError(f"{self.file}: line {self.number}: a row has more than {files.LINE_BYTES >> 20} MB")
        try:
            return (line.removeprefix(BOM_UTF8) if self.number == 1 else line).decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{self.file}: line {self.number} is not UTF-8 text: convert the file (iconv)") from error


def read(file: Path) -> Iterator[dict[str, str]]:
    """The rows by the header's names; empty lines are left out.

    Raises:
        UserError: it cannot be read, is not UTF-8, has a single column or names one twice, or a row has more or fewer
            cells than the header, more than `files.LINE_BYTES`, or a cell of more than csv's 131,072 characters. It
            names the line of the file or the row, both counted from 1.
    """
    lines = _Lines(file)
    rows = (row for row in csv.reader(lines, strict=True) if row)
    try:
        header = [name.strip() for name in next(rows, [])]
        if twice := [name for name, count in Counter(header).items() if count > 1]:
            raise UserError(f"{file}: two columns are called {twice[0]!r}: rename one")
        if len(header) == 1:
            raise UserError(f"{file}: the header has a single cell, {header[0][:60]!r}: separate cells by commas")
        lines.size = 0
        for number, row in enumerate(rows, 1):
            if len(row) != len(header):
                raise UserError(f"{file}: row {number} has {len(row)} cells, the header has {len(header)}")
            yield dict(zip(header, row, strict=True))
            lines.size = 0
    except csv.Error as error:
        if "field limit" in str(error):
            most = f"line {lines.number}: a cell has more than {csv.field_size_limit():,} characters"
            raise UserError(f"{file}: {most}: shorten it, or close the double quote before it") from error
        raise UserError(f"{file} is not CSV: line {lines.number}: {error}") from error
