"""Stops on request: by SIGTERM, SIGUSR1 or after a time, a run ends after its step, with a checkpoint."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from justrl_recipe import processes
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.terminal import warn

STOP_AFTER = "--stop-after"
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Whether, and by what, the run was asked to stop. The training process looks for the file."""

    def __init__(self, folder: RunFolder, deadline: float | None):
        self.folder = folder
        self.deadline = deadline
        self.by: str | None = None
        folder.stop.unlink(missing_ok=True)  # of an earlier attempt

    def make(self, by: str) -> None:
        """Ask the training process to stop after its step.

        Raises:
            processes.Stopped: a signal has asked already. The time of `--stop-after` is no signal: what Slurm sends
                after it is a first one.
        """
        if self.by not in (None, STOP_AFTER):
            raise processes.Stopped(by)
        self.by = by
        self.folder.stop.touch()
        stopping = "stopping with a checkpoint after the step in progress, if one is"
        warn(f"{by}: {stopping} (repeat the signal to end at once)")

    def made(self) -> bool:
        """Whether the run was asked to stop, now that the time is looked at as well."""
        if self.deadline is not None and time.monotonic() > self.deadline and not self.by:
            self.make(STOP_AFTER)
        return self.by is not None


@contextmanager
def on_request(folder: RunFolder, deadline: float | None) -> Iterator[StopRequest]:
    """Have SIGTERM and SIGUSR1 ask the run in `folder` to stop while the block runs; a second one ends the block.

    Args:
        deadline: by time.monotonic(), when it is asked to stop anyway.
    """
    request = StopRequest(folder, deadline)
    with processes.handling(SIGNALS, lambda number, frame: request.make(signal.Signals(number).name)):
        yield request
