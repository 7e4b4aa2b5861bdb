"""What is drawn: every panel of a report, as data."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from justrl_recipe import metrics
from justrl_recipe.errors import UserError
from justrl_recipe.report.arms import COLOURS, STYLES, Group, Look, band_of
from justrl_recipe.report.logs import Series
from justrl_recipe.report.runs import CLIPPED, Run

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
    """The runs of one group in a panel, a line each; of several runs also their mean and its band.

    seeds: of each run; see `arms.Group`.
    points: drawn as points that a line joins, not smoothed: what is measured only now and then.
    resumed: the first step of each attempt but the first.
    """

    label: str
    runs: list[Series]
    seeds: list[Hashable]
    look: Look
    points: bool = False
    resumed: tuple[int, ...] = ()


class Panel(NamedTuple):
    """One set of axes.

    name: of its files, unlike that of every other panel.
    metric: what is drawn, by the name that veRL logs it under.
    spread: what the bands around means are, empty where every curve is a single run.
    group: the name of the only group in it, where others have a panel like it.
    """

    name: str
    title: str
    metric: str
    curves: list[Curve]
    band: Band | None = None
    spread: str = ""
    log: bool = False
    group: str = ""


def panels(groups: Sequence[Group]) -> list[Panel]:
    """Every panel that the groups have metrics for: validation first, time per phase last."""
    made = [compared(groups, name, title, points=True) for name, title in validations(runs_of(groups))]
    made += [compared(groups, name, title) for name, title in TITLES.items()]
    made += [phases(group, groups) for group in groups]
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


def runs_of(groups: Sequence[Group]) -> list[Run]:
    return [run for group in groups for run in group.runs]


def compared(groups: Sequence[Group], metric: str, title: str, points: bool = False) -> Panel:
    """The groups over each other in one metric, with the paper's band where one of them has its size."""
    runs, per_gpu = runs_of(groups), metric == metrics.THROUGHPUT
    all_known = all(run.gpus for run in runs)
    if per_gpu:
        title += ", all GPUs" if all_known else " per GPU"
    curves, spread = [], band_of(groups)
    for group in [group.logging(metric) for group in groups]:
        factors = [run.gpus if per_gpu and all_known and run.gpus else 1 for run in group.runs]
        found = zip(factors, (run.metrics[metric] for run in group.runs), strict=True)
        scaled = [Series(steps, factor * values) for factor, (steps, values) in found]
        label = f"{group.arm}, {how_many(group)}" if spread else group.arm
        curves.append(Curve(label, scaled, group.seeds, group.look, points, resumed(group.runs)))
    band = BANDS.get(metric) if any(run.full for run in runs) else None
    return Panel(file_name(title), title, metric, [curve for curve in curves if curve.runs], band, spread)


def how_many(group: Group) -> str:
    """How many seeds are in a mean, or runs where some have the same seed or none is known."""
    number = len(group.runs)
    what = "seed" if len({run.seed for run in group.runs} - {None}) == number else "run"
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def resumed(runs: Sequence[Run]) -> tuple[int, ...]:
    return tuple(first for run in runs for _, first, _ in run.attempts[1:] if isinstance(first, int))


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


def phases(group: Group, groups: Sequence[Group]) -> Panel:
    """Where a step's time goes; validation and checkpoints happen only now and then."""
    title, name = "Time per phase, seconds", group.name if len(groups) > 1 else ""
    curves: list[Curve] = []
    for phase in PHASES:
        metric = f"{metrics.TIMING}{phase}"
        timed = group._replace(runs=tuple(run for run in group.runs if run.finite(metric).max(initial=0) > 0))
        if timed.runs:
            logged = [run.metrics[metric] for run in timed.runs]
            # A logarithmic axis cannot show 0.
            positive = [Series(steps, np.where(values > 0, values, np.nan)) for steps, values in logged]
            look = Look(COLOURS[len(curves) % len(COLOURS)], STYLES[len(curves) // len(COLOURS)])
            curves.append(Curve(phase, positive, timed.seeds, look))
    most = max((len(series.steps) for curve in curves for series in curve.runs), default=0)
    curves = [curve._replace(points=max(len(one.steps) for one in curve.runs) < most / 2) for curve in curves]
    spread = band_of(groups)
    return Panel(
        file_name(f"{title} {name}"), title, f"{metrics.TIMING}*", curves, spread=spread, log=True, group=name
    )


def file_name(title: str) -> str:
    """A title as the name of a file: `Mean reward` is `mean_reward`."""
    return "_".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
