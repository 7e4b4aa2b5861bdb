"""`verl cp`: take a recipe, an ablation or a system as the start of your own."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe.cli.cat import find
from justrl_recipe.config import ABLATIONS, BASE, SYSTEMS
from justrl_recipe.deviations import left_open
from justrl_recipe.errors import UserError
from justrl_recipe.terminal import say

EXAMPLE = "Example: verl cp justrl_deepseek my_recipe.yaml"


def cp(
    name: Annotated[str, typer.Argument(help="A recipe, ablation or system, by bare name.")],
    file: Annotated[Path, typer.Argument(help="The new file, ending in .yaml; never overwritten.")],
) -> None:
    """Copy a shipped YAML file and print the command that runs the copy."""
    source = find(name)
    if file.is_dir():
        raise UserError(f"{file} is a folder: give a file in it, such as {file / source.name}")
    if file.suffix != ".yaml":
        raise UserError(f"{file} does not end in .yaml")
    try:
        with file.open("x") as target:
            target.write(source.read_text())
    except FileExistsError as error:
        raise UserError(f"{file} exists: choose another name") from error
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
    say(f"{file}: run it with `{command(source, file)}`")


def command(source: Path, file: Path) -> str:
    """The command that runs a copy of a shipped file."""
    copied = shlex.quote(str(file))
    if source.parent == ABLATIONS:
        return f"verl run justrl_tiny --ablation {copied}"
    if source.parent == SYSTEMS:
        recipe = "justrl_tiny" if source.stem == "cpu" else "justrl_deepseek"
        return f"verl run {recipe} --system {copied}"
    if source.stem == BASE:
        left = " ".join(f"{key}={key.rpartition('.')[2].upper()}" for key in sorted(left_open()))
        return f"verl run {copied} {left}"
    return f"verl run {copied}"
