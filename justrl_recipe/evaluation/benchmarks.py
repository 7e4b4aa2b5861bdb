"""What there is to evaluate: prepared files, how many samples of each, and a seed for every sample."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from justrl_recipe.data import problems, schema
from justrl_recipe.data.benchmarks import BENCHMARKS, by_name
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.samples import Key

SAMPLES = 4  # of a problem of the user's own file, where --n does not say otherwise


@dataclass(frozen=True)
class Task:
    """A benchmark to evaluate.

    Attributes:
        pairs: prompt (with its suffix) and ground truth of each problem.
        n: samples of each problem.
        digest: of the whole file's pairs, so that an evaluation is known to be on the same problems.
    """

    name: str
    pairs: list[tuple[str, str]]
    n: int
    digest: str

    def sample_keys(self) -> list[Key]:
        """Of all its samples, the samples of a problem one after another."""
        return [(self.name, problem, sample) for problem in range(len(self.pairs)) for sample in range(self.n)]


def load(names: list[str], folder: Path, n: int | None, limit: int | None) -> list[Task]:
    """The tasks of the named benchmarks, or of all nine without names.

    Args:
        names: a benchmark's name, in any case and punctuation, or the path of a prepared .parquet file.
        folder: where `verl data benchmarks` has put them.
        n: samples of each problem; None takes the paper's for the nine, and 4 else.
        limit: only so many problems of each.

    Raises:
        UserError: no such benchmark or file, or one without ground truths.
    """
    tasks: list[Task] = []
    for name, file in [_file(name, folder) for name in names or [benchmark.name for benchmark in BENCHMARKS]]:
        if name in [task.name for task in tasks]:
            raise UserError(f"--benchmark: {name} is given twice")
        pairs = _pairs(file)
        benchmark = by_name(name)
        samples = n or (benchmark.samples if benchmark else SAMPLES)
        digest = hashlib.sha256(repr(pairs).encode()).hexdigest()
        tasks.append(Task(name, pairs[:limit], samples, digest))
    return tasks


def _pairs(file: Path) -> list[tuple[str, str]]:
    """Prompt and ground truth of each row; a file that is not prepared would be scored near zero without a word."""
    pairs = []
    for number, (prompt, gold) in enumerate(problems.prepared_pairs(file), 1):
        where = f"{file}: row {number}:"
        if not gold.strip() or not schema.normalised_gold(gold):
            raise UserError(f"{where} the answer is empty")
        if gold != schema.normalised_gold(gold) or schema.INSTRUCTION not in prompt:
            wrong = "the prompt does not ask for" if schema.INSTRUCTION not in prompt else "the answer is in"
            fix = "`verl data benchmarks --source FOLDER` or `verl data train --source FILE` prepares it"
            raise UserError(f"{where} {wrong} \\boxed{{}}: {fix}")
        pairs.append((prompt, gold))
    return pairs


def _file(name: str, folder: Path) -> tuple[str, Path]:
    if name.endswith(".parquet"):
        return Path(name).stem, Path(name)
    found = by_name(name)
    if found is None:
        known = ", ".join(benchmark.name for benchmark in BENCHMARKS)
        raise UserError(f"no benchmark {name!r}: give a .parquet file, or one of {known}")
    name = found.name
    file = folder / f"{name}.parquet"
    if not file.is_file():
        raise UserError(f"no {file}: `verl data benchmarks --out {folder}` makes it")
    return name, file


def seed_of(key: Key, seed: int) -> int:
    """The seed of one sample's own random numbers, which nothing else that is generated can shift."""
    text = "/".join(map(str, (seed, *key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
