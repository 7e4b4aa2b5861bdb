"""`verl run`: train with a recipe."""

import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from omegaconf import OmegaConf

from justrl_recipe import checks, config, files, processes, this_machine
from justrl_recipe.checks import Problem, accelerators, named_code
from justrl_recipe.cli import options as arguments
from justrl_recipe.config import Config
from justrl_recipe.deviations import EMBEDDED_SECTIONS, describe
from justrl_recipe.errors import UserError
from justrl_recipe.masking import masked_config
from justrl_recipe.planning import cost
from justrl_recipe.planning.model_shape import of_recipe
from justrl_recipe.run import cluster, log, own_reward, provenance, start
from justrl_recipe.run import resume as continuation
from justrl_recipe.run.folder import RUNS, RunFolder, new_run_folder, placed
from justrl_recipe.terminal import say, warn

EXAMPLE = "Example: verl run recipes/justrl_tiny.yaml --ablation overlong_penalty trainer.total_training_steps=10"


def run(
    recipe: arguments.Recipe,
    overrides: arguments.Overrides = None,
    ablation: arguments.Ablation = None,
    system: arguments.System = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run folder, a new one; default runs/RECIPE-TIME.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run in --out FOLDER, or in FOLDER given as RECIPE."),
    ] = False,
    restarts: Annotated[
        int, typer.Option(metavar="N", min=0, help="Resume up to N times after a failure, with growing waits.")
    ] = 0,
    stop_after: arguments.Time = None,
    keep: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="Keep the last K checkpoints and the best by validation; default all."),
    ] = None,
    keep_responses: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Keep the responses to N prompts of a sampled step; default 2."),
    ] = None,
    address: arguments.Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config as YAML and stop.")] = False,
    skip_check: arguments.SkipCheck = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also print the log of veRL, Ray and vLLM.")] = False,
) -> None:
    """Train a model with a recipe, or continue a run with --resume from its last whole checkpoint."""
    given = [*(overrides or []), *([f"trainer.max_actor_ckpt_to_keep={keep}"] if keep else [])]
    given += [] if keep_responses is None else [f"keep_responses={keep_responses}"]
    time_left = arguments.seconds(stop_after)
    stop_at = None if time_left is None else time.monotonic() + time_left
    options = start.Options(verbose, stop_at, skip_check or [])
    if resume and Path(recipe).is_dir():
        if given or ablation or system or out:
            raise UserError(
                f"{recipe} resumes with its own config: to change it, verl run RECIPE --out {recipe} --resume"
            )
        name, out = Path(recipe).name, Path(recipe)
        if not RunFolder(out).manifest.is_file():
            raise UserError(f"{recipe} has no run yet: verl run RECIPE --out {recipe} starts one")
        composed, about = continuation.config_of(RunFolder(out)), continuation.about(RunFolder(out))
        about["skipped_checks"] = [*dict.fromkeys((*about["skipped_checks"], *options.skipped))]
    else:
        request, composed, said = this_machine.load(arguments.request(recipe, given, ablation, system), address)
        say(*said, file=sys.stderr)
        name = config.find_recipe(recipe).stem
        about = {**check(composed, options.skipped), **describe(request, composed)}
    notice(about)
    if dry_run:
        shown, _ = masked_config(placed(composed, out or RUNS / f"{name}-TIME"))
        yaml.safe_dump(shown, sys.stdout, sort_keys=False)
        return

    try:
        train(composed, name, out, about, options, resume, restarts, address)
    except start.TrainingFailed as failure:
        warn(f"training failed: {failure}")
        raise typer.Exit(1) from failure
    except start.StoppedOnRequest as stopped:
        warn(f"stopped {stopped}")
        raise typer.Exit(75) from stopped
    except KeyboardInterrupt as interrupt:
        by = f" by {interrupt}" if str(interrupt) else ""
        warn(f"interrupted{by}")
        raise typer.Exit(130) from interrupt


def check(composed: Config, skip: Collection[str]) -> dict[str, Any]:
    """Refuse a config with errors; for the manifest, the code that it names, what was skipped and the warnings."""
    base = config.load_base()
    warnings = refuse(checks.kept(checks.of_config(composed, base), skip))
    executed = list(named_code.executed(checks.usable(composed, base), base))
    return {"code": executed, "skipped_checks": list(skip), "warnings": warnings}


