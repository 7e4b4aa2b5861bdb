r"""How an answer is written: one spelling for what means the same.

Text in, text out, linear in its length. Nothing here does mathematics. `spelled` gives LaTeX without fonts, spacing
and labels, with `\unit{cm}` behind a number that has one.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

from justrl_recipe.reward_fns.mathematics import units
from justrl_recipe.reward_fns.mathematics.brackets import unboxed, with_nested_bars_enclosed
from justrl_recipe.reward_fns.mathematics.literals import plain_number
from justrl_recipe.reward_fns.mathematics.words import (
    CLOSE,
    NUMBERS,
    OPEN,
    SPACE,
    digits_for_words,
    last_line,
    without_clauses,
    without_sentence,
)

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


Replacement = str | Callable[[re.Match[str]], str]

# What a command says: the other commands for it.
COMMANDS = {
    r"\frac": "dfrac tfrac cfrac",
    r"\binom": "dbinom tbinom",
    r"\le ": "leq leqslant",
    r"\ge ": "geq geqslant",
    r"\ne ": "neq",
    r"\approx ": "approx simeq",
    "<": "lt",
    ">": "gt",
    " and ": "land wedge",
    " or ": "lor vee",
    "|": "vert lvert rvert",
    "(": "langle",
    ")": "rangle",
    "[": "lbrack",
    "]": "rbrack",
    r"\{": "lbrace",
    r"\}": "rbrace",
    "*": "ast",
    ":": "colon",
    r"\ldots ": "dots cdots dotsc",
    r"\cup ": "bigcup",
    r"\cap ": "bigcap",
    r"\emptyset ": "varnothing",
    r"\mathbb{R}": "Reals R reals",
    r"\infty ": "infinity",
    r"\phi ": "varphi",
    r"\epsilon ": "varepsilon",
    r"\overline": "bar",
    r"\log_{10} ": "lg",
    r"^\circ ": "degree",
    " ": "quad qquad thinspace enspace",
    "": "left right big Big bigl bigr Bigl Bigr bigg Bigg displaystyle textstyle limits nolimits bf rm it tiny small "
    "normalsize large Large LARGE huge Huge",
}
COMMAND = {name: command for command, names in COMMANDS.items() for name in names.split()}
# What is typed without its backslash.
FUNCTIONS = "sin cos tan arcsin arccos arctan sinh cosh tanh cot sec csc ln log exp sqrt min max gcd lcm pi"
WORDS = {name: f"\\{name} " for name in FUNCTIONS.split()} | dict.fromkeys(("infinity", "inf", "oo"), r"\infty ")
BASES = {word: number for word, number in NUMBERS.items() if 2 <= number <= 16}

FONT = r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it|sf)|mbox|boldsymbol|bm|operatorname\*?)\s*"
NESTED = r"\{((?:[^{}]|\{[^{}]*\})*)\}"  # braces with braces inside, once
BASE = r"\(?\s*(?:base\s*)?\(?\s*(\d{1,2}|" + "|".join(BASES) + r")\s*\)?\s*\)?"


def _based(found: re.Match[str]) -> str:
    base = found[2].lower()
    return f"{found[1]}_{{{BASES.get(base, base)}}}"


# In this order, each over the whole text.
LAYOUT: list[tuple[str, Replacement]] = [
    (r"\s+", " "),
    (r"\\(?:text)?color\s*\{\w+\}", ""),
    (r"\\binom\s*(\w)\s*(\w)(?!\w)", r"\\binom{\1}{\2}"),
    (r"\\sqrt\s*\[(\w)\]\s*(\w)", r"\\sqrt[\1]{\2}"),
    (r"\\(max|min|gcd|lcm)\s*\\\{([^{}]*)\\\}", r"\\\1(\2)"),
    (r"√\s*(\d+(?:\.\d+)?|[A-Za-z])", r"\\sqrt{\1}"),
    (r"√", r"\\sqrt "),
    (r"^\$(?=\s*\d[\d,. ]*$)", r"\\$"),
    (r"(?<!\\)\\[()\[\]]|(?<!\\)\$|\\!|\\(?:left|right)\s*\.", ""),
    (r"\\([A-Za-z]+)", lambda command: COMMAND.get(command[1], command[0])),
    # thousands close up (1,234 is decided in plain_number)
    (r"(?<=\d)(?:\{,\}|\\[,;: ]|~)(?=\d{3}(?!\d))", ""),
    (r"\{\s*([:,;])\s*\}", r"\1"),
    (r"\s*(?<!\\)\\[,;: ]\s*|~(?!=)", " "),
    # currency
    (r"\\\$\s*(\d[\d,]*(?:\.\d+)?|\.\d+)", rf"\1{OPEN}dollar{CLOSE}"),
    (r"\\euro\s*(\d[\d,]*(?:\.\d+)?)", rf"\1{OPEN}euro{CLOSE}"),
    (r"\\pounds\s*(\d[\d,]*(?:\.\d+)?)", rf"\1{OPEN}gbp{CLOSE}"),
    (r"\\\$", ""),
    *[(FONT + NESTED, rf"{OPEN}\1{CLOSE}")] * 3,  # fonts are nested in fonts
    *[(rf"{OPEN}\s*{CLOSE}", "")] * 3,
    (rf"\\frac\s*\{{\s*{OPEN}([^{{}}]*){CLOSE}\s*\}}\s*\{{\s*{OPEN}([^{{}}]*){CLOSE}\s*\}}", rf"{OPEN}\1/\2{CLOSE}"),
    (rf"(?<=\d)\s*\^?\s*\{{?\s*{OPEN}\s*(?:st|nd|rd|th)\s*{CLOSE}\s*\}}?", ""),
    (r"^(\d+)\s*\^\s*\{\s*(?:st|nd|rd|th)\s*\}$", r"\1"),
    (r"(?<![\w}^])\{(\d+(?:\.\d+)?)\}(?=\s*\^)", r"\1"),
    (r"\\log\s*_\s*\{?\s*e\s*\}?(?![A-Za-z])", r"\\ln "),
    (r"\s+", " "),
]
SEPARATORS: list[tuple[str, Replacement]] = [
    # two numbers, which a comma alone would make one with thousands
    (rf"(?<=\d),?{SPACE}(?:(?<![A-Za-z])(?:and|or)(?![A-Za-z])|;){SPACE}(?=\d{{3}}(?!\d))", ",+"),
    (rf",?{SPACE}(?<![A-Za-z])(?:and|or)(?![A-Za-z]){SPACE}(?:,\s*)?|;", ","),
    (rf"^{SPACE}either(?![A-Za-z])|(?<![A-Za-z])respectively(?![A-Za-z])", ""),
]
MATHEMATICS: list[tuple[str, Replacement]] = [
    (rf"[{OPEN}{CLOSE}]+", " "),
    (r"\s+", " "),
    (r"^ | $", ""),
    (r"(?i)^(?:option|choice) (?=\(?[A-J]\)?$)", ""),
    (r"(?<![A-Za-z])C_\s*\{?(\w+)\}?\s*\^\s*\{?(\w+)\}?", r"\\binom{\1}{\2}"),
    (r"\.(\d*)\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?", r".\1\\overline{\2\3\4}"),
    # modulus, base and ratio
    (r"\\p?mod\s*\{?\s*(\w+)\s*\}?|\(\s*\\?b?mod(?:ulo)?\s*\{?(\w+)\}?\s*\)", r"\\pmod{\1\2}"),
    (r"(?<![A-Za-z\\])mod(?:ulo)?\s+(\w+)", r"\\pmod{\1}"),
    (r"(?<![\w.])\(?([0-9A-F]+)\)?\s*_\s*\{?\s*" + BASE + r"\s*\}?(?![A-Za-z])", _based),
    (
        r"(?i)^\(?(?=[A-F]*\d)([0-9A-F]+)\)?,?\s*(?:\(\s*)?(?:in\s+)?base\s*[-_]?\s*\{?(\d{1,2}|"
        + "|".join(BASES)
        + r")\}?\s*\)?$",
        _based,
    ),
    (r"^(\S+) to (\S+)(?: to (\S+))?$", lambda ratio: ":".join(part for part in ratio.groups() if part)),
    # mathematics as it is typed
    (r"\*\*", "^"),
    (r"<=", r"\\le "),
    (r">=", r"\\ge "),
    (r"!=", r"\\ne "),
    (r"\bper ?cent\b", r"\\%"),
    (r"(?i)\ball (?:the )?real(?:s| numbers?)\b", r"\\mathbb{R}"),
    (r"(?i)^(?:the )?(?:empty|null) set$", r"\\emptyset"),
    (r"(\\unit\{[^{}]*\})\s*(?=\d)", r"\1,"),  # 5 feet 6 inches
    (r"(?<![A-Za-z\\])(?<!unit\{)[A-Za-z]+(?![}\]]*\s*\\unit)", lambda word: WORDS.get(word[0], word[0])),
    (r"(?<=\d)[eE]([+-]?\d+)(?![\d.])", r"\\times 10^{\1}"),
    (r"(?<![\d.])\.(?=\d)", "0."),
    (r"(?<=\d)\.(?=\s*[/)},])", ""),
    # arguments without braces
    (r"\\frac\s*([0-9A-Za-z])", r"\\frac{\1}"),
    (r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}"),
    (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
    (r"\{([^{}]*)\\choose(?![a-z])([^{}]*)\}", r"\\binom{\1}{\2}"),
    (r"\\mathbb\s*\{?\s*([A-Z])\s*\}?", r"\\mathbb{\1}"),
    (r"([_^])\s*\{\s*(\w)\s*\}(?!\s*[0-9A-Za-z.])", r"\1\2"),
    (r"\s+", " "),
]


def _compiled(rules: Sequence[tuple[str, Replacement]]) -> list[tuple[re.Pattern[str], Replacement]]:
    return [(re.compile(pattern), replacement) for pattern, replacement in rules]


def _replaced(rules: Sequence[tuple[re.Pattern[str], Replacement]], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


LAYOUT_RULES, SEPARATOR_RULES, MATHEMATICS_RULES = _compiled(LAYOUT), _compiled(SEPARATORS), _compiled(MATHEMATICS)
TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
DEGREES = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))")
IN_DEGREES = re.compile(r"(\d+(?:\.\d+)?)" + DEGREES.pattern)
TEMPERATURE = re.compile(DEGREES.pattern + rf"{SPACE}([CF])(?![A-Za-z])")
DEGREES_AT_THE_END = re.compile(DEGREES.pattern + rf"(?={SPACE}(?:$|[,)\].]))")
IN_PARENTHESES = re.compile(r"(\\sqrt|\^)\s*\(")
DECIMAL = re.compile(r"-?\d+(?:\.\d+)?")
APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])|~=|≒")
LETTER = re.compile(r"[A-Za-z]|\\[a-z]+")


@lru_cache(maxsize=2048)  # the ground truth is one for all responses of a group
def spelled(answer: str) -> str:
    r"""One spelling of `answer` for every way to write it, with `\unit{...}` behind a number that has a unit."""
    text = answer.strip()
    if text.isdigit() and text.isascii():
        return text
    text = ascii_latex(text)
    if "\\begin" not in text:  # there, a double backslash and a line break mean something
        text = last_line(text)
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    text = unboxed(text.strip())
    if re.match(r"\$\s*[\d.]", text) and len(re.findall(r"(?<!\\)\$", text)) % 2:
        text = "\\" + text
    text = without_sentence(_replaced(LAYOUT_RULES, with_nested_bars_enclosed(text)))
    if text.startswith(OPEN) and text.endswith(CLOSE) and text.count(OPEN) == 1:
        text = text[1:-1]
    text = _replaced(SEPARATOR_RULES, without_clauses(digits_for_words(text)))
    text = _replaced(MATHEMATICS_RULES, units.with_units(_with_degrees(text)))
    text = _braced(re.sub(r"(?:(?<![.,])\.)?[ ,:\\]*$", "", text.strip().lstrip(" ,:")))
    exact, *rounded = APPROXIMATELY.split(text)
    if len(rounded) == 1 and DECIMAL.fullmatch(rounded[0].strip()):
        text = _exact_part(exact.strip(), rounded[0].strip())
    return _turned(re.sub(r"^\(([A-Z])\)$", r"\1", text.strip()))


def _with_degrees(text: str) -> str:
    """`text` with its degrees as a unit, or in radians where it has trigonometric functions."""
    if TRIGONOMETRIC.search(text):
        text = IN_DEGREES.sub(r"{\\frac{\1\\pi}{180}}", text)
        text = DEGREES.sub(r"\\cdot \\frac{\\pi}{180}", text)
    text = TEMPERATURE.sub(lambda found: f"{OPEN}{ {'C': 'celsius', 'F': 'fahrenheit'}[found[1]] }{CLOSE}", text)
    return DEGREES.sub("", DEGREES_AT_THE_END.sub(f"{OPEN}degree{CLOSE}", text))


def _exact_part(exact: str, rounded: str) -> str:
    """What stands before an approximation, unless it is only a name, or a number that is not near."""
    if not exact or LETTER.fullmatch(exact):
        return f"\\approx {rounded}"
    value = plain_number(exact)
    if value and abs(value.value - Fraction(rounded)) >= Fraction(10) ** -len(rounded.partition(".")[2]):
        return f"{exact} \\approx {rounded}"
    return exact


def _turned(text: str) -> str:
    """x=2 for 2=x."""
    left, equals, right = text.partition("=")
    left, right = left.strip(), right.strip()
    if equals and LETTER.fullmatch(right) and not re.fullmatch(rf"(?:{LETTER.pattern})(?:\(.\))?", left):
        return f"{right}={left}"
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
