"""What veRL's `file`, `console` and `tensorboard` loggers write -> every metric as a series over steps."""

import json
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from justrl_recipe.errors import UserError

FloatArray = NDArray[np.float64]
Entry = tuple[int, str, float]  # step, metric, value

ANSI = re.compile(r"\x1b\[[0-9;]*m")
STEP = re.compile(r"(?<![\w/])step:(\d+) - ")
NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)"
PAIR = re.compile(rf"([^\s:]+):(?:np\.\w+\()?({NUMBER})\)?")  # numpy 2 prints np.float64(0.5)
EVENT_FILES = "events.out.tfevents*"


class Series(NamedTuple):
    """One metric.

    steps: increasing whole numbers, as floats.
    values: as many; NaN and infinities where veRL logged them.
    """

    steps: FloatArray
    values: FloatArray

    @property
    def finite(self) -> FloatArray:
        """The values without what is not finite."""
        return self.values[np.isfinite(self.values)]


Metrics = dict[str, Series]


def read(path: Path) -> Metrics:
    """The metrics of a log, by name; empty where it has none.

    A step that stands there twice (a resumed run) counts as it was logged last. What is still being written at
    the end of the file is left out.

    Args:
        path: a JSON-lines, console or TensorBoard file, or a folder of TensorBoard files.

    Raises:
        UserError: it cannot be read, is broken in the middle.
    """
    try:
        return collect(entries(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def entries(path: Path) -> Iterator[Entry]:
    """Every value of a log of any kind, in the order of the file."""
    if path.is_dir():
        for file in sorted(path.rglob(EVENT_FILES)):
            yield from from_tensorboard(file)
    elif path.match(EVENT_FILES):
        yield from from_tensorboard(path)
    else:
        with path.open("rb") as start:
            json_lines = start.read(1) in (b"{", b"")
        yield from from_json_lines(path) if json_lines else from_console(path)


def collect(found: Iterator[Entry]) -> Metrics:
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for step, name, value in found:
        values[name][step] = value
    metrics = {}
    for name, by_step in values.items():
        steps = np.array(list(by_step), dtype=float)
        order = np.argsort(steps)
        metrics[name] = Series(steps[order], np.array(list(by_step.values()), dtype=float)[order])
    return metrics


def from_json_lines(file: Path) -> Iterator[Entry]:
    """veRL's `file` logger. It writes NaN and infinities as null, so a null is a value that is not finite."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                step, data = int(entry["step"]), entry["data"].items()
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                if not line.endswith(b"\n"):
                    return  # still being written
                raise UserError(
                    f'{file}, line {number}: not veRL\'s {{"step": ..., "data": {{...}}}}: delete the line, or give '
                    "the run's console log (train.log) instead"
                ) from error
            for name, value in data:
                if value is None or isinstance(value, (int, float)):
                    yield step, name, float("nan") if value is None else float(value)


def from_console(file: Path) -> Iterator[Entry]:
    """veRL's `console` logger: the lines `step:1 - name:0.5 - ...` among all others of a log."""
    with file.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            if "step:" in line and line.endswith("\n"):
                yield from from_console_line(line)


def from_console_line(line: str) -> Iterator[Entry]:
    """The values of one line of a console log.

    Several processes write there, at times in the midst of each other's lines: only what stands whole between
    ` - ` and ` - ` counts, since a number that was broken off is another number.
    """
    _, *parts = STEP.split(ANSI.sub("", line))
    for step, pairs in zip(parts[::2], parts[1::2], strict=True):
        for pair in pairs.strip().split(" - "):
            if match := PAIR.fullmatch(pair):
                yield int(step), match[1], float(match[2])


def from_tensorboard(file: Path) -> Iterator[Entry]:
    """veRL's `tensorboard` logger: the scalars of an event file, which are float32.

    Raises:
        UserError: the file holds something else.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    try:
        for record in records(file.read_bytes()):
            event: Any = Event.FromString(record)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    yield event.step, value.tag, value.simple_value
    except DecodeError as error:
        raise UserError(
            f"{file} is no TensorBoard file, or is broken: give the run's metrics.jsonl instead"
        ) from error


def records(content: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length (8 bytes), its CRC (4), data, their CRC (4); whole ones only.

    TensorBoard's own reader checks the CRCs in Python: 12 s for the 438,000 scalars of 4,380 steps.
    """
    start = 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length
        if end + 4 > len(content):
            return
        yield content[start + 12 : end]
        start = end + 4
