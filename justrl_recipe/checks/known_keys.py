"""Keys that are missing or unusable, that veRL does not know, or that it would ignore."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from justrl_recipe.checks import choices
from justrl_recipe.checks.problem import Problem
from justrl_recipe.checks.unused import table
from justrl_recipe.config import RECIPES, SYSTEMS, Config, leaves, nearest_key
from justrl_recipe.deviations import EMBEDDED_SECTIONS, OWN_SECTIONS
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

# Keys that take a text or a list of them.
ONE_OR_SEVERAL = ("data.train_files", "data.val_files", "trainer.logger")

# Keys that hold a whole number above 0.
COUNTS = (
    "data.train_batch_size",
    "data.max_prompt_length",
    "data.max_response_length",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "actor_rollout_ref.rollout.data_parallel_size",
    "actor_rollout_ref.rollout.pipeline_model_parallel_size",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.total_training_steps",
)

# Keys that veRL leaves null, and an example of what they take.
COUNTS_OR_NULL = {
    "data.gen_batch_size": 256,
    "data.val_batch_size": 64,
    "trainer.max_actor_ckpt_to_keep": 2,
    "trainer.max_critic_ckpt_to_keep": 2,
    "trainer.total_training_steps": 4380,
    "actor_rollout_ref.actor.ppo_micro_batch_size": 1,
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 1,
    "actor_rollout_ref.rollout.max_model_len": 16384,
    "actor_rollout_ref.rollout.log_prob_micro_batch_size": 1,
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 1,
}
# Keys that veRL leaves null and that take a text.
TEXTS_OR_NULL = (
    "trainer.experiment_name",
    "trainer.resume_from_path",
    "actor_rollout_ref.model.path",
    "actor_rollout_ref.model.tokenizer_path",
)

# Keys of a text that something of a run reads in any case. veRL's defaults, which are texts, do not say so.
TEXTS = (
    "trainer.default_local_dir",
    "trainer.project_name",
    "trainer.device",
    "trainer.v1.trainer_mode",
    "data.prompt_key",
    "actor_rollout_ref.actor.strategy",
    "actor_rollout_ref.actor.fsdp_config.model_dtype",
    "actor_rollout_ref.rollout.name",
    "actor_rollout_ref.rollout.dtype",
)
# Numbers that may be null by what veRL's source does with them, beside those whose dataclass says so.
NULLABLE = (
    *("data.seed", "data.image_patch_size", "data.filter_overlong_prompts_workers"),
    *("reward.reward_kwargs.", "reward.sandbox_fusion.", "algorithm.rollout_correction."),
    *("actor_rollout_ref.actor.clip_ratio_", "actor_rollout_ref.actor.policy_loss."),
)

OVERRIDES = "actor_rollout_ref.model.override_config"
VALIDATION = "actor_rollout_ref.rollout.val_kwargs"
LENGTHS = ("max_new_tokens", "max_tokens", "response_length", "max_response_length")


WANTED: dict[str, Any] = {"machine.memory_gib": 80.0, **COUNTS_OR_NULL, **dict.fromkeys(TEXTS_OR_NULL, "text")}


def repaired(config: Config, base: Config) -> tuple[list[Problem], Config]:
    """The problems of keys and sections without a usable value, and the config with the base's values in their place.

    So that every other check finds the keys that it looks at, whatever was removed or replaced.
    """
    found: list[Problem] = []
    values = _repair(config.values, {**base.values, **_own_sections(config)}, "", found)
    derived = {key for key, value in config.raw.items() if "${" in str(value) and value == base.raw.get(key)}
    problems = [problem for problem in found if problem.key not in derived]  # what they are derived from is listed
    flat = dict(leaves(values))
    for key in NEEDED_KEYS:
        if flat.get(key) is None:
            problems.append(Problem("missing-value", key, "no value", f"name it in the recipe, or give {key}=VALUE"))
    for key in COUNTS:
        value = flat[key]
        if value is None or value <= 0:
            if value is not None:
                problems.append(Problem("count", key, f"{value!r} is no count", "give a whole number above 0"))
            _set(values, key, base.flat[key] or WANTED[key])
    for problem in choices.problems(Config(config.raw, values), base):
        problems.append(problem)
        _set(values, problem.key, base.flat.get(problem.key))
    return problems, Config({**dict(leaves(values)), **config.raw}, values, config.shipped_system)


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values[section]
    values[name] = value


def _own_sections(config: Config) -> dict[str, Any]:
    """This package's own sections as its files give them, where the config has any."""
    there = set(OWN_SECTIONS) & config.values.keys()
    wanted = there | (set(EMBEDDED_SECTIONS) if there & set(EMBEDDED_SECTIONS) else set())
    files = (RECIPES / "justrl_tiny.yaml", SYSTEMS / "cpu.yaml") if wanted else ()
    shipped = {name: section for file in files for name, section in yaml.safe_load(file.read_text()).items()}
    return {name: shipped[name] for name in wanted}


