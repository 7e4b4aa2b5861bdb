"""What is in a prepared file, and what in it would spoil a run."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from justrl_recipe.data import benchmarks, columns, overlap, prompts, schema, training
from justrl_recipe.data.columns import Batch
from justrl_recipe.data.findings import ALWAYS, NEVER, SHARE, Finding, Report, each
from justrl_recipe.reward_fns import rule_based
from justrl_recipe.reward_fns.mathematics import workers
from justrl_recipe.reward_fns.mathematics.literals import plain_number
from justrl_recipe.reward_fns.mathematics.spelling import spelled

Score = Callable[[Any, str, Any], dict[str, Any]]  # a reward's compute_score
PLACEHOLDERS = {"proof", "none", "null", "nan", "n/a", "na", "unknown", "todo", "?", "-"}
LIST = re.compile(r"""\[\s*(["'].*["']|-?[\d.]+)\s*\]|\{\s*["'].*\}""", re.DOTALL)  # [1,2] may be an interval
WHOLE_DECIMAL = re.compile(r"([+-]?\d+)\.0+")


def check(file: Path, folder: Path, tokenizer: str | None, limit: int) -> Report:
    """Ask everything of a prepared file.

    Args:
        folder: where `verl data benchmarks` left the benchmarks.
        tokenizer: a model whose chat template and tokenizer count the prompts' tokens.
        limit: the longest prompt, in tokens.

    Raises:
        UserError: the file or the tokenizer cannot be read, or veRL would fail on the file.
    """
    names = {benchmark.name for benchmark in benchmarks.BENCHMARKS}
    of_benchmark = next(columns.read(file)).sources.values[0] in names
    golds = of_ground_truths(rule_based.compute_score, NEVER if of_benchmark else SHARE)
    findings = [*of_prompts(), *golds, *of_boxes(), repeated(), _unreadable(), *_lengths(tokenizer, limit)]
    return ask(file, findings + overlap.questions(folder, of_benchmark))


def ask(file: Path, findings: list[Finding], prompt_key: str = "prompt") -> Report:
    """Put the questions to all rows of a file; errors as in `columns.read`."""
    rows = 0
    for batch in columns.read(file, prompt_key):
        rows += batch.rows
        for finding in findings:
            finding.look(batch)
    return Report(str(file), rows, findings)


def of_prompts(filtered: bool = True) -> list[Finding]:
    """What veRL trips over in single rows, whatever the reward.

    Args:
        filtered: whether veRL leaves out what it cannot tokenize (`data.filter_overlong_prompts`); else it fails.
    """
    missing = each(lambda messages: not messages or not all(messages))
    note = "veRL leaves the row out" if filtered else "veRL fails at the row"
    share = SHARE if filtered else ALWAYS
    return [Finding("prompt without a message", lambda batch: missing(batch.prompts), share, note)]


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

    exact = "it has to be text of at most 92 characters, with balanced braces and no box"
    form = "white space, $, \\boxed{}, 4.0, a list in a text or a placeholder: responses do not write it so"
    return [
        Finding("empty ground truth", lambda batch: each(_empty)(batch.golds)),
        Finding("ground truth that can never match exactly", _each_pair(unmatched), share, exact),
        Finding("ground truth that is no plain answer", _each_pair(unwritten), share, form),
    ]


def _empty(gold: Any) -> bool:
    return gold is None or (isinstance(gold, str) and not gold.strip())


def _each_pair(test: Callable[[Any, Any], bool]) -> Callable[[Batch], numpy.ndarray]:
    """Ask every distinct pair of data source and ground truth once."""

    def asked(batch: Batch) -> numpy.ndarray:
        count = len(batch.golds.values)
        pairs, codes = numpy.unique(batch.sources.codes * count + batch.golds.codes, return_inverse=True)
        found = [
            test(batch.sources.values[pair // count], batch.golds.values[pair % count]) for pair in pairs.tolist()
        ]
        return numpy.array(found, bool)[codes]

    return asked


def of_boxes() -> list[Finding]:
    """Prompts that do not ask for the answer where this recipe's rewards look for it."""
    unboxed = each(lambda messages: "\\boxed{}" not in columns.text(messages))
    elsewhere = each(lambda messages: "Answer:" in columns.text(messages))
    return [
        Finding("prompt that does not ask for \\boxed{}", lambda batch: unboxed(batch.prompts)),
        Finding("prompt that asks for `Answer:`", lambda batch: elsewhere(batch.prompts)),
    ]


def repeated() -> Finding:
    """Problems that stand in the file already. Remembers 16 bytes of each distinct one."""
    seen: set[bytes] = set()

    def asked(batch: Batch) -> numpy.ndarray:
        again = numpy.ones(batch.rows, bool)
        first = batch.prompts.first_rows()
        for row in numpy.sort(first).tolist():
            key = training.digest(training.problem_of(columns.text(batch.prompts.values[batch.prompts.codes[row]])))
            if key not in seen:
                seen.add(key)
                again[row] = False
        return again

    return Finding("problem that stands in the file already", asked, NEVER)


def _unreadable() -> Finding:
    @functools.cache
    def unreadable(gold: str) -> bool:
        text = spelled(gold)
        return bool(text) and plain_number(text) is None and not workers.equivalent(text, text)

    note = "the robust verifier accepts only its text"
    asked = each(lambda gold: isinstance(gold, str) and unreadable(gold))
    name = "ground truth that is no mathematics to the verifier"
    return Finding(name, lambda batch: asked(batch.golds), NEVER, note)


def _lengths(tokenizer: str | None, limit: int) -> list[Finding]:
    long, refused = f"prompt longer than {limit} tokens", "prompt that the chat template refuses"
    if tokenizer is None:
        return [Finding.unasked(name, "not checked: give --tokenizer MODEL") for name in (long, refused)]
    lengths = prompts.Lengths(tokenizer)
    count = functools.lru_cache(1)(lambda batch: batch.prompts.map(lengths.of))  # both ask the same batch
    is_long, is_refused = each(lambda tokens: (tokens or 0) > limit), each(lambda tokens: tokens is None)
    note = "veRL leaves the row out (data.filter_overlong_prompts)"
    return [
        Finding(long, lambda batch: is_long(count(batch)), note=note),
        Finding(refused, lambda batch: is_refused(count(batch)), note=note),
    ]
