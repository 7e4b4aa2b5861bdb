"""veRL's checkpoints: finds them, and merges shards and LoRA adapter into a folder in Hugging Face's format.

veRL 0.9.1's merger writes the base weights to FOLDER and the adapter to FOLDER/lora_adapter
(verl/model_merger/base_model_merger.py). vLLM would load the base weights alone, so the adapter is added to them.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from justrl_recipe import files, processes
from justrl_recipe.checkpoints import MARKER, saved
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import untrusted
from justrl_recipe.terminal import warn

if TYPE_CHECKING:
    from torch import Tensor

MERGED = "merged"
HUGGINGFACE = "huggingface"  # where veRL's trainers save a model for others, in the folder of its step
ADAPTER = "lora_adapter"
LORA_META = "lora_train_meta.json"  # which veRL saves beside the shards of a model with an adapter
LORA_RECORD = "lora_merge.json"
EARLIER = "restore it, or give another global_step_N of its run"
MOST_RANKS = 100_000
# base_model.model.model.layers.0.mlp.up_proj.lora_A.weight; of an embedding `lora_embedding_A.default`
LORA_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])\.(?:weight|default)"
)


def containing(path: Path) -> Path:
    """The checkpoint (global_step_N) of which `path` is a folder; else `path`."""
    for inner in (f"actor/{HUGGINGFACE}", "actor", MERGED):
        if path.match(f"global_step_*/{inner}"):
            return path.parents[inner.count("/")]
    return path


def is_checkpoint(folder: Path) -> bool:
    """Whether veRL saved a model here; its shards may be removed once they are merged."""
    return (folder / "actor").is_dir() or (folder / MERGED).is_dir()


def last(folder: Path) -> Path:
    """The checkpoint of the last step in a folder; of those that a run of this package saved, the last whole one."""
    found = [path for path in saved(folder) if is_checkpoint(path)]
    if not found:
        raise UserError(f"{folder} holds no checkpoint: trainer.save_freq says when one is written")
    chosen = next((path for path in found if (path / MARKER).is_file()), found[0])
    for later in found[: found.index(chosen)]:
        warn(f"{later} is passed over: it was not saved to its end")
    return chosen


def merged(checkpoint: Path, with_adapter: bool, trust: bool) -> Path:
    """The Hugging Face folder of a veRL checkpoint, made by veRL's merger where it is not there yet.

    It is there where the run's `checkpoint.save_contents` has `hf_model`, except for a run with LoRA, whose saved
    model has the names of its wrapped layers. The merger stores bfloat16.

    Args:
        with_adapter: the run's config says that it trained a LoRA adapter.
        trust: run the code that its shards and its model hold.

    Raises:
        UserError: shards are missing, or the merger failed; with its error.
    """
    actor, target = checkpoint / "actor", checkpoint / MERGED
    with_adapter = with_adapter or has_adapter(checkpoint)
    if not with_adapter and any((actor / HUGGINGFACE).glob("*.safetensors")):
        return actor / HUGGINGFACE
    shards = _shards(checkpoint)
    if _is_current(target, shards):
        return target
    warn(f"merging {checkpoint.name} into {target} (first use)")
    with unfolded(checkpoint, with_adapter, trust) as made:
        if (made / ADAPTER).is_dir():
            fold_adapter(made, checkpoint)
        if target.is_dir() and not _is_current(target, shards):
            target.rename(made.with_name("stale"))
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another evaluation has been faster
                raise
    return target


@contextmanager
def unfolded(checkpoint: Path, with_adapter: bool, trust: bool) -> Iterator[Path]:
    """What veRL's merger makes of a checkpoint, in a scratch folder of it: the model, and in `ADAPTER` its adapter.

    Raises:
        UserError: as `merged`.
    """
    _require_shards(checkpoint, _shards(checkpoint))
    try:
        folder = tempfile.TemporaryDirectory(prefix=".merged-", dir=checkpoint)
    except OSError as error:
        why = f"{checkpoint} cannot be written, and its weights are merged in it: {error.strerror}"
        raise UserError(f"{why}: give a copy of the run") from error
    with folder as scratch:
        made = Path(scratch, MERGED)
        _merge(checkpoint, made, Path(scratch, "log"), trust)
        if with_adapter and not (made / ADAPTER).is_dir():
            raise UserError(f"{checkpoint} was trained with LoRA, and its adapter was not found in its shards")
        yield made


def has_adapter(checkpoint: Path) -> bool:
    """Whether veRL saved a LoRA adapter's scale beside the shards."""
    return (checkpoint / "actor" / LORA_META).is_file()


