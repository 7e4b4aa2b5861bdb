"""The nine benchmarks.

`prepare` writes them in veRL's schema, from their published sources or a folder of files; `load` reads them for an
evaluation.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from justrl_recipe import hub
from justrl_recipe.data import problems, schema
from justrl_recipe.data.problems import Pair
from justrl_recipe.errors import UserError
from justrl_recipe.files import sha256, write_json


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: how many problems it has, how many samples of each the paper takes, and where it is published (a
    data set of the Hugging Face hub)."""

    name: str
    rows: int
    samples: int
    repository: str
    split: str = "test"
    columns: tuple[str, str] = ("question", "answer")


BENCHMARKS = (
    Benchmark("AIME24", 30, 32, "math-ai/aime24", columns=("problem", "solution")),
    Benchmark("AIME25", 30, 32, "math-ai/aime25", columns=("problem", "answer")),
    Benchmark("AMC23", 40, 32, "math-ai/amc23"),  # other editions hold 83
    Benchmark("MATH-500", 500, 4, "HuggingFaceH4/MATH-500", columns=("problem", "answer")),
    Benchmark("Minerva", 272, 4, "math-ai/minervamath"),
    Benchmark("OlympiadBench", 674, 4, "math-ai/olympiadbench", columns=("question", "final_answer")),
    Benchmark("HMMT25", 30, 32, "MathArena/hmmt_feb_2025", "train", ("problem", "answer")),
    Benchmark("BRUMO25", 30, 32, "MathArena/brumo_2025", "train", ("problem", "answer")),
    Benchmark("CMIMC25", 40, 32, "MathArena/cmimc_2025", "train", ("problem", "answer")),
)
NAMES = tuple(benchmark.name for benchmark in BENCHMARKS)
SAMPLES = 4  # of a problem of the user's own file, where --n does not say otherwise
VALIDATION = ("AIME24", "AIME25", "AMC23")  # in training; justrl.yaml names them to its reward


def by_name(name: str) -> Benchmark | None:
    """The benchmark that is written like `name` but for case and punctuation (MATH500, Olympiad-Bench)."""
    return next((benchmark for benchmark in BENCHMARKS if _plain(benchmark.name) == _plain(name)), None)


def prepare(out: Path, source: Path | None) -> dict[str, int]:
    """Write a file per benchmark, the in-training validation.parquet, and their provenance; return the row counts.

    All nine are read and checked before the first file is written.

    Args:
        source: a folder of .parquet, .json or .jsonl files named like the benchmarks; None downloads them.

    Raises:
        UserError: a file is missing, unreadable, or has another number of rows than the benchmark.
    """
    read = {}
    origins = {}
    for benchmark in BENCHMARKS:
        read[benchmark.name], origins[benchmark.name] = _local(benchmark, source) if source else download(benchmark)
    for benchmark in BENCHMARKS:
        pairs = read[benchmark.name]
        schema.write_parquet(
            out / f"{benchmark.name}.parquet", _rows(benchmark.name, pairs, schema.EVALUATION_SUFFIX)
        )
    write_validation(out, {name: read[name] for name in VALIDATION})
    made_by = f"justrl-recipe {version('justrl-recipe')}"
    write_json(out / "benchmarks.provenance.json", {"made_by": made_by, "benchmarks": origins})
    return {name: len(pairs) for name, pairs in read.items()}


def write_validation(out: Path, pairs: dict[str, list[Pair]]) -> int:
    """Write the in-training validation set: the benchmarks of `VALIDATION` with the training suffix."""
    rows = [row for name in VALIDATION for row in _rows(name, pairs[name], schema.TRAINING_SUFFIX)]
    return schema.write_parquet(out / "validation.parquet", rows)


def prepared(folder: Path, names: tuple[str, ...] = VALIDATION) -> dict[str, list[Pair]] | None:
    """Problems and golds of the named benchmarks as `prepare` left them in `folder`; None when one is missing."""
    files = {name: folder / f"{name}.parquet" for name in names}
    if not all(file.is_file() for file in files.values()):
        return None
    suffix = schema.EVALUATION_SUFFIX
    return {name: [(p.removesuffix(suffix), gold) for p, gold in _pairs(file)] for name, file in files.items()}


