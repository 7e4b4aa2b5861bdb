"""What is in a prepared file, and what in it would spoil a run: a question to every row, and what was found."""

import functools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from justrl_recipe.data import benchmarks, rl_dataset, schema, training
from justrl_recipe.data.rl_dataset import Batch, Lengths, text
from justrl_recipe.reward_fns import rule_based
from justrl_recipe.reward_fns.mathematics import workers
from justrl_recipe.reward_fns.mathematics.literals import plain_number
from justrl_recipe.reward_fns.mathematics.spelling import spelled

EXAMPLES = 3
# All responses to a row that cannot be rewarded get the same reward, so the row has no advantage and only takes its
# place in the batch. Up to this share that is a batch some rows smaller; beyond it, the file is in another format.
SHARE = 0.1
NEVER, ALWAYS = 1.0, 0.0


@dataclass
class Finding:
    """One question to every row.

    Attributes:
        ask: of a batch, an array of shape (rows,): is it true of the row?
        share: it is an error in more than this share of the rows, and a warning below.
        count: how many rows it is true of; None where it could not be asked.
        rows: the first few of them, counted from 1.
    """

    name: str
    ask: Callable[[Batch], numpy.ndarray] = field(repr=False)
    share: float = SHARE
    note: str = ""
    count: int | None = 0
    rows: list[int] = field(default_factory=list)

    @classmethod
    def unasked(cls, name: str, note: str) -> "Finding":
        return cls(name, lambda batch: numpy.zeros(batch.rows, bool), note=note, count=None)

    def look(self, batch: Batch) -> None:
        if self.count is not None:
            found = numpy.flatnonzero(self.ask(batch))
            self.count += len(found)
            self.rows = [*self.rows, *(batch.start + found[:EXAMPLES] + 1).tolist()][:EXAMPLES]

    def spoils(self, rows: int) -> bool:
        return (self.count or 0) > self.share * rows

    def where(self, rows: int) -> str:
        """The share of the rows that it is true of, and the first of them."""
        named = ", ".join(map(str, self.rows)) + ", ..." * (self.count != len(self.rows))
        return f"{(self.count or 0) / rows:.1%}, row{'s' * (len(self.rows) > 1)} {named}"

    def said(self, rows: int) -> str:
        """One line: of how many rows it is true, of which, and what that means."""
        note = f": {self.note}" if self.note else ""
        return f"{self.name}: {self.count:,} of {rows:,} rows ({self.where(rows)}){note}"


