"""Models that the recipe's path does not run, by their config.json. Runs no code of theirs."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config

MODEL = "actor_rollout_ref.model.path"
ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"


def problems(config: Config, model: str) -> Iterator[Problem]:
    """What of a model would stop a run, or be left out of it without a word."""
    found = read(model)
    if found is None:
        return
    if "quantization_config" in found:
        why = f"{model} is quantised, and FSDP trains no quantised weights"
        yield Problem("architecture", MODEL, why, "give the model in bfloat16 or float32")
    if "vision_config" in found or "audio_config" in found:
        why = f"{model} is multimodal ({found.get('model_type')}), and the recipe's path is for text"
        yield Problem("architecture", MODEL, why, "give a text model")
    if found.get("is_encoder_decoder"):
        why = f"{model} is an encoder-decoder ({found.get('model_type')}), and veRL trains decoders"
        yield Problem("architecture", MODEL, why, "give a decoder")
    if "auto_map" in found and not config.flat["actor_rollout_ref.model.trust_remote_code"]:
        why = f"{model} brings code of its own, which is not run"
        fix = "set actor_rollout_ref.model.trust_remote_code=true if you trust it"
        yield Problem("architecture", MODEL, why, fix)
    if config.flat.get(ATTENTION) == "packed" and (feature := _beyond_packed(found)):
        why = f"packed attention has no {feature}, which {model} uses"
        fix = f"set {ATTENTION}=sdpa and actor_rollout_ref.model.use_remove_padding=false"
        yield Problem("architecture", ATTENTION, why, fix)


def _beyond_packed(found: Mapping[str, Any]) -> str | None:
    """What of a model's attention verl_hooks/packed_attention.py has not."""
    layers = found.get("layer_types") or []
    slides = "sliding_attention" in layers if layers else bool(found.get("use_sliding_window", True))
    if found.get("sliding_window") and slides:
        return "sliding window"
    if found.get("attn_logit_softcapping"):
        return "soft cap"
    if found.get("model_type") == "gpt_oss" or found.get("attention_sinks"):
        return "attention sinks"
    return None


def read(model: str) -> dict[str, Any] | None:
    """The config.json of a folder, or of a model that the hub's cache holds; None where there is none to read."""
    file: Any = Path(model) / "config.json"
    if not Path(model).is_dir():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            file = try_to_load_from_cache(model, "config.json")
        except HFValidationError:
            return None
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8")) if isinstance(file, str | Path) else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
