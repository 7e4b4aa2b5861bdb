"""Problems of a training file that also stand in a benchmark, as the same text or with half of its n-grams."""

import re
from collections import Counter
from pathlib import Path

from justrl_recipe.data import benchmarks, training
from justrl_recipe.data.columns import Batch, text
from justrl_recipe.data.findings import ALWAYS, Finding, each

NGRAM = 10  # words that a row and a benchmark problem share in a row ...
OVERLAP = 0.5  # ... over this share of the benchmark problem's, to count as the same


def questions(folder: Path, of_benchmark: bool) -> list[Finding]:
    """The two questions; not asked of a benchmark itself, nor where `folder` holds no prepared benchmarks."""
    same, near = "problem of a benchmark, word by word", f"problem with half of a benchmark problem's {NGRAM}-grams"
    prepared = benchmarks.prepared(folder, tuple(benchmark.name for benchmark in benchmarks.BENCHMARKS))
    if of_benchmark or prepared is None:
        note = "not asked of a benchmark" if of_benchmark else f"not checked: no benchmarks in {folder}"
        return [Finding.unasked(name, note) for name in (same, near)]
    texts = {normalised(problem) for pairs in prepared.values() for problem, _ in pairs}
    sizes = {known: len(ngrams(known)) for known in texts}
    index: dict[str, list[str]] = {}
    for known in texts:
        for gram in ngrams(known):
            index.setdefault(gram, []).append(known)

    def shares(problem: str) -> bool:
        shared = Counter(other for gram in ngrams(problem) for other in index.get(gram, ()))
        return problem not in texts and any(count >= OVERLAP * sizes[other] for other, count in shared.items())

    def is_same(batch: Batch):
        return each(texts.__contains__)(batch.prompts.map(_normalised_problem))

    def is_near(batch: Batch):
        return each(shares)(batch.prompts.map(_normalised_problem))

    return [Finding(same, is_same, ALWAYS), Finding(near, is_near, ALWAYS)]


def _normalised_problem(messages: list[dict] | None) -> str:
    return normalised(training.problem_of(text(messages)))


def normalised(text: str) -> str:
    """The words, numbers and operators of a text, without case, punctuation and LaTeX's spacing."""
    return " ".join(re.findall(r"\w+|[-+*/=<>^]", text.lower()))


def ngrams(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)}
