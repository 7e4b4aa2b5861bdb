"""The model: whether it is there, is one that the recipe's path runs, and fits the config. Runs no code of it."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from justrl_recipe import files, hub
from justrl_recipe.checks import checkpoints, combinations
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.errors import UserError
from justrl_recipe.planning import model_shape
from justrl_recipe.planning.memory import FUSED

MODEL = "actor_rollout_ref.model.path"
TRUST = "actor_rollout_ref.model.trust_remote_code"
ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"
# What an attention leaves out of a model; sdpa without an error in transformers 5.9 (integrations/sdpa_attention.py).
MISSING: dict[str, set[str]] = {
    **{name: {"sliding window", "soft cap", "attention sinks"} for name in combinations.PACKED},
    "sdpa": {"soft cap", "attention sinks"},
    "eager": set(),
}
TRANSFORMERS_TABLES = ("transformers", "models/auto/auto_mappings.py", "models/auto/configuration_auto.py")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
NO_LIGER = f"set {combinations.LIGER}=false, so that `verl plan` counts their memory"
LIGER_TABLES = ("liger_kernel", "transformers/monkey_patch.py")
# What vLLM 0.24.0 has on a CPU (vllm/v1/attention/backends/cpu_attn.py).
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
# Keys of config.json by which a model changes its logits after the last matrix, and the value that changes nothing.
# veRL's fused kernels take only that matrix (verl/models/transformers/dense_common.py).
AFTER_THE_LOGITS = {"final_logit_softcapping": None, "logits_scaling": 1, "logit_scale": 1, "lm_head_multiplier": 1}


def problems(config: Config, base: Config, folder: Path) -> Iterator[Problem]:
    """What is wrong with the model, and what could not be looked at.

    Args:
        folder: where the run will write its checkpoints; it need not be there yet.
    """
    name = config.values["actor_rollout_ref"]["model"]["path"]
    if name is None:
        return
    of_architecture = list(architecture(config, str(name)))
    yield from of_architecture
    try:
        found = model_shape.find(str(name))
    except UserError as error:
        if not any(problem.level == "error" and problem.key == MODEL for problem in of_architecture):
            fix = "give a model's folder; the recipe's head says where its own comes from (verl cat)"
            fix = fix if read(str(name)) is None else "give a model that docs/other_models.md lists"
            yield Problem("model", MODEL, str(error), fix)
        return
    if found is None:
        why = f"{name} is not here, so its context and the disk for its checkpoints were not checked"
        yield Problem("model", MODEL, why, f"download it first (hf download {name}), or give a folder", "unchecked")
        return
    if missing := _missing_weights(str(name)):
        fix = f"download the model again (hf download OWNER/MODEL --local-dir {name})"
        yield Problem("model", MODEL, f"folder {name} has no {missing}", fix)
    yield from combinations.of_model(config, found)
    yield from checkpoints.full_disk(config, base, found, folder)


def _missing_weights(model: str) -> str | None:
    """What a folder lacks of the weights that transformers loads; None where all are there, or it is no folder."""
    if not os.path.isdir(model):
        return None
    for name in WEIGHTS:
        if os.path.isfile(os.path.join(model, name)):
            return None
        shards = (read(model, f"{name}.index.json") or {}).get("weight_map")
        if isinstance(shards, dict) and shards:
            names = sorted(set(map(str, shards.values())))
            return next((shard for shard in names if not os.path.isfile(os.path.join(model, shard))), None)
    return f"weights: neither {' nor '.join(WEIGHTS)}, nor an index of their parts"


def architecture(config: Config, model: str) -> Iterator[Problem]:
    """What of a model would stop a run, or be ignored silently."""
    yield from _code_of_the_tokenizer(config, model)
    found = read(model)
    if found is None:
        return
    for why, fix in _beyond_verl(config, model, found):
        yield Problem("architecture", MODEL, why, fix)
    used, attention = _attention_features(found), str(config.flat.get(ATTENTION))
    if missing := [feature for feature in used if feature in MISSING.get(attention, ())]:
        kind = found.get("model_type")
        why = f"{attention} attention does not implement {missing[0]}, which model_type {kind} uses"
        other = next(name for name in ("sdpa", "eager") if MISSING[name].isdisjoint(used))
        fix = f"set {ATTENTION}={other} and actor_rollout_ref.model.use_remove_padding=false"
        yield Problem("architecture", ATTENTION, why, fix)
    if config.flat.get(combinations.LIGER) and _in_tables(LIGER_TABLES, found.get("model_type")) is False:
        why = f"Liger has no kernels for model_type {found.get('model_type')!r}, so transformers' own run"
        yield Problem("kernel", combinations.LIGER, why, NO_LIGER, "warning")
    changes = [key for key, same in AFTER_THE_LOGITS.items() if found.get(key) not in (None, same)]
    if config.flat.get(FUSED) and changes:
        why = f"veRL's fused kernels leave out {changes[0]}={found[changes[0]]} of {model}"
        yield Problem("architecture", FUSED, why, f"set {FUSED}=false")


def _beyond_verl(config: Config, model: str, found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Why veRL's FSDP engine and vLLM do not run a model, and what to do."""
    kind = str(found.get("model_type") or "")
    architectures = found.get("architectures")
    if not kind or not isinstance(architectures, list) or len(architectures) != 1:
        yield f"config.json of {model} does not name one model_type and one of architectures", "add them"
        return
    if "quantization_config" in found:
        yield (
            f"{model} is quantised, and FSDP does not train quantised weights",
            "give the model in bfloat16 or float32",
        )
    if "vision_config" in found or "audio_config" in found:
        yield f"{model} is multimodal ({kind}), and the recipe's path is for text", "give a text model"
    if found.get("is_encoder_decoder"):
        yield f"{model} is an encoder-decoder ({kind}), and veRL trains decoders", "give a decoder"
    if _in_tables(TRANSFORMERS_TABLES, kind) is False:
        if "auto_map" not in found:
            yield f"transformers does not know model_type {kind!r}", "give another model"
        elif not config.flat[TRUST]:
            fix = f"set {TRUST}=true if you trust it"
            yield f"{model} needs its own code, which is not run", fix
    size = _head_size(found)
    if config.values["trainer"]["device"] == "cpu" and size and size not in CPU_HEAD_SIZES:
        why = f"{model} has heads of {size} features, and vLLM on a CPU takes {', '.join(map(str, CPU_HEAD_SIZES))}"
        yield why, "give another model, or run it on a GPU"


