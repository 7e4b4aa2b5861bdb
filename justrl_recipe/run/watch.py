"""Notices that a run cannot go on although its training process lives: a process of it has died, or it hangs.

veRL 0.9.1 waits for ever where vLLM's engine or an agent-loop worker has died.
"""

import re
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import psutil

from justrl_recipe.run.folder import RunFolder

LOOK_EVERY = 2.0  # seconds between looks at the processes
GRACE = 15.0  # seconds for veRL and Ray to end the run by themselves, with a better message
# The title of a process: Ray's actors by their class, vLLM's engine and workers, Ray's own servers.
NEEDED = re.compile(
    r"(?:ray::(?P<actor>\w*(?:WorkerDict|TaskRunner|AgentLoopWorker|RewardLoopWorker|HttpServer|Storage|Controller)\w*)"
    r"|(?P<engine>VLLM::\w+)|\S*/(?P<server>raylet|gcs_server)(?:\s|$))"
)
START_LIMIT = 3600.0  # seconds until the first line of metrics
LEAST_LIMIT, FACTOR = 600.0, 5.0  # no progress for FACTOR of the longest step and validation is a hang
STACK_SIGNAL = signal.SIGUSR2  # on which verl_hooks/plugin.py has each process print its stacks
STACKS_TAKE = 5.0  # seconds for Ray to pass them on to the log


class Watch:
    """Looks at a run while its training process lives."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any]):
        self.folder = folder
        self.trainer = config["trainer"]
        self.needed: dict[int, str] = {}  # by process id, what it is
        self.missing: dict[int, float] = {}  # since when it is gone
        self.looked = self.progressed = time.monotonic()
        self.longest_step = self.longest_validation = 0.0
        for _, metrics in folder.steps():  # of earlier attempts
            self.learn(metrics)
        self.seen_step = False

    def learn(self, metrics: Mapping[str, Any]) -> None:
        """Take how long a step and a validation last from the metrics of a step."""
        for name, attribute in (("timing_s/step", "longest_step"), ("timing_s/testing", "longest_validation")):
            if isinstance(found := metrics.get(name), int | float):
                setattr(self, attribute, max(getattr(self, attribute), found))

    def step(self, metrics: Mapping[str, Any]) -> None:
        """A line of metrics was logged."""
        self.learn(metrics)
        now = time.monotonic()
        if not self.seen_step:
            self.longest_validation = max(self.longest_validation, now - self.progressed)  # with the start-up
        self.seen_step, self.progressed = True, now

    def problem(self, step: int) -> str | None:
        """Why the run cannot go on, None as long as it may."""
        now = time.monotonic()
        if now - self.looked < LOOK_EVERY:
            return None
        self.looked = now
        alive = dict(needed_processes())
        self.needed |= alive
        for pid, name in self.needed.items():
            if pid in alive:
                self.missing.pop(pid, None)
            elif now - self.missing.setdefault(pid, now) > GRACE:
                return f"{name} (pid {pid}) died: it was killed, the machine was out of memory, or it crashed"
        limit = self.limit(step)
        if now - self.progressed > limit:
            return f"no progress for {limit / 60:.0f} minutes: the run hangs (stacks of its processes are in the log)"
        return None

    def limit(self, step: int) -> float:
        """Seconds without a line of metrics after which the run hangs, by what its steps took so far."""
        if not self.seen_step and not self.longest_step:
            return START_LIMIT
        expected = self.longest_step + self.longest_validation
        return max(LEAST_LIMIT, FACTOR * expected)


def needed_processes() -> Iterator[tuple[int, str]]:
    """The processes below this one without which a run cannot go on, by id."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and (match := NEEDED.match(" ".join(process.cmdline()))):
                yield process.pid, match["actor"] or match["engine"] or match["server"]


def print_stacks() -> None:
    """Have every process of the run that can print the stacks of its threads to the log."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, OSError):
            if _catches(process.pid, STACK_SIGNAL):
                process.send_signal(STACK_SIGNAL)
    time.sleep(STACKS_TAKE)


def _catches(pid: int, number: signal.Signals) -> bool:
    with open(f"/proc/{pid}/status") as status:
        mask = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt:"))
    return bool(mask >> (number - 1) & 1)
