"""`verl run`: train with a recipe."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from omegaconf import OmegaConf

from justrl_recipe import checks, config, processes
from justrl_recipe.checks import Problem, named_code
from justrl_recipe.cli import options
from justrl_recipe.config import Config
from justrl_recipe.deviations import EMBEDDED_SECTIONS, describe
from justrl_recipe.errors import UserError
from justrl_recipe.masking import masked_config
from justrl_recipe.run import own_reward, start
from justrl_recipe.run.folder import RUNS, new_run_folder, placed
from justrl_recipe.terminal import say, warn

EXAMPLE = "Example: verl run recipes/justrl_tiny.yaml --ablation overlong_penalty trainer.total_training_steps=10"


def run(
    recipe: options.Recipe,
    overrides: options.Overrides = None,
    ablation: options.Ablation = None,
    system: options.System = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run folder, a new one; default runs/RECIPE-TIME.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config as YAML and stop.")] = False,
    skip_check: options.SkipCheck = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also print the log of veRL, Ray and vLLM.")] = False,
) -> None:
    """Train a model with a recipe."""
    request = options.request(recipe, overrides, ablation, system)
    composed = config.load(request)
    skip = skip_check or []
    warnings = refuse(checks.kept(checks.of_config(composed, config.load_base()), skip))
    executed = list(named_code.executed(checks.usable(composed, config.load_base()), config.load_base()))
    about = {**describe(request, composed), "code": executed, "skipped_checks": skip, "warnings": warnings}
    notice(about)
    name = config.find_recipe(recipe).stem
    if dry_run:
        shown, _ = masked_config(placed(composed, out or RUNS / f"{name}-TIME"))
        yaml.safe_dump(shown, sys.stdout, sort_keys=False)
        return

    try:
        train(composed, name, out, about, verbose)
    except KeyboardInterrupt as interrupt:
        by = f" by {interrupt}" if str(interrupt) else ""
        warn(f"interrupted{by}")
        raise typer.Exit(130) from interrupt


def train(composed: Config, name: str, out: Path | None, about: dict[str, Any], verbose: bool) -> None:
    """Make what is missing, then train in a new run folder."""
    if "tiny_model" in composed.values:
        make_tiny(composed.values)
    of_files = checks.of_files(composed, config.load_base(), out or RUNS)
    reward = composed.values["reward"]["custom_reward_function"]
    imported = own_reward.import_reward(reward["path"], reward["name"])
    found = checks.kept([*of_files, *checks.reward_import(imported.error)], about["skipped_checks"])
    about["warnings"] += refuse(found)
    folder = new_run_folder(name, out)
    own_reward.copy_code(imported.files, folder)
    say(f"run folder: {folder.path}")
    try:
        start.run(placed(composed, folder.path), folder, about, verbose)
    except start.TrainingFailed as failure:
        warn(f"training failed: {failure}")
        raise typer.Exit(1) from failure
    say(f"done: {folder.path}")


def refuse(found: list[Problem]) -> list[str]:
    """Print what was found, stop at errors with exit code 2, and return what else there is, a line each."""
    words = {"error": "error", "warning": "warning", "unchecked": "not checked"}
    for problem in found:
        warn(f"{words[problem.level]}: {problem} [{problem.check}]")
    if any(problem.level == "error" for problem in found):
        raise typer.Exit(2)
    return [str(problem) for problem in found]


def notice(about: dict[str, Any]) -> None:
    """Say on standard error what differs from the recipe, and which code from elsewhere is run."""
    if about["scaled"]:
        warn(f"{about['origin']} scales {len(about['scaled'])} keys of JustRL down (verl cat {about['origin']})")
    for deviation in about["deviations"]:
        values = f"recipe {json.dumps(deviation['recipe'])}, yours {json.dumps(deviation['yours'])}"
        warn(f"deviation: {deviation['key']}: {values}")
    for line in about["code"]:
        warn(f"runs code: {line}")


def make_tiny(resolved: dict[str, Any]) -> None:
    """Make the tiny recipe's data and model where they are not there yet.

    Raises:
        UserError: they cannot be made, with the reason.
    """
    from justrl_recipe.cpu import tiny

    if tiny.is_made(resolved):
        return
    from rich.progress import track

    model = resolved["tiny_model"]
    say(f"making {model['path']} (first use): {model['warmup_steps']} supervised warm-up steps")
    with tempfile.TemporaryDirectory(prefix="justrl-") as scratch:
        file, log = Path(scratch, "sections.yaml"), Path(scratch, "log")
        OmegaConf.save({key: resolved[key] for key in EMBEDDED_SECTIONS}, file)
        piped: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
        with processes.child("justrl_recipe.cpu.tiny", str(file), log=log, **piped) as process:
            assert process.stdout is not None
            for _ in track(process.stdout, description="warm-up", total=model["warmup_steps"], transient=True):
                pass
            process.wait()
        if process.returncode != 0:
            raise UserError(f"cannot make the tiny model: {processes.failure(log, process.returncode)}")
