r"""The robust verifier: +1 when the last box is mathematically the ground truth, however it is written.

The paper's second ablation trains with such a verifier (there DeepScaleR's: normalised match or sympy equality).
Here math-verify does the mathematics, in worker processes that are killed at a limit, so that no answer can hang,
exhaust or poison a run. What is decided before it costs a process:

1. the last box is the answer; without one, or with an empty one, the score is -1;
2. equal text, and equal text once both are spelled alike (`answers.spelling`), is equal;
3. plain numbers are compared exactly, as fractions;
4. what is too long or too large to compute (`answers.too_costly`) is equal only as text.

Where graders contradict each other, this one holds that
- a percent sign may be dropped or worked out: 50\% is 50 and 1/2, as both are how people write it;
- units, currency and degrees behind a number are dropped, since the question names them, and no number is
  converted: 5 cm is 5 and is not 50 mm;
- there is no tolerance: 17.001 is not 17 and 0.33 is not 1/3. A decimal of six significant digits or more also
  stands for the number that it rounds or truncates: 0.333333 is 1/3;
- bare lists and braces are sets, (1, 2) is ordered: "1, 2" is "2, 1", and (1, 2) is not (2, 1);
- x = 5 is 5; an unreduced fraction is its value; f(x) = x^2 is x^2; the case of words does not matter.
"""

from typing import Any

from justrl_recipe.reward_fns import math_workers
from justrl_recipe.reward_fns.answers import is_word, key, plain_number, same_number, spelling, too_costly
from justrl_recipe.reward_fns.rule_based import last_boxed

MAX_CHARACTERS = 2_000  # of an answer that is spelled anew; a longer one is compared as it stands


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict | None = None, **kwargs: Any
) -> dict[str, Any]:
    """Score one response by the mathematics of its last box. Safe in any thread; never raises on an answer.

    Args:
        data_source: taken from any source.
        solution_str: the decoded response; its last box counts, wherever it stands.
        ground_truth: the expected answer, bare or as `$...$` or in a box of its own.

    Returns:
        `{"score": 1.0 | -1.0, "acc": bool, "pred": str | None}`; anything but a string scores -1.

    Raises:
        RuntimeError: the worker processes cannot run. To score -1 then would train on noise.
    """
    pred = last_boxed(solution_str) if isinstance(solution_str, str) else None
    correct = pred is not None and isinstance(ground_truth, str) and _same_answer(ground_truth.strip(), pred.strip())
    return {"score": 1.0 if correct else -1.0, "acc": correct, "pred": pred}


def _same_answer(gold: str, pred: str) -> bool:
    if len(gold) > MAX_CHARACTERS or len(pred) > MAX_CHARACTERS:
        return gold == pred
    if gold == pred:
        return bool(spelling(gold))
    gold, pred = spelling(gold), spelling(pred)
    if not gold or not pred:
        return False
    if key(gold) == key(pred):
        return True
    if is_word(gold) and is_word(pred):
        return False  # letters are no factors here: seat is not east
    expected, actual = plain_number(gold), plain_number(pred)
    if expected and actual:
        return same_number(expected, actual)
    if too_costly(gold) or too_costly(pred):
        return False
    return math_workers.equivalent(gold, pred)
