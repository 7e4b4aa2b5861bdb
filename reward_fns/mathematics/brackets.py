"""The brackets and bars of a text: LaTeX in; what is in its boxes, outside of brackets or between bars, out."""

import itertools
import re
from collections import Counter
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


SIDE = re.compile(r"(\\left\s*(?:\||\\l?vert)|\\lvert(?![a-z]))|(\\right\s*(?:\||\\r?vert)|\\rvert(?![a-z]))|\|")


def with_nested_bars_enclosed(text: str) -> str:
    r"""`text` with parentheses in each `\left|...\right|` that has bars within: spelled, their sides look alike."""
    begun: list[re.Match[str]] = []
    inserted: dict[int, str] = {}
    for side in SIDE.finditer(text):
        if side[1]:
            begun.append(side)
        elif side[2] and begun:
            opens = begun.pop()
            if SIDE.search(text, opens.end(), side.start()):
                inserted |= {opens.end(): "(", side.start(): ")"}
    if not inserted:
        return text
    return "".join(inserted.get(at, "") + character for at, character in enumerate(text))


TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\S")
FUNCTION = r"(?:ln|log|exp|(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc)"  # a command that stands before its argument
OPERATOR = re.compile(rf"[-+*/^_=<>,:;(\[{{]|\\(?:cdot|times|div|pm|mp|le|ge|ne|sqrt|{FUNCTION})")
LONE_NUMBER = re.compile(r"(?<=[\w)}])\|\s*-?[\d.]+\s*\||\|\s*-?[\d.]+\s*\|(?=[\w({])")


def with_bars_enclosed(text: str) -> str | None:
    """`text` with its absolute values in parentheses, those side by side in one pair: 2((|x|)(|y|)) for 2|x||y|.

    None where bars do not match. All of |2|x|-1| and of |1-2|x|| is an absolute value: no one writes |2| for 2.
    """
    pairs = _bar_pairs(text)
    if pairs is None or any((at.start(), at.end() - 1) in pairs for at in LONE_NUMBER.finditer(text)):
        inner = with_bars_enclosed(text[1:-1]) if text[:1] == text[-1:] == "|" else None
        return None if inner is None else f"(|{inner}|)"
    opens, closes = Counter[int](), Counter[int]()
    products: dict[int, int] = {}  # where one begins, by where it ends
    for start, end in pairs:
        products[end] = products.pop(len(text[:start].rstrip()) - 1, start)
    for start, end in {*pairs, *((start, end) for end, start in products.items())}:
        opens[start] += 1
        closes[end] += 1
    return "".join("(" * opens[at] + character + ")" * closes[at] for at, character in enumerate(text))


def _bar_pairs(text: str) -> list[tuple[int, int]] | None:
    """Where each absolute value has its bars; None where they do not match.

    A bar ends what the last one begins, unless an operator stands before it.
    """
    pairs: list[tuple[int, int]] = []
    opened: list[int] = []
    before = "("
    for found in TOKEN.finditer(text):
        token = found[0]
        if token == "|":
            ends = bool(opened) and text[opened[-1]] == "|" and not OPERATOR.fullmatch(before)
            if ends:
                pairs.append((opened.pop(), found.start()))
            else:
                opened.append(found.start())
            token = ")" if ends else "("
        elif token in "([{":
            opened.append(found.start())
        elif token in ")]}" and (not opened or text[opened.pop()] == "|"):
            return None
        before = token
    return None if opened else sorted(pairs)
