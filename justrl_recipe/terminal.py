"""Printing: text from files, logs, names and errors is untrusted and must not control the terminal."""

import json
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

LONGEST = 2_000  # characters of an error, which may quote a file

# ECMA-48: a control string up to its terminator (OSC, DCS, ...), a control sequence (CSI), an escape sequence; each
# also in its 8-bit form. Then what is left: control characters but tab and newline, Unicode's line separators, and
# marks that change the direction of text. No two alternatives repeat the same characters: it takes linear time.
CONTROL = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x00-\x08\x0a-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]"
    r"|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
SURROGATE = re.compile("[\ud800-\udfff]")  # of a file name that is not UTF-8, or of JSON: it cannot be printed


def plain(text: str) -> str:
    """A text without anything that controls a terminal; newlines and tabs stay."""
    return SURROGATE.sub("\ufffd", CONTROL.sub("", text))


def one_line(text: str) -> str:
    """A text in one line, without anything that controls a terminal."""
    return " ".join(line.strip() for line in plain(text).splitlines())


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print lines, each in one line whatever is in it; to standard output where no file is given."""
    for line in lines:
        print(plain(str(line)).replace("\n", " "), file=file, flush=True)


def say_json(value: Any) -> None:
    """Print a value as JSON, whose escapes keep it from controlling the terminal."""
    print(json.dumps(value, indent=2))


def warn(line: object) -> None:
    """Print a line to standard error, without its middle where it has more than `LONGEST` characters."""
    text, half = one_line(str(line)), LONGEST // 2
    say(text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}", file=sys.stderr)


class Console(console.Console):
    """rich's console for untrusted text: no markup in it, and no control sequences but rich's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain(segment.text))
