"""Notices that a run cannot go on although its training process lives: a process of it has died, or it hangs.

veRL 0.9.1 waits for ever where vLLM's engine or an agent-loop worker has died.
"""

import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import psutil

from justrl_recipe.metrics import REWARD, STEP_SECONDS, TIMING
from justrl_recipe.processes import DIED
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.run.progress import finite

LOOK_EVERY = 2.0  # seconds between looks at the processes
BEFORE_THE_END = 3.0  # seconds; a training process that ends by itself ends Ray's servers just before
GRACE = 15.0  # seconds for veRL and Ray to end the run by themselves, with a better message
# Ray's actors have their class as title; Ray's own servers are programs.
SERVERS = ("raylet", "gcs_server")
NEEDED = re.compile(
    r"ray::(?P<actor>\w*(?:WorkerDict|TaskRunner|AgentLoopWorker|RewardLoopWorker|HttpServer|Storage|Controller)\w*)"
    rf"|\S*/(?P<server>{'|'.join(SERVERS)})(?:\s|$)"
)
ENGINE, OF_ENGINE = "vLLM's engine", "HttpServer"  # the second starts the first, which need not have a title
START_LIMIT = 3600.0  # seconds until the first step
LEAST_LIMIT, FACTOR = 600.0, 5.0  # no progress for FACTOR of the longest step and validation is a hang
STACK_SIGNAL = signal.SIGUSR2  # on which verl_hooks/plugin.py has each process print its stacks
STACKS_TAKE = 5.0  # seconds for Ray to pass them on to the log


class Watch:
    """Looks at a run while its training process lives."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any]):
        self.total = config["trainer"]["total_training_steps"]
        self.needed: dict[int, str] = {}  # by process id, what it is
        self.missing: dict[int, float] = {}  # since when it is gone
        self.looked = self.progressed = time.monotonic()
        self.step_takes = self.validation_takes = 0.0  # seconds, the longest
        self.generates = self.trained = self.finished = False
        for _, metrics in folder.steps():  # of earlier attempts
            self._learn(metrics)

    def logged(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """Take the metrics that this attempt has logged since the last look."""
        for metrics in steps:
            self.generates = True  # what vLLM has started by now is there to stay
            now = time.monotonic()
            if REWARD in metrics:
                self.trained = True
                self.finished = metrics.get("training/global_step") == self.total
            else:  # the validation before the first step, with the start-up
                self.validation_takes = max(self.validation_takes, now - self.progressed)
            self._learn(metrics)
            self.progressed = now

    def _learn(self, metrics: Mapping[str, Any]) -> None:
        self.step_takes = max(self.step_takes, finite(metrics.get(STEP_SECONDS)) or 0.0)
        self.validation_takes = max(self.validation_takes, finite(metrics.get(f"{TIMING}testing")) or 0.0)

    def problem(self) -> str | None:
        """Why the run cannot go on, None as long as it may."""
        now = time.monotonic()
        if now - self.looked < LOOK_EVERY:
            return None
        self.looked = now
        if not self.finished and (dead := self._dead(now)):
            return f"{dead} {DIED}"
        if now - self.progressed > self.limit():
            return f"no progress for {self.limit() / 60:.0f} minutes: the stacks of its processes are in the log"
        return None

    def _dead(self, now: float) -> str | None:
        """A process that was there, and has been gone for so long that the run does not end by itself."""
        alive = {pid: name for pid, name in needed_processes() if name != ENGINE or self.generates}
        self.needed |= alive
        for pid, name in self.needed.items():
            if pid in alive:
                self.missing.pop(pid, None)
            elif now - self.missing.setdefault(pid, now) > GRACE:
                return f"{name} (pid {pid})"
        return None

    def lost_server(self) -> str | None:
        """The server of Ray's that died before the training process ended, which no error in the log names."""
        now = time.monotonic()
        gone = [pid for pid, since in self.missing.items() if now - since > BEFORE_THE_END]
        return next((f"{self.needed[pid]} (pid {pid})" for pid in gone if self.needed[pid] in SERVERS), None)

    def limit(self) -> float:
        """Seconds without a line of metrics that are a hang, by what steps and validations took so far."""
        longest = self.step_takes + self.validation_takes
        return max(LEAST_LIMIT if self.trained else START_LIMIT, FACTOR * longest)


def needed_processes() -> Iterator[tuple[int, str]]:
    """The processes below this one without which a run cannot go on, by id."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            title = process.cmdline()  # empty for one that has ended
            match = NEEDED.match(" ".join(title))
            # A short-lived fork has its parent's title.
            if match and (parent := process.parent()) and parent.cmdline() != title:
                name = match["actor"] or match["server"]
                yield process.pid, name
                yield from ((child.pid, ENGINE) for child in process.children() if OF_ENGINE in name)


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
