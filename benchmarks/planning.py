"""What `verl plan` estimates beside what was measured: the table of docs/planning.md.

    .venv/bin/python benchmarks/planning.py

The measurements (benchmarks/h200/memory.jsonl) are of benchmarks/engine.py on H200s: the trainer's own peak as torch
counts it, so the rows of vLLM and of CUDA have no part in it.
"""

import json
from pathlib import Path

from justrl_recipe.config import Request, load
from justrl_recipe.planning import memory
from justrl_recipe.planning.shape import find

MEASURED = Path(__file__).with_name("h200") / "memory.jsonl"
OUTSIDE = ("vLLM", "CUDA")


def estimate(run: dict) -> float:
    """GiB that the trainer holds at its peak, by the formulas."""
    fused = f"actor_rollout_ref.model.use_fused_kernels={run['fused']}"
    overrides = (f"trainer.n_gpus_per_node={run['gpus']}", fused)
    config = load(Request("justrl_deepseek", "h200x1", overrides=overrides)).values
    shape = find(config["actor_rollout_ref"]["model"]["path"])
    assert shape is not None
    rows = memory.rows(shape, config, 0, run["tokens"])
    return sum(row.update for row in rows if not row.name.startswith(OUTSIDE)) / memory.GIB


def runs() -> list[dict]:
    return [json.loads(line) for line in MEASURED.read_text().splitlines()]


if __name__ == "__main__":
    print("| logits | GPUs | tokens of a micro-batch | estimate, GiB | measured, GiB | difference |")
    print("|---|---:|---:|---:|---:|---:|")
    for found in runs():
        ours, theirs = estimate(found), found["peak_gib"]
        size = f"{found['gpus']} | {found['tokens']:,}"
        print(f"| {found['name']} | {size} | {ours:.1f} | {theirs:.1f} | {ours / theirs - 1:+.0%} |")
