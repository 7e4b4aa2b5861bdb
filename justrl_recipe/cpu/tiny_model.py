"""The tiny model of recipes/justrl_tiny.yaml: built from a seed, warmed up, saved like any checkpoint.

A short supervised warm-up makes it solve the arithmetic problems, and box the answer only part of the time.
So GRPO finds what it needs: a policy that earns the reward sometimes. What it then learns is mostly to box.
"""

import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, Qwen2Tokenizer

from justrl_recipe.cpu.tiny_data import Problem

SPEC_FILE = "tiny_model.json"
END, USER, ASSISTANT = "<|endoftext|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|user|>' if message['role'] == 'user' else '<|assistant|>' }}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "initializer_range",
)
IGNORED = -100  # the label that torch's cross-entropy leaves out


def build_tokenizer(texts: list[str]) -> Qwen2Tokenizer:
    """Qwen2's own tokenizer, trained on `texts`: byte-level BPE, each byte and digit a token, each word of the
    texts one. transformers loads this class for a Qwen2 model whatever the checkpoint says."""
    blank = Qwen2Tokenizer(vocab={character: i for i, character in enumerate(ByteLevel.alphabet())})
    tokenizer = blank.train_new_from_iterator(
        texts, vocab_size=512, new_special_tokens=[USER, ASSISTANT], show_progress=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 8192
    return tokenizer


def build_model(spec: Mapping[str, Any], tokenizer: Qwen2Tokenizer) -> PreTrainedModel:
    """A model of the architecture and size that `spec` names, with random weights from its seed."""
    torch.manual_seed(spec["seed"])
    config = AutoConfig.for_model(
        spec["model_type"],
        **{name: spec[name] for name in SIZES},
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return AutoModelForCausalLM.from_config(config)


def target(problem: Problem, boxed: bool) -> str:
    """The response that the warm-up teaches: the working, then the answer with or without its box."""
    ending = f"\\boxed{{{problem.answer}}}" if boxed else f"Answer: {problem.answer}"
    return f"{problem.working}\n{ending}"


def encode(tokenizer: Qwen2Tokenizer, examples: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of prompts and responses, both (examples, longest sequence); labels of responses alone."""
    sequences = []
    for prompt, response in examples:
        before = tokenizer.encode(f"{USER}{prompt}{ASSISTANT}")
        after = tokenizer.encode(response + END)
        sequences.append((before + after, [IGNORED] * len(before) + after))
    width = max(len(ids) for ids, _ in sequences)
    ids = torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in sequences])
    labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in sequences])
    return ids, labels


def warm_up(
    model: PreTrainedModel,
    tokenizer: Qwen2Tokenizer,
    draw: Callable[[random.Random], list[tuple[str, str]]],
    spec: Mapping[str, Any],
    progress: Callable[[int], None],
) -> None:
    """Supervised steps.

    Args:
        draw: a batch of prompts and responses, by this random generator.
        spec: `seed`, `warmup_steps` and `warmup_lr` are used.
        progress: is called with the number of steps done.
    """
    rng = random.Random(spec["seed"])
    steps, peak = spec["warmup_steps"], spec["warmup_lr"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
    )
    for step in range(steps):
        ids, labels = (part.to(model.device) for part in encode(tokenizer, draw(rng)))
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress(step + 1)


def make(path: Path, spec: Mapping[str, Any], problems: list[Problem], progress: Callable[[int], None]) -> None:
    """Build, warm up and save the model at `path`, whole or not at all; an older one there is replaced.

    Args:
        path: a folder of our own: it is replaced only if it holds a tiny model.
        spec: the `tiny_model` section of the recipe.
        problems: what the warm-up is trained on.

    Raises:
        FileExistsError: `path` holds something else.
    """
    if path.exists() and not (path / SPEC_FILE).is_file():
        raise FileExistsError(f"{path} is in the way and is no tiny model: move it or set tiny_model.path")
    texts = [text for problem in problems for text in (problem.prompt, target(problem, True), target(problem, False))]
    tokenizer = build_tokenizer(texts)
    model = build_model(spec, tokenizer)

    def draw(rng: random.Random) -> list[tuple[str, str]]:
        batch = rng.choices(problems, k=spec["warmup_batch_size"])
        return [(problem.prompt, target(problem, rng.random() < spec["boxed_share"])) for problem in batch]

    warm_up(model, tokenizer, draw, spec, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        (scratch / SPEC_FILE).write_text(json.dumps(dict(spec), indent=2) + "\n")
        shutil.rmtree(path, ignore_errors=True)
        os.replace(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
