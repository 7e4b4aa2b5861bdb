"""Arms: the runs of one experiment, which differ only by seed; what is one curve, and its mean and band.

Runs of one arm with the same seed are not independent: they count as one, their mean. A run without a known seed
counts for itself.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from justrl_recipe import intervals
from justrl_recipe.report.logs import FloatArray, Series
from justrl_recipe.report.runs import Run

# Okabe and Ito's colours, which the colour-blind tell apart, without the yellow that is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

# Of four seeds or fewer the interval of the mean is wider than the seeds spread (of two, 16 times): it would hide
# them. From five on it is about as wide, then narrower, and the range only grows with every seed.
SEEDS_FOR_INTERVAL = 5
RANGE, INTERVAL = "min to max of the runs", "95% interval of the mean"


class Look(NamedTuple):
    """How an arm is drawn in every figure."""

    colour: str
    style: str = "-"
    marker: str = ""


class Group(NamedTuple):
    """The runs that are one curve and one column of the tables: an arm, or a single run.

    name: different from that of every other group of a report, without the recipe where all runs have the same.
    arm: the same name of its arm; equal to `name` of an arm.
    runs: of one arm, at least one.
    """

    name: str
    arm: str
    look: Look
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> list[Hashable]:
        """What tells the runs apart: equal where two have the same seed."""
        return [run.label if run.seed is None else run.seed for run in self.runs]

    def logging(self, metric: str) -> "Group":
        """The group without the runs that have not logged a metric; it may be empty."""
        return self._replace(runs=tuple(run for run in self.runs if metric in run.metrics))

    @property
    def several_seeds(self) -> bool:
        return len({run.seed for run in self.runs} - {None}) > 1


def arms(runs: Sequence[Run]) -> list[Group]:
    """The runs by arm: those without a change to their recipe first, then as given."""
    by_arm: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: not run.unchanged):
        by_arm[run.arm].append(run)
    recipe = shared_recipe(runs)
    return [
        Group(without(recipe, name), without(recipe, name), look(number), tuple(of_arm))
        for number, (name, of_arm) in enumerate(by_arm.items())
    ]


def single(groups: Iterable[Group]) -> list[Group]:
    """Each run a group, with the look of its arm."""
    runs = [run for group in groups for run in group.runs]
    recipe = shared_recipe(runs)
    return [
        Group(without(recipe, run.label), group.arm, group.look, (run,)) for group in groups for run in group.runs
    ]


def look(number: int) -> Look:
    return Look(COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)], MARKERS[number % len(MARKERS)])


def shared_recipe(runs: Iterable[Run]) -> str:
    """The recipe of all runs, empty where they have several or a log does not say it."""
    recipes = {run.recipe for run in runs}
    return recipes.pop() if len(recipes) == 1 else ""


def without(recipe: str, name: str) -> str:
    """`+ overlong_penalty` of `justrl_tiny + overlong_penalty`."""
    return name.removeprefix(f"{recipe} ") if recipe and name.startswith(f"{recipe} + ") else name


def base_of(arm: Group, among: Sequence[Group]) -> Group | None:
    """The arm that the arms of a recipe are compared with: the only one that does not change it, None without one."""
    unchanged = [one for one in among if one.runs[0].unchanged and one.runs[0].recipe == arm.runs[0].recipe]
    return unchanged[0] if len(unchanged) == 1 else None


def band_of(groups: Iterable[Group]) -> str:
    """What the bands of a report are, the same in all its figures; empty where every group is a single run."""
    counts = [len(set(group.seeds)) for group in groups if len(group.runs) > 1]
    return "" if not counts else INTERVAL if min(counts) >= SEEDS_FOR_INTERVAL else RANGE


class Spread(NamedTuple):
    """Several runs in one metric, [steps] each: the mean over seeds, and a band around it."""

    steps: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray


def spread(runs: Sequence[Series], seeds: Sequence[Hashable], band: str) -> Spread:
    """Mean and band at the steps that every run has; NaN where a run has no finite value.

    A mean over fewer runs at some steps would jump where a run ends, although no run has changed.

    Args:
        seeds: of each run.
        band: RANGE or INTERVAL.
    """
    steps = reduce(np.intersect1d, [series.steps for series in runs])
    values = np.array([values[np.isin(all_steps, steps)] for all_steps, values in runs])
    values = np.where(np.isfinite(values), values, np.nan)
    of_seeds = over_repeats(values, seeds)
    mean = of_seeds.mean(axis=0)
    if band == INTERVAL and len(of_seeds) > 1:
        half = intervals.half_width(of_seeds)
        return Spread(steps, mean, mean - half, mean + half)
    return Spread(steps, mean, values.min(axis=0), values.max(axis=0))


def over_repeats(values: FloatArray, seeds: Sequence[Hashable]) -> FloatArray:
    """Values of runs, [runs, ...] -> those of seeds, [seeds, ...]: the mean of the runs that have the same seed."""
    by_seed: dict[Hashable, list[FloatArray]] = defaultdict(list)
    for seed, of_run in zip(seeds, values, strict=True):
        by_seed[seed].append(of_run)
    return np.array([np.mean(of_runs, axis=0) for of_runs in by_seed.values()])
