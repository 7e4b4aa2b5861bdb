"""Folds a LoRA adapter into its base weights.

veRL 0.9.1's merger writes the base weights to FOLDER and the adapter to FOLDER/lora_adapter
(verl/model_merger/base_model_merger.py). vLLM would load the base weights alone.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from justrl_recipe import files
from justrl_recipe.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER, RECORD = "lora_adapter", "lora_merge.json"
# base_model.model.model.layers.0.mlp.up_proj.lora_A.weight; of an embedding `lora_embedding_A.default`
NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])\.(?:weight|default)"
)


def fold(folder: Path, checkpoint: Path) -> None:
    """Replace each weight that the adapter changes by W + (alpha / r) B A in float32, and remove the adapter.

    In float32, since bfloat16 takes away the part of an update that is smaller than its step at W; RECORD says what
    share bfloat16 would keep.

    Args:
        checkpoint: what it is merged from, for error messages.

    Raises:
        UserError: the adapter's scale is not known, or a weight of it cannot be added to one of the model.
    """
    from safetensors.torch import load_file, save_file

    adapter = folder / ADAPTER
    alpha = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["lora_alpha"]
    if not alpha:
        raise UserError(f"{checkpoint}: no lora_alpha in lora_train_meta.json, so the adapter's scale is not known")
    parts = _by_weight(load_file(adapter / "adapter_model.safetensors"))
    tied = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("tie_word_embeddings")
    if tied and (embeddings := [name for name, part in parts.items() if part.get("embedding")]):
        raise UserError(f"cannot merge the adapter: {embeddings[0]} is also the model's output layer")
    kept = total = 0.0
    for file in sorted(folder.glob("*.safetensors")):
        weights = load_file(file)
        for name in weights.keys() & parts.keys():
            base = weights[name].float()
            update = _update(name, parts.pop(name), base, alpha)
            in_bfloat16 = (base + update).bfloat16().float() - base
            kept += float((in_bfloat16 * update).sum())
            total += float(update.square().sum())
            weights[name] = base + update
        save_file(weights, file, metadata={"format": "pt"})
    if parts:
        raise UserError(f"cannot merge the adapter: the model has no weight {min(parts)}")
    record = {"lora_alpha": alpha, "kept_in_bfloat16": kept / total if total else 1.0}
    (folder / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    shutil.rmtree(adapter)


def record(folder: Path) -> dict[str, Any] | None:
    """What was written of the adapter that is folded into a model folder; None for a model without one."""
    file = folder / RECORD
    if not os.path.lexists(file):
        return None
    found = files.read_json_object(file)
    if not isinstance(found.get("kept_in_bfloat16"), int | float):
        raise UserError(f"{file} does not say what bfloat16 keeps: merge the checkpoint again")
    return found


def _by_weight(adapter: "dict[str, Tensor]") -> dict[str, dict[str, Any]]:
    """A and B by the name of the weight that they change."""
    parts: dict[str, dict[str, Any]] = {}
    for name, tensor in adapter.items():
        match = NAME.fullmatch(name)
        if not match:
            raise UserError(f"cannot merge the adapter: {name} is no A or B of plain LoRA")
        part = parts.setdefault(f"{match['module']}.weight", {"embedding": bool(match["embedding"])})
        part[match["side"]] = tensor.float()
    return parts


def _update(name: str, part: dict[str, Any], weight: "Tensor", alpha: float) -> "Tensor":
    """(alpha / r) B A of one weight.

    An embedding's is transposed, as in PEFT (peft/tuners/lora/layer.py).
    """
    if not {"A", "B"} <= part.keys() or any(part[side].ndim != 2 for side in "AB"):
        raise UserError(f"cannot merge the adapter: {name} has no A and B that are matrices")
    a, b = part["A"], part["B"]
    if b.shape[1] != a.shape[0]:
        raise UserError(f"cannot merge the adapter: A and B of {name} have different ranks")
    update = alpha / a.shape[0] * (b @ a)
    update = update.T if part["embedding"] else update
    if update.shape != weight.shape:
        shapes = f"{tuple(weight.shape)}, its update {tuple(update.shape)}"
        raise UserError(f"cannot merge the adapter: {name} is {shapes}")
    return update
