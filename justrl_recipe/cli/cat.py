"""`verl cat`: show a recipe, an ablation or a system as it stands."""

import sys
from typing import Annotated

import typer

from justrl_recipe.config import ABLATIONS, RECIPES, SYSTEMS, names, nearest
from justrl_recipe.errors import UserError

EXAMPLE = "Example: verl cat justrl_tiny"


def find(name: str):
    """The shipped YAML file of a bare name: recipes first, then ablations, then systems.

    Raises:
        UserError: there is none.
    """
    for folder in (RECIPES, ABLATIONS, SYSTEMS):
        if name in names(folder):
            return folder / f"{name}.yaml"
    everything = [found for folder in (RECIPES, ABLATIONS, SYSTEMS) for found in names(folder)]
    raise UserError(f"nothing is called {name!r}: {nearest(name, everything)}")


def cat(name: Annotated[str, typer.Argument(help="A recipe, ablation or system, by bare name.")]) -> None:
    """Print a shipped YAML file."""
    sys.stdout.write(find(name).read_text())
