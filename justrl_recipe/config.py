"""Recipe + system + ablations + overrides -> one resolved config, without importing veRL, torch or Ray."""

import difflib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from justrl_recipe.errors import UserError

PACKAGE = Path(__file__).parent
RECIPES = PACKAGE / "recipes"
ABLATIONS = PACKAGE / "ablations"
SYSTEMS = RECIPES / "system"
BASE = "justrl"  # the recipe that the others build on; not run by itself


@dataclass(frozen=True)
class Request:
    """What a user asked for: a recipe and everything that changes it."""

    recipe: str
    system: str | None = None
    ablations: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """A composed config.

    raw: every leaf by dotted key, interpolations as they are written.
    values: the same as nested plain data, every interpolation resolved.
    """

    raw: Mapping[str, Any]
    values: dict[str, Any]

    @functools.cached_property
    def flat(self) -> dict[str, Any]:
        """Every leaf by dotted key, every interpolation resolved."""
        return dict(leaves(self.values))

    @classmethod
    def of(cls, composed: DictConfig) -> "Config":
        """Resolve what OmegaConf holds.

        Raises:
            UserError: an interpolation points nowhere.
        """
        try:
            raw = OmegaConf.to_container(composed)
            return cls(dict(leaves(raw)), OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]
        except OmegaConfBaseException as error:
            raise UserError(" ".join(str(error).split())) from error


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
    if not path.is_file():
        packaged = RECIPES / f"{path.stem if path.suffix == '.yaml' else path.name}.yaml"
        shipped_path = path.suffix != ".yaml" or path.parent.name in ("", "recipes")
        if not (packaged.is_file() and shipped_path):
            raise UserError(f"no recipe {recipe!r}: {nearest(path.stem, recipe_names())} (`verl ls` lists them)")
        path = packaged
    if path.suffix != ".yaml":
        raise UserError(f"{recipe} is not a .yaml file")
    if path.stem == BASE:
        raise UserError(
            f"{recipe} is the base of the recipes and names no model: run {recipe_names()[0]}, or copy it"
        )
    return path.absolute()


def shipped(path: Path) -> bool:
    """Whether a recipe file is one that this package ships."""
    return path.parent.resolve() == RECIPES.resolve()


def check_name(kind: str, name: str, folder: Path) -> str:
    """`name`, if `folder` has it.

    Raises:
        UserError: it does not.
    """
    if name not in names(folder):
        raise UserError(f"no {kind} {name!r}: {nearest(name, names(folder))}")
    return name


def verl_config_folder() -> Path:
    """Where veRL keeps its YAML files, found without importing it.

    Raises:
        UserError: veRL is not installed.
    """
    spec = find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("veRL is not installed: install this package with its requirements (see README)")
    return Path(spec.submodule_search_locations[0]) / "trainer" / "config"


def search_path() -> str:
    """Hydra's search path, with veRL's folder as a file path: `pkg://` would import veRL."""
    return f"hydra.searchpath=[file://{RECIPES},file://{PACKAGE},file://{verl_config_folder()}]"


def load(request: Request) -> Config:
    """Compose a request into one config.

    Raises:
        UserError: an unknown name or key, or what Hydra cannot parse.
    """
    path = find_recipe(request.recipe)
    overrides = [search_path()]
    if request.system is not None:
        overrides.append(f"system={check_name('system', request.system, SYSTEMS)}")
    if request.ablations:
        chosen = [check_name("ablation", name, ABLATIONS) for name in request.ablations]
        overrides.append(f"+ablations=[{','.join(dict.fromkeys(chosen))}]")
    return Config.of(_compose(path, [*overrides, *request.overrides]))


@functools.cache
def load_base() -> Config:
    """veRL's defaults under justrl.yaml: what keys there are, of which type, and JustRL's own values.

    Merged from two files (veRL ships its composed defaults as one), which is faster than composing again.
    """
    base = OmegaConf.load(RECIPES / f"{BASE}.yaml")
    del base["defaults"]  # type: ignore[arg-type]
    text = (verl_config_folder() / "_generated_ppo_trainer.yaml").read_text()
    defaults = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # OmegaConf's takes 0.2 s more
    return Config.of(OmegaConf.merge(defaults, base))  # type: ignore[arg-type]


def _compose(path: Path, overrides: list[str]) -> DictConfig:
    try:
        with initialize_config_dir(config_dir=str(path.parent), version_base=None):
            return compose(path.stem, overrides=overrides)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(_explain(error, path, overrides)) from error


def _explain(error: Exception, path: Path, overrides: list[str]) -> str:
    """Hydra's message as one line, with the nearest key for an override of one that does not exist."""
    message = " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: {message.partition(' See ')[0]}"
    for override in overrides:
        key = override.split("=", 1)[0]
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
