"""examples/slurm: the batch file, with stand-ins for srun, scontrol, ray and verl that run on this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_job import NODES, SCRIPT, Job


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    assert job.processes == [], "processes of the job are left"


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
