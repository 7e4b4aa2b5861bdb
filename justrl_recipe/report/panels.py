"""What is drawn: every panel of a report, as data."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from justrl_recipe import metrics
from justrl_recipe.errors import UserError
from justrl_recipe.report.logs import Series
from justrl_recipe.report.runs import CLIPPED, Run

# Okabe and Ito's colours, which the colour-blind tell apart, without the yellow that is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")

PHASES = ("step", "gen", "old_log_prob", "adv", "update_actor", "update_weights", "testing", "save_checkpoint")
MOST_SETS = 50  # validation sets that are drawn, each in a panel of its own
FAVOURITE = "AIME24"  # of the validation sets, the one of the paper's figures

TITLES = {
    metrics.ENTROPY: "Policy entropy",
    metrics.REWARD: "Mean reward",
    metrics.LENGTH: "Mean response length, tokens",
    CLIPPED: "Share of responses cut off at the limit",
    metrics.ACCURACY: "Accuracy of the rollouts",
    metrics.OVERLONG: "Share of responses with an overlong penalty",
    metrics.ALL_RIGHT: "Share of groups that are all right",
    metrics.ALL_WRONG: "Share of groups that are all wrong",
    metrics.GRAD_NORM: "Gradient norm",
    metrics.PG_CLIPFRAC: "Clip fraction",
    metrics.PG_CLIPFRAC_LOWER: "Clip fraction of the dual clip",
    metrics.PPO_KL: "KL of the update",
    metrics.ROLLOUT_KL: "KL between rollout and trainer",
    metrics.PROBS_DIFF: "Rollout/trainer probability difference",
    metrics.PROBS_CORRELATION: "Rollout/trainer correlation",
    metrics.THROUGHPUT: "Tokens/s",
    metrics.MFU: "MFU of the update",
}


class Band(NamedTuple):
    """A range that a metric moves in.

    text: the range as the paper states it.
    corners: (step, low, high); straight between two of them, level after the last.
    """

    text: str
    corners: tuple[tuple[float, float, float], ...]


# Read off the text and the figures of training dynamics; they hold for the full recipe and nothing smaller.
PAPER = "the paper's DeepSeek run (arXiv 2512.16649)"
PAPER_ENTROPY = (1.0, 1.6)
BANDS = {
    metrics.ENTROPY: Band("1.0 to 1.6", ((0, *PAPER_ENTROPY),)),
    metrics.REWARD: Band("from -0.6 to +0.4", ((0, -0.6, 0.4),)),
    metrics.LENGTH: Band("from 8,000 to 4,000-5,000 by step 1,000", ((0, 7_500, 8_500), (1_000, 4_000, 5_000))),
}


class Curve(NamedTuple):
    """One series in a panel.

    points: drawn as points that a line joins, not smoothed: what is measured only now and then.
    resumed: the first step of each attempt but the first.
    """

    label: str
    series: Series
    colour: str
    style: str = "-"
    points: bool = False
    resumed: tuple[int, ...] = ()


class Panel(NamedTuple):
    """One set of axes.

    name: of its files, unlike that of every other panel.
    metric: what is drawn, by the name that veRL logs it under.
    run: the label of the only run in it, where others have a panel like it.
    """

    name: str
    title: str
    metric: str
    curves: list[Curve]
    band: Band | None = None
    log: bool = False
    run: str = ""


def panels(runs: Sequence[Run]) -> list[Panel]:
    """Every panel that the runs have metrics for: validation first, time per phase last."""
    made = [compared(runs, name, title, points=True) for name, title in validations(runs)]
    made += [compared(runs, name, title) for name, title in TITLES.items()]
    made += [phases(run, len(runs) > 1) for run in runs]
    drawn = [panel for panel in made if panel.curves]
    count = Counter[str]()
    for number, panel in enumerate(drawn):
        count[panel.name] += 1
        if count[panel.name] > 1:
            drawn[number] = panel._replace(name=f"{panel.name}_{count[panel.name]}")
    return drawn


def headline(all_panels: Sequence[Panel], several: bool) -> list[Panel]:
    """The panels of the paper's figure: validation and entropy of the arms, or the dynamics of one run."""
    found = {panel.metric: panel for panel in all_panels}
    first = next((name for name in found if FAVOURITE in name), next(iter(found), ""))
    wanted = (first, metrics.ENTROPY) if several else (metrics.ENTROPY, metrics.REWARD, metrics.LENGTH)
    return [found[name] for name in dict.fromkeys(wanted) if name in found]


