"""Recipe + system + ablations + overrides -> one resolved config, without importing veRL, torch or Ray.

A recipe, system or ablation is a shipped one by name, or a YAML file of the user's own by path. A user's file is
composed under a name of its own (`_own_files`): one that is called like a shipped file extends it, and never replaces
it.
"""

import difflib
import functools
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from justrl_recipe import files, masking, search_path
from justrl_recipe.errors import UserError
from justrl_recipe.search_path import PACKAGE, RECIPES, verl_config_folder

ABLATIONS = PACKAGE / "ablations"
SYSTEMS = RECIPES / "system"
WARMUPS = RECIPES / "warmup"
BASE = "justrl"  # the recipe that the others build on; not run by itself
OWN = "justrl_own_file"  # how a user's file is called while it is composed
GLOBAL = re.compile(r"^\s*#\s*@package\s+_global_\b", re.MULTILINE)  # Hydra's package header
OTHER_PACKAGE = re.compile(r"^\s*#\s*@package\s+(?!_global_\b)\S", re.MULTILINE)

# What Hydra 1.3 and OmegaConf raise for what a user may write; the built-in ones come from their code for lists.
CANNOT_COMPOSE = (
    *(HydraException, OmegaConfBaseException, yaml.YAMLError),
    *(OSError, RecursionError, TypeError, ValueError, AttributeError, AssertionError, KeyError),
)

search_path.register()


@dataclass(frozen=True)
class Request:
    """What a user asked for: a recipe and everything that changes it, each by name or by path."""

    recipe: str
    system: str | None = None
    ablations: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """A composed config.

    raw: every leaf by dotted key, interpolations as they are written.
    values: the same as nested plain data, every interpolation resolved.
    shipped_system: the name of the system in it where that is a shipped one.
    """

    raw: Mapping[str, Any]
    values: dict[str, Any]
    shipped_system: str | None = None

    @functools.cached_property
    def flat(self) -> dict[str, Any]:
        """Every leaf by dotted key, every interpolation resolved."""
        return dict(leaves(self.values))

    @classmethod
    def of(cls, composed: DictConfig, system: str | None = None) -> "Config":
        """Resolve what OmegaConf holds.

        Raises:
            UserError: an interpolation points nowhere.
        """
        try:
            raw = OmegaConf.to_container(composed)
            resolved = OmegaConf.to_container(composed, resolve=True)
        except OmegaConfBaseException as error:
            raise UserError(" ".join(str(error).split())) from error
        masking.learn(raw, resolved)
        return cls(dict(leaves(raw)), resolved, system if system in names(SYSTEMS) else None)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    """The names that a folder of YAML files offers: the folder is the registry."""
    return sorted(file.stem for file in folder.glob("*.yaml"))


def recipe_names() -> list[str]:
    """The recipes that can be run."""
    return [name for name in names(RECIPES) if name != BASE]


