"""Code that a config names - modules, classes, files, pickles: whether it is there, and what of it a run executes.

It is looked up by its files; nothing is imported.
"""

import ast
import importlib.util
import os
import symtable
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.paths import AGENT, CODE_FILES, MANAGER, MODEL, MODULES_OR_FILES

# Keys of one module or several, by dotted names.
MODULES = (f"{MODEL}.external_lib", "actor_rollout_ref.rollout.checkpoint_engine.custom_backend_module")
# Keys of a class, by `module.Class`; those of `_target_` are classes, too.
CLASSES = (
    "trainer.checkpoint_callback_class",
    f"{AGENT}.agent_loop_manager_class",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls",
)
INSTALLED = ("justrl_recipe", "verl", "vllm", "torch", "transformers", "ray")  # what every run executes
PICKLES = "veRL loads these files as pickles, which run whatever code they hold"

Why = tuple[str, str]  # why it cannot be loaded, and what to do


def problems(config: Config, base: Config) -> Iterator[Problem]:
    """Code that is not there, or lacks the name that is looked for in it."""
    for key, _, why in _named(config, base):
        if why:
            yield Problem("import-path", key, *why)


def executed(config: Config, base: Config) -> Iterator[str]:
    """What a run executes beyond the installed stack: files and modules that the config names, with their hash, a
    model's Python files, and pickles."""
    values = config.flat
    for key, value, _ in _named(config, base):
        if value.removeprefix("pkg://").replace("/", ".").split(".")[0] not in INSTALLED:
            yield f"{key}={value}{_with_hash(value)}"
    if values.get(f"{MODEL}.trust_remote_code"):
        yield f"{MODEL}.trust_remote_code=true: the Python files of {values[f'{MODEL}.path']} are run"
    if values.get("trainer.resume_mode") == "resume_path" and values.get("trainer.resume_from_path"):
        yield f"trainer.resume_from_path={values['trainer.resume_from_path']}: {PICKLES}"
    for name in ("rollout", "rollout_tq", "async_rollout"):  # dumps of responses, loaded in place of generating them
        if values.get(f"skip.{name}.enable"):
            yield f"skip.{name}.dump_dir={values.get(f'skip.{name}.dump_dir')}: {PICKLES}"


def _named(config: Config, base: Config) -> Iterator[tuple[str, str, Why | None]]:
    """Each key that names code, what it names, and why that cannot be loaded."""
    values = config.flat
    modules_or_files = dict(MODULES_OR_FILES)
    if values.get(f"{MANAGER}.source") == "importlib":
        modules_or_files[f"{MANAGER}.module.path"] = f"{MANAGER}.name"
    for key, name_key in modules_or_files.items():
        if path := values.get(key):
            yield key, str(path), _missing(path, values.get(name_key))
    for key in MODULES:
        given = values.get(key)
        for module in given if isinstance(given, list) else [given]:
            if module:
                yield key, str(module), missing_module(str(module))
    targets = (key for key in values if key.endswith("._target_") and values[key] != base.flat.get(key))
    for key in (*CLASSES, *targets):
        if values.get(key):
            yield key, str(values[key]), missing_class(str(values[key]))
    for key in CODE_FILES:
        if file := values.get(key):
            is_missing = isinstance(file, str) and not os.path.isfile(file)
            yield key, str(file), (f"no file {file}", "give a file, or remove the override") if is_missing else None


def _with_hash(value: str) -> str:
    """` (SHA-256 ...)` of the Python file that a path or a dotted name leads to."""
    path = Path(value.removeprefix("file://"))
    file = path if os.path.isfile(path) else find(value.removeprefix("pkg://").replace("/", "."))[0]
    return f" (SHA-256 {files.sha256(file)})" if file else ""


def _missing(path: Any, name: Any) -> Why | None:
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
        return f"{file} is not a Python file that defines {wanted}()", f"define {wanted}() in it"
    return None


def missing_module(dotted: str) -> Why | None:
    """Why a module is not there, and what to do; None where it is."""
    _, rest, why = find(dotted)
    if why or not rest:
        return why
    return f"{dotted.removesuffix('.' + '.'.join(rest))!r} has no module {rest[0]!r}", "check the name"


def missing_class(dotted: str) -> Why | None:
    """Why `module.Name` is not there, and what to do; None where it is."""
    file, rest, why = find(dotted)
    if why:
        return why
    if "." not in dotted:
        return f"{dotted!r} does not name a module", "give it as module.Class"
    if len(rest) > 1 or (rest and file is not None and not defines(file, rest[0])):
        module = dotted.removesuffix("." + ".".join(rest))
        return f"{module!r} has no {'.'.join(rest)!r}", "check the name; the module is there"
    return None


def find(dotted: str) -> tuple[Path | None, list[str], Why | None]:
    """Where a dotted name leads: the last module's Python file (None for compiled ones), what of the name is left
    beyond it, and why not even the first part is there."""
    first, *rest = dotted.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        return None, [], (f"{dotted!r} is not a dotted name", "give it as package.module")
    spec = _spec(first)
    if spec is None:
        return None, [], (f"no module {first!r} is installed", "install it, or name another")
    while rest and spec.submodule_search_locations is not None:
        inner = PathFinder.find_spec(rest[0], list(spec.submodule_search_locations))
        if inner is None:
            break
        spec, rest = inner, rest[1:]
    file = Path(spec.origin) if spec.origin else None
    return file if file is not None and file.suffix == ".py" else None, rest, None


def _spec(name: str) -> ModuleSpec | None:
    """The spec of a top-level module: of an installed one, or of one in the working folder, where training starts."""
    if name in sys.builtin_module_names:
        return ModuleSpec(name, None)
    try:
        return importlib.util.find_spec(name) or PathFinder.find_spec(name, [os.getcwd()])
    except (ImportError, ValueError, AttributeError):
        return None


def defines(file: Path, name: str, seen: frozenset[Path] = frozenset()) -> bool:
    """Whether a Python file gives a name a meaning at its top level, as far as can be told without running it.

    Args:
        seen: files that have been looked at, which may import each other.
    """
    try:
        source = files.read_bytes(file)
        nodes = list(ast.walk(ast.parse(source)))
        symbols = symtable.symtable(source, str(file), "exec").get_symbols()  # type: ignore[arg-type]
    except (SyntaxError, ValueError, RecursionError, MemoryError, files.Unreadable):
        return False
    names = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    stars = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    beside = [f"{star.module}.py" for star in stars if star.level == 1 and star.module and "." not in star.module]
    if names & {name, "__getattr__"} or len(beside) < len(stars):
        return True
    seen = seen | {file}
    return any(defines(file.parent / star, name, seen) for star in beside if file.parent / star not in seen)
