"""The supervised warm-up of the SmolLM2 recipe, by veRL's own trainer."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from composed import load
from safetensors.torch import load_file

from justrl_recipe.config import Request
from justrl_recipe.cpu import tiny_data, tiny_model

pytestmark = pytest.mark.xdist_group("training")  # one training at a time

ROOT = Path(__file__).parents[2]


def test_the_warm_up_trains_on_a_cpu_too(tmp_path):
    """Two steps of it, by the command in examples/smollm2/README.md, on a tiny model of SmolLM2's architecture."""
    spec = load(Request("justrl_tiny")).values["tiny_model"] | {"model_type": "llama", "warmup_steps": 2}
    tiny_model.make(tmp_path / "smollm2", spec, tiny_data.all_problems(), progress=lambda step: None)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    subprocess.run([sys.executable, "examples/smollm2/make_data.py"], cwd=tmp_path, check=True)
    document = (ROOT / "examples" / "smollm2" / "README.md").read_text()
    [command] = re.findall(r"(?s)export (VERL_PLATFORM=.*?)```", document)
    command = command.strip().replace("python ", f"{sys.executable} ")
    command = f"export {command} trainer.total_training_steps=2 trainer.save_freq=2"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, timeout=400)
    assert result.returncode == 0, result.stderr[-3000:]
    made = tmp_path / "data" / "words" / "warmup" / "global_step_2" / "huggingface"
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "smollm2", made))
    assert before.keys() == after.keys() and any((before[name] != after[name]).any() for name in before)
