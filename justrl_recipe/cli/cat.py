"""`verl cat`: show a recipe, an ablation or a system as it is."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe import this_machine
from justrl_recipe.config import ABLATIONS, RECIPES, SYSTEMS, THIS_MACHINE, Request, names, nearest
from justrl_recipe.errors import UserError

EXAMPLE = "Example: verl cat justrl_tiny"
RECIPE = "justrl_deepseek"  # that the system `gpu` is computed for by default
FOLDERS = (RECIPES, ABLATIONS, SYSTEMS)


def find(name: str) -> Path:
    """The shipped YAML file of a bare name: recipes first, then ablations and systems.

    Raises:
        UserError: there is no such file.
    """
    for folder in FOLDERS:
        if name in names(folder):
            return folder / f"{name}.yaml"
    everything = [*(found for folder in FOLDERS for found in names(folder)), THIS_MACHINE]
    raise UserError(f"nothing is called {name!r}: {nearest(name, everything)}")


def content(name: str, recipe: str = RECIPE) -> str:
    """What a shipped YAML file holds; of the system `gpu`, what this machine's GPUs amount to for a recipe."""
    if name != THIS_MACHINE:
        return find(name).read_text()
    return this_machine.system_file(Request(recipe), this_machine.here())


def cat(name: Annotated[str, typer.Argument(help="A recipe, ablation or system, by bare name.")]) -> None:
    """Print a shipped YAML file; `gpu` is the system of this machine's GPUs."""
    sys.stdout.write(content(name))
