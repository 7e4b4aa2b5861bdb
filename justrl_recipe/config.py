"""Recipe + system + ablations + overrides -> one resolved config, without importing veRL, torch or Ray.

A recipe, system or ablation is a shipped one by name, or a YAML file of the user's own by path (own_files.py).
"""

import difflib
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
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
from justrl_recipe.own_files import OWN, Composable, Made, composable
from justrl_recipe.search_path import PACKAGE, RECIPES, shipped, verl_config_folder

ABLATIONS = PACKAGE / "ablations"
SYSTEMS = RECIPES / "system"
THIS_MACHINE = "gpu"  # the system that is made of the GPUs of the machine where it is asked for
BASE = "justrl"  # the recipe that the others build on; not run by itself

# What Hydra 1.3 and OmegaConf raise for what a user may write; the built-in ones come from their code for lists.
CANNOT_COMPOSE = (
    *(HydraException, OmegaConfBaseException, yaml.YAMLError),
    *(OSError, RecursionError, TypeError, ValueError, AttributeError, AssertionError, KeyError),
)

search_path.register()


@dataclass(frozen=True)
class Request:
    """What a user asked for: a recipe and everything that changes it, each by name or by path.

    made: the file of the system `gpu` for this machine (this_machine.py).
    """

    recipe: str
    system: str | None = None
    ablations: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    made: Made | None = None


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
            message = " ".join(str(error).split())
            if removed := re.search(r"Interpolation key '([^']+)' not found", message):
                message = f"{removed[1]}: there is no such key, and {error.full_key} is made of it: restore it"
            raise UserError(message) from error
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
        UserError: no such file, or the base recipe, which does not name a model.
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
            f"{recipe} is the base of the recipes and does not name a model: run {recipe_names()[0]}, or copy it"
        )
    return path.absolute()


def find_part(kind: str, name: str, folder: Path) -> str | Path:
    """A system or an ablation: the bare name where `folder` has it, else the user's own file.

    Raises:
        UserError: there is neither.
    """
    path = Path(name)
    known = [*names(folder), *([THIS_MACHINE] if folder == SYSTEMS else [])]
    if path.suffix != ".yaml" and name in names(folder):
        return name
    if os.path.lexists(path) and path.suffix == ".yaml":
        return path.stem if path.parent.resolve() == folder.resolve() else path.absolute()
    if path.suffix == ".yaml" or path.parent.name:
        wrong = "is not a .yaml file" if os.path.lexists(path) else "is not there"
        raise UserError(f"{kind} {name!r} {wrong}: give a .yaml file, or one of {', '.join(known)}")
    raise UserError(f"no {kind} {name!r}: {nearest(name, known)}, or give the path of a .yaml file")


def load(request: Request) -> Config:
    """Compose a request into one config.

    Raises:
        UserError: an unknown name or key, or what Hydra cannot parse.
    """
    masking.learn_overrides(request.overrides)
    recipe = find_recipe(request.recipe)
    system = request.made or (request.system and find_part("system", request.system, SYSTEMS))
    ablations = [find_part("ablation", name, ABLATIONS) for name in dict.fromkeys(request.ablations)]
    with composable(recipe, system, ablations) as parts:
        composed, chosen = _compose(parts, request.overrides)
    config = Config.of(composed, chosen)
    _require_whole(config, recipe)
    return config


def _require_whole(config: Config, recipe: Path) -> None:
    """Refuse a file that is not a recipe: a system, an ablation, or a few keys that extend nothing.

    Raises:
        UserError: sections that veRL reads are missing.
    """
    for kind, folder in (("ablation", ABLATIONS), ("system", SYSTEMS)):
        if recipe.parent.resolve() == folder.resolve():
            raise UserError(f"{recipe.name} is not a recipe: give a recipe and --{kind} {recipe.stem}")
    needed = ("actor_rollout_ref", "algorithm", "data", "reward", "trainer")
    if len([section for section in needed if section not in config.values]) > 1:
        raise UserError(
            f"{recipe.name} is not a complete recipe: begin it with `defaults: [justrl_deepseek, _self_]`"
        )


@functools.cache
def load_base(system: str | None = None) -> Config:
    """veRL's defaults under justrl.yaml: what keys there are, of which type, and JustRL's own values.

    Without a system it is merged from two files (veRL ships its composed defaults as one), which is faster than
    composing it.

    Args:
        system: a shipped system on which it stands.
    """
    if system is not None:
        parts = Composable(RECIPES, BASE, [f"+system={system}"], {"": RECIPES / f"{BASE}.yaml"})
        return Config.of(*_compose(parts))
    base = OmegaConf.load(RECIPES / f"{BASE}.yaml")
    del base["defaults"]  # type: ignore[arg-type]
    text = (verl_config_folder() / "_generated_ppo_trainer.yaml").read_text()
    defaults = yaml.load(text, Loader=files.YAML_LOADER)  # OmegaConf's takes 0.2 s more
    return Config.of(OmegaConf.merge(defaults, base))  # type: ignore[arg-type]


def _compose(parts: Composable, overrides: Sequence[str] = ()) -> tuple[DictConfig, str | None]:
    """The composed config, and the name of its system."""
    overrides = [*parts.overrides, *overrides]
    try:
        with initialize_config_dir(config_dir=str(parts.folder), version_base=None):
            composed = compose(parts.name, overrides=overrides, return_hydra_config=True)
            system = composed.hydra.runtime.choices.get("system")
            OmegaConf.set_struct(composed, False)
            del composed["hydra"]
            OmegaConf.set_struct(composed, True)
            return composed, system
    except CANNOT_COMPOSE as error:
        message = _explain(error, parts.originals[""], overrides)
        for called, file in parts.originals.items():
            message = message.replace(str(parts.folder / f"{called or OWN}.yaml"), file.name)
            message = message.replace(f"'{called or OWN}'", file.name)
        raise UserError(message) from error


def _explain(error: Exception, path: Path, overrides: Sequence[str]) -> str:
    """Hydra's message as one line, with the nearest key for an override of one that does not exist."""
    message = " ".join(str(error).split()).partition(" Config search path:")[0] or type(error).__name__
    if isinstance(error, RecursionError):
        message = "its defaults list contains itself"
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


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set the leaf of nested plain data that has this dotted key."""
    *sections, name = key.split(".")
    for section in sections:
        values = values[section]
    values[name] = value
