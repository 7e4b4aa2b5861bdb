"""What a run folder's manifest.json and config.yaml say; they may have been edited, or be of another version."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from justrl_recipe import files
from justrl_recipe.errors import UserError
from justrl_recipe.run.manifest import RUNNING, outcome

Manifest = dict[str, Any]
REQUIRED = ("recipe", "ablations", "overrides", "scaled", "deviations", "is_justrl", "ended")  # of a manifest
ALONE = "remove it to report the metrics alone"
LARGEST = 10**9  # of a size in a config


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_changes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("key"), str) and {"recipe", "yours"} <= one.keys()
        for one in value
    )


IS_USABLE: dict[str, Callable[[Any], bool]] = {  # what the report reads of a manifest
    "recipe": lambda value: isinstance(value, str),
    "ablations": _is_texts,
    "overrides": _is_texts,
    "scaled": _is_changes,
    "deviations": _is_changes,
    "attempts": lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
    "versions": lambda value: isinstance(value, dict),
    "reward": lambda value: value is None or isinstance(value, dict),
    "pid": lambda value: type(value) is int and 0 < value < 1 << 31,
    "pid_started": lambda value: isinstance(value, int | float),
}


def read_manifest(file: Path) -> Manifest | None:
    """The manifest of a run, None where the file does not exist; raises UserError where it is broken."""
    if not os.path.lexists(file):
        return None
    try:
        manifest = files.read_json_object(file)
    except files.Unreadable as error:
        raise UserError(f"{error}: {ALONE}") from error
    if missing := [key for key in REQUIRED if key not in manifest]:
        raise UserError(f"{file} does not say {', '.join(missing)}: {ALONE}")
    if wrong := [key for key, usable in IS_USABLE.items() if key in manifest and not usable(manifest[key])]:
        raise UserError(f"{file} has no usable {', '.join(wrong)}: {ALONE}")
    return manifest


def status(manifest: Manifest) -> str:
    """The status of a run; manifests of earlier versions may only say when it ended."""
    written = RUNNING if manifest["ended"] is None else "ended"
    return outcome({"status": written, **manifest})


def attempts(manifest: Manifest) -> list[tuple[str, Any, Any]]:
    """How each attempt of a resumed run ended, its first step and the last that it logged; none of another run."""
    earlier = manifest.get("attempts")
    all_of_them = [*earlier, {**manifest, "status": status(manifest)}] if earlier else []
    return [(str(one.get("status")), one.get("first_step"), one.get("last_step")) for one in all_of_them]


class Size(NamedTuple):
    """What only the config says: the longest response in tokens, the number of GPUs, model and steps."""

    limit: int
    gpus: int
    model: str | None
    steps: int | None


def read_size(file: Path) -> Size | None:
    """From the resolved config of a run, None where the file does not exist; raises UserError where it is broken."""
    if not os.path.lexists(file):
        return None
    try:
        config = files.read_yaml(file)
        trainer, model = config["trainer"], config.get("actor_rollout_ref", {}).get("model", {}).get("path")
        steps = trainer.get("total_training_steps")
        sizes = [trainer["nnodes"], trainer["n_gpus_per_node"], config["data"]["max_response_length"]]
        if not all(type(size) is int and 0 < size < LARGEST for size in sizes) or not isinstance(steps, int | None):
            raise ValueError("sizes that are not numbers")
        return Size(sizes[2], sizes[0] * sizes[1], str(model) if model else None, steps)
    except files.Unreadable as error:
        raise UserError(f"{error}: {ALONE}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not a resolved config: {ALONE}") from error