def _code_of_the_tokenizer(config: Config, model: str) -> Iterator[Problem]:
    """Code that runs without trust: veRL 0.9.1's reward workers load the tokenizer, and the model's config with it,
    with `trust_remote_code=True`, whatever the config says (verl/experimental/reward_loop/reward_loop.py)."""
    if config.flat[TRUST]:
        return
    folder = str(config.flat.get("actor_rollout_ref.model.tokenizer_path") or model)
    for file in ("config.json", "tokenizer_config.json"):
        code = (read(folder, file) or {}).get("auto_map")
        if isinstance(code, list) or (isinstance(code, dict) and code.keys() & {"AutoConfig", "AutoTokenizer"}):
            why = f"veRL's reward workers would run the code that auto_map in {folder}/{file} names"
            yield Problem("architecture", TRUST, why, "set it to true if you trust that code, or remove auto_map")
            return


def _head_size(found: Mapping[str, Any]) -> int | None:
    size, width, heads = found.get("head_dim"), found.get("hidden_size"), found.get("num_attention_heads")
    if isinstance(size, int):
        return size
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads > 0 else None


def _in_tables(tables: Sequence[str], kind: object) -> bool | None:
    """Whether an installed package has a model type in its tables; None where it is not installed.

    Args:
        tables: the package, and files in it that hold a line for each model type: importing it takes seconds.
    """
    package, *names = tables
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None  # verl doctor finds what is missing
    files_there = (Path(spec.submodule_search_locations[0], name) for name in names)
    entry = re.compile(rf"""^\s*\(?"{re.escape(str(kind))}"[,:] """, re.MULTILINE)
    return any(entry.search(table.read_text()) for table in files_there if table.is_file())


def _attention_features(found: Mapping[str, Any]) -> list[str]:
    """What a model's attention has beyond causal softmax attention."""
    given = found.get("layer_types")
    layers = given if isinstance(given, list) else []
    slides = "sliding_attention" in layers if layers else bool(found.get("use_sliding_window", True))
    features = {
        "sliding window": found.get("sliding_window") and slides,
        "soft cap": found.get("attn_logit_softcapping"),
        "attention sinks": found.get("model_type") == "gpt_oss" or found.get("attention_sinks"),
    }
    return [name for name, used in features.items() if used]


def read(model: str, name: str = "config.json") -> dict[str, Any] | None:
    """A JSON file of a model; None where it cannot be read."""
    file = local_file(model, name)
    try:
        return files.read_json_object(file) if file is not None else None
    except files.Unreadable:
        return None


def local_file(model: str, name: str) -> Path | None:
    """A file of a model's folder, or of a model that the hub's cache holds."""
    return Path(model, name) if os.path.isdir(model) else hub.cached(model, name)
