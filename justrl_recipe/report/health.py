"""Is a run healthy? One pure function per rule: a run in, what was seen and a verdict out.

`look` is worth a look at the curve; `bad` is what no healthy run does. Early and late are the means over the first
and the last tenth of the logged steps, at least 3. Rules about a trend say `too early` below MIN_STEPS.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from justrl_recipe.report import paper
from justrl_recipe.report.logs import FloatArray
from justrl_recipe.report.runs import CLIPPED, LENGTH, Run

OK, LOOK, BAD, NOT_LOGGED, TOO_EARLY = "ok", "look", "bad", "not logged", "too early"

MIN_STEPS = 10  # a tenth of fewer is one step, whose noise is larger than what is looked for

# The paper's arms with the overlong penalty, which it calls collapsed, end at 0.5 to 0.6 where JustRL is at 1.2 to
# 1.4: at 0.4 of it. Half of the start is on the way there; a fifth leaves samples of a group nearly alike.
ENTROPY_LOOK, ENTROPY_BAD = 0.5, 0.2

# Nothing in the recipe pays for length, and the paper's run becomes shorter by half. Twice as long is the opposite.
LENGTH_LOOK, LENGTH_BAD = 1.5, 2.0

# A response that is cut off scores -1 whatever it says: from a tenth on that is part of what is learned, from a half
# on most of it.
CLIPPED_LOOK, CLIPPED_BAD = 0.1, 0.5

# A rise counts where it is more than 3 standard errors of its step-to-step noise. Standing still is told from noise
# only over many steps; what nearly always gets the full reward has nowhere to rise to.
ERRORS = 3.0
PLATEAU_STEPS = 100
CEILING = 0.9

# veRL's FAQ asks for a mean difference below 0.005. MiniMax-M1 (arXiv 2506.13585) did not learn at a correlation of
# 0.9 and did at 0.99. The KL is in nats a token: 0.1 already uses up half of the clip range (ln 1.2 = 0.18).
DIFFERENCE_LOOK, DIFFERENCE_BAD = 0.005, 0.05
CORRELATION_LOOK, CORRELATION_BAD = 0.99, 0.9
KL_LOOK, KL_BAD = 0.01, 0.1

# Of the recipe's 256 groups, above 0.75 fewer than one of the four mini-batches of 64 has a gradient; above 0.95
# fewer than 13 groups.
SILENT_LOOK, SILENT_BAD = 0.75, 0.95

ENTROPY, REWARD, HIGHEST = "actor/entropy", "critic/score/mean", "critic/score/max"
DIFFERENCE, CORRELATION = "training/rollout_probs_diff_mean", "training/rollout_actor_probs_pearson_corr"
KL = "rollout_corr/kl"
ALL_RIGHT, ALL_WRONG = "reward/all_right", "reward/all_wrong"


class Finding(NamedTuple):
    """One line of the health table."""

    rule: str
    seen: str
    verdict: str


def findings(run: Run) -> list[Finding]:
    """Every rule's finding on a run."""
    return [rule(run) for rule in RULES]


def entropy_collapse(run: Run) -> Finding:
    """Whether the policy stops exploring."""
    rule = f"Entropy collapse: late entropy below {ENTROPY_LOOK} of early (look), {ENTROPY_BAD} (bad)"
    low, high = paper.ENTROPY
    if run.full:
        rule += f"; full recipe: outside {low} to {high} (look), below {paper.COLLAPSED_ENTROPY} (bad)"

    def judge(early: float, late: float) -> str:
        absolute = grade(-late, -low, -paper.COLLAPSED_ENTROPY) if run.full else OK
        above = LOOK if run.full and late > high else OK
        return worst([grade(-late, -ENTROPY_LOOK * early, -ENTROPY_BAD * early), absolute, above])

    return trend(run, ENTROPY, rule, judge, "{:.3g}")


def length_explosion(run: Run) -> Finding:
    """Whether responses grow without anything paying for it."""
    rule = f"Length explosion: late mean response above {LENGTH_LOOK} times early (look), {LENGTH_BAD:g} times (bad)"
    return trend(
        run, LENGTH, rule, lambda early, late: grade(late, LENGTH_LOOK * early, LENGTH_BAD * early), "{:,.0f} tokens"
    )


def clipping(run: Run) -> Finding:
    """Whether responses are cut off at the longest length that the run allows."""
    rule = f"Clipping: late share of responses cut off at the limit above {CLIPPED_LOOK} (look), {CLIPPED_BAD} (bad)"
    values = finite(run, CLIPPED)
    if not len(values):
        return Finding(rule, "", NOT_LOGGED)
    late = values[-tenth(values) :].mean()
    return Finding(rule, f"{late:.1%} at {run.limit:,.0f} tokens", grade(late, CLIPPED_LOOK, CLIPPED_BAD))


