r"""The boxes of a response: LaTeX in, the content of `\boxed{...}` out."""

import re

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
