"""How long a run takes from its command to its first step, and what it does until then.

    .venv/bin/python benchmarks/start.py OUT justrl_tiny              # on the CPU
    python benchmarks/start.py OUT justrl_deepseek --system h200x1 [KEY=VALUE ...]

Runs `verl run` for one step into OUT. Prints the second after the command at which each process writes its first line
to the log, and each line that follows PAUSE seconds of silence. The last line is JSON: the second at which the first
step began, which is when it was logged less veRL's `timing_s/step`. OUT.stamped is the log with the second of each
line, OUT.out what the command prints.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

PAUSE = 3.0
PROCESS = re.compile(r"^(?:\(([\w:]+) pid=\d+|(fork server):)")
COLORS = re.compile(r"\x1b\[[0-9;]*m")
ONE_STEP = ("trainer.total_training_steps=1", "trainer.test_freq=-1", "trainer.val_before_train=false")


class Log:
    """The lines of a log as they are written."""

    def __init__(self, file: Path):
        self.file = file
        self.read = 0

    def new(self) -> list[str]:
        """The whole lines since the last call."""
        text = self.file.read_bytes()[self.read :] if self.file.exists() else b""
        text = text[: text.rfind(b"\n") + 1]
        self.read += len(text)
        return COLORS.sub("", text.decode(errors="replace")).splitlines()


def follow(process: subprocess.Popen, folder: Path) -> float | None:
    """Print the log's events until the run ends; the second at which the first step began."""
    began, last, first_step = time.monotonic(), 0.0, None
    log, metrics, seen = Log(folder / "train.log"), Log(folder / "metrics.jsonl"), set()
    with Path(f"{folder}.stamped").open("w") as stamped:
        ended = False
        while not ended:
            ended = process.poll() is not None
            second = time.monotonic() - began
            for line in log.new():
                stamped.write(f"{second:7.1f} {line}\n")
                name = match.group() if (match := PROCESS.match(line)) else "driver"
                if name not in seen or second - last > PAUSE:
                    print(f"{second:7.1f} {line[:150]}", flush=True)
                seen.add(name)
                last = second
            for line in metrics.new():
                if seconds := json.loads(line)["data"].get("timing_s/step"):
                    first_step = round(second - seconds, 1)
            time.sleep(0.1)
    return first_step


if __name__ == "__main__":
    out, *command = sys.argv[1:]
    program = [sys.executable, "-c", "from justrl_recipe.cli import main; main()"]
    with Path(f"{out}.out").open("w") as output:
        process = subprocess.Popen([*program, "run", *command, *ONE_STEP, "--out", out], stdout=output, stderr=output)
        first_step = follow(process, Path(out))
    print(json.dumps({"first_step_began": first_step, "exit_code": process.returncode}))
