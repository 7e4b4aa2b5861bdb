"""Runs of arms and seeds with one validation set, for the tests of `verl report`."""

from pathlib import Path

import numpy as np
from run_folders import MANIFEST

from justrl_recipe.report import accuracy, runs
from justrl_recipe.report.arms import Group, arms
from justrl_recipe.report.logs import Series

SMOLLM2 = Path(__file__).parents[1] / "benchmarks" / "results" / "smollm2" / "arms"
METRIC, TITLE = "val-core/AIME24/acc/mean@32", "AIME24 accuracy (avg@32)"
OVERLONG, VERIFIER = ("overlong_penalty",), ("robust_verifier",)


def series(values: dict[int, float]) -> Series:
    return Series(np.array(list(values), dtype=float), np.array(list(values.values()), dtype=float))


def run(values: dict[int, float] | float, seed: int | None = 1, ablations: tuple[str, ...] = (), **about) -> runs.Run:
    """A run with one validation set: values by step, or the last of 40 steps."""
    logged = {METRIC: series(values if isinstance(values, dict) else {0: 0.3, 40: values})}
    changed = [{"key": f"reward.{name}", "recipe": False, "yours": True} for name in ablations]
    manifest = MANIFEST | {"seed": seed, "ablations": list(ablations), "deviations": changed} | about
    arm = runs.arm_name(manifest)
    identity = runs.identity(manifest, None)
    return runs.Run(Path(f"{arm}_{seed}"), arm, arm, logged, manifest, None, 9.0, identity)


def grouped(*of: runs.Run) -> list[Group]:
    return arms(runs.with_labels(of))


def rows(*of: runs.Run) -> dict[str, accuracy.Row]:
    """The final validation of the arms, by their name."""
    [table] = accuracy.tables(grouped(*of))
    assert table.title == TITLE
    return {row.arm.name: row for row in table.rows}
