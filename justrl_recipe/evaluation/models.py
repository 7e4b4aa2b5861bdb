"""What can be evaluated: a model folder, a run, a veRL checkpoint or a name on the hub, each as a model folder.

Of a run, its folder says where its checkpoints are and how prompts were made in training.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from justrl_recipe import files, hub, masking
from justrl_recipe.checkpoints import step_of
from justrl_recipe.data import parquet
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import checkpoints, untrusted
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.terminal import warn

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
HASHED = (".safetensors", ".bin", ".json", ".model", ".jinja", ".txt", ".py")
KEPT = 0.9  # of a LoRA adapter's update in bfloat16; less is a warning
ROWS = 1_000  # of the training data that are searched for system messages
# Given by veRL itself (verl/utils/dataset/rl_dataset.py).
OWN_ARGUMENTS = ("tokenize", "return_dict", "return_tensors", "add_generation_prompt")
# Fields of PEFT's LoraConfig that change what is computed.
UNUSUAL = ("use_rslora", "use_dora", "alpha_pattern", "modules_to_save", "lora_bias", "fan_in_fan_out")


@dataclass(frozen=True)
class Template:
    """How a prompt becomes tokens, beyond what the tokenizer says.

    Attributes:
        custom: a chat template in place of the tokenizer's (`actor_rollout_ref.model.custom_chat_template`).
        arguments: of the template (`data.apply_chat_template_kwargs`), e.g. `{"enable_thinking": False}`.
        system: the system message before each prompt of the training data.
    """

    custom: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None

    def messages(self, prompt: str) -> list[dict[str, str]]:
        """The conversation that asks `prompt`."""
        before = [{"role": "system", "content": self.system}] if self.system else []
        return [*before, {"role": "user", "content": prompt}]

    def as_dict(self) -> dict[str, Any] | None:
        """For the results; None where the tokenizer's own template is used unchanged."""
        given = asdict(self)
        return given if any(given.values()) else None


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
        return of_checkpoint(path, path.parent.parent, trust)
    if folder := checkpoint_folder(path):
        return of_checkpoint(checkpoints.last(folder), path, trust)
    raise UserError(f"{model} is not a model folder (no config.json), a run folder or a veRL checkpoint (no actor/)")


def of_checkpoint(checkpoint: Path, run: Path, trust: bool) -> Model:
    """A veRL checkpoint, with what its run's folder says of it."""
    name = f"{run.name}-{checkpoint.name}" if run.name else checkpoint.name
    about, template = None, template_of(run)  # before the merger, which takes long
    if (step := step_of(checkpoint)) is not None:
        steps = steps_of(run)
        if steps and step < steps:
            warn(f"{run} was to train {steps:,} steps: step {step:,} is used")
        about = about_run(run, step)
    folder = checkpoints.merged(checkpoint, require_plain_lora(run), trust)
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


# --- what a run's folder says of its checkpoints


def template_of(run: Path) -> Template:
    """The template that a run trained with, by its config.yaml; the tokenizer's where there is none."""
    if not _config(run):
        warn(f"{run} has no config.yaml: prompts are made with the tokenizer's own chat template")
    arguments = _section(run, "data", "apply_chat_template_kwargs")
    given = {name: value for name, value in arguments.items() if name not in OWN_ARGUMENTS}
    custom = _section(run, "actor_rollout_ref", "model").get("custom_chat_template")
    return Template(str(custom) if custom else None, given, _system_message(run))


def checkpoint_folder(run: Path) -> Path | None:
    """Where a run saved its checkpoints: in its folder, or where its config.yaml says; None if `run` is not a run."""
    if RunFolder(run).checkpoints.is_dir():
        return RunFolder(run).checkpoints
    local = _section(run, "trainer").get("default_local_dir")
    return Path(local) if isinstance(local, str) and os.path.isdir(local) else None