def nearest(word: str, words: Sequence[str]) -> str:
    """`, did you mean X?` for the nearest of `words`, or all of them when none is near."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(words)}"


def find_recipe(recipe: str) -> Path:
    """The file of a recipe that is given by path or by bare name.

    Raises:
        UserError: no such file, or the base recipe, which names no model.
    """
    path = Path(recipe)
    if not os.path.lexists(path) or path.is_dir():
        packaged = RECIPES / f"{path.stem if path.suffix == '.yaml' else path.name}.yaml"
        shipped_path = path.suffix != ".yaml" or path.parent.name in ("", "recipes")
        if not (packaged.is_file() and shipped_path):
            raise UserError(f"no recipe {recipe!r}: {nearest(path.stem, recipe_names())} (`verl ls` lists them)")
        path = packaged
    if path.suffix != ".yaml":
        raise UserError(f"{recipe} is not a .yaml file")
    if path.stem == BASE and shipped(path):
        raise UserError(
            f"{recipe} is the base of the recipes and names no model: run {recipe_names()[0]}, or copy it"
        )
    return path.absolute()


def shipped(path: Path) -> bool:
    """Whether a recipe file is one that this package ships."""
    return path.parent.resolve() == RECIPES.resolve()


def find_part(kind: str, name: str, folder: Path) -> str | Path:
    """A system or an ablation: the bare name where `folder` has it, else the user's own file.

    Raises:
        UserError: there is neither.
    """
    path = Path(name)
    if path.suffix != ".yaml" and name in names(folder):
        return name
    if os.path.lexists(path) and path.suffix == ".yaml":
        return path.stem if path.parent.resolve() == folder.resolve() else path.absolute()
    if path.suffix == ".yaml" or path.parent.name:
        wrong = "is not a .yaml file" if os.path.lexists(path) else "is not there"
        raise UserError(f"{kind} {name!r} {wrong}: give a .yaml file, or one of {', '.join(names(folder))}")
    raise UserError(f"no {kind} {name!r}: {nearest(name, names(folder))}, or give the path of a .yaml file")


def load(request: Request) -> Config:
    """Compose a request into one config.

    Raises:
        UserError: an unknown name or key, or what Hydra cannot parse.
    """
    masking.learn_overrides(request.overrides)
    recipe = find_recipe(request.recipe)
    system = None if request.system is None else find_part("system", request.system, SYSTEMS)
    ablations = [find_part("ablation", name, ABLATIONS) for name in dict.fromkeys(request.ablations)]
    if not shipped(recipe):
        _refuse_ambiguous(recipe, [part for part in (system, *ablations) if isinstance(part, Path)])
    with _own_files(recipe, system, ablations) as (folder, name, system_name, ablation_names):
        overrides = [f"hydra.searchpath=['{_quoted(f'file://{recipe.parent}')}']"] if name == OWN else []
        if system_name is not None:
            overrides.append(f"system={system_name}")
        if ablation_names:
            overrides.append(f"+ablations=[{','.join(ablation_names)}]")
        own = {"": recipe, **_called("system", [system_name], [system])}
        own |= _called("ablations", ablation_names, ablations)
        composed, chosen = _compose(folder, name, [*overrides, *request.overrides], own)
    config = Config.of(composed, chosen)
    _require_whole(config, recipe)
    return config


@contextmanager
def _own_files(
    recipe: Path, system: str | Path | None, ablations: Sequence[str | Path]
) -> Iterator[tuple[Path, str, str | None, list[str]]]:
    """The user's own files among these, copied to where Hydra composes them, and what each is called there.

    A system or an ablation is made to speak of the whole config, whether or not it begins with `# @package _global_`.

    Yields: the folder of the recipe, its name in it, the system's name and the ablations' names.
    """
    with tempfile.TemporaryDirectory(prefix="justrl-") as scratch:

        def own(path: Path, group: str, name: str) -> str:
            text = _read(path)
            target = Path(scratch, group, f"{name}.yaml")
            target.parent.mkdir(exist_ok=True)
            if group and not OTHER_PACKAGE.search(text):
                text = "# @package _global_\n" + GLOBAL.sub("#", text)
            target.write_text(text, encoding="utf-8")
            return name

        system_name = own(system, "system", OWN) if isinstance(system, Path) else system
        ablation_names = [
            own(path, "ablations", f"{OWN}_{number}") if isinstance(path, Path) else path
            for number, path in enumerate(ablations)
        ]
        if shipped(recipe) and system_name != OWN and not any(OWN in name for name in ablation_names):
            yield RECIPES, recipe.stem, system_name, ablation_names
        else:
            yield Path(scratch), own(recipe, "", OWN), system_name, ablation_names


def _called(group: str, called: Sequence[str | None], given: Sequence[str | Path | None]) -> dict[str, Path]:
    """The user's own files by what Hydra calls them."""
    return {f"{group}/{name}": path for name, path in zip(called, given, strict=True) if isinstance(path, Path)}


def _refuse_ambiguous(recipe: Path, parts: Sequence[Path]) -> None:
    """Refuse a user's file that extends a name which is both a shipped file and another file beside the recipe.

    Hydra would take the shipped one without a word. Copies that do not differ, as in a clone of this repository, and
    the recipe's own name, which stands for the shipped file, are not ambiguous.

    Raises:
        UserError: there are two such files, or one that is extended cannot be read.
    """
    waiting, seen = [recipe, *parts], {recipe}
    while waiting:
        file = waiting.pop()
        for name in _extended(file):
            beside, packaged = recipe.parent / f"{name}.yaml", RECIPES / f"{name}.yaml"
            if beside in seen or not os.path.lexists(beside):
                continue
            if packaged.is_file() and packaged.read_text() != _read(beside):
                raise UserError(f"{file.name} extends {name!r}, a shipped file, and {beside} is another: rename it")
            seen.add(beside)
            waiting.append(beside)


