"""A run that is stopped, killed and damaged, and continues: on real veRL, Ray, FSDP and vLLM."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from command import VERL, verl
from trainings import SECOND_ARM_STEPS as STEPS
from trainings import SIZES, second_arm, with_test_modules

pytestmark = pytest.mark.xdist_group("training")  # one training at a time

TRAIN_ALONE = ("trainer.val_before_train=false", "trainer.test_freq=-1")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    with (folder / "said").open("w") as said:
        return subprocess.Popen([str(VERL), "run", *arguments], cwd=folder, stdout=said, stderr=subprocess.STDOUT)


def steps(run: Path) -> list[int]:
    """The training steps in the metrics file, in its order."""
    if not (run / "metrics.jsonl").is_file():
        return []
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
    return [entry["step"] for entry in entries if "critic/score/mean" in entry["data"]]


def wait_for_step(process: subprocess.Popen, run: Path, step: int) -> None:
    deadline = time.monotonic() + 400
    while step not in steps(run):
        assert process.poll() is None and time.monotonic() < deadline, (run.parent / "said").read_text()
        time.sleep(0.1)


def descendant(process: subprocess.Popen, title: str) -> psutil.Process:
    found = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in found if " ".join(child.cmdline()).startswith(title))


def left_by(command: int) -> set[str]:
    """Shared memory, veRL's sockets, and the scratch folders of a command; other tests use /tmp as well."""
    names = (f"justrl-{command}-", "rl-colocate-")
    return {*os.listdir("/dev/shm"), *(name for name in os.listdir("/tmp") if name.startswith(names))}


def attempts(run: Path) -> list[tuple]:
    manifest = json.loads((run / "manifest.json").read_text())
    return [(attempt["status"], attempt["first_step"]) for attempt in [*manifest["attempts"], manifest]]


def said(folder: Path) -> str:
    return (folder / "said").read_text()


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


WITHOUT_LOG_PROBS = "actor_rollout_ref.rollout.calculate_log_probs=false"


def weights(run: Path) -> dict[str, torch.Tensor]:
    shard = run / "checkpoints" / f"global_step_{STEPS}" / "actor" / "model_world_size_1_rank_0.pt"
    return {name: weight.to_local() for name, weight in torch.load(shard, weights_only=False).items()}


def learning_rates(run: Path) -> list[float]:
    entries = [json.loads(line)["data"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [entry["actor/lr"] for entry in entries if "actor/lr" in entry]


def test_a_run_that_is_stopped_and_killed_ends_as_one_that_was_not(folder, trained, monkeypatch):
    """With responses that follow from the weights, to the last bit of the weights; with vLLM's log-probs or not."""
    monkeypatch.setenv("PYTHONPATH", with_test_modules())
    run, same = folder / "run", (*SIZES, *second_arm(folder), WITHOUT_LOG_PROBS, "trainer.save_freq=2")
    command = ("justrl_tiny", "--out", "run", "--keep", "1", *same)
    process = start(folder, *command)
    wait_for_step(process, run, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75, said(folder)
    stopped_at = steps(run)[-1]
    assert (run / "checkpoints" / f"global_step_{stopped_at}" / "checkpoint.json").is_file()
    assert "stopping with a checkpoint after the step in progress" in said(folder)

    refused = verl("run", *command, cwd=folder)
    assert refused.returncode == 2 and "add --resume" in refused.stderr
    refused = verl("run", *command, "--resume", "actor_rollout_ref.actor.optim.lr=1", cwd=folder)
    assert refused.returncode == 2 and "actor.optim.lr is 0.00015 in run and 1 now" in refused.stderr

    vocabulary = folder / "data/tiny/model/tokenizer.json"
    files = {path: path.read_bytes() for path in run.glob("*") if path.is_file()}
    vocabulary.rename(folder / "hidden")
    refused = verl("run", "--resume", "run", cwd=folder)
    (folder / "hidden").rename(vocabulary)
    assert refused.returncode == 2 and "[chat-template]" in refused.stderr, refused.stderr
    assert {path: path.read_bytes() for path in run.glob("*") if path.is_file()} == files

    before = left_by(0)
    process = start(folder, *command, "--resume")
    wait_for_step(process, run, stopped_at + 1)
    below = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(below, timeout=20)[1] == [], "a process outlived the command"
    until(lambda: left_by(process.pid) <= before)
    process = start(folder, "--resume", "run")
    assert process.wait(timeout=300) == 0, said(folder)
    assert steps(run) == [*range(1, STEPS + 1)]
    assert attempts(run)[:2] == [("stopped", 1), ("died", stopped_at + 1)]
    [(status, resumed_at)] = attempts(run)[2:]
    assert status == "finished" and resumed_at in (stopped_at + 1, stopped_at + 2)  # if it was saved
    kept = [path.name for path in (run / "checkpoints").glob("global_step_*")]
    assert f"global_step_{STEPS}" in kept and len(kept) <= 2  # the last, and the best by validation

    resumed = kept_responses(run)
    assert len(set(resumed)) == len(resumed), "what was trained or validated again is there twice"
    assert set(resumed) == set(kept_responses(trained.run))
    assert learning_rates(run) == learning_rates(trained.run)
    unbroken = weights(trained.run)
    assert all(torch.equal(weight, unbroken[name]) for name, weight in weights(run).items())


def kept_responses(run: Path) -> list[tuple]:
    """Step, batch and prompt of each line of the responses that a run has kept."""
    lines = [json.loads(line) for line in (run / "responses.jsonl").read_text().splitlines()]
    return [(line["step"], line["batch"], line["prompt"]) for line in lines]


def test_a_dead_process_is_named_within_seconds_and_the_run_restarts_once(folder):
    run = folder / "engine"
    saved = ("trainer.total_training_steps=6", "trainer.save_freq=1")
    process = start(folder, "justrl_tiny", "--out", "engine", "--restarts", "1", *SIZES, *saved, *TRAIN_ALONE)
    wait_for_step(process, run, 1)
    descendant(process, "ray::vLLMHttpServer").children()[-1].kill()
    until(lambda: "restart 1 of 1" in said(folder))
    assert re.search("EngineCore|vLLM's engine", said(folder))
    wait_for_step(process, run, 3)
    worker = descendant(process, "ray::WorkerDict")
    worker.kill()
    assert process.wait(timeout=100) == 1, said(folder)
    [failure] = [line for line in said(folder).splitlines() if line.startswith("training failed:")]
    assert f"WorkerDict (pid {worker.pid}) died" in failure and "engine/train.log" in failure
    assert steps(run)[:3] == [1, 2, 3]
    assert [status for status, _ in attempts(run)] == ["failed", "failed"]
    assert not [path for path in os.listdir("/tmp") if path.startswith(f"justrl-{process.pid}-")]


def test_a_step_that_is_not_finite_ends_the_run_before_its_update(folder):
    """The reward is finite, as the check of it asks; the mean of eight of them is not."""
    (folder / "huge.py").write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):\n"
        "    return 3e38 if len(solution_str) % 2 else -3e38\n"
    )
    reward = "reward.custom_reward_function.path=huge.py"
    process = start(folder, "justrl_tiny", "--out", "huge", reward, *SIZES, *TRAIN_ALONE)
    assert process.wait(timeout=300) == 1, said(folder)
    assert "BadStepError: an advantage, and so a reward, of step 1 is not finite" in said(folder)
    batch = torch.load(folder / "huge" / "bad_step_1.pt", weights_only=False)
    assert batch["step"] == 1 and len(batch["keys"]) == 64
    assert not (folder / "huge" / "checkpoints").exists()
