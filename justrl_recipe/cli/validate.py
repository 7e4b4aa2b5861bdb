"""`verl validate`: what is wrong with a run before it costs GPU hours."""

import json
from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe import checks, config
from justrl_recipe.checks import Problem
from justrl_recipe.cli import options
from justrl_recipe.config import Config

EXAMPLE = "Example: verl validate justrl_deepseek --system h100x8 --ablation overlong_penalty"


def validate(
    recipe: options.Recipe,
    overrides: options.Overrides = None,
    ablation: options.Ablation = None,
    system: options.System = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The run folder; its disk is looked at.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """List everything that is wrong with a run: exit code 1 if something is, 2 if something could not be checked."""
    composed = config.load(options.request(recipe, overrides, ablation, system))
    problems, unchecked = look(composed, out)
    if as_json:
        found = {"problems": problems, "unchecked": unchecked}
        print(json.dumps({name: [line.as_dict() for line in lines] for name, lines in found.items()}, indent=2))
    else:
        show(problems, unchecked)
    if problems or unchecked:
        raise typer.Exit(1 if problems else 2)


def look(composed: Config, out: Path | None) -> tuple[list[Problem], list[Problem]]:
    """The problems of a config and of its files, and what could not be checked."""
    from justrl_recipe import embedded
    from justrl_recipe.checks import files, keys
    from justrl_recipe.run.folder import RUNS

    base = config.load_base()
    problems = checks.of_config(composed, base)
    if keys.unusable(composed, base):
        return problems, []
    if "tiny_model" in composed.values and not embedded.is_made(composed.values):
        return problems, []  # `verl run` makes them first
    of_files, unchecked = files.problems(composed, out or RUNS)
    return [*problems, *of_files], unchecked


def show(problems: list[Problem], unchecked: list[Problem]) -> None:
    """One entry a problem, with its fix below it."""
    for mark, line in [*(("x", line) for line in problems), *(("?", line) for line in unchecked)]:
        print(f"{mark} {line.key}: {line.why}\n    {line.fix}")
    count = f"{len(problems)} problem{'s' * (len(problems) != 1)}" if problems else "no problems"
    print(count + f", {len(unchecked)} not checked" * bool(unchecked))
