"""The prepared benchmarks to evaluate on: their problems, and how many samples of each."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from justrl_recipe.data import benchmarks, problems, schema
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.responses import Key

SAMPLES = 4  # of a problem of the user's own file, where --n does not say otherwise


@dataclass(frozen=True)
class PreparedBenchmark:
    """A benchmark to evaluate on.

    Attributes:
        problems: prompt (with its suffix) and ground truth of each.
        n: samples of each problem.
        digest: of all problems in the file, so that an evaluation is known to be on the same ones.
    """

    name: str
    problems: list[tuple[str, str]]
    n: int
    digest: str

    def response_keys(self) -> list[Key]:
        """The keys of all responses, the samples of a problem one after another."""
        return [(self.name, problem, sample) for problem in range(len(self.problems)) for sample in range(self.n)]


def load(names: Sequence[str], folder: Path, n: int | None, limit: int | None) -> list[PreparedBenchmark]:
    """The named benchmarks, or all nine without names.

    Args:
        names: a benchmark's name, in any case and punctuation, or the path of a prepared .parquet file.
        folder: where `verl data benchmarks` has written them.
        n: samples of each problem; None takes the paper's for the nine, and 4 else.
        limit: only so many problems of each.

    Raises:
        UserError: there is no such benchmark or file, or it has a row without a ground truth.
    """
    loaded: dict[str, PreparedBenchmark] = {}
    for given in names or [benchmark.name for benchmark in benchmarks.BENCHMARKS]:
        name, file = _file(given, folder)
        if name in loaded:
            raise UserError(f"--benchmark: {name} is given twice")
        found, pairs = benchmarks.by_name(name), _pairs(file)
        digest = hashlib.sha256(repr(pairs).encode()).hexdigest()
        loaded[name] = PreparedBenchmark(name, pairs[:limit], n or (found.samples if found else SAMPLES), digest)
    return list(loaded.values())


def _file(name: str, folder: Path) -> tuple[str, Path]:
    """What a benchmark is called in the results, and its file."""
    if name.endswith(".parquet"):
        return Path(name).stem, Path(name)
    found = benchmarks.by_name(name)
    if found is None:
        known = ", ".join(benchmark.name for benchmark in benchmarks.BENCHMARKS)
        raise UserError(f"no benchmark {name!r}: give a .parquet file, or one of {known}")
    file = folder / f"{found.name}.parquet"
    if not file.is_file():
        raise UserError(f"no {file}: `verl data benchmarks --out {folder}` makes it")
    return found.name, file


def _pairs(file: Path) -> list[tuple[str, str]]:
    """Prompt and ground truth of each row; a file that is not prepared would be scored near zero."""
    pairs = []
    for number, (prompt, gold) in enumerate(problems.prepared_pairs(file), 1):
        where = f"{file}: row {number}:"
        if not schema.normalised_gold(gold):
            raise UserError(f"{where} the answer is empty")
        if gold != schema.normalised_gold(gold) or schema.INSTRUCTION not in prompt:
            wrong = "the prompt does not ask for" if schema.INSTRUCTION not in prompt else "the answer is in"
            fix = "`verl data benchmarks --source FOLDER` or `verl data train --source FILE` prepares it"
            raise UserError(f"{where} {wrong} \\boxed{{}}: {fix}")
        pairs.append((prompt, gold))
    return pairs