def plateau(run: Run) -> Finding:
    """Whether the reward has risen since the start, and still rises."""
    rule = (
        f"Reward plateau: last fifth not above the first by {ERRORS:g} standard errors (bad); of {PLATEAU_STEPS} "
        f"steps or more, last quarter not above the one before it (look); at {CEILING:+g} of a reward up to 1 it may"
    )
    values = finite(run, REWARD)
    if not len(values):
        return Finding(rule, "", NOT_LOGGED)
    if len(values) < MIN_STEPS:
        return Finding(rule, f"{len(values)} steps", TOO_EARLY)
    fifth, quarter = len(values) // 5, len(values) // 4
    first, last = values[:fifth], values[-fifth:]
    seen = f"from {first.mean():+.2f} to {last.mean():+.2f}"
    highest = finite(run, HIGHEST).max(initial=1.0)
    if last.mean() >= CEILING and highest <= 1:
        return Finding(rule, seen, OK)
    if not rises(first, last, noise(values)):
        return Finding(rule, f"{seen}: no rise", BAD)
    before, now = values[-2 * quarter : -quarter], values[-quarter:]
    if len(values) >= PLATEAU_STEPS and not rises(before, now, noise(values)):
        return Finding(rule, f"{seen}; {before.mean():+.3f}, then {now.mean():+.3f} in the last two quarters", LOOK)
    return Finding(rule, seen, OK)


def mismatch(run: Run) -> Finding:
    """Whether what generates and what is trained are still the same policy."""
    rule = (
        f"Rollout/trainer mismatch, late: probability difference above {DIFFERENCE_LOOK} (look), {DIFFERENCE_BAD} "
        f"(bad); correlation below {CORRELATION_LOOK}, {CORRELATION_BAD}; |KL| above {KL_LOOK}, {KL_BAD} nats a token"
    )
    seen, verdicts = [], []
    for name, sign, text, look, bad in (
        (DIFFERENCE, 1, "difference {:.1e}", DIFFERENCE_LOOK, DIFFERENCE_BAD),
        (CORRELATION, -1, "correlation {:.4f}", -CORRELATION_LOOK, -CORRELATION_BAD),
        (KL, 1, "|KL| {:.1e}", KL_LOOK, KL_BAD),
    ):
        values = finite(run, name)
        if len(values):
            late = abs(values[-tenth(values) :].mean())
            seen.append(text.format(late))
            verdicts.append(grade(sign * late, look, bad))
    return Finding(rule, ", ".join(seen), worst(verdicts) if verdicts else NOT_LOGGED)


def silent_groups(run: Run) -> Finding:
    """Whether too many groups are all right or all wrong: their advantages are 0, so they give no gradient."""
    rule = (
        f"No gradient: late share of groups that are all right or all wrong above {SILENT_LOOK} (look), "
        f"{SILENT_BAD} (bad)"
    )
    right, wrong = finite(run, ALL_RIGHT), finite(run, ALL_WRONG)
    if not len(right) or not len(wrong):
        return Finding(rule, "", NOT_LOGGED)
    late = [values[-tenth(values) :].mean() for values in (right, wrong)]
    seen = f"{late[0]:.1%} all right, {late[1]:.1%} all wrong"
    return Finding(rule, seen, grade(sum(late), SILENT_LOOK, SILENT_BAD))


def non_finite(run: Run) -> Finding:
    """Whether anything was NaN or infinite; veRL skips an update whose gradient norm is."""
    rule = "Values that are not finite: any in a metric of the actor or the rewards (bad), in another (look)"
    counts = {name: len(series.values) - len(series.finite) for name, series in run.metrics.items()}
    found = {name: count for name, count in counts.items() if count}
    if not found:
        return Finding(rule, "none", OK)
    trained = [name for name in found if name.startswith(("actor/", "critic/", "reward/"))]
    names = [*trained, *(name for name in found if name not in trained)]
    seen = ", ".join(f"{found[name]} in {name}" for name in names[:3])
    more = f" and {len(names) - 3} more metrics" if len(names) > 3 else ""
    return Finding(rule, seen + more, BAD if trained else LOOK)


RULES = (entropy_collapse, length_explosion, clipping, plateau, mismatch, silent_groups, non_finite)


def trend(run: Run, name: str, rule: str, judge: Callable[[float, float], str], text: str) -> Finding:
    """The finding on a metric's early and late mean."""
    values = finite(run, name)
    if not len(values):
        return Finding(rule, "", NOT_LOGGED)
    if len(values) < MIN_STEPS:
        return Finding(rule, f"{len(values)} steps", TOO_EARLY)
    count = tenth(values)
    early, late = values[:count].mean(), values[-count:].mean()
    return Finding(rule, f"from {text.format(early)} to {text.format(late)}", judge(early, late))


def finite(run: Run, name: str) -> FloatArray:
    """The finite values of a metric, empty where it is not logged."""
    return run.metrics[name].finite if name in run.metrics else np.array([])


def tenth(values: FloatArray) -> int:
    return max(3, len(values) // 10)


def grade(value: float, look: float, bad: float) -> str:
    """The verdict on a value that should be small."""
    return BAD if value > bad else LOOK if value > look else OK


def worst(verdicts: Sequence[str]) -> str:
    return max(verdicts, key=(OK, LOOK, BAD).index)


def noise(values: FloatArray) -> float:
    """The standard deviation of a step around its neighbours, whatever the trend."""
    return float(np.diff(values).std() / np.sqrt(2))


def rises(before: FloatArray, after: FloatArray, noise: float) -> bool:
    error = noise * np.sqrt(1 / len(before) + 1 / len(after))
    return bool(after.mean() - before.mean() > ERRORS * error)
