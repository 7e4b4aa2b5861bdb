"""Modules, classes and files of code that a config names: looked up by their files, nothing is imported."""

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config

AGENT, MULTI_TURN = (f"actor_rollout_ref.rollout.{name}" for name in ("agent", "multi_turn"))
# Keys of a module (`pkg://module`) or a Python file, and the key of the name that is looked for in it.
MODULES_OR_FILES = {
    "reward.custom_reward_function.path": "reward.custom_reward_function.name",
    "data.custom_cls.path": "data.custom_cls.name",
    "data.sampler.class_path": "data.sampler.class_name",
    "trainer.v1.sampler.custom_sampler.path": "trainer.v1.sampler.custom_sampler.name",
    f"{AGENT}.custom_async_server.path": f"{AGENT}.custom_async_server.name",
}
MANAGER = "reward.reward_manager"
MODEL = "actor_rollout_ref.model"
PICKLES = "veRL loads these files as pickles, which run whatever code they hold"
# Keys of one module or several, by dotted names.
MODULES = (
    "actor_rollout_ref.model.external_lib",
    "actor_rollout_ref.rollout.checkpoint_engine.custom_backend_module",
)
# Keys of a class, by `module.Class`.
CLASSES = (
    "trainer.checkpoint_callback_class",
    f"{AGENT}.agent_loop_manager_class",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls",
)
INSTALLED = ("justrl_recipe", "verl", "vllm", "torch", "transformers", "ray")  # what every run executes
FILES = (f"{AGENT}.agent_loop_config_path", f"{MULTI_TURN}.tool_config_path", f"{MULTI_TURN}.function_tool_path")


def problems(config: Config, base: Config) -> Iterator[Problem]:
    """Code that is not there, or lacks the name that is looked for in it."""
    values = config.flat
    for key, name_key in _modules_or_files(values).items():
        if why := _missing(values.get(key), values.get(name_key)):
            yield _problem(key, *why)
    for key, module in _modules(values):
        if why := missing_module(module):
            yield _problem(key, *why)
    for key in _classes(values, base):
        if values.get(key) and (why := missing_class(str(values[key]))):
            yield _problem(key, *why)
    for key in FILES:
        if isinstance(values.get(key), str) and values[key] and not os.path.isfile(values[key]):
            yield _problem(key, f"no file {values[key]}", "give a file, or remove the override")


def executed(config: Config, base: Config) -> Iterator[str]:
    """What a run executes beyond the installed stack: files and modules that the config names, with their hash, a
    model's Python files, and pickles."""
    values = config.flat
    named = [(key, str(values[key])) for key in _modules_or_files(values) if values.get(key)]
    named += _modules(values)
    named += [(key, str(values[key])) for key in _classes(values, base) if values.get(key)]
    named += [(key, str(values[key])) for key in FILES if values.get(key)]
    for key, value in named:
        if value.removeprefix("pkg://").replace("/", ".").split(".")[0] not in INSTALLED:
            yield f"{key}={value}{_with_hash(value)}"
    if values.get(f"{MODEL}.trust_remote_code"):
        yield f"{MODEL}.trust_remote_code=true: the Python files of {values[f'{MODEL}.path']} are run"
    mode, local = values.get("trainer.resume_mode"), values.get("trainer.default_local_dir")
    if mode == "resume_path" and values.get("trainer.resume_from_path"):
        yield f"trainer.resume_from_path={values['trainer.resume_from_path']}: {PICKLES}"
    elif mode == "auto" and os.path.isfile(Path(str(local), "latest_checkpointed_iteration.txt")):
        yield f"trainer.resume_mode=auto, checkpoints in {local}: {PICKLES}"
    for name in ("rollout", "rollout_tq", "async_rollout"):  # dumps of responses, loaded in place of generating them
        if values.get(f"skip.{name}.enable"):
            yield f"skip.{name}.dump_dir={values.get(f'skip.{name}.dump_dir')}: {PICKLES}"


def _modules_or_files(values: Mapping[str, Any]) -> dict[str, str]:
    if values.get(f"{MANAGER}.source") == "importlib":
        return {**MODULES_OR_FILES, f"{MANAGER}.module.path": f"{MANAGER}.name"}
    return MODULES_OR_FILES


