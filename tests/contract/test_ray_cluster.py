"""Joining a real Ray cluster: what Ray says of tokens, nodes and jobs, and what this package makes of it."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import verl
from raylets import cluster, free_port

from justrl_recipe.checks import Problem
from justrl_recipe.errors import UserError
from justrl_recipe.run.cluster import ask, look, problems
from justrl_recipe.run.nodes import Demand

pytestmark = pytest.mark.xdist_group("engine")  # one vLLM engine or Ray cluster at a time, beside a training

TOKEN = "a" * 64


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with cluster(RAY_AUTH_MODE="disabled") as found:
        yield found


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray's default token is


@pytest.fixture(autouse=True)
def data(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"rows")


def config(folder: Path, nodes: int, gpus: int = 1) -> dict:
    trainer = {"device": "cpu", "nnodes": nodes, "n_gpus_per_node": gpus}
    return {
        "trainer": {**trainer, "default_local_dir": str(folder / "run" / "checkpoints")},
        "data": {"train_files": str(folder / "train.parquet"), "val_files": None},
        "transfer_queue": {
            "backend": {"storage_backend": "SimpleStorage", "SimpleStorage": {"num_data_storage_units": 1}}
        },
    }


def found(address: str, folder: Path, nodes: int, gpus: int = 1) -> list[Problem]:
    values = config(folder, nodes, gpus)
    return list(problems(look(address, values, folder / "run"), values))


def test_nodes_that_have_all_are_fit(address, tmp_path):
    began = time.monotonic()
    assert found(address, tmp_path, nodes=2) == []
    assert time.monotonic() - began < 20
    assert list(tmp_path.iterdir()) == [tmp_path / "train.parquet"]  # no mark is left


def test_too_few_accelerators_are_said_in_time(address, tmp_path):
    began = time.monotonic()
    (problem,) = found(address, tmp_path, nodes=3)
    assert "room for 2" in problem.why and problem.why.count("1 of 1 GPU") == 2 and "add nodes" in problem.fix
    assert time.monotonic() - began < 25
    (problem,) = found(address, tmp_path, nodes=1, gpus=2)
    assert "room for 0" in problem.why


HOLDS = """
    import ray, sys, time
    ray.init(sys.argv[1], log_to_driver=False)
    @ray.remote(num_gpus=1)
    class Holder:
        def pid(self):
            import os
            return os.getpid()
    holder = Holder.remote()
    print(ray.get(holder.pid.remote()), flush=True)
    time.sleep(300)
"""


def holder(address: str) -> tuple[subprocess.Popen, int]:
    """A job that holds an accelerator, and the id of its actor."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDS), address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.1)
    return False


def test_what_another_job_holds_is_said_and_a_killed_job_ends_alone(address, tmp_path):
    ours, our_actor = holder(address)
    other, other_actor = holder(address)
    try:
        (problem,) = found(address, tmp_path, nodes=1)
        assert problem.why.count("0 of 1 GPU") == 2 and "wait for the other job" in problem.fix
        ours.send_signal(signal.SIGKILL)
        ours.wait()
        assert found(address, tmp_path, nodes=1) == []  # waits for what an ended job frees
        assert ends(our_actor) and Path(f"/proc/{other_actor}").exists() and other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()
    assert ends(other_actor)


QUEUE = """
    import ray, sys, time
    from justrl_recipe.verl_hooks import patches
    patches.separate_queues()
    from transfer_queue import interface
    ray.init(sys.argv[1], log_to_driver=False)
    print(interface._init_from_existing(), flush=True)
    controller = interface.TransferQueueController.options(
        name="TransferQueueController", namespace="transfer_queue"
    ).remote()
    def finds():
        patches.separate_queues()
        return interface.ray.get_actor("TransferQueueController", namespace="transfer_queue") is not None
    print(ray.get(ray.remote(finds).remote()), flush=True)
    sys.stdin.read()
"""


def test_two_runs_have_each_a_queue(address):
    command = [sys.executable, "-c", textwrap.dedent(QUEUE), address]
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    running = []
    for _ in range(2):
        process = subprocess.Popen(command, text=True, **piped)
        running.append(process)
        assert [process.stdout.readline().strip() for _ in range(2)] == ["False", "True"]
    for process in running:
        process.communicate(timeout=60)


def test_doctor_asks_every_node(address, tmp_path):
    result = verl("doctor", "--cluster", "--json", "--address", address, cwd=tmp_path)
    checks = json.loads(result.stdout)["checks"]
    assert result.returncode == 0 and [check["name"].split()[0] for check in checks] == ["cluster", "node", "node"]
    assert "wants no token" in checks[0]["says"] and "1 of 1 GPU" in checks[1]["says"]


def test_no_cluster_at_the_address(tmp_path):
    began = time.monotonic()
    result = verl("doctor", "--cluster", "--address", f"127.0.0.1:{free_port()}", cwd=tmp_path)
    assert (
        result.returncode == 2 and "no Ray cluster answers" in result.stderr and len(result.stderr.splitlines()) == 1
    )
    assert time.monotonic() - began < 10


def test_what_listens_there_is_no_cluster(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", str(port := free_port())],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(1)
        began = time.monotonic()
        with pytest.raises(UserError, match="cannot join the Ray cluster at"):
            ask(f"127.0.0.1:{port}", [], Demand({"GPU": 1}, 1))
        assert time.monotonic() - began < 15
    finally:
        server.kill()
        server.wait()


def test_a_cluster_with_a_token(tmp_path, monkeypatch):
    with cluster(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN) as address:
        for env in (
            {},
            {"RAY_AUTH_MODE": "token"},
            {"RAY_AUTH_TOKEN": "b" * 64},
            {"RAY_AUTH_TOKEN_PATH": "gone"},
        ):
            began = time.monotonic()
            result = verl("doctor", "--cluster", "--address", address, cwd=tmp_path, **env)
            assert result.returncode == 2 and "wants a token" in result.stderr, env
            assert time.monotonic() - began < 15, env
        found = verl("doctor", "--cluster", "--address", address, cwd=tmp_path, RAY_AUTH_TOKEN=TOKEN)
        assert found.returncode == 0 and "wants a token" in found.stdout
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
        assert ask(address, [], Demand({"GPU": 1}, 2)).environment["RAY_AUTH_MODE"] == "token"


def test_a_token_does_not_keep_a_run_from_a_cluster_without(address, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert ask(address, [], Demand({"GPU": 1}, 2)).environment["RAY_AUTH_MODE"] == "disabled"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert ask(address, [], Demand({"GPU": 1}, 2)).environment["RAY_AUTH_MODE"] == "disabled"
