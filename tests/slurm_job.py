"""examples/slurm run on this machine: the batch file, with stand-ins for srun, scontrol, ray and verl."""

import os
import re
import subprocess
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[1] / "examples/slurm/justrl.sbatch"
NODES = 3
STAND_INS = {
    "scontrol": 'echo "$@" >> "$STATE/scontrol"',
    # Starts the command once per node, as tasks of one step that a SIGTERM ends.
    "srun": """
        while [[ $1 == -* ]]; do shift; done
        trap 'kill $(jobs -p); wait; exit 143' TERM
        for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do SLURM_NODEID=$node "$@" & done
        wait
    """,
    "ray": """
        if [[ $1 == status ]]; then
          [[ -e $STATE/joined.0 ]] || exit 1
          for node in "$STATE"/joined.*; do echo " 1 node_${node##*.}"; done
          exit
        fi
        case $SLURM_NODEID in "${FAILS-}") exit 1 ;; "${ABSENT-}") exec sleep 60 ;; esac
        trap 'touch "$STATE/ended.$SLURM_NODEID"; exit 143' TERM
        echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN" >> "$STATE/tokens"
        echo "$*" > "$STATE/joined.$SLURM_NODEID"
        for _ in {1..300}; do sleep 0.2; done
    """,
    "verl": """
        if [[ $EXITS == unprepared ]]; then touch "$STATE/verl"; exec sleep 30; fi
        trap 'echo USR1 >> "$STATE/signals"; exit 75' USR1
        trap 'echo TERM >> "$STATE/signals"; exit 75' TERM
        echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN" >> "$STATE/tokens"
        printf '%s\\n' "$PWD" "RAY_ADDRESS=$RAY_ADDRESS" "$@" > "$STATE/verl"
        if [[ $EXITS == signal ]]; then for _ in {1..300}; do sleep 0.1; done; fi
        exit "$EXITS"
    """,
}


class Job:
    """The batch file, edited as a user edits it, and where its stand-ins note what they did."""

    def __init__(self, folder: Path):
        self.folder = folder / "shared"
        self.state = folder / "state"
        self.state.mkdir()
        for name, body in STAND_INS.items():
            file = (self.folder / ".venv/bin" if name in ("ray", "verl") else folder / "bin") / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"#!/usr/bin/env bash\n{body}")
            file.chmod(0o755)
        text = SCRIPT.read_text()
        for line in (f"folder={self.folder}", "join_within=15"):
            text, count = re.subn(rf"^{line.split('=')[0]}=\S+", line, text, flags=re.MULTILINE)
            assert count == 1
        text = re.sub(r"sleep \d", "sleep 0.1", text)  # a faster clock
        self.script = folder / "job.sbatch"
        self.script.write_text(text)
        self.path = f"{folder / 'bin'}:{os.environ['PATH']}"

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": str(NODES), "STATE": str(self.state)}
        return subprocess.Popen(
            ["bash", str(self.script), *arguments],
            env={**os.environ, "PATH": self.path, "EXITS": "0", **slurm, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """The exit code and what it printed to standard error."""
        return self.end(self.start(*arguments, **variables))

    def end(self, process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str]:
        """The same, of a job that was started; seconds until it must have ended."""
        _, errors = process.communicate(timeout=timeout)
        return process.returncode, errors

    def wait_for(self, name: str) -> None:
        for _ in range(300):
            if (self.state / name).exists():
                return
            time.sleep(0.1)
        pytest.fail(f"{name} did not appear")

    def said(self, name: str) -> list[str]:
        file = self.state / name
        return file.read_text().splitlines() if file.exists() else []

    @property
    def processes(self) -> list[psutil.Process]:
        """Those that the job started and that still run."""
        return [process for process in psutil.process_iter() if self._started(process)]

    def _started(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("STATE") == str(self.state)
        except psutil.Error:
            return False

    @property
    def ended(self) -> int:
        """On how many nodes Ray was ended."""
        return len(list(self.state.glob("ended.*")))

    @property
    def requeued(self) -> bool:
        return self.said("scontrol") == ["requeue 7"]
