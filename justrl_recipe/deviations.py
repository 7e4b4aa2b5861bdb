"""What is fixed: whether a run is JustRL, and if not, which of its keys differ.

A run is JustRL when it has learned with the recipe's values, its numbers in the recipe's precision, its tokens from
the model's own distribution.

A config is compared with a reference, the shipped recipe on the shipped system without overrides. So what a shipped
system file sets is not a deviation (tests show that it changes none of that); on a user's own system, the reference
has the shipped system with the same device. What else differs is a deviation, unless free_keys.yaml lists it:
keys that say where a run happens or how it is watched, and kernels that compute the same in the same precision. A key
that copies a free one is free. So is the folder of a data file: the manifest has the hash of what is in it.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from justrl_recipe import config, files, paths
from justrl_recipe.config import Config, Request
from justrl_recipe.masking import is_secret_name, shown

FREE = yaml.safe_load(Path(__file__).with_name("free_keys.yaml").read_text())
ENGINE = "actor_rollout_ref.rollout.engine_kwargs.vllm"
FREE_KEYS = (*FREE["place"], *FREE["watch"], *FREE["seeds"], *(f"{ENGINE}.{name}" for name in FREE["engine"]))
FIXED_EXPORTS = FREE["fixed_exports"]
ENVIRONMENT = "ray_kwargs.ray_init.runtime_env"

# Sections of this package's embedded default; what they make is named by its path.
EMBEDDED_SECTIONS = ("tiny_model", "tiny_data")
# Sections that veRL does not read: these, and what a system file says of its machine.
OWN_SECTIONS = (*EMBEDDED_SECTIONS, "machine")


@dataclass(frozen=True)
class Deviation:
    """A key whose value is not the recipe's."""

    key: str
    recipe: Any
    yours: Any

    def as_dict(self) -> dict[str, Any]:
        """As it is written and shown, where a secret is masked."""
        return {"key": self.key, "recipe": self.recipe, "yours": shown(tuple(self.key.split(".")), self.yours)}


def is_free(key: str, value: Any) -> bool:
    """Whether a user may give a key this value in a run that is JustRL all the same."""
    if key.startswith(f"{ENVIRONMENT}."):
        section, _, name = key.removeprefix(f"{ENVIRONMENT}.").partition(".")
        return section == "env_vars" and _is_free_variable(name)
    return _matches(key, FREE_KEYS) or value in FREE["values"].get(key, ())


def _is_free_variable(name: str) -> bool:
    return is_secret_name(name) or _matches(name, FREE["variables"])


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def deviations(reference: Config, composed: Config) -> list[Deviation]:
    """Where `composed` differs from `reference` in what changes, or may change, what is learned.

    A key that both take from another one by the same interpolation is not listed beside it. A key that one side lacks
    has the value None there.
    """
    theirs, yours = reference.flat, composed.flat
    return [
        Deviation(key, theirs.get(key), yours.get(key))
        for key in sorted(reference.raw.keys() | composed.raw.keys())
        if reference.raw.get(key) != composed.raw.get(key)
        and theirs.get(key) != yours.get(key)
        and not is_free(key, yours.get(key))
        and not (key in paths.DATA and _names(theirs.get(key)) == _names(yours.get(key)))
    ]


def _names(given: Any) -> list[str]:
    """The names of files, without their folders."""
    return [os.path.basename(str(path)) for path in (given if isinstance(given, list) else [given])]


def exported() -> list[Deviation]:
    """What the user's shell exports to the run's processes that may change its numbers."""
    return [
        Deviation(f"environment.{name}", None, value)
        for name, value in sorted(os.environ.items())
        if _matches(name, FIXED_EXPORTS) and not _is_free_variable(name)
    ]


def scaled(base: Config, recipe: Config) -> list[Deviation]:
    """The keys of justrl.yaml that a shipped recipe gives other values, e.g. the tiny one to fit a laptop.

    What justrl.yaml leaves to its recipes and the embedded default's own sections do not count.

    Args:
        base: justrl.yaml on the recipe's system.
    """
    return [
        d
        for d in deviations(base, recipe)
        if d.key not in left_open() and d.key.split(".")[0] not in EMBEDDED_SECTIONS
    ]


@functools.cache
def left_open() -> frozenset[str]:
    """What justrl.yaml leaves to its recipes: the keys that are null in this file, not all that veRL leaves null."""
    content = yaml.safe_load((config.RECIPES / f"{config.BASE}.yaml").read_text())
    return frozenset(key for key, value in config.leaves(content) if value is None)


def describe(request: Request, composed: Config) -> dict[str, Any]:
    """What the manifest says of a run before it starts: is this JustRL, and if not, which keys deviate.

    A recipe of the user's own is compared with its origin, the shipped recipe from which it differs in the fewest
    keys; against another model or number of steps, which justrl.yaml leaves to its recipes, it does not count.
    """
    path = config.find_recipe(request.recipe)
    system = composed.shipped_system or _system_like(composed)
    if config.shipped(path):
        origin = path.stem
        reference = _shipped(origin, system)
        changed = deviations(reference, composed)
    else:
        origin, reference, changed = _origin(composed, system)
    changed += exported()
    of_origin = scaled(config.load_base(system), reference)
    return {
        "recipe": path.stem if config.shipped(path) else request.recipe,
        "origin": origin,
        "system": request.system,
        "ablations": list(request.ablations),
        "overrides": list(request.overrides),
        "is_justrl": not of_origin and not changed,
        "scaled": [d.as_dict() for d in of_origin],
        "deviations": [d.as_dict() for d in changed],
        "reward": reward(composed),
        "seed": composed.values.get("seed"),
    }


@functools.cache
def _shipped(recipe: str, system: str) -> Config:
    return config.load(Request(recipe, system))


def _system_like(composed: Config) -> str:
    """The shipped system that a run on none of them is compared with: the first one with its device, or the first.

    Beyond free keys, shipped systems differ only by their device.
    """
    device = composed.flat.get("trainer.device")
    systems = config.names(config.SYSTEMS)
    same = (name for name in systems if config.load_base(name).flat["trainer.device"] == device)
    return next(same, systems[0])


def _origin(composed: Config, system: str) -> tuple[str, Config, list[Deviation]]:
    """The nearest shipped recipe by name, its config on a shipped system, and where the composed one deviates."""
    found = []
    for name in config.recipe_names():
        reference = _shipped(name, system)
        changed = deviations(reference, composed)
        kept = [d for d in changed if d.key not in left_open()]
        found.append((len(kept), len(changed), name, reference, kept))
    _, _, name, reference, changed = min(found, key=lambda entry: entry[:3])
    return name, reference, changed


def reward(composed: Config) -> dict[str, Any]:
    """The reward function: its path and name as they were given, and the hash of a file."""
    path, name = (composed.flat.get(f"reward.custom_reward_function.{key}") for key in ("path", "name"))
    file = Path(str(path or "").removeprefix("file://"))
    return {"path": path, "name": name, "sha256": files.sha256(file) if file.is_file() else None}
