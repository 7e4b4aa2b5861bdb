"""From graded samples to what is reported: results.json."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy

from justrl_recipe.data.benchmarks import BENCHMARKS
from justrl_recipe.evaluation import statistics
from justrl_recipe.evaluation.grade import Grade
from justrl_recipe.evaluation.judge import Verdict
from justrl_recipe.evaluation.samples import Key, Sample

PERCENTILES = (5, 50, 95)
Graded = list[tuple[Sample, Grade]]


def summarise(
    samples: Sequence[Sample], grades: Sequence[Grade], verdicts: Mapping[Key, Verdict] | None = None
) -> dict[str, Any]:
    """The results by benchmark, and their unweighted average as the paper takes it.

    Args:
        verdicts: a judge's, on what the rule rejected; None without a judge. With them a `hybrid` score, where the
            judge's word counts, stands beside the `rule` score.

    Returns:
        `{"benchmarks": {name: ...}, "average": {"rule": ..., "hybrid": ...}}`; scores and shares in 0..1.
    """
    by_benchmark: dict[str, Graded] = defaultdict(list)
    for sample, grade in zip(samples, grades, strict=True):
        by_benchmark[sample.benchmark].append((sample, grade))
    order = [benchmark.name for benchmark in BENCHMARKS]
    names = sorted(by_benchmark, key=lambda name: (order.index(name) if name in order else len(order), name))
    kinds = ("rule",) if verdicts is None else ("rule", "hybrid")
    benchmarks, means = {}, {}
    for name in names:
        graded = by_benchmark[name]
        benchmarks[name] = _about(graded)
        for kind in kinds:
            judged = verdicts if kind == "hybrid" and verdicts else {}
            correct = [grade.correct or judged.get(sample.key) is Verdict.CORRECT for sample, grade in graded]
            benchmarks[name][kind], means[name, kind] = _score(graded, correct)
        if verdicts is not None:
            given = [verdicts[sample.key].value for sample, _ in graded if sample.key in verdicts]
            benchmarks[name]["judge"] = {verdict.value: given.count(verdict.value) for verdict in Verdict}
    average = {
        kind: {
            "avg": float(numpy.mean([benchmarks[name][kind]["avg"] for name in names])),
            "interval": statistics.interval(*(means[name, kind] for name in names)),
        }
        for kind in kinds
    }
    return {"benchmarks": benchmarks, "average": average}


def _by_problem(graded: Graded, values: Sequence[Any]) -> list[list[Any]]:
    """`values`, one of each sample, grouped by the samples' problems."""
    groups: dict[int, list[Any]] = defaultdict(list)
    for (sample, _), value in zip(graded, values, strict=True):
        groups[sample.problem].append(value)
    return [groups[problem] for problem in sorted(groups)]


def _score(graded: Graded, correct: Sequence[bool]) -> tuple[dict[str, Any], list[float]]:
    """What is made of the verdicts, and the mean of each problem."""
    verdicts = _by_problem(graded, correct)
    votes = _by_problem(
        graded, [True if right else grade.vote for (_, grade), right in zip(graded, correct, strict=True)]
    )
    n, c = [len(group) for group in verdicts], [sum(group) for group in verdicts]
    means = [right / total for right, total in zip(c, n, strict=True)]
    majorities = [statistics.majority(*group) for group in zip(votes, verdicts, strict=True)]
    return {
        "avg": float(numpy.mean(means)),
        "interval": statistics.interval(means),
        "sampling_error": statistics.sampling_error(n, c),
        "pass": {str(k): statistics.pass_at_k(n, c, k) for k in _powers(min(n))},
        "maj": float(numpy.mean(majorities)),
    }, means


def _powers(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n."""
    return [1 << exponent for exponent in range(n.bit_length()) if 1 << exponent < n] + [n]


def _about(graded: Graded) -> dict[str, Any]:
    """What the responses look like, whatever they score; None where the samples do not tell."""
    samples = [sample for sample, _ in graded]
    responses = _by_problem(graded, [sample.response for sample in samples])
    counts = [len(group) for group in responses]
    lengths = [sample.tokens for sample in samples if sample.tokens is not None]
    reasons = [sample.finish_reason for sample in samples]
    with ThreadPoolExecutor() as pool:
        diversity = [share for share in pool.map(statistics.distinct_4, responses) if share is not None]
    return {
        "problems": len(counts),
        "samples": min(counts),
        "responses": len(samples),
        "truncated": None if None in reasons else reasons.count("length") / len(reasons),
        "no_box": [grade.pred for _, grade in graded].count(None) / len(graded),
        "length": _lengths(lengths) if len(lengths) == len(samples) else None,
        "distinct_4": float(numpy.mean(diversity)) if diversity else None,
    }


def _lengths(lengths: Sequence[int]) -> dict[str, float]:
    percentiles = zip(PERCENTILES, numpy.percentile(lengths, PERCENTILES), strict=True)
    return {"mean": float(numpy.mean(lengths)), **{f"p{p}": float(value) for p, value in percentiles}}