@dataclass
class Report:
    file: str
    rows: int
    findings: list[Finding]

    @property
    def spoiled(self) -> bool:
        return any(finding.spoils(self.rows) for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        findings = [
            {
                "name": finding.name,
                "count": finding.count,
                "spoils": finding.spoils(self.rows),
                "note": finding.note,
                "rows": finding.rows,
            }
            for finding in self.findings
        ]
        return {"file": self.file, "rows": self.rows, "spoiled": self.spoiled, "findings": findings}

    def as_lines(self) -> list[str]:
        width = max(len(finding.name) for finding in self.findings)
        lines = [f"{self.file}: {self.rows:,} rows"]
        for finding in self.findings:
            mark = {None: "?", 0: "ok"}.get(finding.count, "x" if finding.spoils(self.rows) else "-")
            count = "" if finding.count is None else f"{finding.count:,}"
            where = [finding.where(self.rows)] if finding.rows else []
            why = "; ".join(where + [finding.note] * (finding.count != 0 and finding.note != ""))
            lines.append(f"{mark:>3} {finding.name:<{width}}{count:>9}  {why}".rstrip())
        return lines


def ask(file: Path, findings: list[Finding], prompt_key: str = "prompt") -> Report:
    """Put the questions to all rows of a file; errors as in `rl_dataset.read`."""
    rows = 0
    for batch in rl_dataset.read(file, prompt_key):
        rows += batch.rows
        for finding in findings:
            finding.look(batch)
    return Report(str(file), rows, findings)


# --- the questions

Score = Callable[[Any, str, Any], dict[str, Any]]  # a reward's compute_score
PLACEHOLDERS = {"proof", "none", "null", "nan", "n/a", "na", "unknown", "todo", "?", "-"}
LIST = re.compile(r"""\[\s*(["'].*["']|-?[\d.]+)\s*\]|\{\s*["'].*\}""", re.DOTALL)  # [1,2] may be an interval
WHOLE_DECIMAL = re.compile(r"([+-]?\d+)\.0+")
NGRAM = 10  # words that a row and a benchmark problem share in a row ...
OVERLAP = 0.5  # ... over this share of the benchmark problem's, to count as the same


def check(file: Path, folder: Path, tokenizer: str | None, limit: int) -> Report:
    """Ask everything of a prepared file.

    Args:
        folder: where `verl data benchmarks` left the benchmarks.
        tokenizer: a model whose chat template and tokenizer count the prompts' tokens.
        limit: the longest prompt, in tokens.

    Raises:
        UserError: the file or the tokenizer cannot be read, or veRL would fail on the file.
    """
    is_benchmark = next(rl_dataset.read(file)).sources.values[0] in benchmarks.NAMES
    golds = of_ground_truths(rule_based.compute_score, NEVER if is_benchmark else SHARE)
    findings = [*of_prompts(), *golds, *of_boxes(), repeated(), _unreadable(), *_lengths(tokenizer, limit)]
    return ask(file, findings + _in_benchmarks(folder, is_benchmark))


def of_prompts(filtered: bool = True) -> list[Finding]:
    """What veRL trips over in single rows, whatever the reward.

    Args:
        filtered: whether veRL leaves out what it cannot tokenize (`data.filter_overlong_prompts`); else it fails.
    """
    note = "veRL leaves the row out" if filtered else "veRL fails at the row"

    def missing(batch: Batch) -> numpy.ndarray:
        return batch.prompts.where(lambda messages: not messages or not all(messages))

    return [Finding("prompt without a message", missing, SHARE if filtered else ALWAYS, note)]


def of_ground_truths(score: Score, share: float = SHARE) -> list[Finding]:
    """Ground truths that a reward does not accept even where a response has nothing else in its box, by running it.

    Args:
        score: the reward.
        share: of the rows that may be so, see `Finding`.
    """

    @functools.lru_cache(100_000, typed=True)
    def rewarded(source: Any, answer: str, gold: Any) -> bool:
        return bool(score(source, f"\\boxed{{{answer}}}", gold)["acc"])

    def unmatched(source: Any, gold: Any) -> bool:
        if isinstance(gold, list | dict):
            return True  # no text equals it
        return not _empty(gold) and not rewarded(source, gold if isinstance(gold, str) else str(gold), gold)

    def unwritten(source: Any, gold: Any) -> bool:
        if not isinstance(gold, str) or _empty(gold) or unmatched(source, gold):
            return False
        if LIST.fullmatch(gold.strip()) or gold.strip().casefold() in PLACEHOLDERS:
            return True
        plain = schema.normalised_gold(gold)
        plain = plain if WHOLE_DECIMAL.fullmatch(plain) is None else plain.split(".")[0]
        return plain != gold and not rewarded(source, plain, gold)

    def each(test: Callable[[Any, Any], bool]) -> Callable[[Batch], numpy.ndarray]:
        return lambda batch: batch.sources.pairs(batch.golds).where(lambda pair: test(*pair))

    exact = "it has to be text of at most 92 characters, with balanced braces and no box"
    form = "white space, $, \\boxed{}, 4.0, a list in a text or a placeholder: responses do not write it so"
    return [
        Finding("empty ground truth", lambda batch: batch.golds.where(_empty)),
        Finding("ground truth that can never match exactly", each(unmatched), share, exact),
        Finding("ground truth that is not a plain answer", each(unwritten), share, form),
    ]


def _empty(gold: Any) -> bool:
    return gold is None or (isinstance(gold, str) and not gold.strip())


def of_boxes() -> list[Finding]:
    """Prompts that do not ask for the answer where this recipe's rewards look for it."""

    def unboxed(batch: Batch) -> numpy.ndarray:
        return batch.prompts.where(lambda messages: "\\boxed{}" not in text(messages))

    def elsewhere(batch: Batch) -> numpy.ndarray:
        return batch.prompts.where(lambda messages: "Answer:" in text(messages))

    return [
        Finding("prompt that does not ask for \\boxed{}", unboxed),
        Finding("prompt that asks for `Answer:`", elsewhere),
    ]


def repeated() -> Finding:
    """Problems that stand in the file already. Remembers 16 bytes of each distinct one."""
    seen: set[bytes] = set()

    def asked(batch: Batch) -> numpy.ndarray:
        again = numpy.ones(batch.rows, bool)
        for row in numpy.sort(batch.prompts.first_rows()).tolist():
            key = training.digest(training.problem_of(text(batch.prompts.values[batch.prompts.codes[row]])))
            if key not in seen:
                seen.add(key)
                again[row] = False
        return again

    return Finding("problem that stands in the file already", asked, NEVER)


def _unreadable() -> Finding:
    @functools.cache
    def unreadable(gold: str) -> bool:
        plain = spelled(gold)
        return bool(plain) and plain_number(plain) is None and not workers.equivalent(plain, plain)

    def asked(batch: Batch) -> numpy.ndarray:
        return batch.golds.where(lambda gold: isinstance(gold, str) and unreadable(gold))

    name = "ground truth that is not mathematics to the verifier"
    return Finding(name, asked, NEVER, "the robust verifier accepts only its text")


def _lengths(tokenizer: str | None, limit: int) -> list[Finding]:
    long, refused = f"prompt longer than {limit} tokens", "prompt that the chat template refuses"
    empty = "prompt of which the tokenizer makes no token"
    if tokenizer is None:
        return [Finding.unasked(name, "not checked: give --tokenizer MODEL") for name in (long, refused, empty)]
    lengths = Lengths(tokenizer)
    count = functools.lru_cache(1)(lambda batch: batch.prompts.map(lengths.of))  # all ask the same batch
    note = "veRL leaves the row out (data.filter_overlong_prompts)"
    return [
        Finding(long, lambda batch: count(batch).where(lambda tokens: (tokens or 0) > limit), note=note),
        Finding(refused, lambda batch: count(batch).where(lambda tokens: tokens is None), note=note),
        Finding(empty, lambda batch: count(batch).where(lambda tokens: tokens == 0), ALWAYS, "vLLM fails at it"),
    ]


def _in_benchmarks(folder: Path, is_benchmark: bool) -> list[Finding]:
    """Problems that also stand in a benchmark, as the same words or with half of its n-grams.

    Not asked of a benchmark itself, nor where `folder` holds no prepared benchmarks.
    """
    same, near = "problem of a benchmark, word by word", f"problem with half of a benchmark problem's {NGRAM}-grams"
    prepared = benchmarks.prepared(folder, benchmarks.NAMES)
    if is_benchmark or prepared is None:
        note = "not asked of a benchmark" if is_benchmark else f"not checked: no benchmarks in {folder}"
        return [Finding.unasked(name, note) for name in (same, near)]
    texts = {_words(problem) for pairs in prepared.values() for problem, _ in pairs}
    sizes = {known: len(_ngrams(known)) for known in texts}
    index: dict[str, list[str]] = {}
    for known in texts:
        for gram in _ngrams(known):
            index.setdefault(gram, []).append(known)

    def shares(problem: str) -> bool:
        shared = Counter(other for gram in _ngrams(problem) for other in index.get(gram, ()))
        return problem not in texts and any(count >= OVERLAP * sizes[other] for other, count in shared.items())

    def each(test: Callable[[str], bool]) -> Callable[[Batch], numpy.ndarray]:
        return lambda batch: batch.prompts.where(lambda prompt: test(_words(training.problem_of(text(prompt)))))

    return [Finding(same, each(texts.__contains__), ALWAYS), Finding(near, each(shares), ALWAYS)]


def _words(problem: str) -> str:
    """The words, numbers and operators of a text, without case, punctuation and LaTeX's spacing."""
    return " ".join(re.findall(r"\w+|[-+*/=<>^]", problem.lower()))


def _ngrams(words: str) -> set[str]:
    split = words.split()
    return {" ".join(split[start : start + NGRAM]) for start in range(len(split) - NGRAM + 1)}
