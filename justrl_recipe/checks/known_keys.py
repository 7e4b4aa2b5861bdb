"""Which keys veRL knows and whether it takes their values: keys that were removed, mistyped or are unknown.

veRL's composed defaults say which keys there are, and of which type; `known_keys.yaml` says what they do not.
"""

import ast
import functools
import json
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import RECIPES, SYSTEMS, Config, leaves, nearest, nearest_key, put
from justrl_recipe.deviations import EMBEDDED_SECTIONS, OWN_SECTIONS
from justrl_recipe.planning.model_shape import LARGEST, is_size

TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
EXAMPLES = TABLE["examples"]
VALIDATION_LENGTHS = tuple(
    f"actor_rollout_ref.rollout.val_kwargs.{name}"
    for name in ("max_new_tokens", "max_tokens", "response_length", "max_response_length")
)
TYPES = {bool: "a boolean", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a section"}


def repaired(config: Config, base: Config) -> tuple[list[Problem], Config]:
    """The problems of keys and sections without a usable value, and the config with the base's values in their place.

    So that every other check finds the keys that it looks at, whatever was removed or replaced.
    """
    found: list[Problem] = []
    values = _repair(config.values, {**base.values, **_own_sections(config)}, "", found)
    derived = {key for key, value in config.raw.items() if "${" in str(value) and value == base.raw.get(key)}
    problems = [problem for problem in found if problem.key not in derived]  # what they are derived from is listed
    flat = dict(leaves(values))
    for key in TABLE["needed"]:
        if flat.get(key) is None:
            problems.append(Problem("missing-value", key, "no value", f"name it in the recipe, or give {key}=VALUE"))
    for key in TABLE["from_0"]:
        if flat[key] < 0:
            problems.append(Problem("count", key, f"{flat[key]!r} is below 0", "give a whole number from 0 on"))
    for key in TABLE["not_empty"]:
        if not str(flat.get(key, "there is no such section")).strip():
            problems.append(Problem("missing-value", key, "it is empty", "give it a text"))
    for key in (key for key in TABLE["above_0"] if key in flat):
        value = flat[key]
        if value is not None and not is_size(value):
            fix = f"give a number above 0, at most {LARGEST:,}"
            problems.append(Problem("count", key, f"{value!r} is not a finite number above 0", fix))
        if value is None or not is_size(value):
            put(values, key, base.flat.get(key) or EXAMPLES[key])
    for problem in wrong_choices(Config(config.raw, values), base):
        problems.append(problem)
        put(values, problem.key, base.flat.get(problem.key))
    return problems, Config({**dict(leaves(values)), **config.raw}, values, config.shipped_system)


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
        if key in TABLE["legacy"]:
            found.setdefault(name, default)
            continue
        is_section = isinstance(default, Mapping) and bool(default)
        if name in node and is_section and isinstance(node[name], Mapping):
            found[name] = _repair(node[name], default, f"{key}.", problems)
            continue
        annotation = fields(base.get("_target_", "")).get(name, "")
        if name not in node:
            fix = (
                "restore it" if is_section or _is_needed(key, default, annotation) else "restore it or set it to null"
            )
            what = "section" if is_section else "key"
            wrong = None if default == {} else ("removed-key", f"required {what} was removed", fix)
        elif is_section:
            why = f"{_text(node[name])} replaces a section of {len(default)} keys"
            wrong = ("removed-key", why, "restore it, and set single keys in it")
        else:
            wrong = _mistyped(key, node[name], default, annotation)
        if wrong:
            check, why, fix = wrong
            problems.append(Problem(check, key, why, fix))
        if wrong or name not in node:
            found[name] = default
    return found


def _mistyped(key: str, value: Any, default: Any, annotation: str) -> tuple[str, str, str] | None:
    """Check, why and fix for a value of another type than the default's; None where it fits."""
    if value is None and _is_needed(key, default, annotation):
        return "type", "it is null", f"give {_type(default)}, such as {default!r}"
    example = EXAMPLES.get(key, default)
    if _fits(value, example) or (key in TABLE["text_or_list"] and _is_text_or_list(value)):
        return None
    return "type", f"{_text(value)} is {_type(value)}", f"give {_type(example)}, such as {example!r}"


def _is_needed(key: str, default: Any, annotation: str) -> bool:
    """Whether null in place of `default` would stop a run."""
    if isinstance(default, str) or default == {}:
        return key in TABLE["not_null"] or key.split(".")[0] in OWN_SECTIONS
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    nullable = key.startswith(tuple(TABLE["nullable"])) or re.search("Optional|None|Any", annotation)
    return is_number and not nullable


def _text(value: Any) -> str:
    return json.dumps(value, default=str)


def _type(value: Any) -> str:
    return TYPES.get(type(value), f"a {type(value).__name__}")


def _is_text_or_list(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


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


def wrong_choices(config: Config, base: Config) -> Iterator[Problem]:
    """Values that veRL does not know; registered names only where a user's code cannot have registered them."""
    values, choices = config.flat, TABLE["choices"]
    if not any(_is_users(values.get(key), base.flat.get(key)) for key in TABLE["user_code"]):
        choices = choices | TABLE["registered"]
    for key, names in choices.items():
        value = values.get(key)
        if value is not None and value not in names:
            yield Problem("choice", key, f"veRL 0.9.1 has no {value!r}", nearest(str(value), names))


def _is_users(value: Any, default: Any) -> bool:
    return value is not None and value != default and not str(value).startswith("pkg://justrl_recipe.")


def unknown_keys(config: Config, base: Config) -> Iterator[Problem]:
    """Keys that neither veRL nor this package knows, each with the nearest that they do."""
    values, known = config.flat, base.flat
    for key in values:
        if key in VALIDATION_LENGTHS:
            cap = f"data.max_response_length={values.get('data.max_response_length')}"
            why = f"veRL 0.9.1 has no such key and caps in-training validation at {cap}"
            fix = f"remove it, and measure checkpoints by `verl eval RUN --max-tokens {values[key]}`"
            yield Problem("validation-length", key, why, fix)
        elif key not in known and not is_known(key, base.values):
            yield Problem("unknown-key", key, "no such key", nearest_key(key, list(known)))


def is_known(key: str, base: Mapping[str, Any]) -> bool:
    """Whether a key has a place in veRL's defaults, in an open section, or in a section's dataclass."""
    if key in TABLE["optional"] or key.split(".")[0] in (*OWN_SECTIONS, *TABLE["legacy"]):
        return True
    if key.startswith(tuple(f"{section}." for section in TABLE["open_sections"])):
        return True
    node: Any = base
    for part in key.split("."):
        if not node or not isinstance(node, Mapping):
            return not isinstance(node, str)  # an empty or unset section takes what it is given
        if part not in node:
            return part in fields(node.get("_target_", ""))
        node = node[part]
    return True


@functools.cache
def fields(target: str) -> Mapping[str, str]:
    """The fields of the dataclass that a section's `_target_` names, with their annotations; none for an unknown one.

    They are read from the source, since importing it takes ten seconds; 237 of them stand in no YAML file.
    """
    package, _, name = target.rpartition(".")
    classes = _classes(package) if package else {}
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        node = classes.get(waiting.pop())
        if node is None:
            continue
        of_class = {
            item.target.id: ast.unparse(item.annotation)
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        found = of_class | found
        waiting.extend(base.id for base in node.bases if isinstance(base, ast.Name))
    return found


@functools.cache
def _classes(package: str) -> dict[str, ast.ClassDef]:
    """The classes of a module, or of the modules in a package's folder, by name."""
    top, _, rest = package.partition(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return {}
    place = Path(spec.submodule_search_locations[0], *rest.split("."))
    files = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    trees = [ast.parse(file.read_text()) for file in files if file.is_file()]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
