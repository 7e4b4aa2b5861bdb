"""Kills processes of a tiny run, and says how the run ended, what was lost and what was left behind.

    python benchmarks/faults.py each AgentLoopWorkerTQ RewardLoopWorker WorkerDict vLLMHttpServer raylet
    python benchmarks/faults.py random FOLDER 50
    python benchmarks/faults.py finish FOLDER
    python benchmarks/faults.py full FOLDER

`each` starts a run for each name, which is the class of a Ray actor or the name of a program, and kills that process
after the second step: a minute each on 2 cores. `random` kills one run, in FOLDER/run, again and again, a random
process at a random moment, resumes it each time, and adds a line of JSON for each kill to FOLDER/kills.jsonl; the
same command again continues to the number of kills. `finish` lets it end. `full` runs in FOLDER, a disk on which two
checkpoints of 6 MB find room and three do not (mount -t tmpfs -o size=14m tmpfs FOLDER). See docs/long_runs.md.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from justrl_recipe import checkpoints

TINY = ("tiny_model.warmup_steps=40", "tiny_data.validation=16", "trainer.save_freq=2", "trainer.test_freq=4")
LIMIT = 300.0  # seconds that a run may take to a step, or to its end after a kill
COMMAND, GUARD, ENGINE = "the command", "its guard", "vLLM's engine"
STOPPED = "the command by SIGTERM"
RANDOM_VICTIMS = (
    *(COMMAND, COMMAND, STOPPED, STOPPED, GUARD, ENGINE),
    *("TaskRunner", "WorkerDict", "vLLMHttpServer", "RewardLoopWorker", "AgentLoopWorker", "raylet"),
)
STARTING, TRAINING = 40.0, 15.0  # seconds within which a kill comes, from the start and from the first new step
STEPS = 200  # of the run that is killed at random
SHARES = {"start": 0.2, "training": 0.5, "save": 0.3}  # of the random kills


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def victim(run: subprocess.Popen, name: str) -> psutil.Process | None:
    """The process of a run that `name` stands for: an actor by its class, a program by its name."""
    command = psutil.Process(run.pid)
    below = command.children(recursive=True)
    if name in (COMMAND, STOPPED):
        return command
    if name == GUARD:
        return next((one for one in below if "run.guard" in title(one)), None)
    if name == ENGINE:
        server = victim(run, "vLLMHttpServer")
        return next(reversed(server.children()), None) if server else None
    return next((one for one in below if title(one).startswith(f"ray::{name}") or one.name() == name), None)


def steps(folder: Path) -> list[int]:
    """The training steps in the metrics of the run in `folder`, in their order."""
    file = folder / "run" / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return [entry["step"] for entry in entries if "critic/score/mean" in entry["data"]]


def saving(folder: Path) -> bool:
    """Whether a checkpoint is being saved."""
    found = (folder / "run" / "checkpoints").glob("global_step_*")
    return any(not (checkpoint / "checkpoint.json").exists() for checkpoint in found)


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    with (folder / "said").open("w") as said:
        return subprocess.Popen(["verl", "run", *arguments], cwd=folder, stdout=said, stderr=subprocess.STDOUT)


def places() -> set[str]:
    """What a run could leave behind: files, shared memory, sockets, processes."""
    files = {f"{folder}/{name}" for folder in ("/dev/shm", "/tmp") for name in os.listdir(folder)}
    words = ("ray::", "raylet", "gcs_server", "run.guard", "dashboard/agent", "runtime_env/agent")
    return files | {f"{one.pid} {title(one)}" for one in psutil.process_iter() if any(w in title(one) for w in words)}


def kill(run: subprocess.Popen, name: str, process: psutil.Process, folder: Path, before: set[str]) -> dict:
    """Kill a process of a run, or stop the command; say how the run ended, and what is there 5 seconds later."""
    process.send_signal(signal.SIGTERM if name == STOPPED else signal.SIGKILL)
    killed = time.monotonic()
    try:
        code: int | None = run.wait(LIMIT)
    except subprocess.TimeoutExpired:
        run.kill()
        code = None
    took = time.monotonic() - killed
    time.sleep(5)
    said = [line for line in (folder / "said").read_text().splitlines() if line.startswith("training failed: ")]
    reason = said[-1].removeprefix("training failed: ").split(" (whole log")[0] if said else ""
    return {"exit_code": code, "seconds": round(took, 1), "reason": reason, "left": sorted(places() - before)}


def kill_each(names: list[str]) -> None:
    print("| killed | the command ended | it said | left behind |\n|---|---|---|---|")
    for name in names:
        with TemporaryDirectory() as scratch:
            folder, before = Path(scratch), places()
            run = start(folder, "justrl_tiny", "--out", "run", *TINY, "trainer.total_training_steps=8")
            wait_until(lambda place=folder: 2 in steps(place), run, LIMIT, every=0.1)
            process = victim(run, name)
            assert process, f"{name} is no process of the run: {(folder / 'said').read_text()}"
            found = kill(run, name, process, folder, before)
        ended = f"exit code {found['exit_code']} after {found['seconds']:.0f} s"
        print(f"| {name} | {ended} | {found['reason']} | {', '.join(found['left']) or 'nothing'} |", flush=True)


def kill_at_random(folder: Path, kills: int) -> None:
    record = folder / "kills.jsonl"
    done = len(record.read_text().splitlines()) if record.is_file() else 0
    total = f"trainer.total_training_steps={STEPS}"
    for number in range(done, kills):
        chance, before = random.Random(number), places()
        resumes = (folder / "run" / "manifest.json").is_file()
        run = start(folder, *(("--resume", "run") if resumes else ("justrl_tiny", "--out", "run", *TINY, total)))
        [phase] = chance.choices(list(SHARES), list(SHARES.values()))
        began, before_it = time.monotonic(), len(steps(folder))
        if phase != "start":
            wait_until(lambda at=before_it: len(steps(folder)) > at, run, LIMIT, every=0.1)
        if phase == "save":
            wait_until(lambda: saving(folder), run, LIMIT, every=0.002)
        else:
            wait_until(lambda: False, run, chance.uniform(1, STARTING if phase == "start" else TRAINING), every=0.1)
        if run.poll() is not None:
            sys.exit(f"the run ended by itself: {(folder / 'said').read_text()}")
        name = chance.choice(RANDOM_VICTIMS)
        process = victim(run, name)
        if process is None:  # not started yet
            name, process = COMMAND, victim(run, COMMAND)
        about = {"killed": name, "after": round(time.monotonic() - began, 1), "in": phase}
        about |= {"resumed_after": resumed_after(folder), "step": max(steps(folder), default=0)}
        line = {**about, **kill(run, name, process, folder, before)}
        with record.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def resumed_after(folder: Path) -> int | None:
    """The step after which the last command said that it resumes; None where it has not said so."""
    match = re.search(r"resuming after step (\d+)", (folder / "said").read_text())
    return int(match[1]) if match else None


def wait_until(true: Callable[[], bool], run: subprocess.Popen, limit: float, every: float) -> None:
    deadline = time.monotonic() + limit
    while not true() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(every)


def finish(folder: Path) -> None:
    """Let the run end, and say whether its metrics have each step once."""
    code = start(folder, "--resume", "run").wait()
    lines = [json.loads(line) for line in (folder / "kills.jsonl").read_text().splitlines()]
    resumed = [*(line["resumed_after"] for line in lines[1:]), resumed_after(folder)]
    lost = [max(0, line["step"] - step) for line, step in zip(lines, resumed, strict=True) if step is not None]
    found = steps(folder)
    print(f"{len(lines)} kills: {dict(Counter(line['killed'] for line in lines))}")
    print(f"the run ended with exit code {code}")
    print(f"steps 1 to {found[-1]}, each once and in order: {found == list(range(1, found[-1] + 1))}")
    print(f"steps that were trained again after a kill: at most {max(lost)}, {sum(lost)} in all")
    print(f"ended without being told within {LIMIT:.0f} s: {all(line['exit_code'] is not None for line in lines)}")
    print(f"left behind: {[line['left'] for line in lines if line['left']] or 'nothing'}")


def fill(disk: Path) -> None:
    """Run until the disk is full, and say what is whole then."""
    with TemporaryDirectory() as scratch:
        folder, before = Path(scratch), places()
        run = start(folder, "justrl_tiny", "--out", str(disk / "run"), *TINY, "trainer.total_training_steps=8")
        code = run.wait()
        said = (folder / "said").read_text().splitlines()[-1]
        whole, passed_over = checkpoints.latest_whole(disk / "run" / "checkpoints")
        print(f"exit code {code}: {said}\nthe last whole checkpoint: {whole}\nnot whole: {passed_over}")
        print(f"left behind: {sorted(places() - before) or 'nothing'}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["each", *names] if names:
            kill_each(names)
        case ["random", where, count]:
            Path(where).mkdir(parents=True, exist_ok=True)
            kill_at_random(Path(where), int(count))
        case ["full", where]:
            fill(Path(where))
        case ["finish", where]:
            finish(Path(where))
        case _:
            sys.exit(__doc__)