def require_plain_lora(run: Path) -> bool:
    """Whether a run trained a LoRA adapter, whose scale is alpha / r then.

    veRL's checkpoints keep only r and alpha of an adapter, and lose what else the adapter that the run started from
    says.

    Raises:
        UserError: the base weights were not saved, or the adapter that the run started from has another scale or
            weights other than an adapter's.
    """
    model = _section(run, "actor_rollout_ref", "model")
    if not model.get("lora_rank"):
        return False
    if _section(run, "actor_rollout_ref", "actor", "checkpoint").get("save_lora_only"):
        raise UserError(f"{run} saved its adapter alone (actor.checkpoint.save_lora_only): there is nothing to merge")
    if start := model.get("lora_adapter_path"):
        file = Path(str(start)) / "adapter_config.json"
        try:
            adapter = files.read_json_object(file)
            unusual = [name for name in UNUSUAL if adapter.get(name)]
            fraction = adapter["lora_alpha"] % 1
        except (files.Unreadable, TypeError, KeyError) as error:
            raise UserError(f"cannot read {file}, which says how the adapter is scaled: restore it") from error
        if unusual or fraction:
            what = ", ".join(unusual) or f"lora_alpha {adapter['lora_alpha']}"
            raise UserError(f"cannot merge the adapter of {run}: {file} has {what}, which veRL's checkpoints lose")
    return True


def about_run(run: Path, step: int) -> dict[str, Any] | None:
    """What a run's manifest says of it, for the results; None without one, `UserError` where it is broken."""
    file = RunFolder(run).manifest
    if not os.path.lexists(file):
        return None
    try:
        manifest = files.read_json_object(file)
        known = {name: manifest[name] for name in ("recipe", "ablations", "is_justrl", "seed")}
    except (files.Unreadable, KeyError) as error:
        raise UserError(f"{file} is broken ({error}): remove it to evaluate without it") from error
    return {**known, "step": step, "steps": steps_of(run)}


def base_of(run: Path) -> str | None:
    """The folder or the name on the hub of the model that a run started from, by its config.yaml."""
    path = _section(run, "actor_rollout_ref", "model").get("path")
    return path if isinstance(path, str) else None


def steps_of(run: Path) -> int | None:
    """How many steps a run was to train, by its config.yaml."""
    steps = _section(run, "trainer").get("total_training_steps")
    return steps if type(steps) is int else None


def _training_file(run: Path) -> Path | None:
    """The first file of the training data: as the manifest has it, with its folder, or as config.yaml names it."""
    named = _section(run, "data").get("train_files") or []
    first = named[0] if isinstance(named, list) and named else named
    about = RunFolder(run).manifest
    try:
        recorded = files.read_json_object(about)["data"]["data.train_files"][0]["path"] if about.is_file() else None
    except (files.Unreadable, LookupError, TypeError):  # of an earlier version, or foreign
        recorded = None
    if isinstance(recorded, str) and Path(recorded).is_file():
        return Path(recorded)
    return Path(first) if isinstance(first, str) else None


def _system_message(run: Path) -> str | None:
    """The system message of the training prompts, by the first of them; None, with a warning, where they differ."""
    data, file = _section(run, "data"), _training_file(run)
    if file is None:
        return None
    try:
        batch = next(parquet.batches(file, [str(data.get("prompt_key", "prompt"))], ROWS))
        prompts = parquet.coded(batch.column(0)).values
    except (UserError, StopIteration, IndexError):
        warn(f"not checked: {file}, so a system message in the training data is not used")
        return None
    found = {_system_message_of(prompt) for prompt in prompts}
    if len(found) > 1:
        warn(f"{file} has several system messages: evaluated without one")
        return None
    return found.pop()


def _system_message_of(prompt: Any) -> str | None:
    messages = prompt if isinstance(prompt, list) else []
    texts = [m.get("content") for m in messages if isinstance(m, dict) and m.get("role") == "system"]
    return texts[0] if texts and isinstance(texts[0], str) else None


def _section(run: Path, *names: str) -> dict[str, Any]:
    """A section of a run's config, empty where there is none; raises `UserError` where it is not a section."""
    found: Any = _config(run)
    for name in names:
        found = found.get(name) or {}
        if not isinstance(found, dict):
            file = RunFolder(run).config
            raise UserError(f"{file} is not a resolved config ({name} is not a section): restore it")
    return found


def _config(run: Path) -> dict[str, Any]:
    file = RunFolder(run).config
    if not os.path.lexists(file):
        return {}
    found = files.read_yaml(file)
    if not isinstance(found, dict):
        raise UserError(f"{file} is not a resolved config: restore it")
    return masking.from_environment({name: section for name, section in found.items() if isinstance(section, dict)})
