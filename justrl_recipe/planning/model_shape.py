"""The shape of a language model, from its config.json: what its memory and its context depend on."""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from justrl_recipe import files, hub
from justrl_recipe.errors import UserError

LARGEST = 10**9  # of a size
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # a layer's matrices
ALL_LINEAR = "all-linear"
KNOWN = Path(__file__).with_name("shapes.yaml")


def is_size(value: float) -> bool:
    """Whether a number can be a size, of a model or of memory: finite, above 0, not absurdly large."""
    return 0 < value <= LARGEST


@dataclass(frozen=True)
class Shape:
    """A decoder with gated MLPs, such as Qwen2 or Llama. Sizes are numbers of features, `vocabulary` of tokens."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    tied: bool
    attention_bias: bool
    context: int
    experts: bool = False  # a mixture of them, which the sizes do not describe

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """From the content of a config.json.

        Raises:
            KeyError, ValueError, TypeError, ArithmeticError: it is not the config of such a model.
        """
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        kind = str(config.get("model_type"))
        shape = cls(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", kind.startswith("gemma"))),  # transformers' defaults
            attention_bias=bool(config.get("attention_bias", kind == "qwen2")),
            context=int(config["max_position_embeddings"]),
            experts="moe" in kind or any(value for key, value in config.items() if "expert" in key or "moe" in key),
        )
        if not all(is_size(value) for value in asdict(shape).values() if type(value) is int):
            raise ValueError("sizes have to be positive numbers")
        return shape

    @property
    def layer_parameters(self) -> int:
        """Of one layer: attention, MLP and its two norms."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        attention = self.hidden * (2 * queries + 2 * keys) + self.attention_bias * (queries + 2 * keys)
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def outer_parameters(self) -> int:
        """Of what stands outside the layers: embedding, output matrix and the last norm."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + self.outer_parameters

    def adapter_parameters(self, rank: int, targets: str | Sequence[str]) -> int:
        """Of LoRA: two thin matrices beside each linear layer, or beside those whose names are listed."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        widths = (queries, keys, keys, queries, *[self.intermediate] * 3)
        sizes = dict(zip(LINEAR, widths, strict=True))
        chosen = sizes if isinstance(targets, str) else [name for name in sizes if name in targets]
        return rank * self.layers * sum(self.hidden + sizes[name] for name in chosen)

    @property
    def kv_elements(self) -> int:
        """Keys and values that one token leaves in the cache."""
        return 2 * self.layers * self.kv_heads * self.head_size


def of_recipe(values: Mapping[str, Any]) -> Shape | None:
    """The shape of the model that a resolved config names: as `find`, and the tiny model also before it is made."""
    model = str(values["actor_rollout_ref"]["model"]["path"])
    if "tiny_model" in values and not os.path.isdir(model):  # its tokenizer will have at most 512 tokens
        return Shape.of({**values["tiny_model"], "vocab_size": 512, "max_position_embeddings": 8192})
    return find(model)


def required(values: Mapping[str, Any]) -> Shape:
    """As `of_recipe`, where its memory is estimated.

    Raises:
        UserError: also of a model that was not downloaded yet, and of what the estimates do not describe.
    """
    found, asked = of_recipe(values), values["actor_rollout_ref"]["model"]
    model, targets = asked["path"], asked["target_modules"]
    if found is None:
        raise UserError(f"{model} is not here: download it first (hf download {model} config.json), or give a folder")
    if found.experts:
        raise UserError(f"{model} is a mixture of experts, whose memory is not estimated: give a dense model")
    counted = targets == ALL_LINEAR or (isinstance(targets, list) and targets and set(targets) <= set(LINEAR))
    if asked["lora_rank"] and not counted:
        why = f"actor_rollout_ref.model.target_modules={targets} of LoRA is not counted"
        raise UserError(f"{why}: give {ALL_LINEAR}, or a list of {', '.join(LINEAR)}")
    return found


def find(model: str) -> Shape | None:
    """The shape of a model folder, of a model that the recipes name, or of one that the hub's cache holds.

    Returns None for a model on the hub that was not downloaded yet.

    Raises:
        UserError: a folder without a config.json that can be read, or neither a folder nor a name on the hub.
    """
    if os.path.isdir(model):
        return _read(Path(model) / "config.json")
    if model in _known():
        return Shape.of(_known()[model])
    hub.require_name(model)
    cached = hub.cached(model, "config.json")
    return _read(cached) if cached else None


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(KNOWN.read_text())


def _read(file: Path) -> Shape:
    config = files.read_json_object(file)
    try:
        return Shape.of(config)
    except KeyError as error:
        named = config.get("architectures")
        kind = str(named[0] if isinstance(named, list) and named else config.get("model_type"))[:60]
        supported = "supported are decoders such as Llama, Qwen2, Qwen3 and the text models of Gemma"
        raise UserError(f"{file}: architecture {kind} has no {error.args[0]}: {supported}") from error
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{file} is not the config.json of a decoder: {type(error).__name__}: {error}") from error
