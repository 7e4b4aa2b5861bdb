"""`verl cp`: take a recipe, an ablation or a system as the start of your own."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe.cli.cat import RECIPE, content, find
from justrl_recipe.config import ABLATIONS, BASE, SYSTEMS, THIS_MACHINE
from justrl_recipe.deviations import left_open
from justrl_recipe.errors import UserError
from justrl_recipe.terminal import say

EXAMPLE = "Example: verl cp justrl_deepseek my_recipe.yaml"


def cp(
    name: Annotated[str, typer.Argument(help="A recipe, ablation or system, by bare name.")],
    file: Annotated[Path, typer.Argument(help="The new file, ending in .yaml; never overwritten.")],
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="Of the system `gpu`: the recipe that it is computed for.")
    ] = RECIPE,
) -> None:
    """Copy a shipped YAML file, or write the system `gpu`, and print the command that runs it."""
    source = SYSTEMS / f"{name}.yaml" if name == THIS_MACHINE else find(name)
    if file.is_dir():
        raise UserError(f"{file} is a folder: give a file in it, such as {file / source.name}")
    if file.suffix != ".yaml":
        raise UserError(f"{file} does not end in .yaml")
    text = content(name, recipe)
    try:
        with file.open("x") as target:
            target.write(text)
    except FileExistsError as error:
        raise UserError(f"{file} exists: choose another name") from error
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
    say(f"{file}: run it with `{command(source, file, recipe)}`")


def command(source: Path, file: Path, recipe: str) -> str:
    """The command that runs a copy of a shipped file."""
    copied = shlex.quote(str(file))
    if source.parent == ABLATIONS:
        return f"verl run justrl_tiny --ablation {copied}"
    if source.parent == SYSTEMS:
        return f"verl run {'justrl_tiny' if source.stem == 'cpu' else shlex.quote(recipe)} --system {copied}"
    if source.stem == BASE:
        left = " ".join(f"{key}={key.rpartition('.')[2].upper()}" for key in sorted(left_open()))
        return f"verl run {copied} {left}"
    return f"verl run {copied}"
