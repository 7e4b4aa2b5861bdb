"""Whether a response is right: by a rule, and by a judge (a model) on what the rule rejects.

A judge can only raise a score, so both scores are reported.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from justrl_recipe import files
from justrl_recipe.data.training import problem_of
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.generation import EngineOptions, Prompt, Workload, generate
from justrl_recipe.evaluation.models import Model
from justrl_recipe.evaluation.responses import Key, Response, appending, has_content
from justrl_recipe.evaluation.sampling import Sampling
from justrl_recipe.reward_fns import robust_verifier, rule_based
from justrl_recipe.reward_fns.mathematics.spelling import spelled
from justrl_recipe.reward_fns.mathematics.units import without_units
from justrl_recipe.reward_fns.mathematics.words import key
from justrl_recipe.terminal import warn

VERIFIERS = {"robust_verifier": robust_verifier.compute_score, "rule_based": rule_based.compute_score}


@dataclass(frozen=True)
class Grade:
    """A verifier's verdict on a response.

    Attributes:
        pred: the text in the box; None without one.
        vote: `pred` in the spelling that equal answers share, for maj@N; None without an answer.
    """

    pred: str | None
    correct: bool
    vote: str | None


def grade(responses: Sequence[Response], verifier: str) -> list[Grade]:
    """The verdict on each response, in order.

    A verifier reads a response from its last box on, so each distinct ending is verified once: of 32 samples of a
    problem most end alike.

    Args:
        verifier: one of `VERIFIERS`.
    """
    score = VERIFIERS[verifier]

    def grade_ending(ending: tuple[str, str]) -> Grade:
        found = score("", *ending)
        return Grade(found["pred"], found["acc"], _vote(found["pred"]))

    endings = [(_ending(response.response), response.gold) for response in responses]
    distinct = list(dict.fromkeys(endings))
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:  # threads wait for the verifier's own processes
        grades = dict(zip(distinct, pool.map(grade_ending, distinct), strict=True))
    return [grades[ending] for ending in endings]


def _ending(response: str) -> str:
    start = response.rfind(rule_based.BOX)
    start = start if start >= 0 else response.rfind("\\boxed")
    return response[start:] if start >= 0 else ""


def _vote(pred: str | None) -> str | None:
    if pred is None or len(pred) > robust_verifier.MAX_CHARACTERS:
        return pred
    return key(without_units(spelled(pred))) or None


# --- the judge

JUDGE_SAMPLING = Sampling(temperature=0.0, top_p=1.0, max_tokens=16)
THINKING_ENDS = "</think>"
MANY = 20  # replies that cannot all be unreadable by accident
ANSWER_CHARACTERS = 6_000  # of the response's end, which holds the final answer


class Verdict(str, Enum):
    """A judge's verdict on a response; UNREADABLE where its reply is none of the letters that it was asked for."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    INVALID = "invalid"
    UNREADABLE = "unreadable"


LETTERS = {"A": Verdict.CORRECT, "B": Verdict.INCORRECT, "C": Verdict.INVALID}
JUDGE_PROMPT = """\
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


def judge_prompt(response: Response) -> str:
    """What the judge reads: the problem, the reference answer and what the response says after its thinking."""
    answer = response.response.rpartition(THINKING_ENDS)[2].strip()[-ANSWER_CHARACTERS:]
    return JUDGE_PROMPT.format(problem=problem_of(response.prompt), reference=response.gold, response=answer)


def verdict_of(reply: str) -> Verdict:
    """By the letter that a reply starts with, bare, in a box, brackets or bold; not the article of a sentence."""
    match = re.match(r"\s*(?:\\boxed\{|[*\[(\"'])*\s*([ABC])(?=\s*(?:[\n.,:;)\]}*\"'-]|$))", reply)
    return LETTERS[match[1]] if match else Verdict.UNREADABLE


def ask_judge(
    judge: Model, rejected: Sequence[Response], verdicts_file: Path, engine: EngineOptions
) -> dict[Key, Verdict]:
    """The judge's verdict on each response.

    A reply of the same judge to the same prompt that is in `verdicts_file` is not asked for again.

    Raises:
        UserError: no reply of many can be read.
        EngineFailed: vLLM ended early; the same call resumes.
    """
    name = f"{judge.name} {judge.fingerprint()[:16]}"
    prompts = [Prompt(f"{one.benchmark} problem {one.problem + 1}", judge_prompt(one)) for one in rejected]
    digests = [hashlib.sha256(f"{name}\n{asked.text}".encode()).hexdigest() for asked in prompts]
    replies = read_replies(verdicts_file) if has_content(verdicts_file) else {}
    missing = [number for number, digest in enumerate(digests) if digest not in replies]
    workload = Workload(judge, prompts, [(number, 0) for number in missing], JUDGE_SAMPLING, engine)
    with (
        appending(verdicts_file) as append,
        closing(generate(workload, "judging", verdicts_file.parent)) as finished,
    ):
        for generated in finished:
            number, reply = missing[generated.index], generated.text
            found = {"judge": name, "asked": digests[number], "reply": reply, "verdict": verdict_of(reply).value}
            append({**rejected[number].identity, **found})
            replies[digests[number]] = reply
    verdicts = {one.key: verdict_of(replies[digest]) for one, digest in zip(rejected, digests, strict=True)}
    _report_unreadable(verdicts, judge.name, verdicts_file)
    return verdicts


def read_replies(verdicts_file: Path) -> dict[str, str]:
    """The replies in a file of verdicts, by the hash of what was asked.

    Raises:
        UserError: a line is not a verdict.
    """
    replies = {}
    for number, line in files.json_lines(verdicts_file):
        match line:
            case {"asked": str(asked), "reply": str(reply)}:
                replies[asked] = reply
            case _:
                raise UserError(f"{verdicts_file}: line {number} is not a verdict: remove it")
    return replies


def _report_unreadable(verdicts: Mapping[Key, Verdict], judge: str, verdicts_file: Path) -> None:
    unreadable = list(verdicts.values()).count(Verdict.UNREADABLE)
    if not unreadable:
        return
    what = f"{unreadable:,} of {len(verdicts):,} replies of {judge} are none of A, B and C"
    if unreadable == len(verdicts) >= MANY:
        raise UserError(f"{what}, so it cannot judge: {verdicts_file} has them")
    warn(f"{what}: counted as rejected ({verdicts_file})")
