"""LaTeX for the characters of Unicode that answers are typed with: text in, text out."""

import re
import unicodedata

from justrl_recipe.reward_fns.mathematics.words import CLOSE, OPEN

# LaTeX: the characters that stand for it
CHARACTERS = {
    "-": "−–‒―﹣",
    '"': "“”„",
    "'": "’′",
    ",": "、",
    ".": "。",
    "/": "÷⁄∕",
    r"\times ": "×",
    r"\cdot ": "·⋅",
    r"\pm ": "±",
    r"\mp ": "∓",
    r"\pi ": "π",
    r"\theta ": "θ",
    r"\infty ": "∞",
    r"\cup ": "∪",
    r"\cap ": "∩",
    r"\in ": "∈",
    r"\emptyset ": "∅",
    r"\mathbb{R}": "ℝ",
    r"\le ": "≤",
    r"\ge ": "≥",
    r"\ne ": "≠",
    r"\approx ": "≈",
    r"\equiv ": "≡",
    r"^\circ ": "°",
    r"\euro ": "€",
    r"\pounds ": "£",
    " or ": "或",
    " and ": "和",
    "": OPEN + CLOSE,
}
FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
UNICODE = {ord(one): latex for latex, characters in CHARACTERS.items() for one in characters} | FULL_WIDTH
RAISED, LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "₀₁₂₃₄₅₆₇₈₉"
ON_THE_LINE = str.maketrans(RAISED + LOWERED, "0123456789+-n0123456789")


def ascii_latex(text: str) -> str:
    """`text` with LaTeX for the characters of Unicode that stand for it."""
    if text.isascii():
        return text
    text = re.sub(f"[{RAISED}]+", lambda run: f"^{{{run[0].translate(ON_THE_LINE)}}}", text)
    text = re.sub(f"[{LOWERED}]+", lambda run: f"_{{{run[0].translate(ON_THE_LINE)}}}", text)
    text = re.sub(r"[¼-¾⅐-⅞]", _vulgar, text)
    return text.replace("或者", "或").translate(UNICODE)


def _vulgar(found: re.Match[str]) -> str:
    parts = unicodedata.normalize("NFKC", found[0]).split("⁄")
    return f"\\frac{{{parts[0]}}}{{{parts[1]}}}" if len(parts) == 2 and all(parts) else found[0]
