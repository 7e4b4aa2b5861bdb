"""Keys that veRL does not know, ignores without a word, or would trip over."""

import json
from collections.abc import Mapping
from typing import Any

from justrl_recipe.checks.inert import INERT
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config, nearest_key
from justrl_recipe.deviations import OWN_SECTIONS
from justrl_recipe.verl_fields import fields

NEEDED_KEYS = (
    "actor_rollout_ref.model.path",
    "data.train_files",
    "data.val_files",
    "trainer.total_training_steps",
    "trainer.experiment_name",
)

# veRL 0.9.1 composes these sections and reads them nowhere: `reward.*` took their place.
LEGACY_SECTIONS = {
    "reward_model": "reward",
    "custom_reward_function": "reward.custom_reward_function",
    "sandbox_fusion": "reward.sandbox_fusion",
}

# Keys that veRL 0.9.1 reads and no YAML file of it names.
OPTIONAL_KEYS = {
    "model_engine",
    "algorithm.gdpo_reward_keys",
    "data.cache_dir",
    "trainer.remove_previous_ckpt_in_save",
}

# Sections that veRL hands on as they are: to Ray, to a reward function, to a reward manager.
OPEN_SECTIONS = {
    "ray_kwargs.ray_init",
    "ray_kwargs.ray_init.runtime_env",
    "reward.custom_reward_function.reward_kwargs",
    "reward.reward_kwargs",
}

OVERRIDES = "actor_rollout_ref.model.override_config"
VALIDATION = "actor_rollout_ref.rollout.val_kwargs"
LENGTHS = ("max_new_tokens", "max_tokens", "response_length", "max_response_length")


def unusable(config: Config, base: Config) -> list[Problem]:
    """Keys without a usable value, beside which no other check makes sense."""
    return [*open_ends(config), *removed_keys(config, base), *wrong_types(config, base)]


def idle(config: Config, base: Config) -> list[Problem]:
    """Keys that veRL would not read as they are meant."""
    return [
        *legacy_keys(config),
        *inert_keys(config, base),
        *model_overrides(config),
        *capped_validation(config),
        *unknown_keys(config, base),
    ]


def open_ends(config: Config) -> list[Problem]:
    """What a run cannot do without: above all what justrl.yaml leaves to a recipe."""
    values = config.flat
    return [
        Problem(key, "no value", f"name it in the recipe, or give {key}=VALUE")
        for key in NEEDED_KEYS
        if values.get(key) is None
    ]


def removed_keys(config: Config, base: Config) -> list[Problem]:
    """Keys that were taken out (`~KEY`) and that veRL or this package reads."""
    sections = {key.rsplit(".", depth)[0] for key in config.raw for depth in range(key.count(".") + 1)}
    return [
        Problem(key, "it was taken out, and is needed", "leave it in, or set it to null")
        for key in base.raw
        if key not in sections and key.split(".")[0] not in LEGACY_SECTIONS
    ]


def legacy_keys(config: Config) -> list[Problem]:
    """Legacy sections that hold a value: veRL would ignore it without a word."""
    return [
        Problem(key, "a legacy key that veRL 0.9.1 ignores", f"use {LEGACY_SECTIONS[key.split('.')[0]]}.*")
        for key, value in config.flat.items()
        if key.split(".")[0] in LEGACY_SECTIONS and value not in (None, {})
    ]


def inert_keys(config: Config, base: Config) -> list[Problem]:
    """Keys that were set and that veRL does not read, at all or beside the others' values."""
    values = config.flat
    return [
        Problem(inert.key, f"{json.dumps(values[inert.key])} has no effect{inert.because}", inert.fix)
        for inert in INERT
        if inert.key in values and config.raw.get(inert.key) != base.raw.get(inert.key) and inert.holds(values)
    ]


def model_overrides(config: Config) -> list[Problem]:
    """Changes to the model's config.json: veRL writes them into checkpoints, too.

    Where there is a `model_config` it takes that alone, and `attn_implementation` beside it
    (verl/workers/config/model.py).
    """
    given = config.values["actor_rollout_ref"]["model"]["override_config"] or {}
    if "model_config" in given:
        return [
            Problem(
                f"{OVERRIDES}.{name}", "it has no effect beside model_config", f"set {OVERRIDES}.model_config.{name}"
            )
            for name in given
            if name not in ("model_config", "attn_implementation")
        ]
    if given.get("attn_implementation") != "packed":
        return []
    why = "veRL would write `packed` into checkpoints, which other programs could then not load"
    return [Problem(f"{OVERRIDES}.attn_implementation", why, f"add +{OVERRIDES}.model_config={{}}")]


def capped_validation(config: Config) -> list[Problem]:
    """A length of its own for in-training validation, which veRL 0.9.1 has not."""
    values = config.flat
    cap = values.get("data.max_response_length")
    return [
        Problem(
            f"{VALIDATION}.{name}",
            f"veRL 0.9.1 has no such key and caps in-training validation at data.max_response_length={cap}",
            f"take it out, and measure checkpoints by `verl eval RUN --max-tokens {values[f'{VALIDATION}.{name}']}`",
        )
        for name in LENGTHS
        if f"{VALIDATION}.{name}" in values
    ]


def unknown_keys(config: Config, base: Config) -> list[Problem]:
    """Keys that neither veRL nor this package knows, each with the nearest that they do."""
    known = base.flat
    ours = {f"{VALIDATION}.{name}" for name in LENGTHS}
    return [
        Problem(key, "no such key", nearest_key(key, list(known)))
        for key in config.flat
        if key not in known and key not in ours and not _allowed(key, base.values)
    ]


def _allowed(key: str, base: Mapping[str, Any]) -> bool:
    """Whether a key that `base` lacks has a place: an open section, or a field of a section's dataclass."""
    if key in OPTIONAL_KEYS or key.split(".")[0] in (*OWN_SECTIONS, *LEGACY_SECTIONS):
        return True
    if any(key.startswith(f"{section}.") for section in OPEN_SECTIONS):
        return True
    node: Any = base
    for part in key.split("."):
        if not node or not isinstance(node, Mapping):
            return not isinstance(node, str)  # an empty or unset section takes what it is given
        if part not in node:
            return part in fields(node.get("_target_", ""))
        node = node[part]
    return True


def wrong_types(config: Config, base: Config) -> list[Problem]:
    """Values whose type is not that of the default."""
    known = base.flat
    return [
        Problem(key, f"{value!r} is a {_type(value)}", f"give a {_type(known[key])}, such as {known[key]!r}")
        for key, value in config.flat.items()
        if key in known and not _fits(value, known[key])
    ]


def _type(value: Any) -> str:
    return {bool: "boolean", int: "whole number", float: "number", str: "text", list: "list"}.get(
        type(value), type(value).__name__
    )


def _fits(value: Any, default: Any) -> bool:
    if value is None or default is None:
        return True
    if isinstance(default, str) and isinstance(value, list):
        return True  # one file or several
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float) and isinstance(value, int | float):
        # veRL writes some numbers without a point (entropy_coeff: 0), so a whole default takes any number
        # only where no count is meant.
        return isinstance(default, float) or isinstance(value, int) or default in (0, 1)
    return isinstance(value, type(default))
