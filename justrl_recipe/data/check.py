"""What is in a prepared file, and what in it would spoil a run."""

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from justrl_recipe.data import benchmarks, problems, training
from justrl_recipe.errors import UserError
from justrl_recipe.reward_fns.mathematics import workers
from justrl_recipe.reward_fns.mathematics.literals import plain_number
from justrl_recipe.reward_fns.mathematics.spelling import spelled
from justrl_recipe.reward_fns.rule_based import compute_score

NGRAM = 10  # words that a row and a benchmark problem share in a row ...
OVERLAP = 0.5  # ... over this share of the benchmark problem's, to count as the same
EXAMPLES = 3
AT_START = 20_000  # rows that are looked at before a run


@dataclass(frozen=True)
class Row:
    prompt: str
    gold: str
    source: str

    @property
    def problem(self) -> str:
        return training.problem_of(self.prompt)


@dataclass
class Finding:
    """One question to every row: how many it is true of, and which; count None where it could not be asked."""

    name: str
    wrong: Callable[[Row], bool] = field(repr=False)
    spoils: bool = True
    note: str = ""
    count: int | None = 0
    rows: list[int] = field(default_factory=list)  # the first few, counted from 1

    def ask(self, number: int, row: Row) -> None:
        if self.count is not None and self.wrong(row):
            self.count += 1
            self.rows = [*self.rows, number][:EXAMPLES]

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "count", "spoils", "note", "rows")}


@dataclass
class Report:
    file: str
    rows: int
    findings: list[Finding]

    @property
    def spoiled(self) -> bool:
        return any(finding.spoils and finding.count for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        findings = [finding.as_dict() for finding in self.findings]
        return {"file": self.file, "rows": self.rows, "spoiled": self.spoiled, "findings": findings}

    def as_text(self) -> str:
        width = max(len(finding.name) for finding in self.findings)
        lines = [f"{self.file}: {self.rows:,} rows"]
        for finding in self.findings:
            mark = {None: "?", 0: "ok"}.get(finding.count, "x" if finding.spoils else "-")
            count = "" if finding.count is None else f"{finding.count:,}"
            where = [f"rows {', '.join(map(str, finding.rows))}"] if finding.rows else []
            why = "; ".join(where + [finding.note] * (finding.count != 0))
            lines.append(f"{mark:>3} {finding.name:<{width}}{count:>9}  {why}".rstrip())
        return "\n".join(lines)


def read(file: Path) -> Iterator[Row]:
    """The rows of a prepared file, one after another: it may be larger than memory.

    Raises:
        UserError: it cannot be read, or is not in veRL's schema; the message names the column and the row.
    """
    columns = ("prompt", "reward_model", "data_source")
    problems.require_file(file)
    number = 0
    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        if missing := [column for column in columns if column not in parquet.schema_arrow.names]:
            how = "`verl data train` and `verl data benchmarks` prepare files"
            raise UserError(f"{file}: no column {missing[0]}; {how}")
        for batch in parquet.iter_batches(10_000, columns=columns):
            for entry in batch.to_pylist():
                yield Row(*(problems.text_of(file, column, number, entry[column]) for column in columns))
                number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file} is no whole parquet file: {str(error).splitlines()[0][:200]}") from error
    if not number:
        raise UserError(f"{file} has no rows")


def check(file: Path, folder: Path, tokenizer: str | None, limit: int) -> Report:
    """Ask everything of a prepared file.

    Args:
        folder: where `verl data benchmarks` left the benchmarks.
        tokenizer: a model whose chat template and tokenizer count the prompts' tokens.
        limit: the longest prompt, in tokens.
    """
    of_benchmark = next(read(file)).source in {benchmark.name for benchmark in benchmarks.BENCHMARKS}
    findings = [*_cheap(of_benchmark), _unreadable(), _too_long(tokenizer, limit)]
    return _ask(file, findings + _contamination(folder, of_benchmark), None)


