"""The brackets of a text: LaTeX in; the content of its boxes, or what stands outside of its brackets, out."""

import itertools
import re
from collections.abc import Iterable

from justrl_recipe.reward_fns.rule_based import closing_brace

BOX_OPENS = re.compile(r"\\\w*box(?:ed)?\s*\{")
BRACE_OR_TYPED = re.compile(r"\\.|[{}]", re.S)  # a typed brace, as of a set, closes no box
BARE_BOX = re.compile(r"\\boxed\s*(-?\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])|\\[dt]?frac\s*(?:\d\d|\{[^{}]*\}\{[^{}]*\}))")


def last_box(text: str) -> str | None:
    r"""The content of the last box: `\boxed{7}`, and what TeX also takes for one: `\boxed {7}`, `\boxed7`.

    None without a box or when the last one is never closed: an earlier box does not stand in for it.
    """
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    opens = len(text) - len(text[start + len("\\boxed") :].lstrip())
    if text.startswith("{", opens):
        end = closing_brace(text, opens, BRACE_OR_TYPED) or closing_brace(text, opens)
        return None if end is None else text[opens + 1 : end]
    bare = BARE_BOX.match(text, start)
    return bare[1] if bare else None


def unboxed(text: str) -> str:
    """`text` without the boxes that hold all of it; of two boxes side by side neither does."""
    while (box := BOX_OPENS.match(text)) and closing_brace(text, box.end() - 1) == len(text) - 1:
        text = text[box.end() : -1].strip()
    return text


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
