"""Configs for tests of what is done with one: a recipe is composed once, which takes 0.4 s, and changed on a copy."""

import copy
import functools

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from justrl_recipe import config, masking
from justrl_recipe.config import ABLATIONS, RECIPES, SYSTEMS, Config, Request, names, recipe_names
from justrl_recipe.own_files import Composable

COMPOSED = {"system", "ablations", "hydra", "defaults"}  # keys of overrides that choose files


def load(request: Request) -> Config:
    """What `config.load` returns or raises; faster where the recipe and its parts are shipped ones.

    tests/contract/test_config.py compares the two.
    """
    systems = [None, *names(SYSTEMS)]
    shipped = request.recipe in recipe_names() and request.system in systems
    if not shipped or not set(request.ablations) <= set(names(ABLATIONS)):
        return config.load(request)
    try:
        overrides = OverridesParser.create().parse_overrides(list(request.overrides))
        if any(override.get_key_element().lstrip("+~").split(".")[0] in COMPOSED for override in overrides):
            return config.load(request)
        composed, system = _composed(request.recipe, request.system, tuple(dict.fromkeys(request.ablations)))
        changed = copy.deepcopy(composed)
        ConfigLoaderImpl._apply_overrides_to_config(overrides, changed)
    except (HydraException, OmegaConfBaseException):  # config.load says what is wrong
        return config.load(request)
    masking.learn_overrides(request.overrides)
    return Config.of(changed, system)


@functools.cache
def _composed(recipe: str, system: str | None, ablations: tuple[str, ...]) -> tuple[DictConfig, str | None]:
    parts = [f"system={system}"] if system else []
    parts += [f"+ablations=[{','.join(ablations)}]"] if ablations else []
    return config._compose(Composable(RECIPES, recipe, parts, {"": RECIPES / f"{recipe}.yaml"}))
