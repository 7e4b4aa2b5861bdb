"""What veRL's `file`, `console` and `tensorboard` loggers write -> every metric as a series over steps."""

import os
import re
import struct
from array import array
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from justrl_recipe import files
from justrl_recipe.errors import UserError
from justrl_recipe.terminal import one_line, plain

FloatArray = NDArray[np.float64]
Entry = tuple[int, str, float]  # step, metric, value

STEP = re.compile(r"(?<![\w/])step:(\d{1,15}) - ")
LAST_STEP = 10**15  # a larger one is no step, and no float
LARGEST = 1e200  # a larger value is as infinite: the span of two cannot be drawn
MOST_VALUES = 10_000_000  # 20 times as many as a full run logs; they take 160 MB
NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)"
PAIR = re.compile(rf"([^\s:]+):(?:np\.\w+\()?({NUMBER})\)?")  # numpy 2 prints np.float64(0.5)
EVENT_FILES = "events.out.tfevents*"
RECORD_BYTES = 1 << 20


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
        yield from from_json_lines(path) if starts_as_json_lines(path) else from_console(path)


def starts_as_json_lines(file: Path) -> bool:
    """Whether a file is empty, or begins as `file` logger's do."""
    with files.open_bytes(file) as start:
        return start.read(1) in (b"", b"{")


def collect(found: Iterator[Entry]) -> Metrics:
    """Every metric's series; of a step that stands there twice the last value."""
    logged: dict[str, tuple[array, array]] = defaultdict(lambda: (array("d"), array("d")))
    for count, (step, name, value) in enumerate(found):
        if count == MOST_VALUES:
            raise UserError(f"more than {MOST_VALUES:,} values: give a shorter log")
        steps, values = logged[name]
        steps.append(step)
        values.append(value)
    return {one_line(name): _series(*both) for name, both in logged.items()}


def _series(logged_steps: array, logged_values: array) -> Series:
    steps, last = np.unique(np.frombuffer(logged_steps)[::-1], return_index=True)
    values = np.frombuffer(logged_values)[::-1][last]
    return Series(steps, np.where(abs(values) > LARGEST, np.copysign(np.inf, values), values))


def from_json_lines(file: Path) -> Iterator[Entry]:
    """veRL's `file` logger. It writes NaN and infinities as null, so a null is a value that is not finite."""
    for number, line in enumerate(files.lines(file), 1):
        try:
            entry = files.parse_json(line)
            step = _step(entry["step"])
            found = [
                (name, float("nan") if value is None else float(value))
                for name, value in entry["data"].items()
                if value is None or isinstance(value, (int, float))
            ]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            if not line.endswith(b"\n"):
                return  # still being written
            raise UserError(
                f'{file}, line {number}: not veRL\'s {{"step": ..., "data": {{...}}}}: delete the line, or give '
                "the run's console log (train.log) instead"
            ) from error
        for name, number_found in found:
            yield step, name, number_found


def _step(value: Any) -> int:
    """A step; raises ValueError where it is none."""
    step = int(value)
    if not 0 <= step <= LAST_STEP:
        raise ValueError(f"no step is {value}")
    return step


def from_console(file: Path) -> Iterator[Entry]:
    """veRL's `console` logger: the lines `step:1 - name:0.5 - ...` among all others of a log."""
    for line in files.lines(file):
        if b"step:" in line and line.endswith(b"\n"):
            yield from from_console_line(line.decode("utf-8", "replace"))


def from_console_line(line: str) -> Iterator[Entry]:
    """The values of one line of a console log.

    Several processes write there, at times in the midst of each other's lines: only what stands whole between
    ` - ` and ` - ` counts, since a number that was broken off is another number.
    """
    _, *parts = STEP.split(plain(line))
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
        with files.open_bytes(file) as opened:
            for record in records(opened):
                event: Any = Event.FromString(record)
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        yield _step(event.step), value.tag, value.simple_value
    except (DecodeError, ValueError) as error:
        raise UserError(
            f"{file} is no TensorBoard file, or is broken: give the run's metrics.jsonl instead"
        ) from error


def records(file: BinaryIO) -> Iterator[bytes]:
    """The records of a TFRecord file: length (8 bytes), its CRC (4), data, their CRC (4); whole ones only.

    One of more than `RECORD_BYTES`, which holds no scalars but images or the like, is left out.

    TensorBoard's own reader checks the CRCs in Python: 12 s for the 438,000 scalars of 4,380 steps.
    """
    size = os.fstat(file.fileno()).st_size
    while len(header := file.read(12)) == 12:
        (length,) = struct.unpack_from("<Q", header)
        end = file.tell() + length + 4
        if end > size:
            return
        if length <= RECORD_BYTES:
            yield file.read(length)
        file.seek(end)
