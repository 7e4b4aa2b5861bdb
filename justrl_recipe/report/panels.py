"""What is drawn: every panel of a report, as data."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from justrl_recipe.errors import UserError
from justrl_recipe.metrics import VALIDATION
from justrl_recipe.report import paper
from justrl_recipe.report.logs import Series
from justrl_recipe.report.runs import CLIPPED, Run

# Okabe and Ito's colours, which the colour-blind tell apart, without the yellow that is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")

PHASES = ("step", "gen", "old_log_prob", "adv", "update_actor", "update_weights", "testing", "save_checkpoint")
ENTROPY, REWARD, LENGTH = "actor/entropy", "critic/score/mean", "response_length/mean"
THROUGHPUT = "perf/throughput"
MOST_SETS = 50  # validation sets that are drawn, each in a panel of its own
FAVOURITE = "AIME24"  # of the validation sets, the one of the paper's figures

TITLES = {
    ENTROPY: "Policy entropy",
    REWARD: "Mean reward",
    LENGTH: "Mean response length, tokens",
    CLIPPED: "Share of responses cut off at the limit",
    "reward/acc": "Accuracy of the rollouts",
    "reward/overlong": "Share of responses with an overlong penalty",
    "reward/all_right": "Share of groups that are all right",
    "reward/all_wrong": "Share of groups that are all wrong",
    "actor/grad_norm": "Gradient norm",
    "actor/pg_clipfrac": "Clip fraction",
    "actor/pg_clipfrac_lower": "Clip fraction of the dual clip",
    "actor/ppo_kl": "KL of the update",
    "rollout_corr/kl": "KL between rollout and trainer",
    "training/rollout_probs_diff_mean": "Rollout/trainer probability difference",
    "training/rollout_actor_probs_pearson_corr": "Rollout/trainer correlation",
    THROUGHPUT: "Tokens/s",
    "perf/mfu/actor": "MFU of the update",
}


class Curve(NamedTuple):
    """One series in a panel.

    points: drawn as points that a line joins, not smoothed: what is measured only now and then.
    """

    label: str
    series: Series
    colour: str
    style: str = "-"
    points: bool = False


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
    band: paper.Band | None = None
    log: bool = False
    run: str = ""


def panels(runs: Sequence[Run]) -> list[Panel]:
    """Every panel that the runs have metrics for: validation first, time per phase last."""
    looks = arm_looks(runs)
    metrics = [(*validation, True) for validation in validations(runs)]
    metrics += [(name, title, False) for name, title in TITLES.items()]
    made = [compared(runs, looks, *metric) for metric in metrics]
    made += [phases(run, len(runs) > 1) for run in runs if times(run)]
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
    wanted = (first, ENTROPY) if several else (ENTROPY, REWARD, LENGTH)
    return [found[name] for name in dict.fromkeys(wanted) if name in found]


def arm_looks(runs: Sequence[Run]) -> dict[str, tuple[str, str]]:
    """Colour and line style of every arm: the seeds of one arm look the same."""
    arms = dict.fromkeys(run.arm for run in runs)
    return {arm: (COLOURS[n % len(COLOURS)], STYLES[n % len(STYLES)]) for n, arm in enumerate(arms)}


def compared(runs: Sequence[Run], looks: dict[str, tuple[str, str]], metric: str, title: str, points: bool) -> Panel:
    """The runs over each other in one metric, with the paper's band where one of them is of its size."""
    if metric == THROUGHPUT:
        whole = all(run.gpus for run in runs)
        title += ", all GPUs" if whole else " per GPU"
        factors = [run.gpus if whole and run.gpus else 1 for run in runs]
    else:
        factors = [1 for _ in runs]
    curves = [
        Curve(run.arm, Series(steps, factor * values), *looks[run.arm], points)
        for run, factor in zip(runs, factors, strict=True)
        if metric in run.metrics
        for steps, values in [run.metrics[metric]]
    ]
    band = paper.BANDS.get(metric) if any(run.full for run in runs) else None
    return Panel(file_name(title), title, metric, curves, band)


def validations(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Metric and title of each validation set: its accuracy, and its reward for runs that log none; AIME24 first."""
    best: dict[tuple[str, bool], tuple[int, str]] = {}
    for run in runs:
        found = [(match, name) for name in run.metrics if (match := VALIDATION.match(name))]
        accurate = {match["source"] for match, _ in found if match["name"] == "acc"}
        for match, name in found:
            has_acc = match["name"] == "acc"
            if has_acc or match["source"] not in accurate:
                of = match["source"], not has_acc
                best[of] = max((int(match["n"]), name), best.get(of, (0, "")))
    if len(best) > MOST_SETS:
        raise UserError(f"{len(best):,} validation sets: a report draws at most {MOST_SETS}")
    order = sorted(best, key=lambda of: (of[0] != FAVOURITE, of))
    return [
        (name, f"{source} {'reward' if rewarded else 'accuracy'} (avg@{n})")
        for source, rewarded in order
        for n, name in [best[source, rewarded]]
    ]


def times(run: Run) -> list[tuple[str, Series]]:
    """The phases of a step that a run has timed; a logarithmic axis needs one that is above 0."""
    timed = [(phase, run.metrics.get(f"timing_s/{phase}")) for phase in PHASES]
    return [(phase, series) for phase, series in timed if series and (series.values > 0).any()]


def phases(run: Run, several: bool) -> Panel:
    """Where a step's time goes; validation and checkpoints happen only now and then."""
    title, label = "Time per phase, seconds", run.label if several else ""
    most = max(len(series.steps) for _, series in times(run))
    curves = [
        Curve(phase, Series(series.steps, positive(series.values)), COLOURS[n % 7], STYLES[n // 7], sparse)
        for n, (phase, series) in enumerate(times(run))
        for sparse in [len(series.steps) < most / 2]
    ]
    return Panel(file_name(f"{title} {label}"), title, "timing_s/*", curves, log=True, run=label)


def positive(values: np.ndarray) -> np.ndarray:
    """What a logarithmic axis can show."""
    return np.where(values > 0, values, np.nan)


def file_name(title: str) -> str:
    """A title as the name of a file: `Mean reward` is `mean_reward`."""
    return "_".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())
