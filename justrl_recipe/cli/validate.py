"""`verl validate`: what is wrong with a run before it costs GPU hours."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from justrl_recipe import checks, config, this_machine
from justrl_recipe.checks import Problem, accelerators
from justrl_recipe.cli import options
from justrl_recipe.config import Config
from justrl_recipe.terminal import say, say_json

EXAMPLE = "Example: verl validate justrl_deepseek --system h100x8 --ablation overlong_penalty"
MARKS = {"error": "x", "warning": "!", "unchecked": "?"}


def validate(
    recipe: options.Recipe,
    overrides: options.Overrides = None,
    ablation: options.Ablation = None,
    system: options.System = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The run folder; its disk is checked.")] = None,
    skip_check: options.SkipCheck = None,
    import_reward: Annotated[
        bool, typer.Option("--import-reward", help="Import the reward function, in a separate process.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """List everything that is wrong with a run: exit code 1 for errors, 2 if something could not be checked."""
    _, composed, said = this_machine.load(options.request(recipe, overrides, ablation, system))
    say(*said, file=sys.stderr)
    found = find_problems(composed, out, import_reward)
    found = checks.kept(found, skip_check or [])
    by_level = {level: [problem for problem in found if problem.level == level] for level in MARKS}
    if as_json:
        names = {"problems": "error", "warnings": "warning", "unchecked": "unchecked"}
        content = {name: [problem.as_dict() for problem in by_level[level]] for name, level in names.items()}
        say_json(content)
    else:
        print_problems([problem for level in MARKS for problem in by_level[level]])
    if by_level["error"] or by_level["unchecked"]:
        raise typer.Exit(1 if by_level["error"] else 2)


def find_problems(composed: Config, out: Path | None, import_reward: bool) -> list[Problem]:
    """The problems of a config and of its files; those that `verl run` makes first are not looked for."""
    from justrl_recipe.cpu import tiny
    from justrl_recipe.run import cluster
    from justrl_recipe.run.folder import RUNS

    base = config.load_base()
    usable = checks.usable(composed, base)
    found = checks.of_config(composed, base)
    if not any(problem.level == "error" for problem in found) and not cluster.address(None, composed.values):
        found += accelerators.warnings(usable.values)
    if "tiny_model" not in usable.values or tiny.is_made(usable.values):
        found += [*checks.of_files(composed, base, out or RUNS), *checks.of_prompts(composed, base)]
    elif usable.flat["actor_rollout_ref.model.path"] != usable.flat["tiny_model.path"]:
        found += checks.of_model(composed, base, out or RUNS)
    if import_reward:
        from justrl_recipe.run import own_reward

        reward = usable.values["reward"]["custom_reward_function"]
        found += checks.reward(own_reward.import_reward(reward["path"], reward["name"]).error, changed=[])
    return found


def print_problems(found: Sequence[Problem]) -> None:
    """One entry a problem, with its fix below it."""
    for problem in found:
        say(f"{MARKS[problem.level]} {problem.key}: {problem.why} [{problem.check}]", f"    {problem.fix}")
    levels = [problem.level for problem in found]
    counts = [f"{levels.count('error') or 'no'} problem{'s' * (levels.count('error') != 1)}"]
    if warnings := levels.count("warning"):
        counts.append(f"{warnings} warning{'s' * (warnings != 1)}")
    if unchecked := levels.count("unchecked"):
        counts.append(f"{unchecked} not checked")
    say(", ".join(counts))
