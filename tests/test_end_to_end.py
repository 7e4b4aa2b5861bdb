"""The product: `verl run` trains, on real veRL, Ray, FSDP, TransferQueue and vLLM; and ends whole."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

VERL = Path(sys.executable).with_name("verl")
SHORT = ("tiny_model.warmup_steps=40", "tiny_data.validation=16", "trainer.total_training_steps=3")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder, shared so that the tiny model is made once."""
    return tmp_path_factory.mktemp("work")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [str(VERL), "run", "justrl_tiny", *arguments, *SHORT]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read(run: Path) -> tuple[dict, list[dict]]:
    manifest = json.loads((run / "manifest.json").read_text())
    return manifest, [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def processes_of(run: Path) -> list[psutil.Process]:
    """The processes that a run left, known by the metrics path in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("VERL_FILE_LOGGER_PATH") == str((run / "metrics.jsonl").absolute()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def wait_until_gone(run: Path, seconds: float) -> list[psutil.Process]:
    deadline = time.monotonic() + seconds
    while processes_of(run) and time.monotonic() < deadline:
        time.sleep(0.2)
    return processes_of(run)


def test_trains_with_the_overlong_penalty_and_says_what_it_did(folder):
    process = start(folder, "--out", "penalty", "--ablation", "overlong_penalty", "trainer.save_freq=3")
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    manifest, entries = read(folder / "penalty")

    steps = [entry for entry in entries if "critic/score/mean" in entry["data"]]
    assert [entry["step"] for entry in steps] == [1, 2, 3]
    for entry in steps:
        metrics = entry["data"]
        assert 0 <= metrics["reward/acc"] <= 1
        assert 0 <= metrics["reward/overlong"] <= 1
        penalty = metrics["critic/score/mean"] - (2 * metrics["reward/acc"] - 1)
        assert penalty == pytest.approx(0, abs=1e-6) if metrics["reward/overlong"] == 0 else penalty < 0
        assert metrics["training/rollout_probs_diff_mean"] < 1e-3  # the weights reach the rollout
        assert metrics["actor/grad_norm"] > 0
    assert any("val-core/arithmetic/acc/mean@1" in entry["data"] for entry in entries)
    assert (folder / "penalty" / "checkpoints" / "global_step_3").is_dir()

    assert out.count("step ") >= 3 and "validation at step 0: arithmetic accuracy" in out
    assert "TaskRunner" not in out + err and "WARNING" not in out + err
    assert "deviation: reward.reward_kwargs.overlong_buffer_cfg.enable: recipe false, yours true" in err
    assert manifest["status"] == "finished" and manifest["ended"] >= manifest["started"]
    assert manifest["is_justrl"] is False and manifest["ablations"] == ["overlong_penalty"]
    assert {"verl", "torch", "transformers", "justrl-recipe", "python"} <= manifest["versions"].keys()
    config = yaml.safe_load((folder / "penalty" / "config.yaml").read_text())
    assert config["reward"]["reward_kwargs"]["overlong_buffer_cfg"]["enable"] is True
    assert wait_until_gone(folder / "penalty", 0) == []


def test_what_was_trained_is_evaluated_by_its_run_folder(folder):
    wanted = ("--benchmark", "data/tiny/validation.parquet", "--max-tokens", "24", "--n", "2")
    done = subprocess.run([VERL, "eval", "penalty", *wanted], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "merging global_step_3" in done.stderr
    checkpoint = folder / "penalty" / "checkpoints" / "global_step_3"
    assert sorted(path.name for path in checkpoint.iterdir() if path.name.startswith((".", "merged"))) == ["merged"]
    assert "packed" not in (checkpoint / "merged" / "config.json").read_text()  # so any program can load it
    found = json.loads((folder / "evals" / "penalty-global_step_3" / "results.json").read_text())
    assert found["benchmarks"]["validation"]["responses"] == 32 and "validation" in done.stdout


def test_trains_the_papers_second_arm_with_the_verifier_as_its_reward(folder):
    flags = ("--ablation", "overlong_penalty", "--ablation", "robust_verifier")
    process = start(folder, "--out", "both", *flags)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    manifest, entries = read(folder / "both")
    assert manifest["ablations"] == ["overlong_penalty", "robust_verifier"]
    arm = {"reward.reward_kwargs.overlong_buffer_cfg.enable", "reward.custom_reward_function.path"}
    short = {override.split("=")[0] for override in SHORT}
    assert {deviation["key"] for deviation in manifest["deviations"]} == arm | short
    steps = [entry["data"] for entry in entries if "critic/score/mean" in entry["data"]]
    assert len(steps) == 3 and all(0 <= step["reward/acc"] <= 1 for step in steps)
    assert wait_until_gone(folder / "both", 5) == []


MY_REWARD = """\
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    right = ground_truth in solution_str
    return {"score": 1.0 if right else 0.0, "acc": right, "pred": None}
"""


def test_trains_with_a_reward_file_of_the_users_own(folder):
    (folder / "mine.py").write_text(MY_REWARD)
    process = start(folder, "--out", "mine", "reward.custom_reward_function.path=mine.py")
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    _, entries = read(folder / "mine")
    steps = [entry["data"] for entry in entries if "critic/score/mean" in entry["data"]]
    assert len(steps) == 3
    for step in steps:  # the recipe's own reward would be below 0 here
        assert step["critic/score/mean"] == pytest.approx(step["reward/acc"]) and step["critic/score/min"] == 0.0
    assert wait_until_gone(folder / "mine", 5) == []


def wait_for(run: Path, file: str, process: subprocess.Popen, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not (run / file).exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    assert (run / file).exists()


def test_ctrl_c_ends_everything_and_says_so(folder):
    process = start(folder, "--out", "interrupted")
    wait_for(folder / "interrupted", "metrics.jsonl", process, 200)
    assert len(processes_of(folder / "interrupted")) > 5
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, out + err
    assert "interrupted" in err and "Traceback" not in err
    assert processes_of(folder / "interrupted") == []
    manifest, _ = read(folder / "interrupted")
    assert manifest["status"] == "interrupted" and manifest["ended"]


def test_kill_9_leaves_no_process_either(folder):
    process = start(folder, "--out", "killed")
    wait_for(folder / "killed", "metrics.jsonl", process, 200)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert wait_until_gone(folder / "killed", 30) == []


def test_a_training_that_fails_names_its_error_and_its_log(folder):
    """A reward file of the user's own, swapped in by one override, that raises as it is loaded."""
    (folder / "my_reward.py").write_text("def compute_score(): ...\nraise ValueError('planted in my_reward.py')\n")
    override = "reward.custom_reward_function.path=my_reward.py"
    process = start(folder, "--out", "failed", override)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, out + err
    failure = [line for line in err.splitlines() if line.startswith("training failed:")]
    assert len(failure) == 1 and "my_reward.py" in failure[0] and "failed/train.log" in failure[0]
    assert read_manifest(folder / "failed")["status"] == "failed"
    assert wait_until_gone(folder / "failed", 5) == []


def read_manifest(run: Path) -> dict:
    return json.loads((run / "manifest.json").read_text())
