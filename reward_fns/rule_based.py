"""JustRL's reward: +1 when the text in the last box equals the ground truth, else -1.

The same verdict as veRL's `math_dapo.compute_score(..., strict_box_verify=True)`
(verl/utils/reward_score/math_dapo.py), with two accidents left out: there, a response without a box scores
+1 when the ground truth is missing, and an empty box when it is empty.
"""

import re
from typing import Any

# Only the end of a response counts, so a box that opens earlier does not: veRL's is_correct_strict_box.
TAIL_CHARACTERS = 100
BOX = "\\boxed{"
BRACE = re.compile("[{}]")
EXACT = "exact match"


def closing_brace(text: str, start: int, braces: re.Pattern[str] = BRACE) -> int | None:
    """The place of the brace that closes the first one at or after `start`; None where it is never closed."""
    depth = 0
    for brace in braces.finditer(text, start):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return brace.start()
    return None


def last_boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}` in `text`.

    None without a box or when the last one is never closed: an earlier box does not stand in for it.
    """
    start = text.rfind(BOX)
    end = closing_brace(text, start) if start >= 0 else None
    return None if end is None else text[start + len(BOX) : end]


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict | None = None, **kwargs: Any
) -> dict[str, Any]:
    """Score one response by exact string match on its last box (the paper's reward).

    Args:
        data_source: taken from any source, since veRL's own scorer refuses those that it does not know.
        solution_str: the decoded response; only its last 100 characters count.
        ground_truth: the expected text, compared as it stands, without any stripping; an empty one is never met.

    Returns:
        `{"score": 1.0 | -1.0, "acc": bool, "pred": str | None, "reason": str}`; anything but a string scores -1.
        docs/rewards.md lists the reasons.
    """
    pred = last_boxed(solution_str[-TAIL_CHARACTERS:]) if isinstance(solution_str, str) else None
    reason = without_answer(solution_str, pred, BOX, "box too early") or _compared(ground_truth, pred)
    correct = reason == EXACT
    return {"score": 1.0 if correct else -1.0, "acc": correct, "pred": pred, "reason": reason}


def without_answer(response: Any, pred: str | None, box: str, otherwise: str) -> str | None:
    """Why a response has no answer to compare; None where it has one.

    Args:
        pred: the content of the box that counts, None without one.
        box: how a box begins.
        otherwise: why a box that is closed does not count.
    """
    if not isinstance(response, str):
        return "no text"
    if pred is not None:
        return None if pred.strip() else "empty box"
    start = response.rfind(box)
    if start < 0:
        return "no box"
    return "box not closed" if closing_brace(response, start) is None else otherwise


def _compared(gold: Any, pred: str | None) -> str:
    if not isinstance(gold, str) or not gold.strip():
        return "no ground truth"
    return EXACT if pred == gold else "other answer"