def _extended(file: Path) -> Iterator[str]:
    """The configs in a file's defaults list, by their paths without `.yaml`; nothing where Hydra will refuse it.

    Raises:
        UserError: the file cannot be read, or would not fit into memory.
    """
    try:
        content = yaml.load(_read(file), Loader=files.YAML_LOADER)
    except (yaml.YAMLError, ValueError, TypeError):
        return
    entries = content.get("defaults") if isinstance(content, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, str):
            yield entry.split("@")[0].lstrip("/")
        elif isinstance(entry, dict):
            for group, options in entry.items():
                group = str(group).split(" ")[-1].split("@")[0].lstrip("/")
                for option in options if isinstance(options, list) else [options]:
                    yield f"{group}/{option}"


def _read(path: Path) -> str:
    """The text of a YAML file of the user's that Hydra can read in little time and memory; raises UserError."""
    text = files.read_text(path, files.YAML_BYTES)
    files.require_small_yaml(path, text)
    return text


def _quoted(text: str) -> str:
    """A text as it stands between single quotes in one of Hydra's overrides."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _require_whole(config: Config, recipe: Path) -> None:
    """Refuse a file that is no recipe: a system, an ablation, or a few keys that extend nothing.

    Raises:
        UserError: sections that veRL reads are missing.
    """
    for kind, folder in (("ablation", ABLATIONS), ("system", SYSTEMS)):
        if recipe.parent.resolve() == folder.resolve():
            raise UserError(f"{recipe.name} is no recipe: give a recipe and --{kind} {recipe.stem}")
    needed = ("actor_rollout_ref", "algorithm", "data", "reward", "trainer")
    if len([section for section in needed if section not in config.values]) > 1:
        raise UserError(f"{recipe.name} is no whole recipe: begin it with `defaults: [justrl_deepseek, _self_]`")


@functools.cache
def load_base(system: str | None = None) -> Config:
    """veRL's defaults under justrl.yaml: what keys there are, of which type, and JustRL's own values.

    Without a system it is merged from two files (veRL ships its composed defaults as one), which is faster than
    composing it.

    Args:
        system: a shipped system on which it stands.
    """
    if system is not None:
        return Config.of(*_compose(RECIPES, BASE, [f"+system={system}"], {"": RECIPES / f"{BASE}.yaml"}))
    base = OmegaConf.load(RECIPES / f"{BASE}.yaml")
    del base["defaults"]  # type: ignore[arg-type]
    text = (verl_config_folder() / "_generated_ppo_trainer.yaml").read_text()
    defaults = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # OmegaConf's takes 0.2 s more
    return Config.of(OmegaConf.merge(defaults, base))  # type: ignore[arg-type]


def _compose(folder: Path, name: str, overrides: list[str], own: Mapping[str, Path]) -> tuple[DictConfig, str | None]:
    """The config of `name` in `folder`, and the name of its system.

    Args:
        own: the user's files by what Hydra calls them, the recipe's by "", for error messages.
    """
    try:
        with initialize_config_dir(config_dir=str(folder), version_base=None):
            composed = compose(name, overrides=overrides, return_hydra_config=True)
            system = composed.hydra.runtime.choices.get("system")
            OmegaConf.set_struct(composed, False)
            del composed["hydra"]
            OmegaConf.set_struct(composed, True)
            return composed, system
    except CANNOT_COMPOSE as error:
        message = _explain(error, own[""], overrides)
        for called, file in own.items():
            message = message.replace(str(folder / f"{called or OWN}.yaml"), file.name)
            message = message.replace(f"'{called or OWN}'", file.name)
        raise UserError(message) from error


def _explain(error: Exception, path: Path, overrides: list[str]) -> str:
    """Hydra's message as one line, with the nearest key for an override of one that does not exist."""
    message = " ".join(str(error).split()).partition(" Config search path:")[0] or type(error).__name__
    if isinstance(error, RecursionError):
        message = "its defaults list leads back to itself"
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: {message.partition(' See ')[0]}"
    for override in overrides:
        key = override.split("=", 1)[0]
        if key == "system" and f"Could not override '{key}'" in message:
            return f"{path.name} has no system to replace: add `- system: {names(SYSTEMS)[0]}` to its defaults"
        if f"Could not override '{key}'" in message:
            return f"no key {key!r}: {nearest_key(key, list(load_base().raw))}"
    return f"{path.name}: {message}"


def nearest_key(key: str, known: Sequence[str]) -> str:
    """The known key that a mistyped one most likely means: the same last part, or one that looks alike."""
    same_last = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = difflib.get_close_matches(key, same_last or known, n=1, cutoff=0.0)
    return f"did you mean {close[0]!r}?"


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf of nested mappings."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node
