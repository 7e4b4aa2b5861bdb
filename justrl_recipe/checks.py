"""What is wrong with a config before it costs GPU hours: pure functions of resolved configs, no veRL import.

Each check returns the problems that it finds, as lines that say what, where and how to mend it.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from justrl_recipe.config import leaves, nearest_key
from justrl_recipe.fixed import OWN_SECTIONS
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

# Keys that veRL 0.9.1 reads nowhere, with the one that it reads instead.
INERT_KEYS = {"actor_rollout_ref.actor.grad_clip": "actor_rollout_ref.actor.optim.clip_grad"}

# Keys that veRL 0.9.1 reads and no YAML file of it names.
OPTIONAL_KEYS = {
    "model_engine",
    "algorithm.gdpo_reward_keys",
    "data.cache_dir",
    "data.chat_template_func",
    "data.filter_prompts",
    "data.need_tools_kwargs",
    "reward.timeout",
    "trainer.remove_previous_ckpt_in_save",
}

# Sections that veRL hands on as they are: to Ray, to a reward function, to a reward manager.
OPEN_SECTIONS = {
    "ray_kwargs.ray_init",
    "ray_kwargs.ray_init.runtime_env",
    "reward.custom_reward_function.reward_kwargs",
    "reward.reward_kwargs",
}

OUR_SAMPLER = "pkg://justrl_recipe.reward_metrics"


def problems(config: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Every problem of `config` that can be seen without its data files.

    Args:
        config: the resolved config.
        base: justrl.yaml with veRL's defaults, resolved: what keys there are, and of which type.
    """
    return [
        *open_ends(config),
        *legacy_keys(config),
        *inert_keys(config, base),
        *unknown_keys(config, base),
        *wrong_types(config, base),
        *unlogged_group_filter(config),
        *bad_batches(config),
    ]


def open_ends(config: Mapping[str, Any]) -> list[str]:
    """What a run cannot do without: above all what justrl.yaml leaves to a recipe."""
    values = dict(leaves(config))
    return [
        f"no value for {key}: name it in the recipe, or give {key}=VALUE"
        for key in NEEDED_KEYS
        if values.get(key) is None
    ]


def legacy_keys(config: Mapping[str, Any]) -> list[str]:
    """Legacy sections that hold a value: veRL would ignore it without a word."""
    return [
        f"{key}={value!r} is a legacy key that veRL 0.9.1 ignores: use {LEGACY_SECTIONS[key.split('.')[0]]}.*"
        for key, value in leaves(config)
        if key.split(".")[0] in LEGACY_SECTIONS and value not in (None, {})
    ]


def inert_keys(config: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Keys that were changed and that veRL reads nowhere."""
    values, defaults = dict(leaves(config)), dict(leaves(base))
    return [
        f"{key}={values[key]!r} has no effect in veRL 0.9.1: set {mend}"
        for key, mend in INERT_KEYS.items()
        if values.get(key) != defaults.get(key)
    ]


def unknown_keys(config: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Keys that neither veRL nor this package knows, each with the nearest that they do."""
    known = dict(leaves(base))
    return [
        f"no key {key!r}: {nearest_key(key, list(known))}"
        for key, _ in leaves(config)
        if key not in known and not _allowed(key, base)
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


def wrong_types(config: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Values whose type is not that of the default."""
    known = dict(leaves(base))
    return [
        f"{key}={value!r} is a {_type(value)}, and a {_type(known[key])} is needed, such as {known[key]!r}"
        for key, value in leaves(config)
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


def unlogged_group_filter(config: Mapping[str, Any]) -> list[str]:
    """DAPO's dynamic sampling, which veRL 0.9.1 leaves to its own sampler and skips with any other."""
    sampler = config["trainer"]["v1"]["sampler"]["custom_sampler"]
    if config["algorithm"]["filter_groups"]["enable"] and sampler["path"] == OUR_SAMPLER:
        return [
            "algorithm.filter_groups.enable=true has no effect with the recipe's sampler: add "
            "trainer.v1.sampler.custom_sampler.path=null (reward/acc is then not logged)"
        ]
    return []


def bad_batches(config: Mapping[str, Any]) -> list[str]:
    """Batch sizes that do not go into each other or over the GPUs."""
    train, mini = config["data"]["train_batch_size"], config["actor_rollout_ref"]["actor"]["ppo_mini_batch_size"]
    n = config["actor_rollout_ref"]["rollout"]["n"]
    nodes, gpus_per_node = config["trainer"]["nnodes"], config["trainer"]["n_gpus_per_node"]
    if not all(isinstance(value, int) and value > 0 for value in (train, mini, n, nodes, gpus_per_node)):
        return ["train_batch_size, ppo_mini_batch_size, rollout.n, nnodes and n_gpus_per_node are whole and above 0"]
    gpus = nodes * gpus_per_node
    found = []
    if train % mini:
        found.append(f"data.train_batch_size={train} is no multiple of ppo_mini_batch_size={mini}")
    if mini * n % gpus:
        found.append(f"ppo_mini_batch_size={mini} x rollout.n={n} responses do not divide over {gpus} GPUs")
    return found


def missing_files(config: Mapping[str, Any]) -> list[str]:
    """Data and reward files that are not there, or a reward file without its function. Runs no code of it."""
    found = []
    reward = config["reward"]["custom_reward_function"]
    path, name = str(reward["path"] or "").removeprefix("file://"), reward["name"]
    if path and not path.startswith("pkg://"):
        key = "reward.custom_reward_function.path"
        if not Path(path).is_file():
            found.append(f"{key}: no file {path}")
        elif not _defines(Path(path), name):
            found.append(f"{key}: {path} is no Python file that defines {name}()")
    for key, file in data_files(config):
        if not Path(file).is_file():
            command = f"verl data {'train' if key == 'train_files' else 'benchmarks'} --out {Path(file).parent}"
            found.append(f"data.{key}: no file {file}: make it with `{command}`, or set data.{key}=FILE")
    return found


def data_files(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(key, file) of every data file; veRL takes one or a list of them."""
    values = [(key, config["data"][key]) for key in ("train_files", "val_files")]
    return [(key, file) for key, value in values for file in ([value] if isinstance(value, str) else value)]


def _defines(file: Path, name: str) -> bool:
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return False
    assigned = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    imported = {
        alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    return name in defined | assigned | imported
