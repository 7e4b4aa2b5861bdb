"""Compares results with a row of the paper's table, or with other results."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from statistics import NormalDist
from typing import Any

import yaml

from justrl_recipe import files
from justrl_recipe.config import nearest
from justrl_recipe.data.benchmarks import BENCHMARKS
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.responses import LONGEST_NAME

AVERAGE = "Average"
ROBUST = "robust_verifier"
LEVEL = 0.05  # chance that a faithful installation fails the golden check, over all its benchmarks together
ROUNDING = 0.00005  # published scores have two decimals of a percent


@dataclass(frozen=True)
class Row:
    """What results are compared with.

    Attributes:
        scores: in 0..1 by benchmark, and as `Average`.
        sizes: problems and samples a problem, by benchmark.
        settings: temperature, top_p and max_tokens.
        kind: "hybrid" where a judge was asked about what the rule rejects, else "rule".
        verifier: the rule; None for the paper's, which this package does not have.
    """

    name: str
    scores: dict[str, float]
    sizes: dict[str, tuple[int, int]]
    settings: dict[str, Any]
    kind: str
    verifier: str | None


@cache
def published() -> dict[str, Row]:
    """The rows of the paper's table by name."""
    content = yaml.safe_load(resources.files(__package__).joinpath("published.yaml").read_text())
    rows = {}
    for name, percents in content["rows"].items():
        reported = zip(content["columns"], percents, strict=True)
        scores = {column: percent / 100 for column, percent in reported if percent is not None}
        sizes = {one.name: (one.rows, one.samples) for one in BENCHMARKS if one.name in scores}
        rows[name] = Row(name, scores, sizes, content["settings"], "hybrid", None)
    return rows


def find(name: str) -> Row:
    """A published row by name, or an earlier evaluation by the path of its results.json.

    Raises:
        UserError: there is neither.
    """
    if name in published():
        return published()[name]
    file = Path(name)
    if file.suffix != ".json":
        raise UserError(f"no published row {name!r}: {nearest(name, list(published()))}")
    try:
        content = files.read_json_object(file)
        kind = best(content)
        benchmarks = content["benchmarks"]
        scores = {benchmark: about[kind]["avg"] for benchmark, about in benchmarks.items()}
        scores[AVERAGE] = content["average"][kind]["avg"]
        sizes = {benchmark: (about["problems"], about["samples"]) for benchmark, about in benchmarks.items()}
        row = Row(content["model"], scores, sizes, dict(content["settings"]), kind, content["verifier"])
        _require_types(row)
        return row
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not a results.json of `verl eval`") from error


def _require_types(row: Row) -> None:
    if not isinstance(row.name, str) or not isinstance(row.verifier, str) or len(row.name) > LONGEST_NAME:
        raise TypeError("model and verifier have to be names")
    if not all(isinstance(score, int | float) and 0 <= score <= 1 for score in row.scores.values()):
        raise TypeError("scores have to be numbers from 0 to 1")
    if not all(type(count) is int for size in row.sizes.values() for count in size):
        raise TypeError("sizes have to be whole numbers")


def best(results: Mapping[str, Any]) -> str:
    """The score to compare with the paper's: `hybrid` where a judge was asked, as in the paper, else `rule`."""
    return "hybrid" if "hybrid" in results["average"] else "rule"


def compare(results: Mapping[str, Any], row: Row) -> dict[str, dict[str, Any]]:
    """Compare each benchmark that both have, and the average where the row has exactly our benchmarks.

    Returns:
        `{benchmark: {"ours", "interval", "theirs", "verdict"}}`, the verdict "inside" when the row's score is in our
        interval, else where ours is: "above" or "below".
    """
    kind = best(results)
    ours = {name: about[kind] for name, about in results["benchmarks"].items()}
    if set(ours) | {AVERAGE} == set(row.scores):
        ours[AVERAGE] = results["average"][kind]
    compared = {}
    for name in [name for name in ours if name in row.scores]:
        score, (low, high), theirs = ours[name]["avg"], ours[name]["interval"], row.scores[name]
        inside = low - ROUNDING <= theirs <= high + ROUNDING
        verdict = "inside" if inside else "above" if score > theirs else "below"
        compared[name] = {"ours": score, "interval": ours[name]["interval"], "theirs": theirs, "verdict": verdict}
    return compared


def golden(results: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """Whether this installation reproduces a row: no benchmark differs by more than sampling explains.

    Stricter than `compare`, whose interval also covers other problems: here the problems are the same, so only
    sampling differs, in our scores and, as much, in theirs. z is the difference in its standard errors; its limit
    keeps the chance that a faithful installation fails on any benchmark at 5% (Bonferroni).

    Returns:
        `{"row", "reproduces": bool, "limit": float, "benchmarks": {name: {"ours", "theirs", "z", "reproduces"}}}`.
    """
    kind = best(results)
    names = [name for name in results["benchmarks"] if name in row.scores]
    limit = NormalDist().inv_cdf(1 - LEVEL / len(names) / 2)
    checked = {}
    for name in names:
        score, theirs = results["benchmarks"][name][kind], row.scores[name]
        difference, error = abs(score["avg"] - theirs), math.sqrt(2) * score["sampling_error"]
        z = difference / error if error else None  # without any spread, only the same score will do
        same = difference <= ROUNDING if z is None else z <= limit
        checked[name] = {"ours": score["avg"], "theirs": theirs, "z": z, "reproduces": same}
    reproduces = all(check["reproduces"] for check in checked.values())
    return {"row": row.name, "reproduces": reproduces, "limit": limit, "benchmarks": checked}


def require_comparable(
    row: Row, settings: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]], verifier: str, judge: bool
) -> None:
    """Refuse a golden check that would mean nothing, before it costs hours.

    Args:
        sizes: problems and samples a problem, by benchmark.
        judge: whether one will be asked.

    Raises:
        UserError: settings, sizes or verdicts differ from the row's, or no benchmark is in both.
    """
    for name in ("temperature", "top_p", "max_tokens"):
        ours, theirs = settings.get(name), row.settings.get(name)
        if ours != theirs:
            raise UserError(f"--golden: {row.name} was evaluated with {name} {theirs}, this with {ours}")
    if judge != (row.kind == "hybrid"):
        how = "with a judge, this without: give --judge" if row.kind == "hybrid" else "without a judge, this with one"
        raise UserError(f"--golden: {row.name} was evaluated {how}")
    if verifier != (row.verifier or ROBUST):
        theirs = row.verifier or "a robust verifier"
        raise UserError(f"--golden: {row.name} was graded by {theirs}, this by {verifier}")
    common = [name for name in sizes if name in row.sizes]
    if not common:
        raise UserError(f"--golden: {row.name} has none of these benchmarks: {', '.join(sizes)}")
    for name in common:
        (problems, n), theirs = sizes[name], " x ".join(map(str, row.sizes[name]))
        if sizes[name] != row.sizes[name]:
            raise UserError(f"--golden: {name}: {row.name} has {theirs} responses, this {problems} x {n}")
        if n == 1:
            raise UserError("--golden: one sample a problem does not show how much sampling moves a score")
