"""From what a user calls a model (a folder, a run, a veRL checkpoint, a name on the hub) to a Hugging Face folder."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.data import hub
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import lora, trained, untrusted
from justrl_recipe.evaluation.trained import Template
from justrl_recipe.run.log import errors
from justrl_recipe.terminal import warn

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
MERGED = "merged"
LORA_META = "lora_train_meta.json"  # which veRL saves beside the shards of a model with an adapter
HUGGINGFACE = "huggingface"  # where veRL's trainers save a model for others, in the folder of its step
STEP = re.compile(r"global_step_(\d+)")
EARLIER = "restore it, or give another global_step_N of its run"
MOST_RANKS = 100_000
KEPT = 0.9  # of an adapter's change in bfloat16; less is said


@dataclass(frozen=True)
class Checkpoint:
    """A model that vLLM can load.

    Attributes:
        name: what it is called in results and paths.
        template: how its prompts were made in training, where a run says it.
        run: what its run says of it, for the results.
        trust: run the Python code that it brings.
    """

    folder: Path
    name: str
    template: Template = field(default_factory=Template)
    run: Mapping[str, Any] | None = None
    trust: bool = False

    def fingerprint(self) -> str:
        """A hash of the weights and the tokenizer: whether two evaluations are of the same model."""
        digest = hashlib.sha256()
        for file in sorted(self.folder.iterdir()):
            if file.suffix in (".safetensors", ".bin", ".json", ".model", ".jinja", ".txt", ".py"):
                digest.update(f"{file.name} {files.sha256(file)}\n".encode())
        return digest.hexdigest()


def find(model: str, trust: bool = False) -> Checkpoint:
    """The checkpoint that `model` names: a path where there is one, else a model on the Hugging Face hub.

    A run folder stands for its last checkpoint. A veRL checkpoint is merged first, beside its shards.

    Args:
        trust: run the code that its pickles and its Python files hold.

    Raises:
        UserError: there is no such model, something of it is missing, or it needs trust.
    """
    path = Path(model)
    if not path.exists():
        return _from_hub(model, trust)
    if not path.is_dir():
        raise UserError(f"{model} is a file: give the model's folder")
    path = path.resolve()
    for inner in (f"actor/{HUGGINGFACE}", "actor", MERGED):  # of a checkpoint, which is then what is meant
        if path.match(f"global_step_*/{inner}"):
            path = path.parents[inner.count("/")]
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return _whole(Checkpoint(path, path.parent.name if path.name == HUGGINGFACE else path.name, trust=trust))
    run = path.parent.parent
    if not _is_checkpoint(path) and (folder := trained.checkpoints(path)):
        path, run = _last_step(folder), path
    if _is_checkpoint(path):
        return _of_run(path, run, trust)
    raise UserError(f"{model} is no model folder (no config.json), no run folder and no veRL checkpoint (no actor/)")


def _of_run(checkpoint: Path, run: Path, trust: bool) -> Checkpoint:
    """A veRL checkpoint, with what its run's folder says of it."""
    name = f"{run.name}-{checkpoint.name}" if run.name else checkpoint.name
    about, template = None, trained.template(run)  # before the merger, which takes long
    if STEP.fullmatch(checkpoint.name):
        step, steps = int(checkpoint.name.rpartition("_")[2]), trained.steps(run)
        if steps and step < steps:
            warn(f"{run} was to train {steps:,} steps: step {step:,} is evaluated")
        about = trained.about(run, step)
    folder = merged(checkpoint, trained.require_plain_lora(run), trust)
    if adapter := lora.record(folder):
        if adapter["kept_in_bfloat16"] < KEPT:
            share = f"{adapter['kept_in_bfloat16']:.0%} of what the LoRA adapter of {checkpoint.name} changes"
            warn(f"bfloat16, which vLLM uses on a GPU, keeps {share}")
        about = {**about, "lora": adapter} if about else about
    return _whole(Checkpoint(folder, name, template, about, trust))


def _is_checkpoint(folder: Path) -> bool:
    """Whether veRL saved a model here; its shards may be removed once they are merged."""
    return (folder / "actor").is_dir() or (folder / MERGED).is_dir()


def _last_step(checkpoints: Path) -> Path:
    steps = [folder for folder in checkpoints.iterdir() if STEP.fullmatch(folder.name) and _is_checkpoint(folder)]
    if not steps:
        raise UserError(f"{checkpoints} holds no checkpoint: trainer.save_freq says when one is written")
    return max(steps, key=lambda folder: int(folder.name.rpartition("_")[2]))


