"""veRL's own commands read the recipes, and its log format is the one that reports read."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from composed import load
from omegaconf import OmegaConf

from justrl_recipe.config import Request
from justrl_recipe.report import logs

ROOT = Path(__file__).parents[2]


def test_the_warm_up_is_a_config_of_verls_supervised_trainer_and_makes_the_recipes_model(tmp_path):
    command = [sys.executable, "-m", "verl.trainer.sft_trainer", "--config-dir", str(ROOT / "examples/smollm2")]
    command += ["--config-name", "warmup", "--cfg", "job", "--resolve"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    warmup = OmegaConf.create(result.stdout)
    assert warmup.data.train_files == "data/words/warmup.parquet" and "hf_model" in warmup.checkpoint.save_contents
    assert warmup.trainer.save_freq == warmup.trainer.total_training_steps
    made = f"{warmup.trainer.default_local_dir}/global_step_{warmup.trainer.total_training_steps}/huggingface"
    assert load(Request("justrl_smollm2")).flat["actor_rollout_ref.model.path"] == made
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", ["justrl_deepseek", "justrl_tiny"])
def test_verls_own_entry_point_composes_the_same_config(recipe, tmp_path):
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "--config-path", "pkg://justrl_recipe.recipes"]
    command += ["--config-name", recipe, "--cfg", "job", "--resolve"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    theirs = OmegaConf.to_container(OmegaConf.create(result.stdout))
    assert json.loads(json.dumps(theirs)) == json.loads(json.dumps(load(Request(recipe)).values))


def test_verl_s_own_console_format_is_read(tmp_path):
    from verl.utils.logger.aggregate_logger import concat_dict_to_str

    metrics = {
        "critic/score/mean": np.float64(-0.5),
        "val-core/AIME24/acc/mean@32": np.float64(1 / 3),
        "a/nan": float("nan"),
        "a/inf": -np.inf,
        "a/int": np.int64(3),
        "a/tiny": 1e-05,
        "a/single": np.float32(0.1),
    }
    log = tmp_path / "train.log"
    log.write_text(concat_dict_to_str(metrics, step=7) + "\n")
    read = logs.read(log)
    assert read.keys() == metrics.keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(read[name].values, [float(value)], rtol=1e-6)
        assert read[name].steps == [7]
