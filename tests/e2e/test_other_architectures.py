"""A step of each architecture, rollouts to update; tests/contract/test_other_models.py has the engine alone."""

import json
import subprocess

import pytest
from command import VERL
from tiny_architectures import ATTENTION, MODEL, PADDED, make

pytestmark = pytest.mark.xdist_group("training")  # one training at a time


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["qwen3", "llama3", "smollm2", "gemma3"])
def test_an_architecture_trains_a_step_whose_rollouts_agree_with_the_trainer(folder, name):
    model = make(folder, name)
    attention = [f"{ATTENTION}=sdpa", PADDED] if name == "gemma3" else []
    quick = ["tiny_model.warmup_steps=2", "tiny_data.validation=16", "trainer.total_training_steps=1"]
    quick += ["trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=-1"]
    command = [VERL, "run", "justrl_tiny", "--out", f"run_{name}", f"{MODEL}.path={model}", *attention, *quick]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    [step] = [json.loads(line) for line in (folder / f"run_{name}" / "metrics.jsonl").read_text().splitlines()]
    metrics = step["data"]
    assert metrics["actor/entropy"] > 0.5  # else the probabilities say little
    assert metrics["training/rollout_actor_probs_pearson_corr"] > 0.999
    assert metrics["training/rollout_probs_diff_max"] < 1e-3
    assert metrics["training/global_step"] == 1
