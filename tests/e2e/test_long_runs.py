"""A run that is stopped, killed and damaged, and continues: on real veRL, Ray, FSDP and vLLM."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from command import VERL

pytestmark = pytest.mark.xdist_group("training")  # one training, Ray or vLLM at a time

STEPS = 6
SHORT = (
    *("tiny_model.warmup_steps=40", "tiny_data.validation=16", f"trainer.total_training_steps={STEPS}"),
    *("trainer.save_freq=2", "trainer.test_freq=2", "trainer.rollout_data_dir=rollouts", "seed=7"),
)


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


def attempts(run: Path) -> list[tuple]:
    manifest = json.loads((run / "manifest.json").read_text())
    return [(attempt["status"], attempt["first_step"]) for attempt in [*manifest["attempts"], manifest]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("long")


def test_a_run_that_is_stopped_and_killed_ends_as_one_that_was_not(folder):
    run = folder / "run"
    command = ("justrl_tiny", "--out", "run", "--keep", "1", *SHORT)
    process = start(folder, *command)
    wait_for_step(process, run, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75, (folder / "said").read_text()
    stopped_at = steps(run)[-1]
    assert (run / "checkpoints" / f"global_step_{stopped_at}" / "checkpoint.json").is_file()
    assert "saving a checkpoint after this step" in (folder / "said").read_text()

    process = start(folder, *command)
    assert process.wait(timeout=60) == 2 and "add --resume" in (folder / "said").read_text()
    process = start(folder, "justrl_tiny", "--out", "run", "--resume", *SHORT, "actor_rollout_ref.actor.optim.lr=1")
    assert (
        process.wait(timeout=60) == 2
        and "actor.optim.lr is 0.00015 in run and 1 now" in (folder / "said").read_text()
    )

    process = start(folder, *command, "--resume")
    wait_for_step(process, run, stopped_at + 2)
    process.kill()
    process.wait()
    process = start(folder, "--resume", "run")
    assert process.wait(timeout=300) == 0, (folder / "said").read_text()
    assert steps(run) == [*range(1, STEPS + 1)]
    assert [status for status, _ in attempts(run)] == ["stopped", "died", "finished"]
    assert attempts(run)[1] == ("died", stopped_at + 1)
    kept = [path.name for path in (run / "checkpoints").glob("global_step_*")]
    assert f"global_step_{STEPS}" in kept and len(kept) <= 2  # the last, and the best by validation

    prompts = {step: sorted(line["input"] for line in rollouts(folder, step)) for step in range(1, STEPS + 1)}
    (folder / "rollouts").rename(folder / "first")
    process = start(folder, "justrl_tiny", "--out", "unbroken", *SHORT)
    assert process.wait(timeout=300) == 0, (folder / "said").read_text()
    assert prompts == {step: sorted(line["input"] for line in rollouts(folder, step)) for step in prompts}


def rollouts(folder: Path, step: int) -> list[dict]:
    return [json.loads(line) for line in (folder / "rollouts" / f"{step}.jsonl").read_text().splitlines()]


def test_a_dead_engine_is_named_within_seconds_and_the_run_restarts(folder):
    run = folder / "engine"
    process = start(folder, "justrl_tiny", "--out", "engine", "--restarts", "1", *SHORT)
    wait_for_step(process, run, 2)
    descendant(process, "ray::vLLMHttpServer").children()[-1].kill()
    killed = time.monotonic()
    while "restart 1 of 1" not in (folder / "said").read_text():
        assert process.poll() is None and time.monotonic() - killed < 60, (folder / "said").read_text()
        time.sleep(0.2)
    assert re.search("EngineCore|vLLM's engine", (folder / "said").read_text())
    assert process.wait(timeout=300) == 0, (folder / "said").read_text()
    assert steps(run) == [*range(1, STEPS + 1)]
    assert [status for status, _ in attempts(run)] == ["failed", "finished"]
    assert not [path for path in os.listdir("/tmp") if path.startswith(f"justrl-{process.pid}-")]