def download(benchmark: Benchmark) -> tuple[list[Pair], dict[str, Any]]:
    """A benchmark's pairs and their origin from the hub.

    Raises:
        UserError: no network, no such data set, or other columns than expected.
    """
    import datasets

    with hub.revision(benchmark.repository, "give --source FOLDER with the nine files") as revision:
        found = datasets.load_dataset(benchmark.repository, split=benchmark.split, revision=revision)
    asked, gold = benchmark.columns
    missing = [column for column in benchmark.columns if column not in found.column_names]
    if missing:
        raise UserError(f"{benchmark.repository}: no column {missing[0]}, only {', '.join(found.column_names)}")
    where = Path(benchmark.repository)
    pairs = [
        (problems.prompt_of(where, asked, row, entry[asked]), problems.gold_of(where, gold, row, _one(entry[gold])))
        for row, entry in enumerate(found, 1)
    ]
    return _checked(benchmark, where, pairs), {"source": benchmark.repository, "revision": revision}


def _one(answer: Any) -> Any:
    """One answer of the list of its parts, which OlympiadBench's `final_answer` is."""
    parts = isinstance(answer, list) and all(isinstance(part, str) for part in answer)
    return ", ".join(answer) if parts else answer


def _local(benchmark: Benchmark, folder: Path) -> tuple[list[Pair], dict[str, Any]]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}")
    suffixes = (".parquet", ".json", ".jsonl")
    files = [f for f in sorted(folder.iterdir()) if f.suffix in suffixes and _plain(f.stem) == _plain(benchmark.name)]
    if len(files) != 1:
        found = "several files" if files else "no file"
        raise UserError(f"{folder}: {found} {benchmark.name}.parquet (or .json, .jsonl)")
    pairs = _checked(benchmark, files[0], _pairs(files[0]))
    return pairs, {"source": files[0].name, "source_sha256": sha256(files[0])}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _pairs(file: Path) -> list[Pair]:
    return [pair for batch in problems.read(file) for pair in batch.pairs]


def _checked(benchmark: Benchmark, where: Path, pairs: list[Any]) -> list[Pair]:
    """The pairs with bare problems and normalised golds, none empty, as many as the benchmark has."""
    found = []
    for number, (problem, gold) in enumerate(pairs, 1):
        for instruction in (schema.TRAINING_SUFFIX, schema.EVALUATION_SUFFIX):
            problem = problem.removesuffix(instruction)
        pair = problem.strip(), schema.normalised_gold(gold)
        if not all(pair):
            raise UserError(f"{where}: row {number}: the {'answer' if pair[0] else 'problem'} is empty")
        found.append(pair)
    if len(found) != benchmark.rows:
        raise UserError(f"{where}: {len(found)} problems, {benchmark.name} has {benchmark.rows}")
    return found


def _rows(name: str, pairs: list[Pair], suffix: str) -> Iterator[dict[str, Any]]:
    for index, (problem, gold) in enumerate(pairs):
        yield schema.row(name, index, "test", problem + suffix, gold)


# --- prepared benchmarks, to evaluate on


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

    def response_keys(self) -> list[tuple[str, int, int]]:
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
    for given in names or NAMES:
        name, file = _file(given, folder)
        if name in loaded:
            raise UserError(f"--benchmark: {name} is given twice")
        found, pairs = by_name(name), _prompts_and_golds(file)
        digest = hashlib.sha256(repr(pairs).encode()).hexdigest()
        loaded[name] = PreparedBenchmark(name, pairs[:limit], n or (found.samples if found else SAMPLES), digest)
    return list(loaded.values())


def _file(name: str, folder: Path) -> tuple[str, Path]:
    """What a benchmark is called in the results, and its file."""
    if name.endswith(".parquet"):
        return Path(name).stem, Path(name)
    found = by_name(name)
    if found is None:
        raise UserError(f"no benchmark {name!r}: give a .parquet file, or one of {', '.join(NAMES)}")
    file = folder / f"{found.name}.parquet"
    if not file.is_file():
        raise UserError(f"no {file}: `verl data benchmarks --out {folder}` makes it")
    return found.name, file


def _prompts_and_golds(file: Path) -> list[tuple[str, str]]:
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
