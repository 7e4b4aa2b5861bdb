"""What a run's folder says of its checkpoints: where they are, and how prompts were made in training."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from justrl_recipe import files, masking
from justrl_recipe.data import parquet
from justrl_recipe.errors import UserError
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.terminal import warn

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


def template(run: Path) -> Template:
    """The template that a run trained with, by its config.yaml; the tokenizer's where there is none."""
    if not _config(run):
        warn(f"{run} has no config.yaml: prompts are made with the tokenizer's own chat template")
    arguments = _section(run, "data", "apply_chat_template_kwargs")
    given = {name: value for name, value in arguments.items() if name not in OWN_ARGUMENTS}
    custom = _section(run, "actor_rollout_ref", "model").get("custom_chat_template")
    return Template(str(custom) if custom else None, given, _system_message(_section(run, "data")))


def checkpoints(run: Path) -> Path | None:
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


def about(run: Path, step: int) -> dict[str, Any] | None:
    """What a run's manifest says of it, for the results; None without one, `UserError` where it is broken."""
    file = RunFolder(run).manifest
    if not os.path.lexists(file):
        return None
    try:
        manifest = files.read_json_object(file)
        known = {name: manifest[name] for name in ("recipe", "ablations", "is_justrl", "seed")}
    except (files.Unreadable, KeyError) as error:
        raise UserError(f"{file} is broken ({error}): remove it to evaluate without it") from error
    return {**known, "step": step, "steps": steps(run)}


def steps(run: Path) -> int | None:
    """How many steps a run was to train, by its config.yaml."""
    steps = _section(run, "trainer").get("total_training_steps")
    return steps if type(steps) is int else None


def _system_message(data: Mapping[str, Any]) -> str | None:
    """The system message of the training prompts, by the first of them; None, with a warning, where they differ."""
    named = data.get("train_files") or []
    first = named[0] if isinstance(named, list) and named else named
    file = Path(first if isinstance(first, str) else "")
    try:
        batch = next(parquet.batches(file, [str(data.get("prompt_key", "prompt"))], ROWS))
        prompts = parquet.coded(batch.column(0)).values
    except (UserError, StopIteration, IndexError):
        if named:
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
