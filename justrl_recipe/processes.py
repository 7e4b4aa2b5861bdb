"""Child processes: started with a log, ended with all that they start, and why they failed, by their log. Linux only.

What runs veRL, Ray or vLLM runs in a process of its own, in a session of its own: Ctrl-C comes to this process alone,
which ends the others in order.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from justrl_recipe.terminal import plain

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

PREFIX = re.compile(r"^(?:\((?:[\w:]+ )?pid=\d+(?:, ip=[\w.:]+)?\) ?|\[rank\d+\]: ?)")  # Ray's, torch's
ERROR_LINE = re.compile(r"^(?:[A-Za-z_]\w*\.)*(\w*(?:Error|Exception|Exit|Interrupt))\b(?::.*)?$")
NO_CAUSE = "ValueError: I/O operation on closed file."  # of loggers, while their process ends
RAY_WRAPPERS = {"RayTaskError", "ActorDiedError", "RayActorError", "WorkerCrashedError", "ActorUnavailableError"}
DIED = "died: it was killed, the machine was out of memory, or it crashed"


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked this process to end; the text is its name."""


def start(module: str, *arguments: str, log: Path, **options: Any) -> subprocess.Popen:
    """Start `python -m MODULE ARGUMENTS`; what it prints goes to the file `log`, unless `options`, Popen's, differ.

    Raises:
        OSError: the log cannot be written.
    """
    with log.open("wb") as output:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(command, start_new_session=True, **{**streams, **options})


@contextmanager
def child(module: str, *arguments: str, log: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """A process as `start` starts it, killed with its own workers when the block ends: there is nothing to lose."""
    process = start(module, *arguments, log=log, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def failure(log: Path, returncode: int | None = None) -> str:
    """Why a process failed: the last error in its log, else its last line, else how it ended."""
    found = errors(log) or [line for line in log_lines(log) if line]
    return found[-1] if found else ending(returncode)


def ending(returncode: int | None) -> str:
    """How a process ended: its exit code or signal."""
    if returncode is None:
        return "it ended"
    return f"exit code {returncode}" if returncode >= 0 else f"killed by {signal.Signals(-returncode).name}"


def errors(log: Path) -> list[str]:
    """The distinct errors in a log, first to last: those that say more than that Ray passed one on, if any do."""
    found: dict[str, bool] = {}
    for line in log_lines(log):
        if line != NO_CAUSE and (match := ERROR_LINE.match(line)):
            found[line] = match[1] not in RAY_WRAPPERS
    return [line for line, says_more in found.items() if says_more] or list(found)


def log_lines(log: Path) -> Iterator[str]:
    """The lines of a log without control sequences and the names of the processes that wrote them."""
    with log.open(errors="replace") as lines:
        for raw in lines:
            yield PREFIX.sub("", plain(raw)).strip()


def adopt_orphans() -> None:
    """Let processes whose parent ends become children of this one, so that `end_descendants` finds them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, whose id is given, ends for any reason."""
    on_end_of_parent(signal.SIGKILL, parent)


def on_end_of_parent(number: signal.Signals, parent: int) -> None:
    """Have the kernel send this process a signal when its parent, whose id is given, ends for any reason."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def end_descendants(grace: float) -> None:
    """Ask every descendant of this process to end, kill what is left after `grace` seconds, and remove its sockets
    and shared memory, which a process that is killed leaves behind."""
    used = {path for process in psutil.Process().children(recursive=True) for path in _sockets_and_memory(process)}
    _signal_all(signal.SIGTERM)
    psutil.wait_procs(psutil.Process().children(recursive=True), timeout=grace)
    while _signal_all(signal.SIGKILL):
        psutil.wait_procs(psutil.Process().children(recursive=True), timeout=1)
    used_by_others = {path for process in psutil.process_iter() for path in _sockets_and_memory(process)}
    for path in used - used_by_others:
        with suppress(OSError):
            os.unlink(path)


def _sockets_and_memory(process: psutil.Process) -> set[str]:
    """The files that stand for a process's Unix sockets and shared memory, where it may be looked at."""
    with suppress(psutil.Error, OSError):
        memory = {region.path for region in process.memory_maps() if region.path.startswith("/dev/shm/")}
        sockets = {one.laddr for one in process.net_connections(kind="unix") if one.laddr.startswith("/")}
        return memory | sockets
    return set()


def _signal_all(number: signal.Signals) -> bool:
    """Send a signal to every descendant that still runs; whether there was one."""
    found = False
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                process.send_signal(number)
                found = True
        except psutil.NoSuchProcess:
            continue
    return found


@contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(signal.Signals(number).name)

    with handling((signal.SIGTERM, signal.SIGHUP), stop):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """No signal that can be held back interrupts the block: a second Ctrl-C must not leave processes behind."""
    with handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1), signal.SIG_IGN):
        yield


@contextmanager
def handling(numbers: Iterable[signal.Signals], handler: Any) -> Iterator[None]:
    """Handle signals in the block; one that is ignored, as `nohup` does with SIGHUP, stays ignored."""
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


@contextmanager
def scratch_folder() -> Iterator[str]:
    """A folder for sockets and Ray's session, removed with the block, with those of processes that were killed."""
    for left in Path("/tmp").glob("justrl-*-*"):
        pid = left.name.split("-")[1]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"justrl-{os.getpid()}-", dir="/tmp", ignore_cleanup_errors=True
    ) as scratch:
        yield scratch
