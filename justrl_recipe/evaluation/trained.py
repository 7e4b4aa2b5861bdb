"""What a run's folder says of the checkpoints in it: where they are, and how their prompts were made in training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from justrl_recipe.errors import UserError


@dataclass(frozen=True)
class Template:
    """How a prompt becomes tokens, beyond what the tokenizer says.

    Attributes:
        custom: a chat template in place of the tokenizer's (`actor_rollout_ref.model.custom_chat_template`).
        arguments: of the template (`data.apply_chat_template_kwargs`), e.g. `{"enable_thinking": False}`.
    """

    custom: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any] | None:
        """For what is recorded; None where the tokenizer's own template is used as it is."""
        return {"custom": self.custom, "arguments": dict(self.arguments)} if self.custom or self.arguments else None


# What veRL gives by itself (verl/utils/dataset/rl_dataset.py).
OWN_ARGUMENTS = ("tokenize", "return_dict", "return_tensors", "add_generation_prompt")


def template(run: Path) -> Template:
    """The template that a run trained with, by its config.yaml; the tokenizer's where there is none.

    Raises:
        UserError: config.yaml is broken.
    """
    config = _config(run)
    model, data = config.get("actor_rollout_ref", {}).get("model", {}), config.get("data", {})
    arguments = data.get("apply_chat_template_kwargs") or {}
    given = {name: value for name, value in arguments.items() if name not in OWN_ARGUMENTS}
    return Template(model.get("custom_chat_template"), given)


def checkpoints(run: Path) -> Path | None:
    """Where a run saved its checkpoints: in its folder, or where its config.yaml says; None for no run."""
    if (run / "checkpoints").is_dir():
        return run / "checkpoints"
    local = _config(run).get("trainer", {}).get("default_local_dir")
    return Path(local) if local and Path(local).is_dir() else None


def about(run: Path, step: int) -> dict[str, Any] | None:
    """What a run's manifest says of it, for the results; None without one.

    Raises:
        UserError: manifest.json is broken.
    """
    file = run / "manifest.json"
    if not file.is_file():
        return None
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        known = {name: manifest[name] for name in ("recipe", "ablations", "is_justrl", "seed")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is broken ({type(error).__name__}): remove it to evaluate without it") from error
    return {**known, "step": step}


def _config(run: Path) -> dict[str, Any]:
    file = run / "config.yaml"
    if not file.is_file():
        return {}
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return {name: section for name, section in found.items() if isinstance(section, dict)}
    except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{file} is no resolved config ({type(error).__name__}): restore it") from error