def _repair(node: Mapping[str, Any], base: Mapping[str, Any], prefix: str, problems: list[Problem]) -> dict[str, Any]:
    """A section with every key of `base`, of its type."""
    found = dict(node)
    for name, default in base.items():
        key = f"{prefix}{name}"
        if key in LEGACY_SECTIONS:
            found.setdefault(name, default)
        elif name not in node:
            kind = "section" if isinstance(default, Mapping) and default else "key"
            if not isinstance(default, Mapping) or default:
                fix = "restore it" if kind == "section" else "restore it or set it to null"
                problems.append(Problem("removed-key", key, f"required {kind} was removed", fix))
            found[name] = default
        elif isinstance(default, Mapping) and default:
            if isinstance(node[name], Mapping):
                found[name] = _repair(node[name], default, f"{key}.", problems)
            else:
                why = f"{json.dumps(node[name], default=str)} replaces a section of {len(default)} keys"
                problems.append(Problem("removed-key", key, why, "restore it, and set single keys in it"))
                found[name] = default
        elif node[name] is None and _is_needed(key, default, fields(base.get("_target_", "")).get(name, "")):
            problems.append(Problem("type", key, "it is null", f"give {_type(default)}, such as {default!r}"))
            found[name] = default
        elif not _fits(node[name], WANTED.get(key, default)) and not _one_or_several(key, node[name]):
            why = f"{json.dumps(node[name], default=str)} is {_type(node[name])}"
            wanted = WANTED.get(key, default)
            problems.append(Problem("type", key, why, f"give {_type(wanted)}, such as {wanted!r}"))
            found[name] = default
    return found


def _is_needed(key: str, default: Any, annotation: str) -> bool:
    """Whether null in place of `default` would stop a run."""
    if isinstance(default, str):
        return key in TEXTS or key.split(".")[0] in OWN_SECTIONS
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    return is_number and not key.startswith(NULLABLE) and not re.search("Optional|None|Any", annotation)


def _type(value: Any) -> str:
    names = {
        bool: "a boolean",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a section",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _one_or_several(key: str, value: Any) -> bool:
    several = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return key in ONE_OR_SEVERAL and (isinstance(value, str) or several)


def _fits(value: Any, default: Any) -> bool:
    """Whether a value may stand where veRL has `default`."""
    if value is None or default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float) and isinstance(value, int | float):
        # veRL writes some numbers without a point (entropy_coeff: 0), so a whole default takes any number
        # only where no count is meant.
        return isinstance(default, float) or isinstance(value, int) or default in (0, 1)
    return isinstance(value, type(default))


def ignored(config: Config, base: Config) -> Iterator[Problem]:
    """Keys that veRL would not read as they are meant."""
    yield from legacy_keys(config)
    yield from unused_keys(config, base)
    yield from without_effect(config)
    yield from model_overrides(config)
    yield from capped_validation(config)
    yield from unknown_keys(config, base)


def legacy_keys(config: Config) -> Iterator[Problem]:
    """Legacy sections that hold a value: veRL would ignore it without a word."""
    for key, value in config.flat.items():
        section = key.split(".")[0]
        if section in LEGACY_SECTIONS and value not in (None, {}):
            fix = f"use {LEGACY_SECTIONS[section]}.*"
            yield Problem("legacy-key", key, "a legacy key that veRL 0.9.1 ignores", fix)


def unused_keys(config: Config, base: Config) -> Iterator[Problem]:
    """Keys that were set and that veRL does not read, at all or beside the others' values."""
    values = config.flat
    for key in (key for key in values if config.raw.get(key) != base.raw.get(key)):
        unused = next((entry for entry in table() if entry.names(key) and entry.holds(values)), None)
        if unused is not None:
            why = f"{json.dumps(values[key], default=str)} has no effect{unused.because}"
            yield Problem("unused-key", key, why, unused.fix, "warning")


# Switches, the value that turns each on (ABOVE_0: any), and the number without which it does nothing.
ABOVE_0 = object()
SWITCHES: tuple[tuple[str, Any, str], ...] = (
    ("actor_rollout_ref.actor.use_kl_loss", True, "actor_rollout_ref.actor.kl_loss_coef"),
    ("algorithm.use_kl_in_reward", True, "algorithm.kl_ctrl.kl_coef"),
    (
        "reward.reward_kwargs.overlong_buffer_cfg.enable",
        True,
        "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor",
    ),
    ("actor_rollout_ref.actor.policy_loss.loss_mode", "kl_cov", "actor_rollout_ref.actor.policy_loss.ppo_kl_coef"),
    ("actor_rollout_ref.model.lora_rank", ABOVE_0, "actor_rollout_ref.model.lora_alpha"),
)


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

    Where there is a `model_config` it takes that alone, and `attn_implementation` beside it
    (verl/workers/config/model.py).
    """
    given = config.values["actor_rollout_ref"]["model"]["override_config"] or {}
    if "model_config" in given:
        for name in given:
            if name not in ("model_config", "attn_implementation"):
                fix = f"set {OVERRIDES}.model_config.{name}"
                why = "it has no effect beside model_config"
                yield Problem("model-override", f"{OVERRIDES}.{name}", why, fix, "warning")
    elif given.get("attn_implementation") == "packed":
        why = "veRL would write `packed` into checkpoints, which other programs could then not load"
        fix = f"add +{OVERRIDES}.model_config={{}}"
        yield Problem("model-override", f"{OVERRIDES}.attn_implementation", why, fix)


def capped_validation(config: Config) -> Iterator[Problem]:
    """A length of its own for in-training validation, which veRL 0.9.1 has not."""
    values = config.flat
    cap = values.get("data.max_response_length")
    for name in LENGTHS:
        key = f"{VALIDATION}.{name}"
        if key in values:
            why = f"veRL 0.9.1 has no such key and caps in-training validation at data.max_response_length={cap}"
            fix = f"remove it, and measure checkpoints by `verl eval RUN --max-tokens {values[key]}`"
            yield Problem("validation-length", key, why, fix)


def unknown_keys(config: Config, base: Config) -> Iterator[Problem]:
    """Keys that neither veRL nor this package knows, each with the nearest that they do."""
    known = base.flat
    ours = {f"{VALIDATION}.{name}" for name in LENGTHS}
    for key in config.flat:
        if key not in known and key not in ours and not _allowed(key, base.values):
            yield Problem("unknown-key", key, "no such key", nearest_key(key, list(known)))


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
