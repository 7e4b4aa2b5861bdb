"""What of a text stands outside of its brackets. Their form does not matter, since [1,2) is one interval."""

import itertools
import re
from collections.abc import Iterable

STEPS = {**dict.fromkeys("([{", 1), **dict.fromkeys(")]}", -1)}


def depths(text: str) -> list[int]:
    """How many brackets are open behind each character of `text`."""
    return list(itertools.accumulate(STEPS.get(character, 0) for character in text))


def enclosed(text: str) -> bool:
    """Whether the first character is a bracket that the last one closes."""
    open_behind = depths(text)
    return len(text) > 1 and text[0] in "([{" and open_behind[-1] == 0 and 0 not in open_behind[:-1]


def outside(pattern: re.Pattern[str], text: str, unbalanced: bool = False) -> list[re.Match[str]]:
    """The matches of `pattern` that start outside of brackets; or `unbalanced`, behind one never opened."""
    found = list(pattern.finditer(text))
    open_before = [0, *depths(text)] if found else []
    return [at for at in found if open_before[at.start()] == 0 or (unbalanced and open_before[at.start()] < 0)]


def cut(text: str, at: Iterable[re.Match[str]]) -> list[str]:
    """The parts of `text` between matches of a separator."""
    edges = [0, *(edge for match in at for edge in match.span()), len(text)]
    return [text[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
