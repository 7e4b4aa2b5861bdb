"""What the page's tables say of the groups: whether they are JustRL, their deviations, their health."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from justrl_recipe.report.arms import Group
from justrl_recipe.report.health import ERROR, NOT_LOGGED, OK, TOO_EARLY, WARNING, Finding, findings
from justrl_recipe.report.panels import runs_of
from justrl_recipe.report.runs import Run

WORST_LAST = (OK, TOO_EARLY, NOT_LOGGED, WARNING, ERROR)


def is_justrl(arms: Sequence[Group]) -> tuple[str, str]:
    """Whether the arms are JustRL, in a word or two, and why."""
    known = [arm.runs[0].manifest for arm in arms if arm.runs[0].manifest]
    if not known:
        return "Unknown", "a bare log has no manifest"
    yes = sum(all(run.manifest and run.manifest["is_justrl"] for run in arm.runs) for arm in arms)
    if yes == len(arms):
        return "Yes", "every key that changes what is learned has the recipe's value"
    reasons = [f"{recipe} scales {keys(count)} of JustRL" for recipe, count in scaled(arms).items()]
    deviating = [len(manifest["deviations"]) for manifest in known if manifest["deviations"]]
    if deviating and len(arms) == 1:
        verb = "deviates" if deviating[0] == 1 else "deviate"
        reasons.append(f"{keys(deviating[0])} {verb} from the recipe")
    elif deviating:
        reasons.append(f"{len(deviating)} of {len(arms)} arms deviate from the recipe")
    if len(known) < len(arms):
        reasons.append(f"{len(arms) - len(known)} of {len(arms)} are bare logs without a manifest")
    return f"{yes} of {len(arms)} arms" if yes else "No", ", and ".join(reasons) or "by the manifest"


def scaled(arms: Sequence[Group]) -> dict[str, int]:
    """How many keys each recipe scales."""
    runs = [arm.runs[0] for arm in arms]
    return {run.recipe: len(run.manifest["scaled"]) for run in runs if run.manifest and run.manifest["scaled"]}


def keys(count: int) -> str:
    return f"{count} key" if count == 1 else f"{count} keys"


def status_line(runs: Sequence[Run]) -> str:
    """`3 finished, 1 running; last steps 12 to 40`."""
    statuses = Counter(run.status or "of unknown status" for run in runs)
    first, last = min(run.last_step for run in runs), max(run.last_step for run in runs)
    several = len(runs) > 1
    said = ", ".join(f"{count} {status}" if several else status for status, count in statuses.items())
    return f"{said}; last {f'step {last:,}' if first == last else f'steps {first:,} to {last:,}'}"


def short_means(groups: Sequence[Group]) -> list[str]:
    """Where the mean over the runs of a group ends before the last of them."""
    ends = {group.name: [run.last_step for run in group.runs] for group in groups}
    return [
        f"Mean and band of {name} end at step {min(steps):,}, where a run of it ends; its longest has {max(steps):,}."
        for name, steps in ends.items()
        if min(steps) < max(steps)
    ]


class Cell(NamedTuple):
    """A verdict on a group by a rule: the worst of its runs, and in how many of them where not in all."""

    verdict: str
    share: str
    seen: str


class Rule(NamedTuple):
    """A line of the health matrix; `alarms` are the warnings and errors with the label of their run."""

    name: str
    limits: str
    cells: list[Cell]
    alarms: list[tuple[str, Finding]]


def health(groups: Sequence[Group]) -> tuple[list[Rule], str]:
    """Every rule with its verdict on each group, and how many are a warning or an error."""
    runs = runs_of(groups)
    by_run = {run.label: findings(run) for run in runs}
    rules = []
    for number, _ in enumerate(by_run[runs[0].label]):
        found = {label: of_run[number] for label, of_run in by_run.items()}
        names, limits = zip(*(finding.rule.split(": ", 1) for finding in found.values()), strict=True)
        alarms = [(label, finding) for label, finding in found.items() if finding.verdict in (WARNING, ERROR)]
        cells = [cell({run.label: found[run.label] for run in group.runs}) for group in groups]
        rules.append(Rule(names[0], " / ".join(dict.fromkeys(limits)), cells, alarms))
    verdicts = [finding.verdict for of_run in by_run.values() for finding in of_run]
    errors, warnings = verdicts.count(ERROR), verdicts.count(WARNING)
    return rules, f"Errors: {errors}, warnings: {warnings}, of {len(verdicts)} checks."


def cell(found: dict[str, Finding]) -> Cell:
    verdicts = [finding.verdict for finding in found.values()]
    worst = max(verdicts, key=WORST_LAST.index)
    share = "" if len(set(verdicts)) == 1 else f"{verdicts.count(worst)} of {len(verdicts)}"
    seen = [f"{label}: {finding.seen}" if len(found) > 1 else finding.seen for label, finding in found.items()]
    return Cell(worst, share, "; ".join(seen))


class Deviation(NamedTuple):
    """A line of the matrix of deviations: the recipe's value, and the arms' ones, None where an arm has the recipe's.

    recipe: several where the arms are of recipes that differ here.
    yours: `{"key", "recipe", "yours"}` of the manifest.
    """

    key: str
    recipe: list[Any]
    yours: list[dict[str, Any] | None]


def deviations(arms: Sequence[Group]) -> tuple[list[Group], list[Deviation]]:
    """The arms that deviate, and every key that does."""
    changes = {arm.name: arm.runs[0].manifest["deviations"] for arm in arms if arm.runs[0].manifest}
    by_arm = {name: {one["key"]: one for one in changed} for name, changed in changes.items() if changed}
    lines = []
    for key in sorted({key for changed in by_arm.values() for key in changed}):
        yours = [changed.get(key) for changed in by_arm.values()]
        values = [one["recipe"] for one in yours if one]
        distinct = [value for number, value in enumerate(values) if value not in values[:number]]
        lines.append(Deviation(key, distinct, yours))
    return [arm for arm in arms if arm.name in by_arm], lines
