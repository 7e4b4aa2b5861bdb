"""The verdict of a rule on each response."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from justrl_recipe.evaluation.samples import Sample
from justrl_recipe.reward_fns import robust_verifier, rule_based
from justrl_recipe.reward_fns.mathematics.spelling import key, spelling

VERIFIERS = {"robust_verifier": robust_verifier.compute_score, "rule_based": rule_based.compute_score}


@dataclass(frozen=True)
class Grade:
    """What a verifier says of a sample.

    Attributes:
        pred: the text in the box; None without one.
        correct: the rule's verdict.
        vote: `pred` in the one spelling that equal answers share, for maj@N; None without an answer.
    """

    pred: str | None
    correct: bool
    vote: str | None


def grade(samples: Sequence[Sample], verifier: str) -> list[Grade]:
    """The verdict on each sample, in order.

    A verifier reads a response from its last box on, so each distinct end is verified once: of 32 samples of a
    problem most end alike.

    Args:
        verifier: one of `VERIFIERS`.
    """
    score = VERIFIERS[verifier]
    ends = [(_end(sample.response), sample.gold) for sample in samples]
    distinct = list(dict.fromkeys(ends))
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:  # they wait for the verifier's own processes
        scores = pool.map(lambda end: score("", *end), distinct)
        grades = {
            end: Grade(found["pred"], found["acc"], _vote(found["pred"]))
            for end, found in zip(distinct, scores, strict=True)
        }
    return [grades[end] for end in ends]


def _end(response: str) -> str:
    start = response.rfind(rule_based.BOX)
    start = start if start >= 0 else response.rfind("\\boxed")
    return response[start:] if start >= 0 else ""


def _vote(pred: str | None) -> str | None:
    if pred is None or len(pred) > robust_verifier.MAX_CHARACTERS:
        return pred
    return key(spelling(pred)) or None
