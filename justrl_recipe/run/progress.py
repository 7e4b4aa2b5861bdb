"""What a person sees of a run: one line per step and a progress bar, read from veRL's metrics file.

Showing a run never ends it: a metric that is missing or not finite, and a terminal that is gone, change only what is
shown.
"""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Any, TextIO

from rich import progress

from justrl_recipe.metrics import (
    ACCURACY,
    ENTROPY,
    LENGTH,
    PROBS_DIFF,
    PROBS_DIFF_ERROR,
    REWARD,
    STEP_SECONDS,
    THROUGHPUT,
    UNKEPT,
    VALIDATION,
)
from justrl_recipe.run.folder import RunFolder, parse_metrics
from justrl_recipe.terminal import Console

POLL = 0.2  # seconds


def step_line(step: int, total: int, metrics: Mapping[str, Any], gpus: int, seconds_left: float | None) -> str:
    """The line of one training step: of what it shows, what was logged.

    Args:
        metrics: veRL's metrics of the step, a null where one was not finite; `reward/acc` is this package's.
        gpus: veRL reports tokens/s per GPU, the line shows them all.
        seconds_left: for the remaining steps, where it is known.
    """
    shown = (
        ("reward", REWARD, "{:+.3f}", 1, ""),
        ("acc", ACCURACY, "{:.3f}", 1, ""),
        ("length", LENGTH, "{:.0f}", 1, ""),
        ("entropy", ENTROPY, "{:.3f}", 1, ""),
        ("", THROUGHPUT, "{:,.0f}", gpus, "tokens/s"),
    )
    parts = [f"step {step:>{len(str(total))}}/{total}"]
    for label, key, text, factor, unit in shown:
        if key in metrics:
            value = finite(metrics[key])
            number = "not finite" if value is None else text.format(value * factor)
            parts.append(" ".join(filter(None, (label, number, unit))))
    if seconds_left is not None:
        parts.append(f"{duration(seconds_left)} left")
    return "  ".join(parts)


def validation_lines(step: int, metrics: Mapping[str, Any]) -> list[str]:
    """One line per validation set, empty when the step had no validation."""
    lines = []
    for name, found in metrics.items():
        match = VALIDATION.match(name)
        if match:
            label = "accuracy" if match["name"] == "acc" else match["name"]
            value = finite(found)
            number = "not finite" if value is None else f"{value:.3f}"
            lines.append(f"validation at step {step}: {match['source']} {label} {number} (avg@{match['n']})")
    return lines


def finite(value: Any) -> float | None:
    """The value as a number, None where it is not finite: veRL's file logger writes a NaN as null."""
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Output(Console):
    """Standard output; discards what is printed once its pipe is closed, where rich would exit."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class Progress:
    """Follows the metrics file of a run while its process lives."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], verbose: bool):
        trainer = config["trainer"]
        self.folder = folder
        self.total = trainer["total_training_steps"]
        self.gpus = trainer["nnodes"] * trainer["n_gpus_per_node"]
        self.verbose = verbose
        self.durations: list[float] = []
        self.failed_shown = 0
        self.lost_shown = len(folder.lost())  # what earlier attempts lost and logged was shown
        self.earlier = folder.metrics.stat().st_size if folder.metrics.is_file() else 0
        self.console = Output(soft_wrap=True)
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting veRL, Ray and vLLM", total=self.total)

    def follow(self, process: subprocess.Popen) -> Iterator[list[dict[str, Any]]]:
        """Show what comes until the process has ended; at each look, the metrics of the steps that were logged."""
        gone = suppress(OSError)  # the terminal, or the pipe that this prints to
        with self.folder.log.open(errors="replace") as log, ExitStack() as files:
            with gone:
                self.bar.start()
            metrics: TextIO | None = None
            ended = False
            while not ended:
                ended = process.poll() is not None
                if metrics is None and self.folder.metrics.is_file():
                    metrics = files.enter_context(self.folder.metrics.open(errors="replace"))
                    metrics.seek(self.earlier)
                found = (
                    [entry for line in complete_lines(metrics) if (entry := parse_metrics(line))] if metrics else []
                )
                with gone:
                    self.show_lost()
                    self.show_failed_trackers()
                    for step, logged in found:
                        self.show(step, logged)
                    for line in complete_lines(log) if self.verbose else []:
                        self.console.print(line)
                yield [logged for _, logged in found]
                if not ended:
                    time.sleep(POLL)
        with gone:
            self.bar.stop()

    def show_lost(self) -> None:
        """Print the batches of which responses were lost since the last look."""
        for batch in self.folder.lost()[self.lost_shown :]:
            self.lost_shown += 1
            self.console.print("LOST {lost} of {responses} {batch} responses of step {step}".format(**batch))

    def show_failed_trackers(self) -> None:
        """Print the trackers that have failed since the last look."""
        for failure in self.folder.failed_trackers()[self.failed_shown :]:
            self.failed_shown += 1
            self.console.print("WARNING tracker {tracker} failed, the run continues: {error}".format(**failure))

    def show(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Print what was logged at a step and move the bar."""
        if REWARD in metrics:
            self.console.print(step_line(step, self.total, metrics, self.gpus, self._left(step, metrics)))
        for text in validation_lines(step, metrics):
            self.console.print(text)
        if (difference := finite(metrics.get(PROBS_DIFF))) is not None and difference > PROBS_DIFF_ERROR:
            self.console.print(f"WARNING step {step}: {PROBS_DIFF} is {difference:.3g}, above {PROBS_DIFF_ERROR:g}")
        if UNKEPT in metrics:
            self.console.print(f"WARNING step {step}: no responses were written, see {self.folder.log.name}")
        self.bar.update(self.task, completed=step, description="training")

    def _left(self, step: int, metrics: Mapping[str, Any]) -> float | None:
        """Seconds for the remaining steps, by the mean of the latest ones."""
        taken = finite(metrics.get(STEP_SECONDS))
        if taken is not None:
            self.durations = [*self.durations, taken][-20:]
        return (self.total - step) * sum(self.durations) / len(self.durations) if self.durations else None


def complete_lines(file: TextIO) -> list[str]:
    """The lines that a growing file has gained, without one that is still being written."""
    lines: list[str] = []
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(start)
            return lines
        lines.append(line.rstrip("\n"))
