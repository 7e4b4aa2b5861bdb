"""examples/slurm: the batch file, with stand-ins for srun, scontrol, ray and verl that run on this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[2] / "examples/slurm/justrl.sbatch"
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

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        _, errors = process.communicate(timeout=60)
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
    def ended(self) -> int:
        """On how many nodes Ray was ended."""
        return len(list(self.state.glob("ended.*")))

    @property
    def requeued(self) -> bool:
        return self.said("scontrol") == ["requeue 7"]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    left = [process for process in psutil.process_iter() if state_of(process) == str(job.state)]
    assert left == [], "processes of the job are left"


def state_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("STATE")
    except psutil.Error:
        return None


def test_shellcheck_finds_nothing():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "shellcheck is missing: make install"
    done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_ray_runs_on_all_nodes_before_verl_does(job: Job):
    assert job.run("seed=2") == (0, "")
    head, *workers = [job.said(f"joined.{node}")[0] for node in range(NODES)]
    folder, address, *command = job.said("verl")
    host, port = address.removeprefix("RAY_ADDRESS=").split(":")
    assert head.startswith(f"start --head --node-ip-address={host} --port={port} --block")
    assert all(worker.startswith(f"start --address={host}:{port} --block") for worker in workers)
    assert folder == str(job.folder)
    assert command == [
        *("run", "justrl_deepseek", "--system", "a800x32", "--out", f"{job.folder}/runs/first", "--resume"),
        *(f"trainer.nnodes={NODES}", "seed=2"),
    ]


def test_all_of_a_start_share_one_new_token(job: Job):
    job.run()
    first = job.said("tokens")
    (job.state / "tokens").unlink()
    job.run()
    second = job.said("tokens")
    assert len(first) == len(second) == NODES + 1
    assert len(set(first)) == len(set(second)) == 1
    assert first[0] != second[0]
    assert re.fullmatch(r"token [0-9a-f]{64}", first[0])
    assert not [file for file in job.folder.rglob("*") if first[0].split()[1] in file.name]


@pytest.mark.parametrize(("code", "requeued"), [("0", False), ("1", False), ("2", False), ("75", True)])
def test_the_exit_code_of_verl_is_passed_on_and_75_requeues(job: Job, code: str, requeued: bool):
    assert job.run(EXITS=code) == (int(code), "")
    assert job.requeued == requeued
    assert job.ended == NODES


@pytest.mark.parametrize(("sent", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_signal_to_the_script_reaches_verl(job: Job, sent: signal.Signals, requeued: bool):
    process = job.start(EXITS="signal")
    job.wait_for("verl")
    process.send_signal(sent)
    assert job.end(process)[0] == 75
    assert job.said("signals") == [sent.name.removeprefix("SIG")]
    assert job.requeued == requeued
    assert job.ended == NODES


def test_a_signal_that_verl_does_not_handle_yet_requeues(job: Job):
    process = job.start(EXITS="unprepared")
    job.wait_for("verl")
    process.send_signal(signal.SIGUSR1)
    assert job.end(process)[0] == 75
    assert job.requeued and job.ended == NODES


def test_a_signal_before_all_nodes_joined_requeues(job: Job):
    process = job.start(ABSENT="2")
    job.wait_for("joined.1")
    process.send_signal(signal.SIGUSR1)
    assert job.end(process)[0] == 75
    assert job.requeued and job.ended == NODES - 1
    assert not job.said("verl")


def test_a_node_that_never_joins_ends_the_job(job: Job):
    text = job.script.read_text()
    job.script.write_text(text.replace("join_within=15", "join_within=4"))
    code, errors = job.run(ABSENT="2")
    assert code == 1
    assert errors.startswith(f"error: 2 of {NODES} nodes joined Ray within 4 s: ")
    assert not job.said("verl") and not job.requeued
    assert job.ended == NODES - 1


def test_a_head_that_does_not_start_ends_the_job(job: Job):
    code, errors = job.run(FAILS="0", SLURM_JOB_NUM_NODES="1")
    assert code == 1
    assert errors == "error: Ray ended with 0 of 1 nodes: see its lines above\n"
    assert not job.requeued
