"""`verl plan`: what a run will take, before it is started."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from justrl_recipe import checks, config, this_machine
from justrl_recipe.checks import Problem
from justrl_recipe.cli import options
from justrl_recipe.config import Config
from justrl_recipe.errors import UserError
from justrl_recipe.planning import cost, memory
from justrl_recipe.planning.fit import at_least, fit
from justrl_recipe.planning.model_shape import LARGEST, Shape, is_size, required
from justrl_recipe.run.folder import RUNS
from justrl_recipe.terminal import say, warn

EXAMPLE = "Example: verl plan justrl_deepseek --system h100x8"
A_NODE = 8  # GPUs
NO_ROOM = ": vLLM will not start, give more actor_rollout_ref.rollout.gpu_memory_utilization"


def plan(
    recipe: options.Recipe,
    overrides: options.Overrides = None,
    ablation: options.Ablation = None,
    system: options.System = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", min=1, help="Number of GPUs; replaces the system.")] = None,
    memory_gib: Annotated[
        float | None,
        typer.Option("--memory", metavar="GIB", help="Memory of one GPU in GiB, as nvidia-smi shows it."),
    ] = None,
    throughput: Annotated[
        float | None, typer.Option(metavar="TOKENS", help="Measured tokens per second and GPU.")
    ] = None,
) -> None:
    """Estimate memory, tokens, GPU hours and disk of a run; suggest overrides if it does not fit."""
    for option, number in (("--memory", memory_gib), ("--throughput", throughput)):
        if number is not None and not is_size(number):
            raise UserError(f"{option} {number}: give a number above 0, at most {LARGEST:,}")
    given = [*(overrides or []), *_gpus(gpus, system)]
    _, composed, _ = this_machine.load(options.request(recipe, given, ablation, system), instead=False)
    for problem in _problems(composed):
        if problem.level == "error":
            raise UserError(f"{problem} (`verl validate` lists what is wrong)")
        warn(problem)
    shape, machine = required(composed.values), _machine(composed, memory_gib)
    name = config.find_recipe(recipe).stem
    values = composed.values
    say(f"{name} on {_where(values, machine)}", "", *_memory(shape, values, machine.memory_gib * memory.GIB), "")
    speed = cost.measured(name, machine.name, values, shape.parameters)
    speed = cost.Throughput(throughput, "as given") if throughput else speed
    say(*_work(name, values, speed), f"checkpoints  {cost.disk(values, shape)}")


def _problems(composed: Config) -> list[Problem]:
    """What `verl validate` finds in the config and of the model, errors first; a plan needs no disk, no weights."""
    base = config.load_base()
    found, left_out = checks.of_config(composed, base), {"disk"}
    if not any(problem.level == "error" for problem in found):
        folder = str(composed.values["actor_rollout_ref"]["model"]["path"])
        if os.path.isfile(os.path.join(folder, "config.json")):
            left_out.add("model")
        if "tiny_model" not in composed.values or os.path.isdir(folder):
            found += checks.of_model(composed, base, RUNS)
    kept = [problem for problem in found if problem.check not in left_out and problem.level != "unchecked"]
    return sorted(kept, key=lambda problem: problem.level != "error")


@dataclass(frozen=True)
class Machine:
    """A system's `machine` section, or what stands in its place; memory of one GPU in GiB."""

    name: str
    memory_gib: float


def _machine(composed: Config, memory_gib: float | None) -> Machine:
    """What the run is planned for.

    Raises:
        UserError: the recipe names no system, and --memory says nothing either.
    """
    if memory_gib:
        return Machine("GPU", memory_gib)
    about = composed.values.get("machine")
    if about is None:
        raise UserError("the recipe names no system: give --system NAME, or --gpus N --memory GIB")
    return Machine(about["name"], about["memory_gib"])


def _gpus(gpus: int | None, system: str | None) -> list[str]:
    """Overrides for a number of GPUs, in nodes of eight."""
    if gpus is None:
        return []
    if system is not None:
        raise UserError("--gpus and --system both say how many GPUs there are: give one of them")
    if gpus > A_NODE and gpus % A_NODE:
        raise UserError(f"--gpus {gpus}: more than {A_NODE} GPUs are counted in nodes of {A_NODE}")
    return [f"trainer.nnodes={max(1, gpus // A_NODE)}", f"trainer.n_gpus_per_node={min(gpus, A_NODE)}"]


def _where(values: dict[str, Any], machine: Machine) -> str:
    trainer = values["trainer"]
    each = f"{machine.memory_gib:.0f} GiB"
    if trainer["device"] == "cpu":
        return f"{machine.name}, {each} of memory"
    nodes = f" on {trainer['nnodes']} nodes" if trainer["nnodes"] > 1 else ""
    return f"{trainer['nnodes'] * trainer['n_gpus_per_node']} x {machine.name}{nodes}, {each} each"


def _memory(shape: Shape, values: dict[str, Any], size: float) -> Iterator[str]:
    """The table of memory, and whether it fits."""
    rows = memory.rows(shape, values, size)
    total = memory.total(rows)
    yield f"{'GiB per GPU':<44}{'update':>8}{'rollout':>9}"
    for row in (*rows, total):
        yield f"{row.name:<44}{row.update / memory.GIB:>8.1f}{row.rollout / memory.GIB:>9.1f}"
    spare = size - max(total.update, total.rollout)
    if spare >= 0:
        yield f"fits, {spare / memory.GIB:.1f} GiB to spare"
    else:
        found, on_cpu = fit(shape, values, size), values["trainer"]["device"] == "cpu"
        larger = f": it takes {'more memory' if on_cpu else 'more GPUs, or larger ones'}" if found.over else ""
        yield f"does not fit, {at_least(-spare)} GiB over: {found}{larger}"
    if host := memory.on_host(shape, values):
        yield f"and {host / memory.GIB:.1f} GiB of the host's memory per GPU: offloaded state, reference model"
    if not values["actor_rollout_ref"]["model"]["use_remove_padding"]:
        yield "(the tokens of a micro-batch are counted without padding, which use_remove_padding=false adds)"
    if values["trainer"]["device"] != "cpu":
        at_once = memory.responses_at_once(shape, values, size)
        yield f"KV cache for {at_once:,} full responses at once on each replica" + (NO_ROOM if not at_once else "")


def _work(name: str, values: dict[str, Any], found: cost.Throughput | None) -> Iterator[str]:
    """Steps, tokens and hours."""
    trainer = values["trainer"]
    gpus = trainer["nnodes"] * trainer["n_gpus_per_node"]
    most, length = cost.most_tokens(values), cost.expected_length(values)
    yield f"steps        {trainer['total_training_steps']:,}, {cost.responses(values):,} responses"
    yield f"tokens       {most:.1e} if every response is full, as the paper counts"
    if name in cost.PAPER:
        yield f"             {', '.join(f'{who} {tokens:.1e}' for who, tokens in cost.PAPER[name].items())}"
    if found is None:
        yield "GPU hours    unknown: give --throughput TOKENS, the perf/throughput of a few steps"
        return
    hours = cost.gpu_hours(values, length, found.tokens_per_second)
    yield f"GPU hours    {hours:,.1f}, {hours / gpus / 24:,.1f} days on {gpus}, without validation and checkpoints"
    yield f"             at {found.tokens_per_second:,.0f} tokens/s per GPU: {found.source}"
    yield f"             and {length:,.0f} tokens a response in the mean"
