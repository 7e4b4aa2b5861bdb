"""Stands between the command and the training process: what belongs to a run ends when the command is killed.

SIGKILL leaves the command no time for anything. The kernel tells this process of it, which kills everything below it
and removes what that leaves behind. Ray's agents would go on for a minute, and shared memory for ever.
"""

import os
import shutil
import signal
import subprocess
import sys

from justrl_recipe import processes

ORPHANED = signal.SIGHUP  # from the kernel, when the command has ended


def main(parent: int, scratch: str, module: str, *arguments: str) -> int:
    """Run `python -m MODULE THIS_PROCESS ARGUMENTS`, and return its exit code.

    Args:
        parent: the process id of the command.
        scratch: a folder that is removed with the run.
    """
    signal.signal(ORPHANED, lambda number, frame: end(scratch))
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # this process ends after the training process
    processes.adopt_orphans()
    processes.on_end_of_parent(ORPHANED, parent)
    child = subprocess.Popen([sys.executable, "-m", module, str(os.getpid()), *arguments])
    return child.wait()


def end(scratch: str) -> None:
    processes.end_descendants(grace=0.0)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    code = main(int(sys.argv[1]), *sys.argv[2:])
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)
