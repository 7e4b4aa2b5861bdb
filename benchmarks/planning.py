"""What `verl plan` estimates: beside what was measured, and for every system (docs/planning.md).

    .venv/bin/python benchmarks/planning.py

The measurements (results/h200/memory.jsonl) are of engine.py on H200s: the trainer's own peak as torch counts it, so
the rows of vLLM and of CUDA have no part in it.
"""

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

from justrl_recipe import this_machine
from justrl_recipe.config import SYSTEMS, Request, load, put, recipe_names
from justrl_recipe.errors import UserError
from justrl_recipe.gpus import Gpus
from justrl_recipe.planning import cost, gpu_system, memory
from justrl_recipe.planning.model_shape import required

MEASURED = Path(__file__).parent / "results" / "h200" / "memory.jsonl"
OUTSIDE = ("vLLM", "CUDA")
PLANNED = [
    *(("justrl_deepseek", name) for name in ("a800x32", "h100x8", "h200x4", "h200x2", "h200x1")),
    *(("justrl_deepseek", name) for name in ("a100x8", "l40sx4", "rtx4090x1")),
    ("justrl_tiny", "cpu"),
]
# Cards by memory in GiB as nvidia-smi shows it, with CUDA's compute capability.
CARDS = {
    "RTX4060": (8.0, (8, 9)),
    "RTX3060": (12.0, (8, 6)),
    "RTX4080": (16.0, (8, 9)),
    "RTX4090": (24.0, (8, 9)),
    "RTX5090": (31.8, (12, 0)),
    "A100-40GB": (40.0, (8, 0)),
    "L40S": (45.0, (8, 9)),
    "H100-80GB": (79.6, (9, 0)),
    "A100-80GB": (80.0, (8, 0)),
    "H200": (140.4, (9, 0)),
}
# The systems that are computed: the card, how many, and what the file's comment calls them.
COMPUTED = {
    "a100x8": ("A100-80GB", 8, "One node of 8 A100-80GB"),
    "l40sx4": ("L40S", 4, "4 L40S (48 GB) of one host"),
    "rtx4090x1": ("RTX4090", 1, "One RTX 4090 (24 GB)"),
}


@cache
def resolved(recipe: str, system: str) -> dict:
    """The config of a recipe on a system; composing one takes a third of a second."""
    return load(Request(recipe, system)).values


def estimate(run: dict) -> float:
    """GiB that the trainer holds at its peak, by the formulas."""
    overrides = OmegaConf.from_dotlist([f"trainer.n_gpus_per_node={run['gpus']}", *run["overrides"]])
    config = OmegaConf.to_container(OmegaConf.merge(resolved("justrl_deepseek", "h200x1"), overrides))
    shape = required(config)
    rows = memory.rows(shape, config, 0, run["tokens"])
    return sum(row.update for row in rows if not row.name.startswith(OUTSIDE)) / memory.GIB


def runs() -> list[dict]:
    return [json.loads(line) for line in MEASURED.read_text().splitlines()]


def beside_measurements() -> Iterator[str]:
    yield "| setting | GPUs | tokens of a micro-batch | estimate, GiB | measured, GiB | difference |"
    yield "|---|---:|---:|---:|---:|---:|"
    for found in runs():
        ours, theirs = estimate(found), found["peak_gib"]
        size = f"{found['gpus']} | {found['tokens']:,}"
        yield f"| {found['name']} | {size} | {ours:.1f} | {theirs:.1f} | {ours / theirs - 1:+.0%} |"


def of_systems() -> Iterator[str]:
    """A line for each recipe and system that belong together, by number of GPUs."""
    head = ["recipe", "system", "machine", "update, GiB", "rollout, GiB", "of", "full responses at once"]
    yield f"| {' | '.join([*head, 'GPU hours', 'days'])} |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|"
    for recipe, system in PLANNED:
        config = resolved(recipe, system)
        shape = required(config)
        machine, trainer = config["machine"], config["trainer"]
        gpus, size = trainer["nnodes"] * trainer["n_gpus_per_node"], machine["memory_gib"] * memory.GIB
        update, rollout = (peak / memory.GIB for peak in memory.peaks(shape, config, size))
        cache = "" if trainer["device"] == "cpu" else f"{gpus * memory.responses_at_once(shape, config, size):,}"
        found, hours = cost.measured(recipe, machine["name"], config, shape.parameters), ["not measured", ""]
        if found:
            spent = cost.gpu_hours(config, cost.expected_length(config), found.tokens_per_second)
            hours = [f"{spent:,.0f}", f"{spent / gpus / 24:,.0f}"] if spent > 1 else [f"{spent:.2f}", ""]
        where = machine["name"] if trainer["device"] == "cpu" else f"{gpus} x {machine['name']}"
        cells = [recipe, system, where, f"{update:.1f}", f"{rollout:.1f}", str(machine["memory_gib"]), cache, *hours]
        yield f"| {' | '.join(cells)} |"


def of_cards() -> Iterator[str]:
    """The smallest card on which each recipe fits alone: with its state on the GPU, and with what has to move."""
    yield "| recipe | smallest card, state on the GPU | smallest card, state offloaded | host memory, GiB |"
    yield "|---|---|---|---:|"
    for recipe in recipe_names():
        found = {name: host for name, host in on_cards(recipe) if host is not None}
        resident = next((name for name, host in found.items() if host == 0), "none")
        smallest, host = next(iter(found.items()))
        cells = [_card(smallest), f"{host:.0f}"] if host else ["the same", ""]
        yield f"| {recipe} | {_card(resident)} | {' | '.join(cells)} |"


def on_cards(recipe: str) -> Iterator[tuple[str, float | None]]:
    """For each card, GiB of the host's memory that a recipe takes on it, or None where it does not fit."""
    warmed_up = {"justrl_smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # has the shape of its recipe's model
    model = [f"actor_rollout_ref.model.path={warmed_up[recipe]}"] if recipe in warmed_up else []
    values = this_machine.on_shared(Request(recipe, overrides=tuple(model)), Gpus("GPU", 1, 0, 0, (9, 0)))
    shape = required(values)
    for name, (memory_gib, capability) in CARDS.items():
        found = Gpus(name, 1, memory_gib, memory_gib, capability)
        try:
            chosen = gpu_system.settings(found, values, shape, flash_attention=False)
        except UserError:
            yield name, None
            continue
        config = copy.deepcopy(values)
        for setting in chosen:
            put(config, setting.key, setting.value)
        yield name, memory.on_host(shape, config) / memory.GIB


def _card(name: str) -> str:
    return f"{name} ({CARDS[name][0]:g} GiB)" if name in CARDS else name


def system_file(system: str) -> str:
    """A system file that is computed and not measured, as recipes/system/ has it."""
    card, count, what = COMPUTED[system]
    memory_gib, capability = CARDS[card]
    head = [
        f"{what}, computed and never run: `verl plan`'s formulas for justrl_deepseek.",
        "benchmarks/planning.py writes this file.",
        f"Run:   verl run recipes/justrl_deepseek.yaml --system {system}",
    ]
    found = Gpus(card, count, memory_gib, memory_gib, capability)
    values = this_machine.on_shared(Request("justrl_deepseek"), found)
    chosen = gpu_system.settings(found, values, required(values), flash_attention=False, system=system)
    return gpu_system.text(chosen, head)


if __name__ == "__main__":
    for name in COMPUTED:
        (SYSTEMS / f"{name}.yaml").write_text(system_file(name))
    print(*beside_measurements(), "", *of_systems(), sep="\n")
