"""What examples/slurm relies on in Ray: one token for all nodes, the form of `ray status`, an end by SIGTERM."""

from pathlib import Path

import psutil
import pytest
from command import VERL
from slurm_job import Job

pytestmark = pytest.mark.xdist_group("engine")  # one vLLM engine or Ray cluster at a time, beside a training

VERL_STAND_IN = """#!/usr/bin/env bash
ray status --address="$RAY_ADDRESS" > "$STATE/status"
RAY_AUTH_TOKEN=other ray status --address="$RAY_ADDRESS" > "$STATE/refused" 2>&1 || echo refused >> "$STATE/refused"
exit 75
"""


def test_two_nodes_join_with_the_token_alone_and_end(tmp_path: Path):
    job = Job(tmp_path)
    (job.folder / ".venv/bin/ray").unlink()
    (job.folder / ".venv/bin/ray").symlink_to(VERL.with_name("ray"))
    (job.folder / ".venv/bin/verl").write_text(VERL_STAND_IN)
    job.script.write_text(job.script.read_text().replace("join_within=15", "join_within=120"))
    code, errors = job.end(job.start(SLURM_JOB_NUM_NODES="2", TMPDIR="/tmp"), timeout=240)
    assert code == 75, errors
    assert len([line for line in job.said("status") if line.startswith(" 1 node_")]) == 2
    assert job.said("refused")[-1] == "refused"
    assert job.requeued
    assert psutil.wait_procs(job.processes, timeout=60)[1] == []  # Ray's agents notice the end of their node
