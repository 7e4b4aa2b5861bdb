"""Is a run healthy? Every rule gives what was seen and a verdict; most rules are limits of late means, in a table.

A warning calls for a look at the curve; an error is what no healthy run does. Early and late are the means over the
first and the last tenth of the logged steps, at least 3. Rules about a trend say `too early` below MIN_STEPS.
"""

from typing import NamedTuple

import numpy as np

from justrl_recipe import metrics
from justrl_recipe.report.logs import FloatArray
from justrl_recipe.report.panels import PAPER_ENTROPY
from justrl_recipe.report.runs import CLIPPED, Run

OK, WARNING, ERROR, NOT_LOGGED, TOO_EARLY = "ok", "warning", "error", "not logged", "too early"

MIN_STEPS = 10  # a tenth of fewer is one step, whose noise is larger than any trend


class Limit(NamedTuple):
    """Where the late mean of a metric is a warning or an error.

    what: the mean in words.
    metrics: one name, or several whose means are added.
    warning, error: a mean above them, where `error` is the larger one, else below them; multiples of the early mean
        where `of_early`.
    shown: the format of the means that were seen.
    full: whether it is for the full recipe alone.
    """

    what: str
    metrics: tuple[str, ...]
    warning: float
    error: float
    shown: str
    of_early: bool = False
    full: bool = False

    def bound(self, value: float) -> str:
        """`warning` or `error` in words, empty where it is infinite."""
        if not np.isfinite(value):
            return ""
        early = " times early" if self.of_early else ""
        return f"{'above' if self.error > self.warning else 'below'} {value:g}{early}"

    def __str__(self) -> str:
        error = f", {self.error:g} (error)" if np.isfinite(self.error) else ""
        return f"{self.what} {self.bound(self.warning)} (warning){error}"

    def verdict(self, early: float, late: float) -> str:
        scale = early if self.of_early else 1.0
        sign = 1 if self.error > self.warning else -1
        if sign * late > sign * scale * self.error:
            return ERROR
        return WARNING if sign * late > sign * scale * self.warning else OK


LIMITS = {
    # The paper's arms with the overlong penalty, which it calls collapsed, end at 0.5 to 0.6 where JustRL is at 1.2
    # to 1.4: at 0.4 of it. Half of the start is on the way there; at a fifth a group's responses are nearly alike.
    "Entropy collapse": (
        Limit("late entropy", (metrics.ENTROPY,), 0.5, 0.2, "{:.3g}", of_early=True),
        Limit("late entropy of the full recipe", (metrics.ENTROPY,), PAPER_ENTROPY[0], 0.6, "{:.3g}", full=True),
        Limit("late entropy of the full recipe", (metrics.ENTROPY,), PAPER_ENTROPY[1], np.inf, "{:.3g}", full=True),
    ),
    # Nothing in the recipe pays for length, and the paper's run becomes shorter by half: twice as long is the
    # opposite.
    "Length explosion": (Limit("late mean response", (metrics.LENGTH,), 1.5, 2.0, "{:,.0f} tokens", of_early=True),),
    # A response that is cut off scores -1 whatever it says: from a tenth on that is part of what is learned, from a
    # half on most of it.
    "Clipping": (
        Limit("late share of responses cut off at the limit", (CLIPPED,), 0.1, 0.5, "{:.1%} at {limit:,.0f} tokens"),
    ),
    # veRL's FAQ asks for a mean difference below 0.005. MiniMax-M1 (arXiv 2506.13585) did not learn at a correlation
    # of 0.9 and did at 0.99. The KL is in nats a token: 0.1 already uses up half of the clip range (ln 1.2 = 0.18).
    "Rollout/trainer mismatch": (
        Limit(
            "late probability difference", (metrics.PROBS_DIFF,), 0.005, metrics.PROBS_DIFF_ERROR, "difference {:.1e}"
        ),
        Limit("correlation", (metrics.PROBS_CORRELATION,), 0.99, 0.9, "correlation {:.4f}"),
        Limit("size of the KL in nats a token", (metrics.ROLLOUT_KL,), 0.01, 0.1, "|KL| {:.1e}"),
    ),
    # The advantages of such groups are 0. Of the recipe's 256 groups, above 0.75 fewer than one of the four
    # mini-batches of 64 has a gradient; above 0.95 fewer than 13 groups.
    "No gradient": (
        Limit(
            "late share of groups that are all right or all wrong",
            (metrics.ALL_RIGHT, metrics.ALL_WRONG),
            0.75,
            0.95,
            "{:.1%} all right, {:.1%} all wrong",
        ),
    ),
}

