"""What `verl plan` estimates: beside what was measured, and for every system (docs/planning.md).

    .venv/bin/python benchmarks/planning.py

The measurements (results/h200/memory.jsonl) are of engine.py on H200s: the trainer's own peak as torch counts it, so
the rows of vLLM and of CUDA have no part in it.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

from justrl_recipe.config import Request, load
from justrl_recipe.planning import cost, memory
from justrl_recipe.planning.model_shape import of_recipe

MEASURED = Path(__file__).parent / "results" / "h200" / "memory.jsonl"
OUTSIDE = ("vLLM", "CUDA")
PLANNED = [("justrl_deepseek", name) for name in ("a800x32", "h100x8", "h200x4", "h200x2", "h200x1")] + [
    ("justrl_tiny", "cpu")
]


@cache
def resolved(recipe: str, system: str) -> dict:
    """The config of a recipe on a system; composing one takes a third of a second."""
    return load(Request(recipe, system)).values


def estimate(run: dict) -> float:
    """GiB that the trainer holds at its peak, by the formulas."""
    overrides = OmegaConf.from_dotlist([f"trainer.n_gpus_per_node={run['gpus']}", *run["overrides"]])
    config = OmegaConf.to_container(OmegaConf.merge(resolved("justrl_deepseek", "h200x1"), overrides))
    shape = of_recipe(config)
    assert shape is not None
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
        shape = of_recipe(config)
        assert shape is not None
        machine, trainer = config["machine"], config["trainer"]
        gpus, size = trainer["nnodes"] * trainer["n_gpus_per_node"], machine["memory_gib"] * memory.GIB
        update, rollout = (peak / memory.GIB for peak in memory.peaks(shape, config, size))
        cache = "" if trainer["device"] == "cpu" else f"{gpus * memory.responses_at_once(shape, config, size):,}"
        found, hours = cost.measured(recipe, system, machine["name"]), ["not measured", ""]
        if found:
            spent = cost.gpu_hours(config, cost.expected_length(config), found.tokens_per_second)
            hours = [f"{spent:,.0f}", f"{spent / gpus / 24:,.0f}"] if spent > 1 else [f"{spent:.2f}", ""]
        where = machine["name"] if trainer["device"] == "cpu" else f"{gpus} x {machine['name']}"
        cells = [recipe, system, where, f"{update:.1f}", f"{rollout:.1f}", str(machine["memory_gib"]), cache, *hours]
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(*beside_measurements(), "", *of_systems(), sep="\n")
