"""Process trees that end whole: Ray, vLLM and their workers leave nothing behind."""

import ctypes
import os
import signal

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Let processes whose parent ends become children of this one, so that they can be found. Linux only."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, whose id is given, ends in whatever way. Linux only."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def end_descendants(grace: float) -> None:
    """Ask every descendant of this process to end, and kill what is left after `grace` seconds."""
    _signal_all(signal.SIGTERM)
    psutil.wait_procs(psutil.Process().children(recursive=True), timeout=grace)
    while _signal_all(signal.SIGKILL):
        psutil.wait_procs(psutil.Process().children(recursive=True), timeout=1)


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
