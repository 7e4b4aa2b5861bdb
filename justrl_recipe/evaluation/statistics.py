"""The estimators: avg@N with its interval, pass@k, maj@N, diversity. Pure functions of numbers and texts."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy
import pyarrow
import scipy.stats
from pyarrow import compute

CONFIDENCE = 0.95
RESAMPLES = 9_999
MIX = numpy.uint64(0x9E3779B97F4A7C15)  # odd, so that no digit of a hash is lost
Interval = tuple[float, float]


def interval(*means: Sequence[float]) -> Interval:
    """The 95% interval of a benchmark's avg@N, or of the unweighted average over several benchmarks.

    A bias-corrected bootstrap over problems: a problem goes with all its samples, since they are no independent
    evidence. It says how much another draw of such problems would move the score. Its coverage is measured in
    benchmarks/evaluation.py. A benchmark whose problems all score the same has nothing to resample: it counts as
    certain beside others; alone, by the share of problems that may be otherwise and have not been seen (`_unseen`).

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
    """The largest share of other problems that so many would not have shown one of, at 97.5% confidence."""
    return 1 - float(scipy.stats.binomtest(problems, problems).proportion_ci(CONFIDENCE).low)


def sampling_error(samples: Sequence[int], correct: Sequence[int]) -> float | None:
    """The standard error of avg@N from sampling alone, on these very problems; None with one sample a problem.

    What two evaluations of the same model differ by, and so far smaller than `interval` says.
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

    By Arrow, in half the time that sets of words take, and threads work side by side.
    """
    words = compute.utf8_split_whitespace(compute.utf8_trim_whitespace(pyarrow.array(responses, pyarrow.string())))
    ids = words.flatten().dictionary_encode().indices.to_numpy().astype(numpy.uint64)
    owners = numpy.repeat(numpy.arange(len(responses)), compute.list_value_length(words).to_numpy())
    hashes = ((ids[:-3] * MIX + ids[1:-2]) * MIX + ids[2:-1]) * MIX + ids[3:]  # 64 bits, so as good as distinct
    hashes = hashes[owners[:-3] == owners[3:]]
    return len(compute.unique(pyarrow.array(hashes))) / len(hashes) if len(hashes) else None
