"""Results beside a row of the paper's table, or beside other results."""

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
from justrl_recipe.evaluation.samples import LONGEST_NAME

AVERAGE = "Average"
ROBUST = "robust_verifier"
LEVEL = 0.05  # that a faithful installation fails the golden check, over all its benchmarks together
ROUNDING = 0.00005  # published scores have two decimals of a percent


@dataclass(frozen=True)
class Row:
    """What results are compared with: scores in 0..1 by benchmark and as `Average`, and how they came about.

    Attributes:
        sizes: problems and samples a problem, by benchmark.
        kind: "hybrid" where a judge was asked about what the rule rejects, else "rule".
        verifier: the rule; None for the paper's, which is another one.
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
    for name, values in content["rows"].items():
        scores = {
            column: value / 100 for column, value in zip(content["columns"], values, strict=True) if value is not None
        }
        sizes = {
            benchmark.name: (benchmark.rows, benchmark.samples)
            for benchmark in BENCHMARKS
            if benchmark.name in scores
        }
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
        raise UserError(f"{file} is no results.json of `verl eval`") from error


def _require_types(row: Row) -> None:
    if not isinstance(row.name, str) or not isinstance(row.verifier, str) or len(row.name) > LONGEST_NAME:
        raise TypeError("model and verifier have to be names")
    if not all(isinstance(score, int | float) and 0 <= score <= 1 for score in row.scores.values()):
        raise TypeError("scores have to be numbers from 0 to 1")
    if not all(type(count) is int for size in row.sizes.values() for count in size):
        raise TypeError("sizes have to be whole numbers")


def best(results: Mapping[str, Any]) -> str:
    """The score that compares with the paper's: `hybrid` where a judge was asked, as there, else `rule`."""
    return "hybrid" if "hybrid" in results["average"] else "rule"


def compare(results: Mapping[str, Any], row: Row) -> dict[str, dict[str, Any]]:
    """Per benchmark that both have, and for their average where the row has all of ours: where the row's score lies.

    Returns:
        `{benchmark: {"ours", "interval", "theirs", "verdict"}}`, the verdict "inside" when the row's score is in our
        interval, else "above" or "below": what ours is.
    """
    kind = best(results)
    ours = {name: about[kind] for name, about in results["benchmarks"].items()}
    if set(ours) | {AVERAGE} == set(row.scores):
        ours[AVERAGE] = results["average"][kind]
    compared = {}
    for name, score in ours.items():
        if name in row.scores:
            theirs, (low, high) = row.scores[name], score["interval"]
            inside = low - ROUNDING <= theirs <= high + ROUNDING
            verdict = "inside" if inside else "above" if score["avg"] > theirs else "below"
            compared[name] = {
                "ours": score["avg"],
                "interval": score["interval"],
                "theirs": theirs,
                "verdict": verdict,
            }
    return compared


def golden(results: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """Whether this installation reproduces a row: no benchmark is further off than sampling explains.

    Stricter than `compare`, whose interval also asks what other problems would give: here the problems are the same,
    so only sampling differs, in our scores and, by as much, in theirs. z is the difference in standard errors of
    it; its limit keeps the chance that a faithful installation fails anywhere at 5% (Bonferroni).

    Returns:
        `{"reproduces": bool, "limit": float, "benchmarks": {name: {"ours", "theirs", "z", "reproduces"}}}`.
    """
    kind = best(results)
    names = [name for name in results["benchmarks"] if name in row.scores]
    limit = NormalDist().inv_cdf(1 - LEVEL / len(names) / 2)
    checked = {}
    for name in names:
        score, theirs = results["benchmarks"][name][kind], row.scores[name]
        off, error = abs(score["avg"] - theirs), math.sqrt(2) * score["sampling_error"]
        z = off / error if error else None  # no spread at all: only the same score will do
        same = off <= ROUNDING if z is None else z <= limit
        checked[name] = {"ours": score["avg"], "theirs": theirs, "z": z, "reproduces": same}
    reproduces = all(check["reproduces"] for check in checked.values())
    return {"row": row.name, "reproduces": reproduces, "limit": limit, "benchmarks": checked}


def require_same(
    row: Row, settings: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]], verifier: str, judge: bool
) -> None:
    """Refuse a golden check that could not tell anything, before it costs hours.

    Args:
        sizes: problems and samples a problem, by benchmark.
        judge: whether one will be asked.

    Raises:
        UserError: settings, sizes or verdicts come about otherwise than the row's, or nothing in common is evaluated.
    """
    for name in ("temperature", "top_p", "max_tokens"):
        ours, theirs = settings.get(name), row.settings.get(name)
        if ours != theirs:
            raise UserError(f"--golden: {row.name} was evaluated with {name} {theirs}, this with {ours}")
    if judge != (row.kind == "hybrid"):
        how = "with a judge, this without: give --judge" if row.kind == "hybrid" else "without a judge, this with one"
        raise UserError(f"--golden: {row.name} was evaluated {how}")
    if verifier != (row.verifier or ROBUST):
        raise UserError(
            f"--golden: {row.name} was graded by {row.verifier or 'a robust verifier'}, this by {verifier}"
        )
    common = [name for name in sizes if name in row.sizes]
    if not common:
        raise UserError(f"--golden: {row.name} has none of these benchmarks: {', '.join(sizes)}")
    for name in common:
        (problems, n), theirs = sizes[name], " x ".join(map(str, row.sizes[name]))
        if sizes[name] != row.sizes[name]:
            raise UserError(f"--golden: {name}: {row.name} has {theirs} responses, this {problems} x {n}")
        if n == 1:
            raise UserError("--golden: one sample a problem does not show how much sampling moves a score")