def _modules(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = ((key, values.get(key)) for key in MODULES)
    lists = ((key, value if isinstance(value, list) else [value]) for key, value in given)
    return [(key, str(module)) for key, modules in lists for module in modules if module]


def _classes(values: Mapping[str, Any], base: Config) -> list[str]:
    return [*CLASSES, *(key for key in values if key.endswith("._target_") and values[key] != base.flat.get(key))]


def _with_hash(value: str) -> str:
    """` (SHA-256 ...)` of the Python file that a path or a dotted name leads to."""
    path = Path(value.removeprefix("file://"))
    file = path if path.is_file() else find(value.removeprefix("pkg://").replace("/", "."))[0]
    return f" (SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()})" if file else ""


def _problem(key: str, why: str, fix: str) -> Problem:
    return Problem("import-path", key, why, fix)


def _missing(path: Any, name: Any) -> tuple[str, str] | None:
    """Why a name cannot be loaded from `pkg://module`, `file://...` or a plain file, and what to do."""
    if not isinstance(path, str) or not path:
        return None
    wanted = name if isinstance(name, str) else None
    if path.startswith("pkg://"):
        module = path.removeprefix("pkg://").replace("/", ".")
        return missing_module(module) or (missing_class(f"{module}.{wanted}") if wanted else None)
    file = path.removeprefix("file://")
    if not os.path.isfile(file):
        return f"no file {file}", "give a Python file, or remove the override"
    if wanted and not defines(Path(file), wanted):
        return f"{file} is no Python file that defines {wanted}()", f"define {wanted}() in it"
    return None


def missing_module(dotted: str) -> tuple[str, str] | None:
    """Why a module is not there, and what to do; None where it is."""
    _, rest, why = find(dotted)
    if why or not rest:
        return why
    return f"{dotted.removesuffix('.' + '.'.join(rest))!r} has no module {rest[0]!r}", "check the name"


def missing_class(dotted: str) -> tuple[str, str] | None:
    """Why `module.Name` is not there, and what to do; None where it is."""
    file, rest, why = find(dotted)
    if why:
        return why
    if "." not in dotted:
        return f"{dotted!r} names no module", "give it as module.Class"
    if len(rest) > 1 or (rest and file is not None and not defines(file, rest[0])):
        module = dotted.removesuffix("." + ".".join(rest))
        return f"{module!r} has no {'.'.join(rest)!r}", "check the name; the module is there"
    return None


def find(dotted: str) -> tuple[Path | None, list[str], tuple[str, str] | None]:
    """Where a dotted name leads: the last module's Python file (None for compiled ones), what of the name is left
    beyond it, and why not even the first part is there."""
    first, *rest = dotted.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return None, [], (f"{dotted!r} is no dotted name", "give it as package.module")
    spec = _spec(first)
    if spec is None:
        return None, [], (f"no module {first!r} is installed", "install it, or name another")
    file, places = _python(spec.origin), [Path(place) for place in spec.submodule_search_locations or ()]
    while rest:
        name = rest[0]
        packages = [place / name for place in places if (place / name).is_dir()]
        modules = [found for place in places for found in place.glob(f"{name}.*") if found.suffix in (".py", ".so")]
        if not packages and not modules:
            break
        whole = [package / "__init__.py" for package in packages if (package / "__init__.py").is_file()]
        file, places = _python((whole + modules or [None])[0]), packages  # type: ignore[list-item]
        rest = rest[1:]
    return file, rest, None


def _spec(name: str) -> ModuleSpec | None:
    """The spec of a top-level module: of an installed one, or of one in the working folder, where training starts."""
    if name in sys.builtin_module_names:
        return ModuleSpec(name, None)
    try:
        return importlib.util.find_spec(name) or PathFinder.find_spec(name, [os.getcwd()])
    except (ImportError, ValueError, AttributeError):
        return None


def _python(origin: str | Path | None) -> Path | None:
    return Path(origin) if origin is not None and Path(origin).suffix == ".py" else None


def defines(file: Path, name: str, seen: frozenset[Path] = frozenset()) -> bool:
    """Whether a Python file gives a name a meaning at its top level, as far as can be told without running it.

    Args:
        seen: files that have been looked at, which may import each other.
    """
    try:
        body = ast.parse(files.read_bytes(file)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError, files.Unreadable):
        return False
    names = set(_names(body))
    stars = [file.parent / f"{module[1:]}.py" for module in names if module.startswith(".")]
    return bool(names & {name, "*", "__getattr__"}) or any(
        defines(star, name, seen | {file}) for star in stars if star not in seen | {file}
    )


def _names(body: list[ast.stmt]) -> Iterator[str]:
    """The names; for `from .module import *` that is `.module`, for any other star `*`."""
    for node in body:
        match node:
            case ast.ImportFrom(level=1, module=str(module), names=[ast.alias(name="*")]) if "." not in module:
                yield f".{module}"
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name))
            case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try():
                for part in ("body", "orelse", "finalbody"):
                    yield from _names(getattr(node, part, []))
                for handler in getattr(node, "handlers", []):
                    yield from _names(handler.body)
