"""How long a run takes from its command to its first step, and what it does until then.

    .venv/bin/python benchmarks/start.py OUT justrl_tiny              # on the CPU
    python benchmarks/start.py OUT justrl_deepseek --system h200x1 [KEY=VALUE ...]

Runs `verl run` for one step into OUT. Prints the seconds after the command at which each process writes its first line
to the log, the fork server's line, and each line that follows PAUSE seconds of silence. The last line is JSON: the
second at which the first step began, by the time at which it was logged and veRL's `timing_s/step`. OUT.stamped is the
log with the seconds before each line.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PAUSE = 3.0
PROCESS = re.compile(r"^\(([\w:]+) pid=\d+")
COLORS = re.compile(r"\x1b\[[0-9;]*m")
ONE_STEP = ("trainer.total_training_steps=1", "trainer.test_freq=-1", "trainer.val_before_train=false")


def follow(process: subprocess.Popen, began: float, folder: Path) -> float:
    """Print the log's events until the run ends; the second at which the first step began."""
    log, metrics = folder / "train.log", folder / "metrics.jsonl"
    stamped = Path(f"{folder}.stamped").open("w", buffering=1)
    seen: set[str] = set()
    read, last, first_step = 0, 0.0, 0.0
    while True:
        ended = process.poll() is not None
        second = time.monotonic() - began
        if not first_step and metrics.exists() and (lines := [*step_seconds(metrics)]):
            first_step = second - lines[0]
        new = log.read_bytes()[read:] if log.exists() else b""
        new = new[: new.rfind(b"\n") + 1]
        read += len(new)
        for line in COLORS.sub("", new.decode(errors="replace")).splitlines():
            stamped.write(f"{second:7.1f} {line}\n")
            match = PROCESS.match(line)
            name = match[1] if match else line.split(":")[0] if line.startswith("fork server:") else "driver"
            if name not in seen or second - last > PAUSE:
                print(f"{second:7.1f} {line[:140]}", flush=True)
            seen.add(name)
            last = second
        if ended:
            return first_step
        time.sleep(0.1)


def step_seconds(metrics: Path) -> Iterator[float]:
    """The seconds of each step that has been logged."""
    for line in metrics.read_text().splitlines():
        if line.endswith("}") and "timing_s/step" in (data := json.loads(line)["data"]):
            yield data["timing_s/step"]


if __name__ == "__main__":
    out, *command = sys.argv[1:]
    program = [sys.executable, "-c", "from justrl_recipe.cli import main; main()"]
    began = time.monotonic()
    with Path(f"{out}.out").open("w") as output:
        process = subprocess.Popen([*program, "run", *command, *ONE_STEP, "--out", out], stdout=output, stderr=output)
        first_step = follow(process, began, Path(out))
    print(json.dumps({"first_step_began": round(first_step, 1), "exit_code": process.returncode}))
