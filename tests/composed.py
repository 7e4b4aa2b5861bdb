"""Configs as a user gets them, in a tenth of the time: a shipped recipe is composed once, overrides change a copy."""

import contextlib
import functools
import pickle
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import omegaconf.base
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from justrl_recipe import config
from justrl_recipe.config import RECIPES, Config, Request
from justrl_recipe.files import YAML_LOADER
from justrl_recipe.own_files import Composable
from justrl_recipe.search_path import PACKAGE, shipped, verl_config_folder

GROUPS = (RECIPES, PACKAGE, verl_config_folder())  # whose folders are Hydra's config groups
Composed = tuple[DictConfig, str | None]
_by_hydra = config._compose
_parse = functools.cache(omegaconf.base.parse)  # a recipe has 120 interpolations, the same in all that extend it
_known: dict[Any, bytes] = {}


def load(request: Request) -> Config:
    """What `config.load` returns or raises; tests/contract/test_config.py compares the two."""
    with quick():
        return config.load(request)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Have config.py do with Hydra and OmegaConf once what it would do again for each config."""
    with mock.patch.object(config, "_compose", _compose), mock.patch.object(omegaconf.base, "parse", _parse):
        yield


def _compose(parts: Composable, overrides: Sequence[str] = ()) -> Composed:
    if not shipped(parts.originals[""]):  # it may extend other files of the user's
        return _by_hydra(parts, overrides)
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        if any(_chooses(override) for override in parsed):
            return _by_hydra(parts, overrides)
        composed, system = _composed(parts)
        for override in parsed:
            _apply(override, composed)
    except (HydraException, OmegaConfBaseException):
        return _by_hydra(parts, overrides)  # which says what is wrong
    return composed, system


def _composed(parts: Composable) -> Composed:
    """A copy of what Hydra composes of these parts. Pickle copies a config in a tenth of deepcopy's time."""
    own = () if parts.folder == RECIPES else sorted(parts.folder.rglob("*.yaml"))
    texts = tuple((file.relative_to(parts.folder), file.read_text()) for file in own)
    key = (parts.name, *parts.overrides, texts)
    if key not in _known:
        with mock.patch.object(yaml, "SafeLoader", YAML_LOADER):  # OmegaConf extends it; libyaml takes a tenth of it
            _known[key] = pickle.dumps(_by_hydra(parts))
    return pickle.loads(_known[key])


def _chooses(override: Override) -> bool:
    """Whether an override is of Hydra itself: of a config group, its settings, or several runs."""
    named = override.is_hydra_override() or override.is_sweep_override() or override.package is not None
    return named or any((folder / override.key_or_group).is_dir() for folder in GROUPS)


def _apply(override: Override, composed: DictConfig) -> None:
    """Set a key as Hydra does.

    Raises:
        HydraException, OmegaConfBaseException: it is deleted, not there, or to be added and there.
    """
    key, value = override.key_or_group, override.value()
    there = OmegaConf.select(composed, key, throw_on_missing=False) is not None
    if override.is_delete() or (override.is_add() and there):
        raise HydraException(f"{override.input_line} is left to Hydra")
    OmegaConf.update(composed, key, value, force_add=override.is_add() or override.is_force_add())
