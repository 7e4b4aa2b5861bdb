"""Checkpoints for tests: the files of veRL's, with bytes of no meaning."""

import json
from pathlib import Path

from justrl_recipe import checkpoints


def save(folder: Path, step: int, marked: bool = True) -> Path:
    """A checkpoint with a few files of known bytes."""
    checkpoint = folder / f"global_step_{step}"
    (checkpoint / "actor").mkdir(parents=True)
    (checkpoint / "actor" / "model_world_size_1_rank_0.pt").write_bytes(bytes(range(200)) * step)
    (checkpoint / "actor" / "optim_world_size_1_rank_0.pt").write_bytes(b"optimizer" * 20)
    (checkpoint / "actor" / "fsdp_config.json").write_text('{"world_size": 1}')
    (checkpoint / "data.pt").write_bytes(b"order of the data")
    if marked:
        checkpoints.mark(checkpoint, {"critic/score/mean": 0.25})
    return checkpoint


def save_model(folder: Path, step: int, model, tokenizer, lora: dict | None = None) -> Path:
    """A whole checkpoint of a transformers model as veRL's FSDP engine saves it from one GPU, without its optimizer.

    Args:
        lora: rank and alpha of the adapter that wraps the model.
    """
    import torch

    checkpoint = folder / f"global_step_{step}"
    actor = checkpoint / "actor"
    tokenizer.save_pretrained(actor / "huggingface")
    model.config.architectures = ["Qwen2ForCausalLM"]
    model.config.save_pretrained(actor / "huggingface")
    torch.save(model.state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").write_text('{"world_size": 1}')
    if lora:
        (actor / "lora_train_meta.json").write_text(json.dumps(lora))
    checkpoints.mark(checkpoint, {"critic/score/mean": 0.25})
    return checkpoint
