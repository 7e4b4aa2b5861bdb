"""A run with LoRA, from its training by veRL to its evaluation."""

import json
import subprocess

import pytest
import torch
from command import VERL, verl
from safetensors.torch import load_file

pytestmark = pytest.mark.xdist_group("training")  # one training at a time


def test_a_lora_run_is_evaluated_with_what_it_learned(tmp_path):
    """Trained by veRL, at so high a rate that three steps change the weights by more than bfloat16 rounds."""
    rate, template = "actor_rollout_ref.actor.optim.lr=1e-2", "+data.apply_chat_template_kwargs.enable_thinking=false"
    alone = ("trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=3")
    lora = ("actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora_alpha=32", rate, template)
    model = ("tiny_model.warmup_steps=100", "tiny_model.boxed_share=0.8", "tiny_data.validation=16")
    command = [VERL, "run", "justrl_tiny", "--out", "lora", "trainer.total_training_steps=3", *lora, *model, *alone]
    trained = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    wanted = ("--benchmark", "data/tiny/validation.parquet", "--max-tokens", "24", "--n", "2", "--out")
    done = verl("eval", "lora", *wanted, "lora-eval", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "lora-eval" / "results.json").read_text())
    assert found["run"]["recipe"] == "justrl_tiny" and found["run"]["step"] == 3
    assert found["chat_template"]["arguments"] == {"enable_thinking": False}

    step = tmp_path / "lora" / "checkpoints" / "global_step_3"
    shard = torch.load(step / "actor" / "model_world_size_1_rank_0.pt", map_location="cpu", weights_only=False)
    full = {name.removeprefix("base_model.model."): weight.to_local() for name, weight in shard.items()}
    merged = load_file(step / "merged" / "model.safetensors")
    modules = [name.removesuffix(".lora_B.default.weight") for name in full if name.endswith("lora_B.default.weight")]
    assert len(modules) == 14
    for module in modules:
        before, after = full[f"{module}.base_layer.weight"], merged[f"{module}.weight"]
        update = 32 / 8 * full[f"{module}.lora_B.default.weight"] @ full[f"{module}.lora_A.default.weight"]
        assert update.abs().max() > 1e-3
        torch.testing.assert_close(after, before + update, rtol=1e-2, atol=1e-3)  # from shards in bfloat16
        assert (after - before - update).norm() < 0.1 * update.norm() + 4e-3 * before.norm()
