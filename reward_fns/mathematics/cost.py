"""What a comparison could cost: a spelled text in, whether it is too much out."""

import re

from justrl_recipe.reward_fns.mathematics.brackets import depths

MAX_CHARACTERS = 400  # longer answers are compared as text only
MAX_DIGITS = 300
MAX_EXPONENT = 10_000
MAX_FACTORIAL = 2_000
MAX_DEPTH = 20  # of brackets in brackets, which the parser takes exponential time for

POWER = re.compile(r"\^[\s{(+-]*(\d+)((?:[\s})]*\^[\s{(+-]*\d+)*)([\s})]*!)?")


def too_costly(text: str) -> bool:
    """Whether `text` could take seconds to read or compute: towers, factorials, long numbers, deep nesting."""
    if max(depths(text), default=0) > MAX_DEPTH:
        return True
    if len(text) > MAX_CHARACTERS or re.search(rf"\d{{{MAX_DIGITS + 1}}}", text):
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
