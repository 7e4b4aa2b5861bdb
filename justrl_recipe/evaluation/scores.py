"""From graded responses to scores: avg@N with its interval, pass@k, maj@N, lengths and diversity."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
import pyarrow
import scipy.stats
from pyarrow import compute

from justrl_recipe.data.benchmarks import BENCHMARKS
from justrl_recipe.evaluation.grading import Grade, Verdict
from justrl_recipe.evaluation.responses import Key, Response
from justrl_recipe.intervals import CONFIDENCE

RESAMPLES = 9_999
PERCENTILES = (5, 50, 95)  # of lengths
MIX = numpy.uint64(0x9E3779B97F4A7C15)  # odd, so that no digit of a hash is lost
Graded = list[tuple[Response, Grade]]


def summarise(
    responses: Sequence[Response], grades: Sequence[Grade], verdicts: Mapping[Key, Verdict] | None = None
) -> dict[str, Any]:
    """The scores by benchmark, and their unweighted average as in the paper.

    Args:
        verdicts: a judge's, on what the rule rejected; None without a judge. With them a `hybrid` score, where the
            judge's verdict counts, stands beside the `rule` score.

    Returns:
        `{"benchmarks": {name: ...}, "average": {"rule": ..., "hybrid": ...}}`; scores and shares in 0..1.
    """
    by_benchmark: dict[str, Graded] = defaultdict(list)
    for response, grade in zip(responses, grades, strict=True):
        by_benchmark[response.benchmark].append((response, grade))
    order = {benchmark.name: place for place, benchmark in enumerate(BENCHMARKS)}
    names = sorted(by_benchmark, key=lambda name: (order.get(name, len(order)), name))
    benchmarks = {name: _properties(by_benchmark[name]) for name in names}
    average = {}
    for kind in ("rule",) if verdicts is None else ("rule", "hybrid"):
        judged = verdicts if kind == "hybrid" and verdicts else {}
        means = []
        for name in names:
            graded = by_benchmark[name]
            correct = [grade.correct or judged.get(one.key) is Verdict.CORRECT for one, grade in graded]
            benchmarks[name][kind], of_problems = _score(graded, correct)
            means.append(of_problems)
        averages = [benchmarks[name][kind]["avg"] for name in names]
        average[kind] = {"avg": float(numpy.mean(averages)), "interval": interval(*means)}
    if verdicts is not None:
        for name in names:
            given = Counter(verdicts[one.key] for one, _ in by_benchmark[name] if one.key in verdicts)
            benchmarks[name]["judge"] = {verdict.value: given[verdict] for verdict in Verdict}
    return {"benchmarks": benchmarks, "average": average}


def _by_problem(graded: Graded, values: Sequence[Any]) -> list[list[Any]]:
    """`values`, one of each response, grouped by problem."""
    groups: dict[int, list[Any]] = defaultdict(list)
    for (response, _), value in zip(graded, values, strict=True):
        groups[response.problem].append(value)
    return [groups[problem] for problem in sorted(groups)]


def _score(graded: Graded, correct: Sequence[bool]) -> tuple[dict[str, Any], list[float]]:
    """The score by these verdicts, and the mean of each problem."""
    verdicts = _by_problem(graded, correct)
    votes = _by_problem(graded, [right or grade.vote for (_, grade), right in zip(graded, correct, strict=True)])
    n, c = [len(group) for group in verdicts], [sum(group) for group in verdicts]
    means = [right / total for right, total in zip(c, n, strict=True)]
    fewest = min(n)
    powers = [1 << exponent for exponent in range(fewest.bit_length()) if 1 << exponent < fewest]
    return {
        "avg": float(numpy.mean(means)),
        "interval": interval(means),
        "sampling_error": sampling_error(n, c),
        "pass": {str(k): pass_at_k(n, c, k) for k in (*powers, fewest)},
        "maj": float(numpy.mean([majority(*group) for group in zip(votes, verdicts, strict=True)])),
    }, means


def _properties(graded: Graded) -> dict[str, Any]:
    """Counts, lengths and diversity of a benchmark's responses; None where the responses do not tell."""
    responses = [response for response, _ in graded]
    texts = _by_problem(graded, [response.response for response in responses])
    lengths = [response.tokens for response in responses if response.tokens is not None]
    reasons = [response.finish_reason for response in responses]
    with ThreadPoolExecutor() as pool:
        diversity = [share for share in pool.map(distinct_4, texts) if share is not None]
    return {
        "problems": len(texts),
        "samples": min(map(len, texts)),
        "responses": len(responses),
        "truncated": None if None in reasons else reasons.count("length") / len(reasons),
        "no_box": [grade.pred for _, grade in graded].count(None) / len(graded),
        "length": _lengths(lengths) if len(lengths) == len(responses) else None,
        "distinct_4": float(numpy.mean(diversity)) if diversity else None,
    }


