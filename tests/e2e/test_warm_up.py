"""The supervised warm-up of the SmolLM2 recipe, by veRL's own trainer."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import verl
from composed import load
from safetensors.torch import load_file

from justrl_recipe.config import Request
from justrl_recipe.cpu import tiny_model
from justrl_recipe.data import arithmetic

pytestmark = pytest.mark.xdist_group("training")  # one training, Ray or vLLM at a time

ROOT = Path(__file__).parents[2]


def test_the_warm_up_trains_on_a_cpu_too(tmp_path):
    """Two steps of it, by the command in docs/small_scale_ablation.md, on a tiny model of SmolLM2's architecture."""
    spec = load(Request("justrl_tiny")).values["tiny_model"] | {"model_type": "llama", "warmup_steps": 2}
    tiny_model.make(tmp_path / "smollm2", spec, arithmetic.all_problems(), progress=lambda step: None)
    assert verl("data", "words", cwd=tmp_path).returncode == 0
    document = (ROOT / "docs" / "small_scale_ablation.md").read_text()
    [command] = re.findall(r"(?s)export (VERL_PLATFORM=.*?)```", document)
    command = command.strip().replace("python ", f"{sys.executable} ")
    command = f"export {command} trainer.total_training_steps=2 trainer.save_freq=2"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, timeout=400)
    assert result.returncode == 0, result.stderr[-3000:]
    made = tmp_path / "data" / "words" / "warmup" / "global_step_2" / "huggingface"
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "smollm2", made))
    assert before.keys() == after.keys() and any((before[name] != after[name]).any() for name in before)
