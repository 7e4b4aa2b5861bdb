"""Where Hydra finds the recipes, systems and ablations of this package and veRL's own config; and the sum in them.

A plug-in of Hydra's, so that neither a recipe nor a command has to name these folders. veRL's folder is named as a
file path, since `pkg://verl...` would import veRL, which takes ten seconds.
"""

from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from justrl_recipe.errors import UserError

PACKAGE = Path(__file__).parent
RECIPES = PACKAGE / "recipes"


class RecipeSearchPath(SearchPathPlugin):
    """Adds the folders behind the main one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in (RECIPES, PACKAGE, verl_config_folder()):
            search_path.append("justrl-recipe", f"file://{folder}")


def register() -> None:
    """Have Hydra use the plug-in in this process, and OmegaConf resolve `${justrl.sum:A,B}`."""
    Plugins.instance().register(RecipeSearchPath)
    OmegaConf.register_new_resolver("justrl.sum", _sum, replace=True)


def _sum(*terms: object) -> int | None:
    """None where a term is no integer: the checks name the key that it came from."""
    numbers = [term for term in terms if isinstance(term, int)]
    return sum(numbers) if len(numbers) == len(terms) else None


def verl_config_folder() -> Path:
    """Where veRL keeps its YAML files, found without importing it.

    Raises:
        UserError: veRL is not installed.
    """
    spec = find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("veRL is not installed: install this package with its requirements (see README)")
    return Path(spec.submodule_search_locations[0]) / "trainer" / "config"


def shipped(path: Path) -> bool:
    """Whether a recipe file is one that this package ships."""
    return path.parent.resolve() == RECIPES.resolve()
