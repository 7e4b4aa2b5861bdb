"""Kills a process of the tiny run, and says how the run ended and what it left behind. A minute each on 2 cores.

    python benchmarks/faults.py AgentLoopWorkerTQ RewardLoopWorker WorkerDict vLLMHttpServer raylet

Each argument is the class of a Ray actor, or the name of a program. docs/long_runs.md has a table of
it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

SHORT = (
    *("tiny_model.warmup_steps=40", "tiny_data.validation=16", "trainer.total_training_steps=8"),
    *("trainer.save_freq=2", "trainer.test_freq=4"),
)
LIMIT = 200.0  # seconds that a run may take to its second step, or to its end after the kill


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def victim(run: subprocess.Popen, name: str) -> psutil.Process:
    """The process of a run that is an actor of the class `name`, or a program of that name."""
    below = psutil.Process(run.pid).children(recursive=True)
    return next(one for one in below if title(one).startswith(f"ray::{name}") or one.name() == name)


def kill_one(name: str, folder: Path) -> str:
    """Start a run, kill one of its processes after the second step; a row of the table."""
    before = {*os.listdir("/dev/shm"), *os.listdir("/tmp")}
    said, metrics = folder / "said", folder / "run" / "metrics.jsonl"
    with said.open("w") as output:
        command = ["verl", "run", "justrl_tiny", "--out", "run", *SHORT]
        run = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + LIMIT
    while run.poll() is None and not (metrics.is_file() and metrics.read_text().count("critic/score/mean") >= 2):
        if time.monotonic() > deadline:
            sys.exit(f"no second step within {LIMIT:.0f} s: {said.read_text()}")
        time.sleep(0.1)
    victim(run, name).kill()
    killed = time.monotonic()
    try:
        ended = f"exit code {run.wait(LIMIT)} after {time.monotonic() - killed:.0f} s"
    except subprocess.TimeoutExpired:
        run.kill()
        ended = f"it did not end within {LIMIT:.0f} s"
    reason = said.read_text().splitlines()[-1].removeprefix("training failed: ").split(" (whole log")[0]
    left = sorted({*os.listdir("/dev/shm"), *os.listdir("/tmp")} - before - {folder.name})
    alive = [title(one) for one in psutil.process_iter() if title(one).startswith("ray::")]
    return f"| {name} | {ended} | {reason} | {', '.join([*left, *alive]) or 'nothing'} |"


def main(names: list[str]) -> None:
    print("| killed | the command ended | it said | left behind |\n|---|---|---|---|")
    for name in names:
        with TemporaryDirectory() as folder:
            print(kill_one(name, Path(folder)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
