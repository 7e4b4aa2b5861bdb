"""A model's verdict on what the rule rejects. It can only raise a score, so both scores are reported."""

import hashlib
import re
from collections.abc import Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path

from justrl_recipe.data.training import problem_of
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import samples
from justrl_recipe.evaluation.checkpoint import Checkpoint
from justrl_recipe.evaluation.folder import EvaluationFolder, appending, has_content
from justrl_recipe.evaluation.generate import generate
from justrl_recipe.evaluation.job import Job, Prompt, Request, Resources, Sampling
from justrl_recipe.evaluation.samples import Key, Sample
from justrl_recipe.terminal import warn

SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=16)
THINKING_ENDS = "</think>"
MANY = 20  # replies that cannot all be unreadable by accident
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
    return PROMPT.format(problem=problem_of(sample.prompt), reference=sample.gold, response=answer)


def verdict(reply: str) -> Verdict:
    """The letter that a reply starts with, bare, in a box, in brackets or in bold; a sentence's article is none."""
    match = re.match(r"\s*(?:\\boxed\{|[*\[(\"'])*\s*([ABC])(?=\s*(?:[\n.,:;)\]}*\"'-]|$))", reply)
    return LETTERS[match[1]] if match else Verdict.UNREADABLE


def _replies(file: Path) -> dict[str, str]:
    """The replies that a file of verdicts has, by the hash of what was asked."""
    replies = {}
    for number, line in samples.entries(file):
        match line:
            case {"asked": str(asked), "reply": str(reply)}:
                replies[asked] = reply
            case _:
                raise UserError(f"{file}: line {number} is no verdict: remove it")
    return replies


def ask(
    checkpoint: Checkpoint, rejected: Sequence[Sample], folder: EvaluationFolder, resources: Resources
) -> dict[Key, Verdict]:
    """The judge's verdict on each sample; what the folder has of the same judge on the same text is not asked again.

    Raises:
        UserError: none of many replies can be read.
        EngineFailed: vLLM broke down; the same call goes on from there.
    """
    name = f"{checkpoint.name} {checkpoint.fingerprint()[:16]}"
    prompts = [Prompt(f"{sample.benchmark} problem {sample.problem + 1}", prompt(sample)) for sample in rejected]
    digests = [hashlib.sha256(f"{name}\n{asked.text}".encode()).hexdigest() for asked in prompts]
    replies = _replies(folder.verdicts) if has_content(folder.verdicts) else {}
    missing = [number for number, digest in enumerate(digests) if digest not in replies]
    requests = [Request(number, 0) for number in missing]
    job = Job(str(checkpoint.folder), prompts, requests, SAMPLING, resources, checkpoint.template, checkpoint.trust)
    with appending(folder.verdicts) as append, closing(generate(job, "judging", folder.path)) as finished:
        for response in finished:
            number = missing[response.index]
            found = {"judge": name, "asked": digests[number], "reply": response.text}
            append({**rejected[number].identity, **found, "verdict": verdict(response.text).value})
            replies[digests[number]] = response.text
    verdicts = {sample.key: verdict(replies[digest]) for sample, digest in zip(rejected, digests, strict=True)}
    unreadable = list(verdicts.values()).count(Verdict.UNREADABLE)
    if unreadable:
        said = f"{unreadable:,} of {len(verdicts):,} replies of {checkpoint.name} are none of A, B and C"
        if unreadable == len(verdicts) >= MANY:
            raise UserError(f"{said}, so it is no judge: {folder.verdicts} has them")
        warn(f"{said}: counted as rejected ({folder.verdicts})")
    return verdicts