def _lengths(lengths: Sequence[int]) -> dict[str, float]:
    percentiles = zip(PERCENTILES, numpy.percentile(lengths, PERCENTILES), strict=True)
    return {"mean": float(numpy.mean(lengths)), **{f"p{p}": float(value) for p, value in percentiles}}


# --- the estimators


def interval(*means: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of a benchmark's avg@N, or of the unweighted average over several benchmarks.

    A bias-corrected bootstrap over problems: a problem goes with all its samples, since these are not independent
    evidence. It says how much other problems of the same kind would change the score; benchmarks/evaluation.py
    measures its coverage. A benchmark whose problems all score the same has nothing to resample: it counts as
    certain beside others, and alone by the share of other problems that may not have been seen (`_unseen`).

    Args:
        means: per benchmark the mean score of each problem, in 0..1.
    """
    varied = [numpy.asarray(scores, dtype=float) for scores in means if min(scores) < max(scores)]
    constant = sum(scores[0] for scores in means if min(scores) == max(scores))
    if not varied:
        share = float(numpy.mean([_unseen(len(scores)) for scores in means]))
        score = constant / len(means)
        return (1 - share) * score, (1 - share) * score + share

    def average(*resampled: numpy.ndarray, axis: int = -1) -> numpy.ndarray:
        return (constant + sum(scores.mean(axis=axis) for scores in resampled)) / len(means)

    found = scipy.stats.bootstrap(
        varied,
        average,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        vectorized=True,
        batch=1_000,  # bounds the memory
        rng=numpy.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def _unseen(problems: int) -> float:
    """The largest share of other problems that so many equal ones do not exclude, at 97.5% (Clopper-Pearson)."""
    return 1 - float(scipy.stats.binomtest(problems, problems).proportion_ci(CONFIDENCE).low)


def sampling_error(samples: Sequence[int], correct: Sequence[int]) -> float | None:
    """The standard error of avg@N from sampling alone, on the same problems; None with one sample a problem.

    Two evaluations of the same model differ by it, far less than `interval` says.
    """
    n, c = numpy.asarray(samples), numpy.asarray(correct)
    if n.min() < 2:
        return None
    variances = (c / n) * (1 - c / n) / (n - 1)
    return float(numpy.sqrt(variances.sum()) / len(n))


def pass_at_k(samples: Sequence[int], correct: Sequence[int], k: int) -> float:
    """The unbiased estimate of pass@k: the chance that k of a problem's samples hold a correct one, averaged.

    The hypergeometric form of Chen et al. 2021, 1 - C(n-c, k) / C(n, k).

    Args:
        samples, correct: per problem how many samples there are and how many of them are correct; k <= samples.
    """
    return float(numpy.mean(scipy.stats.hypergeom.sf(0, samples, correct, k)))


def majority(answers: Sequence[Hashable | None], correct: Sequence[bool]) -> float:
    """maj@N of one problem: whether the most frequent answer is correct; a tie counts by its correct share.

    Args:
        answers: one spelling for what is the same answer; None, no answer, has no vote.
        correct: the verdict on each.
    """
    votes = Counter((answer, verdict) for answer, verdict in zip(answers, correct, strict=True) if answer is not None)
    most = max(votes.values(), default=0)
    winners = [verdict for (_, verdict), count in votes.items() if count == most]
    return sum(winners) / len(winners) if winners else 0.0


def distinct_4(responses: Sequence[str]) -> float | None:
    """Of all runs of four words in one problem's responses, the share that are different; None without any.

    Arrow takes half the time of sets of words, and releases the GIL.
    """
    words = compute.utf8_split_whitespace(compute.utf8_trim_whitespace(pyarrow.array(responses, pyarrow.string())))
    ids = words.flatten().dictionary_encode().indices.to_numpy().astype(numpy.uint64)
    owners = numpy.repeat(numpy.arange(len(responses)), compute.list_value_length(words).to_numpy())
    hashes = ((ids[:-3] * MIX + ids[1:-2]) * MIX + ids[2:-1]) * MIX + ids[3:]  # 64 bits, so as good as distinct
    hashes = hashes[owners[:-3] == owners[3:]]
    return len(compute.unique(pyarrow.array(hashes))) / len(hashes) if len(hashes) else None
