"""Keys that veRL would read nowhere, or without effect: `unused_keys.yaml`, legacy sections, zero coefficients."""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from justrl_recipe.checks.combinations import PACKED
from justrl_recipe.checks.known_keys import TABLE
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config

ACTOR, MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.model"
OVERRIDES = f"{MODEL}.override_config"
OVERLONG = "reward.reward_kwargs.overlong_buffer_cfg"
ABOVE_0 = object()
# Switches, the value that turns each on (ABOVE_0: any), and the number without which it does nothing.
SWITCHES: tuple[tuple[str, Any, str], ...] = (
    (f"{ACTOR}.use_kl_loss", True, f"{ACTOR}.kl_loss_coef"),
    ("algorithm.use_kl_in_reward", True, "algorithm.kl_ctrl.kl_coef"),
    (f"{OVERLONG}.enable", True, f"{OVERLONG}.penalty_factor"),
    (f"{ACTOR}.policy_loss.loss_mode", "kl_cov", f"{ACTOR}.policy_loss.ppo_kl_coef"),
    (f"{MODEL}.lora_rank", ABOVE_0, f"{MODEL}.lora_alpha"),
)


@dataclass(frozen=True)
class Unused:
    """A key without effect.

    Attributes:
        key: a dotted key, or `section.*` for all of a section.
        fix: what to do instead.
        beside: the values of other keys beside which it has no effect, all of them.
        unless: the values of other keys beside which it has one, any of them.
    """

    key: str
    fix: str
    beside: Mapping[str, Any] = field(default_factory=dict)
    unless: Mapping[str, Any] = field(default_factory=dict)

    def names(self, key: str) -> bool:
        return key == self.key or (self.key.endswith(".*") and key.startswith(self.key[:-1]))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the key has no effect beside these values."""
        every = all(_among(values.get(other), wanted) for other, wanted in self.beside.items())
        return every and not any(_among(values.get(other), wanted) for other, wanted in self.unless.items())

    @property
    def because(self) -> str:
        """The end of a sentence that says when it has no effect."""
        clauses = [f" while {_text(self.beside)}"] if self.beside else []
        clauses += [f" unless {_text(self.unless)}"] if self.unless else []
        return "".join(clauses) or " in veRL 0.9.1"


def _among(value: Any, wanted: Any) -> bool:
    """Whether a value, or one of a list's, is the wanted one or one of them."""
    several = wanted if isinstance(wanted, list) else [wanted]
    return any(item in several for item in (value if isinstance(value, list) else [value]))


def _text(values: Mapping[str, Any]) -> str:
    return " or ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()
    )


@functools.cache
def table() -> tuple[Unused, ...]:
    content = yaml.safe_load(Path(__file__).with_name("unused_keys.yaml").read_text())
    nothing = "remove it: veRL has no such setting on this path"
    always = [Unused(key, fix or nothing) for key, fix in content["always"].items()]
    conditional = [
        Unused(key, entry["fix"] or nothing, entry.get("while", {}), entry.get("unless", {}))
        for entry in content["conditional"]
        for key in entry["keys"]
    ]
    return (*always, *conditional)


def problems(config: Config, base: Config) -> Iterator[Problem]:
    yield from legacy_keys(config)
    yield from unused_keys(config, base)
    yield from without_effect(config)
    yield from model_overrides(config)


def legacy_keys(config: Config) -> Iterator[Problem]:
    """Legacy sections that hold a value: veRL would ignore it silently."""
    for key, value in config.flat.items():
        section = key.split(".")[0]
        if section in TABLE["legacy"] and value not in (None, {}):
            fix = f"use {TABLE['legacy'][section]}.*"
            yield Problem("legacy-key", key, "a legacy key that veRL 0.9.1 ignores", fix)


def unused_keys(config: Config, base: Config) -> Iterator[Problem]:
    """Keys that were set and that veRL does not read, at all or beside the others' values."""
    values = config.flat
    for key in (key for key in values if config.raw.get(key) != base.raw.get(key)):
        unused = next((entry for entry in table() if entry.names(key) and entry.holds(values)), None)
        if unused is not None:
            why = f"{json.dumps(values[key], default=str)} has no effect{unused.because}"
            yield Problem("unused-key", key, why, unused.fix, "warning")


def without_effect(config: Config) -> Iterator[Problem]:
    """Switches that are on and whose coefficient is zero."""
    values = config.flat
    for switch, on, coefficient in SWITCHES:
        value = values.get(switch)
        is_on = (value or 0) > 0 if on is ABOVE_0 else value == on
        if is_on and values.get(coefficient) == 0:
            why = f"{json.dumps(value)} has no effect while {coefficient}={values[coefficient]}"
            yield Problem("no-effect", switch, why, f"set {coefficient} as well", "warning")


def model_overrides(config: Config) -> Iterator[Problem]:
    """Changes to the model's config.json: veRL writes them into checkpoints, too.

    Where there is a `model_config` veRL takes only that and `attn_implementation`
    (verl/workers/config/model.py).
    """
    given = config.values["actor_rollout_ref"]["model"]["override_config"] or {}
    if "model_config" in given:
        for name in given:
            if name not in ("model_config", "attn_implementation"):
                fix = f"set {OVERRIDES}.model_config.{name}"
                why = "it has no effect beside model_config"
                yield Problem("model-override", f"{OVERRIDES}.{name}", why, fix, "warning")
    elif (name := given.get("attn_implementation")) in PACKED:
        why = f"veRL would write `{name}` into checkpoints, which other programs could then not load"
        fix = f"add +{OVERRIDES}.model_config={{}}"
        yield Problem("model-override", f"{OVERRIDES}.attn_implementation", why, fix)
