"""`verl cp`: take a recipe as the start of your own."""

from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe.cli.cat import find
from justrl_recipe.errors import UserError

EXAMPLE = "Example: verl cp justrl_deepseek my_recipe.yaml"


def cp(
    name: Annotated[str, typer.Argument(help="A recipe, ablation or system, by bare name.")],
    file: Annotated[Path, typer.Argument(help="The new file, ending in .yaml; never overwritten.")],
) -> None:
    """Copy a shipped YAML file, to change it and `verl run` it."""
    source = find(name)
    if file.suffix != ".yaml":
        raise UserError(f"{file} does not end in .yaml")
    try:
        with file.open("x") as target:
            target.write(source.read_text())
    except FileExistsError as error:
        raise UserError(f"{file} exists: choose another name") from error
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
    print(f"{file}: run it with `verl run {file}`")