def weights_bytes(checkpoint: Path) -> int:
    """The most that the weights of a checkpoint take in bfloat16, by those that it holds."""
    return sum(file.stat().st_size for file in _shards(checkpoint) or (checkpoint / MERGED).glob("*.safetensors"))


def _shards(checkpoint: Path) -> list[Path]:
    return sorted((checkpoint / "actor").glob("model_world_size_*_rank_*.pt"))


def _is_current(target: Path, shards: Sequence[Path]) -> bool:
    """Whether a complete merged folder of these shards is there."""
    if not target.is_dir() or (target / ADAPTER).is_dir():
        return False
    return target.stat().st_mtime >= max((shard.stat().st_mtime for shard in shards), default=0)


def _require_shards(checkpoint: Path, shards: Sequence[Path]) -> None:
    """Check that every rank's weights are there, and not quantised; veRL writes fsdp_config.json after them."""
    actor = checkpoint / "actor"
    if not shards:
        why = "save_contents of its run has no `model`, or another strategy trained it"
        raise UserError(f"{checkpoint} holds no weights of FSDP (actor/model_*.pt): {why}")
    try:
        size = files.read_json_object(actor / "fsdp_config.json")["world_size"]
        config = files.read_json_object(actor / HUGGINGFACE / "config.json")
        if type(size) is not int or not 0 < size <= MOST_RANKS:
            raise TypeError("world_size is not a number of ranks")
    except (files.Unreadable, KeyError, TypeError) as error:
        raise UserError(f"{checkpoint} was not saved whole (fsdp_config.json, huggingface/): {EARLIER}") from error
    ranks = [actor / f"model_world_size_{size}_rank_{rank}.pt" for rank in range(size)]
    if missing := [file.name for file in ranks if not file.is_file()]:
        raise UserError(f"{checkpoint} lacks {len(missing)} of {size} shards ({missing[0]}): {EARLIER}")
    if "quantization_config" in config:
        raise UserError(f"{checkpoint} is of a quantised model, which veRL's merger cannot write")


def _merge(checkpoint: Path, target: Path, log: Path, trust: bool) -> None:
    """Run veRL's merger in a process of its own; raises `UserError` with its error, or with what needs trust."""
    folders = ["--local_dir", str(checkpoint / "actor"), "--target_dir", str(target)]
    arguments = ["merge", "--backend", "fsdp", *folders, *["--trust-remote-code"] * trust]
    env = None if trust else untrusted.environment()
    with processes.child("verl.model_merger", *arguments, log=log, env=env) as merger:
        merger.wait()
    if merger.returncode != 0:
        if not trust and (code := untrusted.refused(log)):
            raise UserError(f"{checkpoint} brings {code}: {untrusted.FIX}")
        raise UserError(f"cannot merge {checkpoint}: {processes.failure(log, merger.returncode)}")


# --- LoRA


def fold_adapter(folder: Path, checkpoint: Path) -> None:
    """Replace each weight that the adapter changes by W + (alpha / r) B A in float32, and remove the adapter.

    bfloat16 would lose an update smaller than its step at W; LORA_RECORD says what share it would keep.

    Args:
        checkpoint: what it is merged from, for error messages.

    Raises:
        UserError: the adapter's scale is not known, or a weight of it cannot be added to one of the model.
    """
    from safetensors.torch import load_file, save_file

    adapter = folder / ADAPTER
    alpha = files.read_json_object(adapter / "adapter_config.json")["lora_alpha"]
    if not alpha:
        raise UserError(f"{checkpoint}: no lora_alpha in {LORA_META}, so the adapter's scale is not known")
    parts = _by_weight(load_file(adapter / "adapter_model.safetensors"))
    tied = files.read_json_object(folder / "config.json").get("tie_word_embeddings")
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
    (folder / LORA_RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    shutil.rmtree(adapter)


def lora_record(folder: Path) -> dict[str, Any] | None:
    """What `fold_adapter` recorded of the adapter in a model folder; None for a model without one."""
    file = folder / LORA_RECORD
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
        match = LORA_NAME.fullmatch(name)
        if not match:
            raise UserError(f"cannot merge the adapter: {name} is not an A or B of plain LoRA")
        part = parts.setdefault(f"{match['module']}.weight", {"embedding": bool(match["embedding"])})
        part[match["side"]] = tensor.float()
    return parts


def _update(name: str, part: dict[str, Any], weight: "Tensor", alpha: float) -> "Tensor":
    """(alpha / r) B A of one weight; an embedding's is transposed, as in PEFT (peft/tuners/lora/layer.py)."""
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
