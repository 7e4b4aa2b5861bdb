"""JSON files of others, read in bounded memory: a line per row, or one array of them."""

import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from justrl_recipe import files
from justrl_recipe.data.parquet import reading
from justrl_recipe.errors import UserError

JSON = "JSON that veRL reads"
PIECE = 1 << 16  # characters of an array that are read at once
BUFFER = 1 << 20  # bytes that `require_safe` reads at once
SPACE = re.compile(r"\s*")
OUTSIDE = numpy.ones(256, bool)  # bytes that no JSON has outside of objects and lists
OUTSIDE[list(b" \t\r\n[]{}")] = False
LEVELS = numpy.zeros(256, numpy.int8)
LEVELS[list(b"[{")], LEVELS[list(b"]}")] = 1, -1


def is_array(file: Path) -> bool:
    with files.open_bytes(file) as start:
        return start.read(len(BOM_UTF8) + 1).removeprefix(BOM_UTF8).startswith(b"[")


def read(file: Path) -> Iterator[Any]:
    """The values of a JSON-lines file, or the elements of the one array that a file holds.

    Raises:
        UserError: as `files.json_lines`.
        ValueError: the array is not JSON, or an element has more than `files.LINE_BYTES`.
        RecursionError: an element is nested too deep.
    """
    yield from _elements(file) if is_array(file) else (value for _, value in files.json_lines(file))


def _elements(file: Path) -> Iterator[Any]:
    """The elements of an array, which is read in pieces. Ends at the first that is not an object."""
    decoder, at, after_comma = json.JSONDecoder(), 1, False
    with io.TextIOWrapper(files.open_bytes(file), encoding="utf-8-sig") as text:
        buffer = text.read(PIECE)
        while after_comma or not buffer.startswith("]", at := _skip_space(buffer, at)):
            try:
                element, end = decoder.raw_decode(buffer, _skip_space(buffer, at))
                end = _skip_space(buffer, end)
                if isinstance(element, dict) and buffer[end : end + 1] not in (",", "]"):
                    raise json.JSONDecodeError("Expecting , or ]", buffer, end)
            except json.JSONDecodeError:  # also where the element goes on behind the buffer
                if len(buffer) - at > files.LINE_BYTES:
                    raise ValueError(f"a row has more than {files.LINE_BYTES // files.MEGABYTE} MB") from None
                if not (more := text.read(max(PIECE, len(buffer) - at))):
                    raise
                buffer, at = buffer[at:] + more, 0
                continue
            yield element
            after_comma = buffer[end : end + 1] == ","
            at = end + after_comma
        if (buffer[at + 1 :] + text.read(PIECE)).strip():
            raise ValueError("there is something behind the array")


def _skip_space(text: str, start: int) -> int:
    return SPACE.match(text, start).end()  # type: ignore[union-attr]


def require_safe(file: Path) -> None:
    """Check a file for what ends this process, as Arrow 26 reads it: deep nesting, and a row that is null.

    Raises:
        UserError: it is nested too deep, holds something outside of objects and lists, or has a line that is huge.
    """
    depth, quotes, rest, line, lines = 0, 0, b"", 0, not is_array(file)
    with reading(file, JSON), files.open_bytes(file) as opened:
        if opened.read(len(BOM_UTF8)) != BOM_UTF8:
            opened.seek(0)
        while piece := opened.read(BUFFER):
            line = line + len(piece) if (newline := piece.rfind(b"\n")) < 0 else len(piece) - newline - 1
            if lines and line > files.LINE_BYTES:
                raise UserError(f"{file}: a line has more than {files.LINE_BYTES // files.MEGABYTE} MB")
            whole = (rest + piece).rstrip(b"\\")  # what a backslash escapes may be in the next piece
            rest = (rest + piece)[len(whole) :]
            found = numpy.frombuffer(whole.replace(b"\\\\", b"").replace(b'\\"', b""), numpy.uint8)
            counted = quotes + numpy.cumsum(found == ord('"'))
            depths = depth + numpy.cumsum(numpy.where(counted % 2, 0, LEVELS[found]))
            if depths.max(initial=0) > files.MOST_DEEP:
                raise UserError(f"{file}: nested deeper than {files.MOST_DEEP} levels")
            if ((depths <= 0) & OUTSIDE[found]).any():
                raise UserError(f"{file} is not {JSON}: it has a row that is not an object")
            if len(found):
                depth, quotes = int(depths[-1]), int(counted[-1])