def before_a_run(file: Path) -> list[str]:
    """What `verl run` asks before it starts, a line each: the cheap questions, of the first rows."""
    report = _ask(file, _cheap(of_benchmark=False), AT_START)
    return [
        f"{file}: {finding.name}: {finding.count:,} of {report.rows:,} rows (verl data check {file})"
        for finding in report.findings
        if finding.count and finding.spoils
    ]


def _ask(file: Path, findings: list[Finding], most: int | None) -> Report:
    number = 0
    for number, row in enumerate(itertools.islice(read(file), most), 1):
        for finding in findings:
            finding.ask(number, row)
    return Report(str(file), number, findings)


def _cheap(of_benchmark: bool) -> list[Finding]:
    seen: set[bytes] = set()

    def repeated(row: Row) -> bool:
        digest = training.digest(row.problem)
        known = digest in seen
        seen.add(digest)
        return known

    def unmatched(row: Row) -> bool:
        return bool(row.gold.strip()) and not compute_score("", f"\\boxed{{{row.gold}}}", row.gold)["acc"]

    note = "the rule-based reward is always -1"
    return [
        Finding("empty ground truth", lambda row: not row.gold.strip()),
        Finding("ground truth that no box equals letter by letter", unmatched, not of_benchmark, note),
        Finding("prompt that does not ask for \\boxed{}", lambda row: "\\boxed{}" not in row.prompt),
        Finding("prompt that asks for `Answer:`", lambda row: "Answer:" in row.prompt),
        Finding("problem that stands in the file already", repeated),
    ]


def _unreadable() -> Finding:
    @functools.cache
    def unreadable(gold: str) -> bool:
        text = spelled(gold)
        return bool(text) and plain_number(text) is None and not workers.equivalent(text, text)

    note = "the robust verifier accepts only its text"
    return Finding(
        "ground truth that is no mathematics to the verifier", lambda row: unreadable(row.gold), False, note
    )


def _too_long(tokenizer: str | None, limit: int) -> Finding:
    name = f"prompt longer than {limit} tokens"
    if tokenizer is None:
        return Finding(name, lambda row: False, note="not checked: give --tokenizer MODEL", count=None)
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError) as error:
        raise UserError(f"no tokenizer {tokenizer}: {str(error).splitlines()[0][:150]}") from error

    def tokens(row: Row) -> int:  # as verl/utils/dataset/rl_dataset.py counts
        messages = [{"role": "user", "content": row.prompt}]
        return len(loaded.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    return Finding(name, lambda row: tokens(row) > limit)


def _contamination(folder: Path, of_benchmark: bool) -> list[Finding]:
    """Problems that also stand in a benchmark, as the same text or with half of its n-grams."""
    same, near = "problem of a benchmark, word by word", f"problem with half of a benchmark problem's {NGRAM}-grams"
    prepared = benchmarks.prepared(folder, tuple(benchmark.name for benchmark in benchmarks.BENCHMARKS))
    if of_benchmark or prepared is None:
        note = "not asked of a benchmark" if of_benchmark else f"not checked: no benchmarks in {folder}"
        return [Finding(name, lambda row: False, note=note, count=None) for name in (same, near)]
    texts = {normalised(problem) for pairs in prepared.values() for problem, _ in pairs}
    sizes = {text: len(ngrams(text)) for text in texts}
    index: dict[str, list[str]] = {}
    for text in texts:
        for gram in ngrams(text):
            index.setdefault(gram, []).append(text)

    def shares(row: Row) -> bool:
        text = normalised(row.problem)
        shared = Counter(other for gram in ngrams(text) for other in index.get(gram, ()))
        return text not in texts and any(count >= OVERLAP * sizes[other] for other, count in shared.items())

    return [Finding(same, lambda row: normalised(row.problem) in texts), Finding(near, shares)]


def normalised(text: str) -> str:
    """The words, numbers and operators of a text, without case, punctuation and LaTeX's spacing."""
    return " ".join(re.findall(r"\w+|[-+*/=<>^]", text.lower()))


def ngrams(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)}