def arm_looks(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """Colour and line style of every arm: the seeds of one arm look the same."""
    arms = dict.fromkeys(run.arm for run in runs)
    return {arm: (COLOURS[n % len(COLOURS)], STYLES[n % len(STYLES)]) for n, arm in enumerate(arms)}


def compared(runs: Sequence[Run], metric: str, title: str, points: bool = False) -> Panel:
    """The runs over each other in one metric, with the paper's band where one of them has its size."""
    looks, factors = arm_looks(runs), [1] * len(runs)
    if metric == metrics.THROUGHPUT:
        gpus = [run.gpus for run in runs if run.gpus]
        all_known = len(gpus) == len(runs)
        title += ", all GPUs" if all_known else " per GPU"
        factors = gpus if all_known else factors
    curves = [
        Curve(run.arm, Series(steps, factor * values), *looks[run.arm], points, resumed(run))
        for run, factor in zip(runs, factors, strict=True)
        if metric in run.metrics
        for steps, values in [run.metrics[metric]]
    ]
    band = BANDS.get(metric) if any(run.full for run in runs) else None
    return Panel(file_name(title), title, metric, curves, band)


def resumed(run: Run) -> tuple[int, ...]:
    return tuple(first for _, first, _ in run.attempts[1:] if isinstance(first, int))


def validations(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Metric and title of each validation set: its accuracy, and its reward for runs that log none; AIME24 first."""
    largest: dict[tuple[str, str], tuple[int, str]] = {}  # n and metric, by source and kind
    for run in runs:
        found = [match for name in run.metrics if (match := metrics.VALIDATION.match(name))]
        accurate = {match["source"] for match in found if match["name"] == "acc"}
        for match in found:
            if match["name"] == "acc" or match["source"] not in accurate:
                key = match["source"], match["name"]
                largest[key] = max((int(match["n"]), match[0]), largest.get(key, (0, "")))
    if len(largest) > MOST_SETS:
        raise UserError(f"{len(largest):,} validation sets: a report draws at most {MOST_SETS}")
    order = sorted(largest.items(), key=lambda item: (item[0][0] != FAVOURITE, item))
    kinds = {"acc": "accuracy", "reward": "reward"}
    return [(metric, f"{source} {kinds[kind]} (avg@{n})") for (source, kind), (n, metric) in order]


def phases(run: Run, several: bool) -> Panel:
    """Where a step's time goes; validation and checkpoints happen only now and then."""
    title, label = "Time per phase, seconds", run.label if several else ""
    logged = [(phase, run.metrics.get(f"{metrics.TIMING}{phase}")) for phase in PHASES]
    timed = [(phase, series) for phase, series in logged if series and (series.values > 0).any()]
    most = max((len(series.steps) for _, series in timed), default=0)
    curves = []
    for n, (phase, (steps, values)) in enumerate(timed):
        positive = Series(steps, np.where(values > 0, values, np.nan))  # what a logarithmic axis can show
        sparse = len(steps) < most / 2
        curves.append(Curve(phase, positive, COLOURS[n % len(COLOURS)], STYLES[n // len(COLOURS)], sparse))
    return Panel(file_name(f"{title} {label}"), title, f"{metrics.TIMING}*", curves, log=True, run=label)


def file_name(title: str) -> str:
    """A title as the name of a file: `Mean reward` is `mean_reward`."""
    return "_".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
