"""`verl ls`: what there is to run."""

from pathlib import Path

from justrl_recipe.config import ABLATIONS, RECIPES, SYSTEMS, THIS_MACHINE, names, recipe_names
from justrl_recipe.terminal import say

EXAMPLE = "Example: verl ls"


def ls() -> None:
    """List the recipes, ablations and systems."""
    groups = (
        ("recipes (verl run NAME)", RECIPES, recipe_names()),
        ("ablations (--ablation NAME)", ABLATIONS, names(ABLATIONS)),
        ("systems (--system NAME)", SYSTEMS, names(SYSTEMS)),
    )
    for title, folder, found in groups:
        say(title)
        for name in found:
            say(f"  {name:<20}{summary(folder / f'{name}.yaml')}")
    say(f"  {THIS_MACHINE:<20}The GPUs of this machine, by estimates.")


def summary(file: Path) -> str:
    """The first sentence of a YAML file's opening comment."""
    comments = [line[1:].strip() for line in file.read_text().splitlines() if line.startswith("#")]
    text = " ".join(line for line in comments if not line.startswith("@package"))
    return text.split(". ")[0].split(": ")[0] + "." if ". " in text else text
