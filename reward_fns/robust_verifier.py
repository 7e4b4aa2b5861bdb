r"""The robust verifier: +1 when the last box is mathematically the ground truth, however it is written.

The paper's second ablation trains with such a verifier (there DeepScaleR's: normalised match or sympy equality).
Here answers are compared exactly (docs/verifier.md says kind by kind what counts as equal), and whatever may take
long runs in worker processes that are killed at a limit of their own CPU time, so that no answer can hang, exhaust or
poison a run and no verdict depends on what else the machine does. What is decided before it costs a process:

1. the last box is the answer; without one, or with an empty one, the score is -1;
2. equal text, and equal text once both are spelled alike (`spelling.spelled`), is equal;
3. words are compared as words, and choices by their letter;
4. plain numbers are compared exactly, as fractions, and their units by name;
5. what is too long or too large to compute (`too_costly`) is equal only as text.
"""

import re
from typing import Any

from justrl_recipe.reward_fns.mathematics import units, workers
from justrl_recipe.reward_fns.mathematics.brackets import depths, last_box
from justrl_recipe.reward_fns.mathematics.literals import MAX_DIGITS, plain_number, same_number
from justrl_recipe.reward_fns.mathematics.spelling import spelled
from justrl_recipe.reward_fns.mathematics.words import choice, denies, is_text, key, wording
from justrl_recipe.reward_fns.rule_based import EXACT, without_answer

MAX_CHARACTERS = 1_000  # of an answer that is spelled anew; a longer one is compared as it stands
MAX_COMPUTED = 400  # characters of a spelled answer; longer ones are compared as text only
MAX_EXPONENT = 10_000
MAX_FACTORIAL = 2_000
MAX_DEPTH = 20  # of brackets in brackets, which the parser takes exponential time for
POWER = re.compile(r"\^[\s{(+-]*(\d+)((?:[\s})]*\^[\s{(+-]*\d+)*)([\s})]*!)?")


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict | None = None, **kwargs: Any
) -> dict[str, Any]:
    """Score one response by the mathematics of its last box. Safe in any thread; never raises on an answer.

    Args:
        data_source: taken from any source.
        solution_str: the decoded response; its last box counts, wherever it stands.
        ground_truth: the expected answer, bare or as `$...$` or in a box of its own.

    Returns:
        `{"score": 1.0 | -1.0, "acc": bool, "pred": str | None, "reason": str}`; anything but a string scores -1.
        docs/rewards.md lists the reasons.

    Raises:
        RuntimeError: the worker processes cannot run. To score -1 then would train on noise. A single answer without
            a verdict scores -1, is logged and counted (`workers.no_verdicts`).
    """
    pred = last_box(solution_str) if isinstance(solution_str, str) else None
    reason = without_answer(solution_str, pred, "\\boxed", "no box")
    correct = False
    if pred is not None and reason is None:
        given = isinstance(ground_truth, str) and bool(ground_truth.strip())
        correct, reason = _compare(ground_truth.strip(), pred.strip()) if given else (False, "no ground truth")
    return {"score": 1.0 if correct else -1.0, "acc": correct, "pred": pred, "reason": reason}


def _compare(gold: str, pred: str) -> tuple[bool, str]:
    """Whether two answers are the same, and what decided it."""
    if len(gold) > MAX_CHARACTERS or len(pred) > MAX_CHARACTERS:
        return (True, EXACT) if gold == pred else (False, "too long")
    if gold == pred:
        return (True, EXACT) if any(map(str.isdigit, gold)) or spelled(gold) else (False, "no ground truth")
    if denies(gold, pred):
        return False, "denial"
    gold, pred = spelled(gold), spelled(pred)
    if not gold or not pred:
        return False, "empty box" if gold else "no ground truth"
    typed = gold, pred
    gold, pred = _without_choice(gold, pred)
    if is_text(gold) or is_text(pred):  # letters are no factors here: seat is not east
        same, how, differs = wording(gold) == wording(pred), "words", "other words"
    elif key(gold) == key(pred):
        same, how, differs = True, "spelling", ""
    else:
        same, how, differs = _compute(gold, pred)
    if same:
        return True, how if (gold, pred) == typed else "choice"
    return False, differs


def _compute(gold: str, pred: str) -> tuple[bool, str, str]:
    """Whether two spelled answers are equal, and what shows it: first if they are, then if they are not."""
    (body, unit), (other_body, other_unit) = units.split(gold), units.split(pred)
    expected, actual = plain_number(body), plain_number(other_body)
    if expected and actual:
        compatible = units.compatible(unit, other_unit)
        same = compatible and same_number(expected, actual)
        return same, "number", "other number" if compatible else "other unit"
    if too_costly(gold) or too_costly(pred):
        return False, "", "too costly"
    equal = workers.equivalent(gold, pred)
    return bool(equal), "mathematics", "timeout" if equal is None else "not equal"


def _without_choice(gold: str, pred: str) -> tuple[str, str]:
    """Both answers; where one of them is a choice with what it stands for, "C. 12", the part that the other has."""
    first, second = choice(gold), choice(pred)
    if first and not second:
        gold = first[0] if pred == first[0] else first[1]
    if second and not first:
        pred = second[0] if gold == second[0] else second[1]
    return gold, pred


def too_costly(text: str) -> bool:
    """Whether `text` could take seconds to read or compute: towers, factorials, long numbers, deep nesting."""
    if max(depths(text), default=0) > MAX_DEPTH:
        return True
    if len(text) > MAX_COMPUTED or re.search(rf"\d{{{MAX_DIGITS + 1}}}", text):
        return True
    if any(len(n) > 4 or int(n) > MAX_FACTORIAL for n in re.findall(r"(\d+)[\s})]*!", text)):
        return True
    return any(_exponent(*match.groups()) > MAX_EXPONENT for match in POWER.finditer(text))


def _exponent(first: str, tower: str, factorial: str | None) -> int:
    """The value of a tower of literals, or MAX_EXPONENT + 1 where it is more than that."""
    value = 1
    for number in reversed([first, *re.findall(r"\d+", tower)]):
        if len(number) > 5 or (int(number) > 1 and value > 13):
            return MAX_EXPONENT + 1
        value = int(number) ** value
    return MAX_EXPONENT + 1 if factorial and value > 7 else value
