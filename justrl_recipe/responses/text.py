"""The text of a response: the part of it that is kept, and what is counted in all of it."""

import re
from collections import Counter
from itertools import islice

from justrl_recipe.reward_fns.rule_based import closing_brace

HEAD, TAIL = 1_000, 1_500  # characters of a response that are kept; the end has the answer
PROMPT = 2_000  # characters of a prompt
SHORT = 300  # characters of a ground truth, a reason, the name of a data source

BOX = "\\boxed"
LETTER = re.compile(r"[^\W\d_]")
ENGLISH = re.compile(r"[A-Za-z]|[\u0370-\u03ff]")  # Greek letters are those of formulas
GRAM = 4  # words


def kept(text: str, head: int = HEAD, tail: int = TAIL) -> tuple[str, int]:
    """A text of bounded length, and how many characters of its middle were left out."""
    left_out = len(text) - head - tail
    if left_out <= 0:
        return text, 0
    return f"{text[:head]}\n[... {left_out:,} characters left out ...]\n{text[len(text) - tail :]}", left_out


def shortened(text: str, length: int) -> str:
    """A text of at most `length` characters."""
    return text if len(text) <= length else f"{text[: length - 4]} ..."


def boxes(text: str) -> int:
    r"""How often `\boxed` stands in a text."""
    return text.count(BOX)


def last_box(text: str) -> tuple[int, int]:
    r"""Where the last box of a text begins and ends: its `\boxed` where it is not closed, nowhere without one."""
    start = text.rfind(BOX)
    if start < 0:
        return 0, 0
    end = closing_brace(text, start)
    return start, start + len(BOX) if end is None else end + 1


def non_english(text: str) -> float:
    """The share of a text's letters that are neither a to z nor Greek; 0 without letters."""
    letters = len(LETTER.findall(text))
    return 1 - len(ENGLISH.findall(text)) / letters if letters else 0.0


def repeated(text: str) -> float:
    """The share of a text's runs of 4 words that stand in it before; 0 of a text of fewer words."""
    words = text.split()
    grams = Counter(zip(*(islice(words, start, None) for start in range(GRAM)), strict=False))
    return 1 - len(grams) / grams.total() if grams else 0.0
