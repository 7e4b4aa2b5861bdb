"""A model's verdict on what the rule rejects. It can only raise a score, so both scores are reported."""

import re
from collections.abc import Sequence
from contextlib import closing
from enum import Enum

from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import samples
from justrl_recipe.evaluation.checkpoint import Checkpoint
from justrl_recipe.evaluation.folder import EvaluationFolder, appending, has_lines
from justrl_recipe.evaluation.generate import generate
from justrl_recipe.evaluation.job import Job, Request, Resources, Sampling
from justrl_recipe.evaluation.samples import Key, Sample

SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=16)
THINKING_ENDS = "</think>"
ANSWER_CHARACTERS = 6_000  # of the response's end, which holds the final answer


class Verdict(str, Enum):
    """What a judge says of a response; UNREADABLE is none of the letters that it was asked for."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    INVALID = "invalid"
    UNREADABLE = "unreadable"


LETTERS = {"A": Verdict.CORRECT, "B": Verdict.INCORRECT, "C": Verdict.INVALID}
PROMPT = """\
You check whether the final answer of a response to a problem agrees with the reference answer. The reference is \
right; do not solve the problem again. Form and notation do not matter, value and completeness do.

Reply with one letter:
A: the final answer agrees with the reference.
B: it does not agree.
C: the response has no final answer: it is cut off, repeats itself or declines.

Problem:
{problem}

Reference answer:
{reference}

Response:
{response}

Your verdict (A, B or C):"""


def prompt(sample: Sample) -> str:
    """What the judge reads: the problem, the reference answer and what the response says after its thinking."""
    answer = sample.response.rpartition(THINKING_ENDS)[2].strip()[-ANSWER_CHARACTERS:]
    return PROMPT.format(problem=sample.prompt, reference=sample.gold, response=answer)


def verdict(reply: str) -> Verdict:
    """The letter that a reply starts with, bare, in a box, in brackets or in bold."""
    match = re.match(r"\s*(?:\\boxed\{|[*\[(\"'])*\s*([ABC])(?![A-Za-z])", reply)
    return LETTERS[match[1]] if match else Verdict.UNREADABLE


def ask(
    checkpoint: Checkpoint, rejected: Sequence[Sample], folder: EvaluationFolder, resources: Resources
) -> dict[Key, Verdict]:
    """The judge's verdict on each sample; those that the folder has of the same judge are not asked for again."""
    name = f"{checkpoint.name} {checkpoint.fingerprint()[:16]}"
    lines = [entry for _, entry in samples.entries(folder.verdicts)] if has_lines(folder.verdicts) else []
    known = {(line["benchmark"], line["problem"], line["sample"]): line for line in lines if line["judge"] == name}
    missing = [sample for sample in rejected if sample.key not in known]
    requests = [Request(f"{sample.benchmark} problem {sample.problem + 1}", prompt(sample), 0) for sample in missing]
    job = Job(str(checkpoint.folder), requests, SAMPLING, resources)
    with appending(folder.verdicts) as append, closing(generate(job, "judging", folder.path)) as finished:
        for response in finished:
            sample = missing[response.index]
            found = verdict(response.text).value
            known[sample.key] = {**sample.identity, "judge": name, "reply": response.text, "verdict": found}
            append(known[sample.key])
    verdicts = {sample.key: Verdict(known[sample.key]["verdict"]) for sample in rejected}
    if verdicts and set(verdicts.values()) == {Verdict.UNREADABLE}:
        reply = known[rejected[0].key]["reply"]
        raise UserError(
            f"{checkpoint.name} is no judge: of {len(verdicts):,} replies none is A, B or C, as in {reply!r}"
        )
    return verdicts
