"""What a person sees of a run: one line per step and a progress bar, read from veRL's metrics file."""

import json
import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

POLL = 0.2  # seconds
ANSI = re.compile(r"\x1b\[[0-9;]*m")
PREFIX = re.compile(r"^(?:\((?:[\w:]+ )?pid=\d+(?:, ip=[\w.:]+)?\) ?|\[rank\d+\]: ?)")  # Ray's, torch's
ERROR_LINE = re.compile(r"^(?:[A-Za-z_]\w*\.)*(\w*(?:Error|Exception|Exit|Interrupt))\b(?::.*)?$")
RAY_WRAPPERS = {"RayTaskError", "ActorDiedError", "RayActorError", "WorkerCrashedError", "ActorUnavailableError"}
VALIDATION = re.compile(r"^val-core/(?P<source>.+)/(?P<name>acc|reward)/mean@(?P<n>\d+)$")


def step_line(step: int, total: int, metrics: Mapping[str, float], gpus: int, seconds_left: float) -> str:
    """The line of one training step.

    Args:
        metrics: veRL's metrics of the step; `reward/acc` is this package's.
        gpus: veRL reports tokens/s per GPU, the line shows them all.
        seconds_left: for the remaining steps.
    """
    parts = [f"step {step:>{len(str(total))}}/{total}", f"reward {metrics['critic/score/mean']:+.3f}"]
    if "reward/acc" in metrics:
        parts.append(f"acc {metrics['reward/acc']:.3f}")
    parts += [
        f"length {metrics['response_length/mean']:.0f}",
        f"entropy {metrics['actor/entropy']:.3f}",
        f"{metrics['perf/throughput'] * gpus:,.0f} tokens/s",
        f"{duration(seconds_left)} left",
    ]
    return "  ".join(parts)


def validation_lines(step: int, metrics: Mapping[str, float]) -> list[str]:
    """One line per validation set, empty when the step had no validation."""
    lines = []
    for name, value in metrics.items():
        match = VALIDATION.match(name)
        if match:
            label = "accuracy" if match["name"] == "acc" else match["name"]
            lines.append(f"validation at step {step}: {match['source']} {label} {value:.3f} (avg@{match['n']})")
    return lines


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def errors(log: Path) -> list[str]:
    """The distinct errors in a log, first to last: those that say more than that Ray passed one on, if any do."""
    found: dict[str, bool] = {}
    for raw in log.read_text(errors="replace").splitlines():
        line = PREFIX.sub("", ANSI.sub("", raw)).strip()
        match = ERROR_LINE.match(line)
        if match:
            found[line] = match[1] not in RAY_WRAPPERS
    return [line for line, says_more in found.items() if says_more] or list(found)


class Watcher:
    """Follows the metrics file of a run while its process lives."""

    def __init__(self, metrics: Path, log: Path, config: Mapping[str, Any], verbose: bool):
        trainer = config["trainer"]
        self.metrics_path = metrics
        self.log_path = log
        self.total = trainer["total_training_steps"]
        self.gpus = trainer["nnodes"] * trainer["n_gpus_per_node"]
        self.verbose = verbose
        self.durations: list[float] = []
        self.console = Console(highlight=False, soft_wrap=True)

    def follow(self, process: subprocess.Popen) -> None:
        """Show what comes until the process has ended."""
        with (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            ) as progress,
            self.log_path.open(errors="replace") as log,
        ):
            task = progress.add_task("starting veRL, Ray and vLLM", total=self.total)
            file: TextIO | None = None
            ended = False
            while not ended:
                ended = process.poll() is not None
                if file is None and self.metrics_path.is_file():
                    file = self.metrics_path.open()
                for entry in complete_lines(file) if file else []:
                    self.show(json.loads(entry), progress, task)
                for line in complete_lines(log) if self.verbose else []:
                    self.console.print(line, markup=False)
                if not ended:
                    time.sleep(POLL)
            if file:
                file.close()

    def show(self, entry: Mapping[str, Any], progress: Progress, task: Any) -> None:
        """Print the lines of one entry of the metrics file and move the bar."""
        step, metrics = entry["step"], entry["data"]
        if "critic/score/mean" in metrics:
            self.durations.append(metrics["timing_s/step"])
            recent = self.durations[-20:]
            left = (self.total - step) * sum(recent) / len(recent)
            self.console.print(step_line(step, self.total, metrics, self.gpus, left), markup=False)
        for line in validation_lines(step, metrics):
            self.console.print(line, markup=False)
        progress.update(task, completed=step, description="training")


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
