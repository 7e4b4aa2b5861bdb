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
from justrl_recipe.run.folder import RunFolder, parse_metrics
from justrl_recipe.terminal import one_line, plain

FloatArray = NDArray[np.float64]
Entry = tuple[int, str, float]  # step, metric, value

STEP = re.compile(r"(?<![\w/])step:(\d{1,15}) - ")
LAST_STEP = 10**15  # steps are kept as floats, which are exact up to here
LARGEST = 1e200  # a larger value counts as infinite: the span of two cannot be drawn
MOST_VALUES = 10_000_000  # 20 times as many as a full run logs; they take 160 MB
NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)"
PAIR = re.compile(rf"([^\s:]+):(?:np\.\w+\()?({NUMBER})\)?")  # numpy 2 prints np.float64(0.5)
EVENT_FILES = "events.out.tfevents*"
RECORD_BYTES = 1 << 20


class NoStepYet(UserError):
    """A run that has logged nothing: not wrong, but nothing to report."""


class Series(NamedTuple):
    """One metric.

    steps: increasing whole numbers, as floats.
    values: as many; NaN and infinities where veRL logged them.
    """

    steps: FloatArray
    values: FloatArray

    @property
    def finite(self) -> FloatArray:
        """The values that are finite."""
        return self.values[np.isfinite(self.values)]


Metrics = dict[str, Series]


def log_of(path: Path) -> Path:
    """The log of a run that is given by its folder or by a log.

    Raises:
        UserError: nothing exists at `path`, or the folder is not a run folder.
        NoStepYet: the run has no log.
    """
    if not os.path.exists(path):  # Path.exists raises at a name that no file can have
        raise UserError(f"no such file or folder: {path}")
    if not path.is_dir():
        return path
    run = RunFolder(path)
    if os.path.lexists(run.metrics):
        return run.metrics
    if next(path.rglob(EVENT_FILES), None):
        return path
    if os.path.lexists(run.log):
        return run.log
    if os.path.lexists(run.manifest):
        raise NoStepYet(f"{path} has logged no step yet")
    raise UserError(f"{path} is not a run folder: it has no {run.metrics.name}, {run.log.name} or {EVENT_FILES}")


def growing(path: Path) -> list[Path]:
    """The files that change during a run."""
    if path.is_file():
        return [path]
    run = RunFolder(path)
    return [file for file in (run.metrics, run.log, run.manifest) if file.exists()] + list(path.rglob(EVENT_FILES))


def read(path: Path) -> Metrics:
    """The metrics of a log, by name.

    A step that was logged twice (a resumed run) has the value that was logged last. What is still being written at
    the end of the file is left out.

    Args:
        path: a JSON-lines, console or TensorBoard file, or a folder of TensorBoard files.

    Raises:
        UserError: the log cannot be read, is broken in the middle, or is not veRL's.
        NoStepYet: it has no step.
    """
    try:
        found = _series_of(entries(path))
        if found:
            return found
        if path.is_dir() or _starts_as_json_lines(path):
            raise NoStepYet(f"{path} has logged no step yet")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    raise UserError(
        f"{path} is not a veRL log: it has no line like `step:1 - actor/entropy:0.5`; give a run folder, its "
        f"metrics.jsonl or train.log, or TensorBoard's {EVENT_FILES}"
    )


def entries(path: Path) -> Iterator[Entry]:
    """Every value of a log of any kind, in the order of the file."""
    if path.is_dir():
        for file in sorted(path.rglob(EVENT_FILES)):
            yield from from_tensorboard(file)
    elif path.match(EVENT_FILES):
        yield from from_tensorboard(path)
    else:
        yield from from_json_lines(path) if _starts_as_json_lines(path) else from_console(path)


def _starts_as_json_lines(file: Path) -> bool:
    """Whether a file is empty, or begins as the `file` logger's do."""
    with files.open_bytes(file) as start:
        return start.read(1) in (b"", b"{")


def _series_of(found: Iterator[Entry]) -> Metrics:
    logged: dict[str, tuple[array, array]] = defaultdict(lambda: (array("d"), array("d")))
    for count, (step, name, value) in enumerate(found):
        if count == MOST_VALUES:
            raise UserError(f"more than {MOST_VALUES:,} values: give a shorter log")
        steps, values = logged[name]
        steps.append(step)
        values.append(value)
    return {one_line(name): _last_of_each_step(*both) for name, both in logged.items()}


def _last_of_each_step(logged_steps: array, logged_values: array) -> Series:
    steps, last = np.unique(np.frombuffer(logged_steps)[::-1], return_index=True)
    values = np.frombuffer(logged_values)[::-1][last]
    return Series(steps, np.where(abs(values) > LARGEST, np.copysign(np.inf, values), values))


def from_json_lines(file: Path) -> Iterator[Entry]:
    """veRL's `file` logger. It writes NaN and infinities as null, so a null is a value that is not finite."""
    for number, line in enumerate(files.lines(file), 1):
        try:
            entry = parse_metrics(line.decode())
            if entry is None:
                raise ValueError("not a step with its metrics")
            step, data = _require_step(entry[0]), entry[1]
            found = [
                (name, float("nan") if value is None else float(value))
                for name, value in data.items()
                if value is None or isinstance(value, int | float)
            ]
        except (ValueError, OverflowError) as error:
            if not line.endswith(b"\n"):
                return  # still being written
            raise UserError(
                f'{file}, line {number}: not veRL\'s {{"step": ..., "data": {{...}}}}: delete the line, or give '
                "the run's console log (train.log) instead"
            ) from error
        for name, value in found:
            yield step, name, value


def _require_step(step: int) -> int:
    if not 0 <= step <= LAST_STEP:
        raise ValueError(f"not a step: {step}")
    return step


def from_console(file: Path) -> Iterator[Entry]:
    """veRL's `console` logger: the lines `step:1 - name:0.5 - ...` among all others of a log."""
    for line in files.lines(file):
        if b"step:" in line and line.endswith(b"\n"):
            yield from from_console_line(line.decode("utf-8", "replace"))


def from_console_line(line: str) -> Iterator[Entry]:
    """The values of one line of a console log.

    Several processes write to it, sometimes in the middle of each other's lines: only what stands whole between
    ` - ` and ` - ` counts, since a number that was cut is another number.
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
            for record in _records(opened):
                event: Any = Event.FromString(record)
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        yield _require_step(event.step), value.tag, value.simple_value
    except (DecodeError, ValueError) as error:
        raise UserError(
            f"{file} is not a TensorBoard file, or is broken: give the run's metrics.jsonl instead"
        ) from error


def _records(file: BinaryIO) -> Iterator[bytes]:
    """The whole records of a TFRecord file: length (8 bytes), its CRC (4), data, their CRC (4).

    TensorBoard's own reader checks the CRCs in Python: 12 s for the 438,000 scalars of 4,380 steps. A record of more
    than `RECORD_BYTES`, which holds images or the like, is skipped.
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