# A rise counts where it is more than 3 standard errors of its step-to-step noise. No rise is told from noise only
# over many steps; a reward that is nearly always full cannot rise.
ERRORS = 3.0
PLATEAU_STEPS = 100
CEILING = 0.9
PLATEAU = (
    f"Reward plateau: last fifth not above the first by {ERRORS:g} standard errors (error); of {PLATEAU_STEPS} steps "
    f"or more, last quarter not above the one before it (warning); ok from {CEILING:+g} of a reward up to 1"
)
NON_FINITE = "Values that are not finite: any in a metric of the actor or the rewards (error), in another (warning)"
TRAINED = ("actor/", "critic/", "reward/")  # the actor's and the rewards'; veRL skips an update with a NaN norm


class Finding(NamedTuple):
    """One line of the health table."""

    rule: str
    seen: str
    verdict: str


def findings(run: Run) -> list[Finding]:
    """Every rule's finding on a run."""
    return [*(limited(run, name, limits) for name, limits in LIMITS.items()), plateau(run), non_finite(run)]


def limited(run: Run, name: str, limits: tuple[Limit, ...]) -> Finding:
    """The finding of a rule that is a row of LIMITS: the worst verdict of those whose metrics are logged."""
    limits = tuple(limit for limit in limits if run.full or not limit.full)
    rule, trend = f"{name}: {'; '.join(map(str, limits))}", any(limit.of_early for limit in limits)
    seen: dict[str, None] = {}  # not a list, since several limits may be of one metric
    verdicts = []
    for limit in limits:
        logged = [run.finite(metric) for metric in limit.metrics]
        if not all(map(len, logged)):
            continue
        if trend and len(logged[0]) < MIN_STEPS:
            return Finding(rule, f"{len(logged[0])} steps", TOO_EARLY)
        early, late = zip(*map(early_and_late, logged), strict=True)
        before, now = (limit.shown.format(*means, limit=run.limit) for means in (early, late))
        seen[f"from {before} to {now}" if trend else now] = None
        verdicts.append(limit.verdict(sum(early), sum(late)))
    worst = max(verdicts, key=(OK, WARNING, ERROR).index, default=NOT_LOGGED)
    return Finding(rule, ", ".join(seen), worst)


def early_and_late(values: FloatArray) -> tuple[float, float]:
    """The means of the first and of the last tenth, without their signs."""
    count = max(3, len(values) // 10)
    return abs(values[:count].mean()), abs(values[-count:].mean())


def plateau(run: Run) -> Finding:
    """Whether the reward has risen since the start, and still rises."""
    values, highest = run.finite(metrics.REWARD), run.finite(metrics.HIGHEST_REWARD).max(initial=1.0)
    if not len(values):
        return Finding(PLATEAU, "", NOT_LOGGED)
    if len(values) < MIN_STEPS:
        return Finding(PLATEAU, f"{len(values)} steps", TOO_EARLY)
    fifth, quarter = len(values) // 5, len(values) // 4
    noise = np.diff(values).std() / np.sqrt(2)  # of a step around its neighbours, whatever the trend
    first, last, before, now = values[:fifth], values[-fifth:], values[-2 * quarter : -quarter], values[-quarter:]
    seen = f"from {first.mean():+.2f} to {last.mean():+.2f}"
    if last.mean() >= CEILING and highest <= 1:
        return Finding(PLATEAU, seen, OK)
    if not rises(first, last, noise):
        return Finding(PLATEAU, f"{seen}: no rise", ERROR)
    if len(values) >= PLATEAU_STEPS and not rises(before, now, noise):
        quarters = f"{before.mean():+.3f}, then {now.mean():+.3f} in the last two quarters"
        return Finding(PLATEAU, f"{seen}; {quarters}", WARNING)
    return Finding(PLATEAU, seen, OK)


def rises(before: FloatArray, after: FloatArray, noise: float) -> bool:
    error = noise * np.sqrt(1 / len(before) + 1 / len(after))
    return bool(after.mean() - before.mean() > ERRORS * error)


def non_finite(run: Run) -> Finding:
    """Whether anything was NaN or infinite; what is trained first."""
    counts = {name: len(series.values) - len(series.finite) for name, series in run.metrics.items()}
    found = sorted((name for name in counts if counts[name]), key=lambda name: not name.startswith(TRAINED))
    if not found:
        return Finding(NON_FINITE, "none", OK)
    seen = ", ".join(f"{counts[name]} in {name}" for name in found[:3])
    more = f" and {len(found) - 3} more metrics" if len(found) > 3 else ""
    return Finding(NON_FINITE, seen + more, ERROR if found[0].startswith(TRAINED) else WARNING)
