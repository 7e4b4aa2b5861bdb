"""`verl cat`: show a recipe, an ablation, a system or a warm-up as it stands."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe.config import ABLATIONS, RECIPES, SYSTEMS, WARMUPS, names, nearest
from justrl_recipe.errors import UserError

EXAMPLE = "Example: verl cat justrl_tiny"
FOLDERS = (RECIPES, ABLATIONS, SYSTEMS, WARMUPS)


def find(name: str) -> Path:
    """The shipped YAML file of a bare name: recipes first, then ablations, systems and warm-ups.

    Raises:
        UserError: there is none.
    """
    for folder in FOLDERS:
        if name in names(folder):
            return folder / f"{name}.yaml"
    everything = [found for folder in FOLDERS for found in names(folder)]
    raise UserError(f"nothing is called {name!r}: {nearest(name, everything)}")


def cat(name: Annotated[str, typer.Argument(help="A recipe, ablation, system or warm-up, by bare name.")]) -> None:
    """Print a shipped YAML file."""
    sys.stdout.write(find(name).read_text())
