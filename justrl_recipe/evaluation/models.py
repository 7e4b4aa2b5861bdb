"""What can be evaluated: a model folder, a run, a veRL checkpoint or a name on the hub, each as a model folder."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from justrl_recipe import files, hub
from justrl_recipe.checkpoints import step_of
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import checkpoints, training_run, untrusted
from justrl_recipe.evaluation.training_run import Template
from justrl_recipe.terminal import warn

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
HASHED = (".safetensors", ".bin", ".json", ".model", ".jinja", ".txt", ".py")
KEPT = 0.9  # of a LoRA adapter's update in bfloat16; less is a warning


@dataclass(frozen=True)
class Model:
    """A model that vLLM can load.

    Attributes:
        folder: in Hugging Face's format.
        name: in results and paths.
        template: how prompts were made in training, where a run says it.
        run: what its run says of it, for the results.
        trust: run the Python code in its folder.
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
            if file.suffix in HASHED:
                digest.update(f"{file.name} {files.sha256(file)}\n".encode())
        return digest.hexdigest()


def find(model: str, trust: bool = False) -> Model:
    """The model at a path where there is one, else on the Hugging Face hub.

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
    path = checkpoints.containing(path.resolve())
    if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        name = path.parent.name if path.name == checkpoints.HUGGINGFACE else path.name
        return _complete(Model(path, name, trust=trust))
    if checkpoints.is_checkpoint(path):
        return _of_run(path, path.parent.parent, trust)
    if folder := training_run.checkpoints(path):
        return _of_run(checkpoints.last(folder), path, trust)
    raise UserError(f"{model} is not a model folder (no config.json), a run folder or a veRL checkpoint (no actor/)")


def _of_run(checkpoint: Path, run: Path, trust: bool) -> Model:
    """A veRL checkpoint, with what its run's folder says of it."""
    name = f"{run.name}-{checkpoint.name}" if run.name else checkpoint.name
    about, template = None, training_run.template(run)  # before the merger, which takes long
    if (step := step_of(checkpoint)) is not None:
        steps = training_run.steps(run)
        if steps and step < steps:
            warn(f"{run} was to train {steps:,} steps: step {step:,} is evaluated")
        about = training_run.about(run, step)
    folder = checkpoints.merged(checkpoint, training_run.require_plain_lora(run), trust)
    if adapter := checkpoints.lora_record(folder):
        if adapter["kept_in_bfloat16"] < KEPT:
            share = f"{adapter['kept_in_bfloat16']:.0%} of what the LoRA adapter of {checkpoint.name} changes"
            warn(f"bfloat16, which vLLM uses on a GPU, keeps {share}")
        about = {**about, "lora": adapter} if about else about
    return _complete(Model(folder, name, template, about, trust))


def _from_hub(name: str, trust: bool) -> Model:
    hub.require_name(name)
    from huggingface_hub import snapshot_download

    with hub.reaching(name, "give a local folder, or fix the name"):
        folder = snapshot_download(name, allow_patterns=HUB_FILES + ["*.py"] * trust)
    return _complete(Model(Path(folder), name.rpartition("/")[2], trust=trust))


def _complete(model: Model) -> Model:
    """The model, once its weights and its tokenizer are there; transformers makes up a missing tokenizer."""
    folder = model.folder
    if (folder / "adapter_config.json").is_file() or (folder / checkpoints.ADAPTER).is_dir():
        raise UserError(f"{folder} holds a LoRA adapter that is not merged: give the run that trained it")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise UserError(f"{folder}: no weights (*.safetensors)")
    _require_indexed_weights(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{folder}: no tokenizer (none of {', '.join(TOKENIZER_FILES)})")
    untrusted.require_tensors(folder)
    return model


def _require_indexed_weights(folder: Path) -> None:
    """Check that the folder has every file that its index names."""
    for index in sorted(folder.glob("*.index.json")):
        try:
            named = set(files.read_json_object(index)["weight_map"].values())
            missing = sorted(name for name in named if not os.path.isfile(folder / name))
        except (files.Unreadable, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{index} is broken ({error}): copy the folder again") from error
        if missing:
            raise UserError(f"{folder}: {missing[0]} is missing, which its index names: copy the folder again")
