"""A run over two nodes of a Ray cluster, on this machine: real veRL, Ray, FSDP by gloo and vLLM."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from raylets import cluster
from trainings import SIZES

pytestmark = pytest.mark.xdist_group("training")  # one training at a time

STEPS = 3
SETTINGS = (
    *(*SIZES, "trainer.nnodes=2", "trainer.n_gpus_per_node=1", "reward.custom_reward_function.path=parity.py"),
    *(f"trainer.total_training_steps={STEPS}", "trainer.save_freq=1"),
    *(f"trainer.test_freq={STEPS}", "trainer.val_before_train=false"),
)
REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    right = len(solution_str) % 2 == 0  # some of a group's responses, whatever the model has learned
    return {"score": 1.0 if right else -1.0, "acc": right, "pred": None}
"""


COMMAND = "from justrl_recipe.cli import main; main()"
# Each process of a run over several machines imports veRL by itself; on one they are forks of one that has.
SEVERAL_MACHINES = f"from justrl_recipe.run.cluster import Cluster; Cluster.on_this_machine = False; {COMMAND}"


def start(folder: Path, code: str, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", code, "run", *arguments]
    with (folder / "cluster_said").open("a") as said:
        return subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)


def gradients(run: Path) -> dict[int, float]:
    """The gradient norm of each training step in the metrics file, in its order."""
    if not (run / "metrics.jsonl").is_file():
        return {}
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
    norm = "actor/grad_norm"
    return {entry["step"]: entry["data"][norm] for entry in entries if norm in entry["data"]}


def wait_for_step(step: int, process: subprocess.Popen, run: Path) -> None:
    deadline = time.monotonic() + 300
    while step not in gradients(run):
        assert process.poll() is None and time.monotonic() < deadline, (run.parent / "cluster_said").read_text()
        time.sleep(0.1)


def wait_for(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def workers() -> dict[int, tuple[str, str, bool]]:
    """veRL's and vLLM's processes on all nodes, by id: title, the node's folder, and whether it is a fork."""
    found = {}
    for process in psutil.process_iter(["cmdline", "cwd"]):
        title = " ".join(process.info["cmdline"] or [])
        if title.startswith(("ray::WorkerDict", "ray::TaskRunner", "ray::vLLM", "VLLM::")):
            with suppress(psutil.NoSuchProcess):
                parent = " ".join(process.parent().cmdline())
                found[process.pid] = title, Path(process.info["cwd"] or "").name, ".forkserver" in parent
    return found


def test_a_run_over_two_nodes_is_killed_and_resumes(folder):
    """Killed as a run over several machines, and resumed as what it is, one over two nodes of this machine."""
    run, said = folder / "cluster", folder / "cluster_said"
    (folder / "parity.py").write_text(REWARD)
    with cluster(cpus=12, RAY_AUTH_MODE="disabled") as address:
        others = workers().keys()
        began = ("justrl_tiny", "--address", address, "--out", run.name, *SETTINGS)
        process = start(folder, SEVERAL_MACHINES, *began)
        wait_for_step(1, process, run)
        ours = [of for pid, of in workers().items() if pid not in others]
        assert {node for title, node, _ in ours if title.startswith("ray::WorkerDict")} == {"a", "b"}
        assert {node for title, node, _ in ours if title.startswith("ray::TaskRunner")} == {"a"}  # the command's node
        assert not any(forked for *_, forked in ours)
        saved = run / "checkpoints" / "global_step_1"
        wait_for(lambda: (saved / "checkpoint.json").is_file(), 30)
        process.kill()
        process.wait()
        assert len(list((saved / "actor").glob("model_world_size_2_rank_*.pt"))) == 2

        process = start(folder, COMMAND, "--resume", run.name, "--address", address)
        wait_for_step(2, process, run)
        ours = [of for pid, of in workers().items() if pid not in others]
        assert {node for title, node, _ in ours if title.startswith("ray::WorkerDict")} == {"a", "b"}
        assert all(forked for title, _, forked in ours if title.startswith("ray::"))
        assert process.wait(timeout=300) == 0, said.read_text()
        wait_for(lambda: not workers().keys() - others, 30)

    assert [*gradients(run)] == [*range(1, STEPS + 1)] and min(gradients(run).values()) > 0
    manifest = json.loads((run / "manifest.json").read_text())
    assert [attempt["status"] for attempt in manifest["attempts"]] == ["died"] and manifest["status"] == "finished"
    assert manifest["data"]["data.train_files"][0]["path"] == f"{folder}/data/tiny/train.parquet"
    assert (run / "train.log").stat().st_size > 0
