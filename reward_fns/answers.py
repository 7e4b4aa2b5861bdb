"""How an answer is written: one spelling for what means the same, the value of plain numbers, and the cost.

Text in, text or exact numbers out. Nothing here does mathematics beyond arithmetic on literals, and all of it
is linear in the length of the answer.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from justrl_recipe.reward_fns.rule_based import closing_brace

MAX_CHARACTERS = 400  # longer answers are compared as text only
MAX_DIGITS = 300
MAX_EXPONENT = 10_000
MAX_FACTORIAL = 2_000
MAX_DEPTH = 20  # of brackets in brackets, which the parser takes exponential time for

UNICODE = str.maketrans(
    {
        "−": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": "/",
        "π": r"\pi ",
        "θ": r"\theta ",
        "∞": r"\infty ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "±": r"\pm ",
        "²": "^2",
        "³": "^3",
        "½": r"\frac{1}{2}",
        "°": "",
        "，": ",",
        "（": "(",
        "）": ")",
        "’": "'",
        "\u00a0": " ",
    }
)

# LaTeX commands that say what another one says, or nothing.
COMMANDS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
    **dict.fromkeys(("vert", "lvert", "rvert"), "|"),
    **dict.fromkeys(("leq", "leqslant"), r"\le "),
    **dict.fromkeys(("geq", "geqslant"), r"\ge "),
    **dict.fromkeys(("approx", "simeq"), r"\approx "),
    **dict.fromkeys(("quad", "qquad"), " "),
    **dict.fromkeys(("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "displaystyle", "textstyle"), ""),
    "neq": r"\ne ",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "varnothing": r"\emptyset ",
    "infinity": r"\infty ",
    "degree": "",
}
# What is typed without its backslash.
FUNCTIONS = "sin cos tan arcsin arccos arctan sinh cosh tanh cot sec csc ln log exp sqrt min max gcd lcm pi"
WORDS = {name: f"\\{name} " for name in FUNCTIONS.split()} | dict.fromkeys(("infinity", "inf", "oo"), r"\infty ")

FONT = r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it|sf)|mbox|boldsymbol|bm|operatorname\*?)\s*"
NESTED = r"\{((?:[^{}]|\{[^{}]*\})*)\}"  # braces with braces inside, once
NUMBER_END = r"(?:(?<=[\d})])|(?<=\\pi)|(?<=\\pi ))\s*"
SQUARED = r"(?:\s*\^\s*\{?\d\}?)?"
DEGREES = r"\s*\^\s*\{?\s*\\circ(?![A-Za-z])\s*\}?"
UNIT = r"(?:[ckm]m|kg|mL|in|ft|lbs?|mph|hrs?|mins?|secs?)"  # a single letter could be a variable
# Not units: they change the number in front of them.
NUMBER_WORD = r"(?:hundred|thousand|million|billion|trillion|dozen|percent|times|plus|minus|over|squared|cubed)\b"


def _ascending(chain: re.Match[str]) -> str:
    high, above, middle, below, low = chain.groups()
    turned = {">": "<", r"\ge ": r"\le "}
    return f"{low}{turned[below]}{middle}{turned[above]}{high}"


# In this order, each over the whole text.
REWRITES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    # what changes only the looks
    (r"√\s*(\d+(?:\.\d+)?|[A-Za-z])", r"\\sqrt{\1}"),
    (r"√", r"\\sqrt "),
    (r"(?<!\\)\\[()\[\]]|\\?\$|\\!|\\(?:left|right)\s*\.", ""),
    (r"\\([A-Za-z]+)", lambda command: COMMANDS.get(command[1], command[0])),
    # separators: thousands close up (1,234 is decided in plain_number), every list takes commas
    (r"(?<=\d)(?:\{,\}|\\[,;: ]|~)(?=\d{3}(?!\d))", ""),
    (r"(?<!\\)\\[,;: ]|~(?!=)", " "),
    (r",?\s*" + FONT + r"\{\s*,?\s*(?:and|or)\s*\}|,?\s+(?:and|or)\s+|;", ","),
    # units: degrees, which count in the argument of a function, and words behind a number that ends an entry
    (r"(\\(?:sin|cos|tan|cot|sec|csc)\W{0,3})(\d+(?:\.\d+)?)" + DEGREES, r"\1{\\frac{\2\\pi}{180}}"),
    (DEGREES, ""),
    (NUMBER_END + r"\\(?:text|mathrm|mbox)\s*\{(?!\s*[ie]\s*\})[^{}]*\}" + SQUARED + r"\s*(?=$|,)", ""),
    (NUMBER_END + UNIT + SQUARED + r"(?=[.\s]*$)", ""),
    (FONT + NESTED, r"\1"),
    (FONT + NESTED, r"\1"),  # once more: fonts are nested in fonts
    (r"\\pmod\s*\{?\s*(\w+)\s*\}?", r"(mod \1)"),
    # mathematics as it is typed
    (r"\*\*", "^"),
    (r"<=", r"\\le "),
    (r">=", r"\\ge "),
    (r"!=", r"\\ne "),
    (r"\bper ?cent\b", r"\\%"),
    (r"(?<![A-Za-z\\])[A-Za-z]+", lambda word: WORDS.get(word[0], word[0])),
    (r"(?<=\d)[eE]([+-]?\d+)(?![\d.])", r"\\times 10^{\1}"),
    (r"(?<=[\d})])\s+(?!" + NUMBER_WORD + r")[a-z]{4,}(?:\s[a-z]+)*(?=[.\s]*$)", ""),
    (r"(?<![\d.])\.(?=\d)", "0."),
    (r"(?<=\d)\.(?=\s*[/)},])", ""),
    (r"^([^<>,\\]+)(>|\\ge )([^<>,\\]+)(>|\\ge )([^<>,\\]+)$", _ascending),  # 3 > x > 2
    # arguments without braces
    (r"\\frac\s*([0-9A-Za-z])", r"\\frac{\1}"),
    (r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}"),
    (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
    (r"([_^])\s*\{\s*(\w)\s*\}", r"\1\2"),
    (r"\s+", " "),
]
PATTERNS = [(re.compile(pattern), replacement) for pattern, replacement in REWRITES]
BOX_OPENS = re.compile(r"\\\w*box(?:ed)?\s*\{")
LABEL = re.compile(r"^(?:\W*(?:the|my|so|thus|hence|therefore)\b)*\W*(?:final\s+)?answer\b(?:\s+is\b)?[\s:=]*", re.I)
IN_PARENTHESES = re.compile(r"(\\sqrt|\^)\s*\(")
APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])|~=")
LETTER = re.compile(r"[A-Za-z]|\\[a-z]+")


def unboxed(text: str) -> str:
    """`text` without the boxes that hold all of it; of two boxes side by side neither does."""
    while (box := BOX_OPENS.match(text)) and closing_brace(text, box.end() - 1) == len(text) - 1:
        text = text[box.end() : -1].strip()
    return text


def spelling(answer: str) -> str:
    """One spelling of `answer` for every way to write it: no fonts, spacing, units or label, LaTeX for ASCII."""
    text = answer.translate(UNICODE).strip()
    if text.isdigit():
        return text
    if "\\begin" not in text:  # there, a double backslash and a line break mean something
        text = (text.splitlines() or [""])[-1]
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    text = unboxed(text)
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    text = _braced(LABEL.sub("", text).lstrip(" ,:").rstrip(" ,.:\\"))
    exact, *rounded = APPROXIMATELY.split(text)
    text = rounded[0] if rounded and LETTER.fullmatch(exact.strip()) else exact
    text = re.sub(r"^\(([A-Z])\)$", r"\1", text.strip())
    text = re.sub(r"^\([A-Za-z](?: ?, ?[A-Za-z])*\) ?= ?", "", text)  # (x, y) = (1, 2)
    if "\\pm" in text and not re.search(r"[(\[]|\\\{", text):
        signs = [(part, "+-" if "\\pm" in part else "+") for part in text.split(",")]
        text = ",".join(part.replace("\\pm", sign) for part, both in signs for sign in both)
    left, equals, right = text.partition("=")
    if equals and LETTER.fullmatch(right.strip()) and not LETTER.fullmatch(left.strip()):
        text = f"{right.strip()}={left.strip()}"  # 2=x
    return text


def _braced(text: str) -> str:
    r"""\sqrt(...) and ^(...) with braces in place of their parentheses."""
    position = 0
    while match := IN_PARENTHESES.search(text, position):
        depth, position = 1, match.end()
        while position < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[position], 0)
            position += 1
        if depth:
            break
        text = f"{text[: match.end() - 1]}{{{text[match.end() : position - 1]}}}{text[position:]}"
        position = match.end()
    return text


def key(text: str) -> str:
    """`text` as it is compared letter by letter: no case in words, no space but between digits."""
    text = re.sub(r"(?<!\d) | (?!\d)", "", text)
    return text.casefold() if re.fullmatch(r"[A-Za-z ,]{2,}", text) else text


def is_word(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z][A-Za-z ]{2,}[A-Za-z]", text) is not None


@dataclass(frozen=True)
class PlainNumber:
    """A literal: its exact value, whether it is a percentage, its base, and its last place if a long decimal."""

    value: Fraction
    percent: bool = False
    base: int | None = None
    last_place: Fraction | None = None  # of a decimal with six significant digits or more

    def stands_for(self, value: Fraction | None) -> bool:
        """Whether this is a long decimal that `value` rounds or truncates to."""
        if self.last_place is None or value is None or (value < 0) != (self.value < 0):
            return False
        return -self.last_place / 2 <= abs(value) - abs(self.value) < self.last_place


def same_number(one: PlainNumber, other: PlainNumber) -> bool:
    if one.percent != other.percent:
        percent, bare = (one, other) if one.percent else (other, one)
        return bare.value in (percent.value, percent.value / 100)
    if one.base and other.base and one.base != other.base:
        return False
    return one.value == other.value or one.stands_for(other.value) or other.stands_for(one.value)


DECIMAL = re.compile(
    r"(\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(\.\d+)?(?: ?\\(?:times|cdot) ?10\^(?:(\d)|\{([+-]?\d{1,3})\}))?"
)
REPEATING = re.compile(r"(\d+)\.(\d*) ?\\overline ?\{(\d+)\}")
IN_BASE = re.compile(r"(\d+)_(?:(\d)|\{(\d{1,2})\})")
FRACTION = re.compile(r"(?:(\d+) ?)??(?:\\frac ?\{(-?\d+)\} ?\{(\d+)\}|(?<![\d}])(\d+) ?/ ?(\d+))")


def plain_number(text: str) -> PlainNumber | None:
    r"""The number that `text` spells (`spelling`'s output): 1,234.5, -3, 1.5\times 10^3, \frac{1}{2}, 50\%, 1 1/2."""
    percent = text.endswith("%")
    body = text.removesuffix("%").removesuffix("\\").strip()
    sign = -1 if body.startswith("-") else 1
    body = body.removeprefix("-").removeprefix("+").strip()
    if len(body) > MAX_DIGITS:
        return None
    if match := REPEATING.fullmatch(body):
        whole, once, again = match.groups()
        value = int(whole + once) + Fraction(int(again), 10 ** len(again) - 1)
        return PlainNumber(sign * value / 10 ** len(once), percent)
    if match := IN_BASE.fullmatch(body):
        return PlainNumber(sign * Fraction(match[1]), percent, base=int(match[2] or match[3]))
    if match := DECIMAL.fullmatch(body):
        whole, decimals, short, long = match.groups()
        digits = re.sub("[, ]", "", whole) + (decimals or "")[1:]
        place = Fraction(10) ** (int(short or long or 0) - len((decimals or "")[1:]))
        rounded = bool(decimals or short or long) and len(digits.lstrip("0")) >= 6
        return PlainNumber(sign * int(digits) * place, percent, last_place=place if rounded else None)
    if match := FRACTION.fullmatch(body):
        whole, *parts = match.groups()
        numerator, denominator = (int(part) for part in parts if part is not None)
        if denominator and not (whole and numerator < 0):
            return PlainNumber(sign * (int(whole or 0) + Fraction(numerator, denominator)), percent)
    return None


POWER = re.compile(r"\^[\s{(+-]*(\d+)((?:[\s})]*\^[\s{(+-]*\d+)*)([\s})]*!)?")


def too_costly(text: str) -> bool:
    """Whether `text` could take seconds to read or compute: towers, factorials, long numbers, deep nesting."""
    if _depth(text) > MAX_DEPTH:
        return True
    if len(text) > MAX_CHARACTERS or re.search(rf"\d{{{MAX_DIGITS + 1}}}", text):
        return True
    if any(len(n) > 4 or int(n) > MAX_FACTORIAL for n in re.findall(r"(\d+)[\s})]*!", text)):
        return True
    return any(_exponent(*match.groups()) > MAX_EXPONENT for match in POWER.finditer(text))


def _depth(text: str) -> int:
    steps = (1 if bracket in "{[(" else -1 for bracket in re.findall(r"[\[({})\]]", text))
    return max(itertools.accumulate(steps), default=0)


def _exponent(first: str, tower: str, factorial: str | None) -> int:
    """The value of a tower of literals, or MAX_EXPONENT + 1 where it is more than that."""
    value = 1
    for number in reversed([first, *re.findall(r"\d+", tower)]):
        if len(number) > 5 or (int(number) > 1 and value > 13):
            return MAX_EXPONENT + 1
        value = int(number) ** value
    return MAX_EXPONENT + 1 if factorial and value > 7 else value
