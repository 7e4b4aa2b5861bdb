"""A run over two nodes of a Ray cluster, on this machine: real veRL, Ray, FSDP by gloo and vLLM."""

import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from command import VERL
from raylets import cluster

pytestmark = pytest.mark.xdist_group("training")  # one training at a time

STEPS = 4
SETTINGS = (
    *(
        "trainer.nnodes=2",
        "trainer.n_gpus_per_node=1",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=2",
    ),
    *("tiny_model.warmup_steps=40", "tiny_data.validation=16", f"trainer.test_freq={STEPS}"),
    "reward.custom_reward_function.path=reward.py",
)
REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    right = len(solution_str) % 2 == 0  # some of a group's responses, whatever the model has learned
    return {"score": 1.0 if right else -1.0, "acc": right, "pred": None}
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    with (folder / "said").open("a") as said:
        return subprocess.Popen([str(VERL), "run", *arguments], cwd=folder, stdout=said, stderr=subprocess.STDOUT)


def gradients(run: Path) -> dict[int, float]:
    """The gradient norm of each training step in the metrics file, in its order."""
    if not (run / "metrics.jsonl").is_file():
        return {}
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
    norm = "actor/grad_norm"
    return {entry["step"]: entry["data"][norm] for entry in entries if norm in entry["data"]}


def workers() -> dict[int, tuple[str, str]]:
    """veRL's and vLLM's processes on all nodes, by id: title and the node's folder."""
    found = {}
    for process in psutil.process_iter(["cmdline", "cwd"]):
        title = " ".join(process.info["cmdline"] or [])
        if title.startswith(("ray::WorkerDict", "ray::TaskRunner", "ray::vLLM", "VLLM::")):
            found[process.pid] = title, Path(process.info["cwd"] or "").name
    return found


def test_a_run_over_two_nodes_is_killed_and_resumes(tmp_path):
    run = tmp_path / "run"
    said = tmp_path / "said"
    (tmp_path / "reward.py").write_text(REWARD)
    with cluster(cpus=12, RAY_AUTH_MODE="disabled") as address:
        others = workers().keys()
        process = start(tmp_path, "justrl_tiny", "--address", address, "--out", "run", *SETTINGS)
        deadline = time.monotonic() + 300
        while 2 not in gradients(run):
            assert process.poll() is None and time.monotonic() < deadline, said.read_text()
            time.sleep(0.1)
        ours = [of for pid, of in workers().items() if pid not in others]
        assert {node for title, node in ours if title.startswith("ray::WorkerDict")} == {"a", "b"}
        assert {node for title, node in ours if title.startswith("ray::TaskRunner")} == {"a"}  # the command's node
        process.kill()
        process.wait()
        saved = run / "checkpoints" / "global_step_2" / "actor"
        assert len(list(saved.glob("model_world_size_2_rank_*.pt"))) == 2

        process = start(tmp_path, "--resume", "run", "--address", address)
        assert process.wait(timeout=300) == 0, said.read_text()
        deadline = time.monotonic() + 30
        while workers().keys() - others and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not workers().keys() - others

    assert [*gradients(run)] == [*range(1, STEPS + 1)] and min(gradients(run).values()) > 0
    manifest = json.loads((run / "manifest.json").read_text())
    assert [attempt["status"] for attempt in manifest["attempts"]] == ["died"] and manifest["status"] == "finished"
    assert manifest["data"]["data.train_files"][0]["path"] == f"{tmp_path}/data/tiny/train.parquet"
    assert (run / "train.log").stat().st_size > 0
