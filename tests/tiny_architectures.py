"""Random models of other architectures than the recipes', too small to know anything, and what veRL's engine makes of
them.

    python tests/tiny_architectures.py FOLDER

prints, for each of `SETTINGS`, how far the log-probs of the actor's engine are from those of transformers' own model,
sequence by sequence, and the gradient of an update; or the error.
"""

import importlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 2048,
}
WINDOW = 16  # tokens; the sequences are longer
GEMMA = {"head_dim": 32, "sliding_window": WINDOW}
# model_type, and what its config has beyond `SIZES`.
KINDS: dict[str, tuple[str, dict]] = {
    "qwen3": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "llama3": ("llama", {"tie_word_embeddings": False, "rope_parameters": LLAMA3_ROPE}),
    "smollm2": ("llama", {"tie_word_embeddings": True}),
    "qwen3_moe": (
        "qwen3_moe",
        {"head_dim": 32, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
    ),
    # With larger weights it repeats its last token: its embedding, which is the output matrix as well, is scaled.
    "gemma3": ("gemma3_text", {**GEMMA, "query_pre_attn_scalar": 32, "initializer_range": 0.05}),
    "gemma2": ("gemma2", {**GEMMA, "attn_logit_softcapping": 0.5}),
}
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "initializer_range": 0.2,  # so that every layer counts
}
VOCABULARY = 256  # of the batch's tokens: every byte is one
MODEL = "actor_rollout_ref.model"
ATTENTION = f"{MODEL}.override_config.attn_implementation"
FUSED = (f"{MODEL}.use_fused_kernels=true", f"{MODEL}.fused_kernel_options.impl_backend=torch")
PADDED = f"{MODEL}.use_remove_padding=false"
# Fused log-probs come last: veRL patches the model's class for them.
SETTINGS: list[tuple[str, tuple[str, ...]]] = [
    *((name, ()) for name in ("qwen3", "llama3", "smollm2", "qwen3_moe", "gemma3")),
    ("gemma3", (f"{ATTENTION}=sdpa", PADDED)),
    ("gemma2", (f"{ATTENTION}=eager", PADDED)),
    ("gemma2", (f"{ATTENTION}=sdpa", PADDED)),
    *((name, FUSED) for name in ("qwen3", "llama3", "smollm2")),
    ("gemma3", (f"{ATTENTION}=sdpa", PADDED, *FUSED)),
]


def make(folder: Path, name: str) -> Path:
    """A model folder with weights and a tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from justrl_recipe.cpu.tiny_model import build_tokenizer

    tokenizer = build_tokenizer(["What is 1 + 1? Please reason step by step: \\boxed{2}"] * 20)
    kind, more = KINDS[name]
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SIZES, **special, **more}, vocab_size=len(tokenizer))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return folder / name


def main(folder: Path) -> None:
    os.environ.update(VERL_PLATFORM="cpu", RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", TORCHDYNAMO_DISABLE="1")
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    import torch

    from justrl_recipe.config import Request, load

    engine = importlib.import_module("engine")

    generator, lengths = torch.Generator().manual_seed(0), (50, 40, 33, 21)
    batch = engine.Batch(
        *(
            [torch.randint(1, VOCABULARY, (size,), generator=generator) for size in sizes]
            for sizes in ((20,) * len(lengths), lengths)
        )
    )
    expected = {name: plain_log_probs(make(folder, name), batch) for name in KINDS}
    for name, overrides in SETTINGS:
        config = load(Request("justrl_tiny", overrides=(f"{MODEL}.path={folder / name}", *overrides))).values
        data = engine.make_batch(batch, slice(None), config)
        try:
            worker = engine.make_worker(config)
            old = engine.log_probs(worker, data.clone(), config)
            ours = (
                old.values() if old.is_nested else torch.cat([row[:n] for row, n in zip(old, lengths, strict=True)])
            )
            update = engine.update(worker, data.clone(), old, config)
            found = {"off": (ours - expected[name]).abs().max().item(), "grad_norm": update["grad_norm"]}
        except (RuntimeError, ValueError) as error:
            found = {"error": str(error)}
        print(json.dumps({"name": name, "overrides": overrides, **found}), flush=True)


def plain_log_probs(model: Path, batch):
    """Of all responses, one after another, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager", dtype=torch.float32)
    found = []
    for prompt, response in zip(batch.prompts, batch.responses, strict=True):
        ids = torch.cat([prompt, response])[None]
        with torch.no_grad():
            logits = plain(input_ids=ids).logits[0, :-1].log_softmax(-1)
        found.append(logits.gather(-1, ids[0, 1:, None])[len(prompt) - 1 :, 0])
    return torch.cat(found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
