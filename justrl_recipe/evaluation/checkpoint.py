"""From what a user calls a model (a folder, a run, a veRL checkpoint, a name on the hub) to a Hugging Face folder."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from justrl_recipe.data import hub, schema
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import lora, trained
from justrl_recipe.evaluation.trained import Template
from justrl_recipe.run.log import errors

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
MERGED = "merged"
LORA_META = "lora_train_meta.json"  # which veRL saves beside the shards of a model with an adapter
HUGGINGFACE = "huggingface"  # where veRL's trainers save a model for others, in the folder of its step
STEP = re.compile(r"global_step_(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A model that vLLM can load.

    Attributes:
        name: what it is called in results and paths.
        template: how its prompts were made in training, where a run says it.
        run: what its run says of it, for the results.
    """

    folder: Path
    name: str
    template: Template = field(default_factory=Template)
    run: Mapping[str, Any] | None = None

    def fingerprint(self) -> str:
        """A hash of the weights and the tokenizer: whether two evaluations are of the same model."""
        digest = hashlib.sha256()
        for file in sorted(self.folder.iterdir()):
            if file.suffix in (".safetensors", ".bin", ".json", ".model", ".jinja", ".txt"):
                digest.update(f"{file.name} {schema.sha256(file)}\n".encode())
        return digest.hexdigest()


def find(model: str) -> Checkpoint:
    """The checkpoint that `model` names: a path where there is one, else a model on the Hugging Face hub.

    A run folder stands for its last checkpoint. A veRL checkpoint is merged first, beside its shards.

    Raises:
        UserError: there is no such model, or something of it is missing.
    """
    path = Path(model)
    if not path.exists():
        return _from_hub(model)
    if not path.is_dir():
        raise UserError(f"{model} is a file: give the model's folder")
    path = path.resolve()
    if path.name == MERGED and STEP.fullmatch(path.parent.name):
        path = path.parent
    if path.name == HUGGINGFACE and STEP.fullmatch(path.parent.parent.name):
        path = path.parent.parent
    if (path / "config.json").is_file():
        return _whole(Checkpoint(path, path.parent.name if path.name == HUGGINGFACE else path.name))
    if (path / "adapter_config.json").is_file():
        raise UserError(f"{model} is an adapter without its base model: give the run or checkpoint that trained it")
    run = path.parent.parent
    if not (path / "actor").is_dir() and (folder := trained.checkpoints(path)):
        path, run = _last_step(folder), path
    if (path / "actor").is_dir():
        name = f"{run.name}-{path.name}" if run.name else path.name
        about = trained.about(run, int(path.name.rpartition("_")[2])) if STEP.fullmatch(path.name) else None
        return _whole(Checkpoint(merged(path), name, trained.template(run), about))
    raise UserError(f"{model} is no model folder (no config.json), no run folder and no veRL checkpoint (no actor/)")


def _last_step(checkpoints: Path) -> Path:
    steps = [
        folder for folder in checkpoints.iterdir() if STEP.fullmatch(folder.name) and (folder / "actor").is_dir()
    ]
    if not steps:
        raise UserError(f"{checkpoints} holds no checkpoint: trainer.save_freq says when one is written")
    return max(steps, key=lambda folder: int(folder.name.rpartition("_")[2]))


def _whole(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, once its weights and its tokenizer are there; transformers makes up a missing tokenizer."""
    folder = checkpoint.folder
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise UserError(f"{folder}: no weights (*.safetensors)")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{folder}: no tokenizer (none of {', '.join(TOKENIZER_FILES)})")
    return checkpoint


def merged(checkpoint: Path) -> Path:
    """The Hugging Face folder of a veRL checkpoint (global_step_N), made by veRL's merger where it is not there yet.

    It is there where the run's `checkpoint.save_contents` has `hf_model`, but for a run with LoRA, whose saved model
    has the names of its wrapped layers: its adapter is folded into the merged weights. The merger stores bfloat16.

    Raises:
        UserError: the merger failed; with its error.
    """
    actor, target = checkpoint / "actor", checkpoint / MERGED
    has_adapter = (actor / LORA_META).is_file()
    if not has_adapter and any((actor / HUGGINGFACE).glob("*.safetensors")):
        return actor / HUGGINGFACE
    shards = sorted(actor.glob("model_world_size_*_rank_*.pt"))
    if not shards:
        raise UserError(f"{checkpoint} holds no weights (actor/model_*.pt): save_contents of its run has no `model`")
    if target.is_dir():
        if target.stat().st_mtime >= max(shard.stat().st_mtime for shard in shards):
            return target
        shutil.rmtree(target)  # of an earlier run of the same step
    print(f"merging {checkpoint.name} into {target} (first use)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=".merged-", dir=checkpoint) as scratch:
        made = Path(scratch, MERGED)
        folders = ["--local_dir", str(actor), "--target_dir", str(made)]
        _run(checkpoint, Path(scratch, "log"), "verl.model_merger", "merge", "--backend", "fsdp", *folders)
        if (made / lora.ADAPTER).is_dir():
            _run(checkpoint, Path(scratch, "log"), "justrl_recipe.evaluation.lora", str(made))
        elif has_adapter:
            raise UserError(f"{checkpoint} was trained with LoRA, and its adapter was not found in its shards")
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():  # else another evaluation has been faster
                raise
    return target


def _run(checkpoint: Path, log: Path, *module: str) -> None:
    """Run a module in a process of its own.

    Raises:
        UserError: it failed; with its error.
    """
    with log.open("wb") as output:
        command = [sys.executable, "-m", *module]
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        found = errors(log) or [f"exit code {done.returncode}"]
        raise UserError(f"cannot merge {checkpoint}: {found[-1]}")


def _from_hub(name: str) -> Checkpoint:
    hub.require_name(name)
    from huggingface_hub import snapshot_download

    with hub.reaching(name, "give a local folder, or mend the name"):
        folder = snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"])
    return _whole(Checkpoint(Path(folder), name.rpartition("/")[2]))
