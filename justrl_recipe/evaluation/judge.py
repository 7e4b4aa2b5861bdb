"""A model's verdict on what the rule rejects. It can only raise a score, so both scores are reported."""

import re
from enum import Enum

from justrl_recipe.evaluation.job import Sampling
from justrl_recipe.evaluation.samples import Sample

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
