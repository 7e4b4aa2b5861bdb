"""Final validation accuracy per arm with its interval, and the paired difference to the base arm by seed."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from justrl_recipe.intervals import CONFIDENCE, half_width, holm, p_value
from justrl_recipe.report.arms import Group, base_of, single
from justrl_recipe.report.panels import runs_of, validations

NO_SPREAD = 1e-12  # between equal values, by rounding
EXPLANATION = (
    "The mean over seeds, with its 95% interval by Student's t, at the last step that a run of the arm validated. "
    "The difference to the base arm, the recipe without a change, is paired by seed, with its 95% interval by t. The "
    "verdict is that of the paired t-test, with p corrected for the number of comparisons by Holm's method. The "
    "intervals are about other seeds, not about other problems: all runs answer the same problems."
)
Values = dict[Hashable, float]  # by seed


class Mean(NamedTuple):
    """Over `seeds`, or pairs of them, with its 95% interval by t; None where they are one, or all the same."""

    value: float
    interval: tuple[float, float] | None
    seeds: int


class Difference(NamedTuple):
    """An arm minus the base arm at a step that both validated, paired by seed.

    mean: None where no seed is in both.
    p_value: of the paired t-test, None without an interval; `corrected` for all comparisons of the report by Holm.
    """

    base: str
    step: int
    mean: Mean | None
    p_value: float | None
    corrected: float | None = None

    @property
    def told_apart(self) -> bool:
        return self.corrected is not None and self.corrected < 1 - CONFIDENCE

    @property
    def verdict(self) -> str:
        if self.mean is None:
            return "no seed in common"
        if self.mean.seeds == 1:
            return "one seed: no interval"
        if self.mean.interval is None:
            return "no spread over seeds: no interval"
        if self.told_apart:
            return "higher" if self.mean.value > 0 else "lower"
        low, high = self.mean.interval
        return "cannot be told apart" + ("" if low <= 0 <= high else ", once corrected for the number of comparisons")


class Row(NamedTuple):
    """One arm on one validation set.

    step: the last that any of its runs validated.
    left_out: its runs without a finite value at that step, and the last step at which they have one.
    difference: None for a base arm, and where there is none to compare with.
    """

    arm: Group
    step: int
    mean: Mean
    left_out: list[tuple[str, int | None]]
    is_base: bool
    difference: Difference | None


class Table(NamedTuple):
    """The arms on one validation set; `is_accuracy` or a reward of any scale."""

    title: str
    metric: str
    is_accuracy: bool
    rows: list[Row]


def tables(arms: Sequence[Group]) -> list[Table]:
    """Final validation of every set that is logged; the arms as given."""
    made = []
    for metric, title in validations(runs_of(arms)):
        is_accuracy = metric.rpartition("/")[0].endswith("/acc")
        rows = [row(arm, base_of(arm, arms), metric, is_accuracy) for arm in arms]
        made.append(Table(title, metric, is_accuracy, [one for one in rows if one]))
    return corrected([table for table in made if table.rows])


def row(arm: Group, base: Group | None, metric: str, is_accuracy: bool) -> Row | None:
    """None where no run of the arm has a finite value."""
    values = by_step(arm, metric)
    if not values:
        return None
    step = max(values)
    mean = mean_of(list(values[step].values()))
    if is_accuracy and mean.interval:  # what no accuracy can be
        mean = mean._replace(interval=(max(0.0, mean.interval[0]), min(1.0, mean.interval[1])))
    last = [max(by_step(one, metric), default=None) for one in single([arm])]
    left_out = [(run.label, at) for run, at in zip(arm.runs, last, strict=True) if at != step]
    compared = difference(values, by_step(base, metric), base.name) if base and base != arm else None
    return Row(arm, step, mean, left_out, base == arm, compared)


def by_step(arm: Group, metric: str) -> dict[int, Values]:
    """The finite values by step and seed; the mean of the runs that have the same seed."""
    found: dict[int, dict[Hashable, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed, run in zip(arm.seeds, arm.runs, strict=True):
        for step, value in zip(*run.metrics.get(metric, ()), strict=True):
            if np.isfinite(value):
                found[int(step)][seed].append(float(value))
    return {step: {seed: fmean(values) for seed, values in seeds.items()} for step, seeds in found.items()}


def difference(ours: dict[int, Values], theirs: dict[int, Values], base: str) -> Difference | None:
    """At the last step that both arms have validated, None where there is none."""
    if not (shared := ours.keys() & theirs.keys()):
        return None
    step = max(shared)
    paired = [value - theirs[step][seed] for seed, value in ours[step].items() if seed in theirs[step]]
    mean = mean_of(paired) if paired else None
    return Difference(base, step, mean, p_value(np.array(paired)) if mean and mean.interval else None)


def mean_of(values: Sequence[float]) -> Mean:
    """Of one or more values; without an interval where there is no spread that it could be made from."""
    found = np.array(values)
    mean = float(found.mean())
    if len(found) == 1 or np.ptp(found) < NO_SPREAD:
        return Mean(mean, None, len(found))
    half = float(half_width(found))
    return Mean(mean, (mean - half, mean + half), len(found))


def corrected(made: Sequence[Table]) -> list[Table]:
    """The tables with the p-values of their differences corrected for the number of all of them."""
    found = [row.difference for table in made for row in table.rows if row.difference]
    by_holm = iter(holm([one.p_value for one in found if one.p_value is not None]))

    def with_its(row: Row) -> Row:
        if row.difference is None or row.difference.p_value is None:
            return row
        return row._replace(difference=row.difference._replace(corrected=next(by_holm)))

    return [table._replace(rows=[with_its(row) for row in table.rows]) for table in made]


def shown(mean: Mean, is_accuracy: bool, signed: bool = False) -> str:
    """`81.1 (74.9 to 87.3)`: accuracies in percent, rewards as they are."""
    scale, style = (100, ".1f") if is_accuracy else (1, ".4g")
    value = f"{scale * mean.value:{'+' if signed else ''}{style}}"
    if mean.interval is None:
        return value
    low, high = (f"{scale * end:{style}}" for end in mean.interval)
    return f"{value} ({low} to {high})"


def in_words(made: Sequence[Table], arms: Sequence[Group]) -> str:
    """What can be told apart, and what cannot; empty for a single arm."""
    found = [(table, row, row.difference) for table in made for row in table.rows if row.difference]
    if len(arms) < 2:
        return ""
    if not found:
        return "No arm is compared: that takes exactly one arm of its recipe without a change, and a common step."
    if all(one.corrected is None for _, _, one in found):
        return (
            "The arms cannot be told apart: that takes two seeds in both, and differences that are not all the same."
        )
    apart = [
        f"{row.arm.name} is {one.verdict} than {one.base} in {table.title}"
        for table, row, one in found
        if one.told_apart
    ]
    if not apart:
        return "No arm can be told apart from its base arm by these values."
    others = len(found) - len(apart)
    rest = f" In {others} more {'comparison' if others == 1 else 'comparisons'} the arms cannot be told apart."
    return f"{'; '.join(apart)}.{rest if others else ''}"