def _whole(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, once its weights and its tokenizer are there; transformers makes up a missing tokenizer."""
    folder = checkpoint.folder
    if (folder / "adapter_config.json").is_file() or (folder / lora.ADAPTER).is_dir():
        raise UserError(f"{folder} holds a LoRA adapter that is not merged: give the run that trained it")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise UserError(f"{folder}: no weights (*.safetensors)")
    if missing := _missing_weights(folder):
        raise UserError(f"{folder}: {missing} is missing, which its index names: copy the folder again")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{folder}: no tokenizer (none of {', '.join(TOKENIZER_FILES)})")
    untrusted.require_tensors(folder)
    return checkpoint


def _missing_weights(folder: Path) -> str | None:
    """The first weight file that the folder's index names and the folder lacks."""
    for index in sorted(folder.glob("*.index.json")):
        try:
            named = set(files.read_json_object(index)["weight_map"].values())
            missing = sorted(name for name in named if not os.path.isfile(folder / name))
        except (files.Unreadable, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index} is broken ({error}): copy the folder again") from error
        if missing:
            return missing[0]
    return None


def merged(checkpoint: Path, with_adapter: bool, trust: bool) -> Path:
    """The Hugging Face folder of a veRL checkpoint (global_step_N), made by veRL's merger where it is not there yet.

    It is there where the run's `checkpoint.save_contents` has `hf_model`, but for a run with LoRA, whose saved model
    has the names of its wrapped layers: its adapter is folded into the merged weights. The merger stores bfloat16.

    Args:
        with_adapter: the run's config says that it trained a LoRA adapter.
        trust: run the code that its shards and its model hold.

    Raises:
        UserError: shards are missing, or the merger failed; with its error.
    """
    actor, target = checkpoint / "actor", checkpoint / MERGED
    with_adapter = with_adapter or (actor / LORA_META).is_file()
    if not with_adapter and any((actor / HUGGINGFACE).glob("*.safetensors")):
        return actor / HUGGINGFACE
    shards = sorted(actor.glob("model_world_size_*_rank_*.pt"))
    if _is_current(target, shards):
        return target
    _require_shards(checkpoint, shards)
    warn(f"merging {checkpoint.name} into {target} (first use)")
    with tempfile.TemporaryDirectory(prefix=".merged-", dir=checkpoint) as scratch:
        made = Path(scratch, MERGED)
        _merge(checkpoint, made, Path(scratch, "log"), trust)
        if (made / lora.ADAPTER).is_dir():
            lora.fold(made, checkpoint)
        elif with_adapter:
            raise UserError(f"{checkpoint} was trained with LoRA, and its adapter was not found in its shards")
        if target.is_dir() and not _is_current(target, shards):
            target.rename(Path(scratch, "stale"))
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():  # else another evaluation has been faster
                raise
    return target


def _is_current(target: Path, shards: Sequence[Path]) -> bool:
    """Whether a merged folder is there, of these shards (which may be removed once they are merged) and whole."""
    if not target.is_dir() or (target / lora.ADAPTER).is_dir():
        return False
    return target.stat().st_mtime >= max((shard.stat().st_mtime for shard in shards), default=0)


def _require_shards(checkpoint: Path, shards: Sequence[Path]) -> None:
    """Check that every rank's weights are there; veRL writes fsdp_config.json after them.

    Raises:
        UserError: some are missing, or the model is quantised, whose weights the merger would not write as they were.
    """
    actor = checkpoint / "actor"
    if not shards:
        raise UserError(
            f"{checkpoint} holds no weights of FSDP (actor/model_*.pt): save_contents of its run has no `model`, "
            "or another strategy trained it"
        )
    try:
        size = files.read_json_object(actor / "fsdp_config.json")["world_size"]
        config = files.read_json_object(actor / HUGGINGFACE / "config.json")
        if type(size) is not int or not 0 < size <= MOST_RANKS:
            raise TypeError("world_size is no number of ranks")
    except (files.Unreadable, KeyError, TypeError) as error:
        raise UserError(f"{checkpoint} was not saved whole (fsdp_config.json, huggingface/): {EARLIER}") from error
    ranks = [actor / f"model_world_size_{size}_rank_{rank}.pt" for rank in range(size)]
    if missing := [file.name for file in ranks if not file.is_file()]:
        raise UserError(f"{checkpoint} lacks {len(missing)} of {size} shards ({missing[0]}): {EARLIER}")
    if "quantization_config" in config:
        raise UserError(f"{checkpoint} is of a quantised model, which veRL's merger cannot write")


def _merge(checkpoint: Path, target: Path, log: Path, trust: bool) -> None:
    """Run veRL's merger in a process of its own.

    Raises:
        UserError: it failed, with its error; or the checkpoint holds code that is not trusted.
    """
    folders = ["--local_dir", str(checkpoint / "actor"), "--target_dir", str(target)]
    command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp", *folders]
    env = None if trust else untrusted.environment()
    with log.open("wb") as output:
        streams: Any = {"stdout": output, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        done = subprocess.run([*command, *["--trust-remote-code"] * trust], env=env, **streams)
    if done.returncode != 0:
        found = errors(log) or [f"exit code {done.returncode}"]
        if not trust and (code := untrusted.refused(log)):
            raise UserError(f"{checkpoint} brings {code}: {untrusted.FIX}")
        raise UserError(f"cannot merge {checkpoint}: {found[-1]}")


def _from_hub(name: str, trust: bool) -> Checkpoint:
    hub.require_name(name)
    from huggingface_hub import snapshot_download

    with hub.reaching(name, "give a local folder, or fix the name"):
        folder = snapshot_download(name, allow_patterns=HUB_FILES + ["*.py"] * trust)
    return _whole(Checkpoint(Path(folder), name.rpartition("/")[2], trust=trust))