def train(
    composed: Config,
    name: str,
    out: Path | None,
    about: dict[str, Any],
    options: start.Options,
    resume: bool,
    restarts: int,
    address: str | None,
) -> None:
    """Make what is missing, check the rest, then train in a new run folder, or go on in an old one."""
    old = started(composed, out) if resume else None
    if old and log.unfinished(placed(composed, old.path), old) is None:
        say(f"{old.path} is finished: nothing is left to train")
        return
    cluster_address = cluster.address(address, composed.values)
    code = ready(composed, out, old, about, cluster_address is not None)
    if cluster_address:
        options = replace(options, cluster=join(cluster_address, composed, out or RUNS, about))
    folder = old or new_run_folder(name, out)
    settings = placed(composed, folder.path)
    unchecked = old is None  # a new run leaves nothing until its prompts are checked
    with files.locked(folder.path):
        try:
            if old:
                refuse_more(checks.of_prompts(composed, config.load_base()), about)
            begin = continuation.prepare(settings, folder) if old else start.Begin()
            own_reward.copy_code(code, folder)

            def meanwhile() -> None:
                nonlocal unchecked
                if unchecked:
                    refuse_more(checks.of_prompts(composed, config.load_base()), about)
                announce(folder, composed, begin if old else None)
                unchecked = False

            continuation.train(settings, folder, about, options, begin, restarts, meanwhile)
        except (start.TrainingFailed, start.StoppedOnRequest, KeyboardInterrupt):
            if not unchecked:
                warn(f"to continue: verl run --resume {folder.path}")
            raise
        finally:
            if unchecked:
                folder.remove()
    say(f"done: {folder.path}")


def started(composed: Config, out: Path | None) -> RunFolder | None:
    """The run in a folder that is to resume; None where none has started there yet.

    Raises:
        UserError: no folder is named, or the run would go on as another one.
    """
    if not out:
        raise UserError("--resume needs the folder of the run: verl run RECIPE --out FOLDER --resume")
    if not RunFolder(out).manifest.is_file():
        warn(f"{out} has no run yet: it starts from the beginning")
        return None
    refuse_changes(RunFolder(out), placed(composed, out))
    return RunFolder(out)


def ready(
    composed: Config, out: Path | None, old: RunFolder | None, about: dict[str, Any], joins: bool
) -> Sequence[Path]:
    """Make what the tiny recipe lacks, and check this machine, unless the run `joins` a cluster, and what a run reads
    and writes; the files of its own reward function.
    """
    base = config.load_base()
    of_machine = [] if joins else list(accelerators.problems(checks.usable(composed, base).values))
    if "tiny_model" in composed.values:
        refuse_more(of_machine, about)
        make_tiny(composed.values)
        of_machine = []
    of_files = checks.of_files(composed, base, out or RUNS)
    reward = composed.values["reward"]["custom_reward_function"]
    imported = own_reward.import_reward(reward["path"], reward["name"])
    changed = own_reward.changed(imported.files, old) if old else []
    refuse_more([*of_files, *checks.reward(imported.error, changed), *of_machine], about)
    about["data"] = provenance.data_files(composed.values)
    if old:
        refuse_other_data(old, about["data"])
    return imported.files


def announce(folder: RunFolder, composed: Config, resumes: start.Begin | None) -> None:
    """Say where the run writes, how much at most, and from where it goes on, if it resumes."""
    say(f"run folder: {folder.path}")
    if (shape := of_recipe(composed.values)) and cost.checkpoints(composed.values):
        say(f"checkpoints take at most {cost.disk(composed.values, shape)}")
    if resumes:
        say(f"resuming after step {resumes.step}" if resumes.checkpoint else "no whole checkpoint: starting again")


def refuse_changes(folder: RunFolder, settings: dict[str, Any]) -> None:
    """Stop with exit code 2 where a run would resume as another one."""
    changed = continuation.changes(folder, settings)
    for d in changed:
        warn(f"error: {d.key} is {json.dumps(d.recipe)} in {folder.path} and {json.dumps(d.yours)} now")
    if changed:
        raise UserError("a run resumes with the values that it started with: restore them, or choose another --out")


def refuse_other_data(folder: RunFolder, now: dict[str, list[dict[str, str]]]) -> None:
    """Stop where a run would resume on other data; its files may have moved.

    Raises:
        UserError: the files of a key have other content than when the run started.
    """
    for key, before in continuation.about(folder).get("data", {}).items():
        if [file["sha256"] for file in before] != [file["sha256"] for file in now[key]]:
            raise UserError(f"{key}: its files are not those that {folder.path} started with: restore them")


def join(address: str, composed: Config, out: Path, about: dict[str, Any]) -> dict[str, str]:
    """The variables with which the run joins a Ray cluster, once every node has what it needs.

    Raises:
        UserError: there is no way into the cluster.
    """
    say(f"Ray cluster: {address}")
    settings = placed(composed, out)
    found = cluster.look(address, settings, out)
    refuse_more(cluster.problems(found, settings), about)
    return found.environment


def refuse_more(found: Iterable[Problem], about: dict[str, Any]) -> None:
    """As `refuse`, without the checks that are skipped; the manifest lists a warning once, also of a resumed run."""
    lines = refuse(checks.kept(found, about["skipped_checks"]))
    about["warnings"] += [line for line in lines if line not in about["warnings"]]


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
    with processes.scratch_folder() as scratch:
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
