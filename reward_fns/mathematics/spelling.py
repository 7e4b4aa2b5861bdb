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
from justrl_recipe.reward_fns.mathematics.literals import plain_number
from justrl_recipe.reward_fns.mathematics.units import CLOSE, OPEN
from justrl_recipe.reward_fns.mathematics.words import digits_for_words, is_text, listed, wording
from justrl_recipe.reward_fns.rule_based import closing_brace

UNICODE = str.maketrans(
    {
        **dict.fromkeys("−–‒―﹣", "-"),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000", " "),
        **dict.fromkeys("“”„", '"'),
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": "/",
        "⁄": "/",
        "∕": "/",
        "π": r"\pi ",
        "θ": r"\theta ",
        "∞": r"\infty ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "∅": r"\emptyset ",
        "ℝ": r"\mathbb{R}",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "≈": r"\approx ",
        "≡": r"\equiv ",
        "±": r"\pm ",
        "∓": r"\mp ",
        "°": r"^\circ ",
        "’": "'",
        "′": "'",
        "、": ",",
        "。": ".",
        "€": r"\euro ",
        "£": r"\pounds ",
        "或": " or ",
        "和": " and ",
        OPEN: "",
        CLOSE: "",
    }
    | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
)
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))

# LaTeX commands that say what another one says, or nothing.
COMMANDS = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), r"\binom"),
    **dict.fromkeys(("vert", "lvert", "rvert"), "|"),
    **dict.fromkeys(("leq", "leqslant"), r"\le "),
    **dict.fromkeys(("geq", "geqslant"), r"\ge "),
    **dict.fromkeys(("approx", "simeq"), r"\approx "),
    **dict.fromkeys(("quad", "qquad", "thinspace", "enspace"), " "),
    **dict.fromkeys(
        ("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "bigg", "Bigg", "displaystyle", "textstyle"),
        "",
    ),
    **dict.fromkeys(("lt",), "<"),
    **dict.fromkeys(("gt",), ">"),
    **dict.fromkeys(("land", "wedge"), " and "),
    **dict.fromkeys(("lor", "vee"), " or "),
    **dict.fromkeys(("dots", "cdots", "dotsc"), r"\ldots "),
    **dict.fromkeys(("ast",), "*"),
    **dict.fromkeys(("langle",), "("),
    **dict.fromkeys(("rangle",), ")"),
    **dict.fromkeys(("bigcup",), r"\cup "),
    **dict.fromkeys(("bigcap",), r"\cap "),
    **dict.fromkeys(("colon",), ":"),
    **dict.fromkeys(("Reals", "R", "reals"), r"\mathbb{R}"),
    **dict.fromkeys(("lbrack",), "["),
    **dict.fromkeys(("rbrack",), "]"),
    **dict.fromkeys(listed("tiny small normalsize large Large LARGE huge Huge limits nolimits bf rm it"), ""),
    "varphi": r"\phi ",
    "varepsilon": r"\epsilon ",
    "bar": r"\overline",
    "lg": r"\log_{10} ",
    "neq": r"\ne ",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "varnothing": r"\emptyset ",
    "infinity": r"\infty ",
    "degree": r"^\circ ",
    "mathbb": r"\mathbb",
}
# What is typed without its backslash.
FUNCTIONS = "sin cos tan arcsin arccos arctan sinh cosh tanh cot sec csc ln log exp sqrt min max gcd lcm pi"
WORDS = {name: f"\\{name} " for name in FUNCTIONS.split()} | dict.fromkeys(("infinity", "inf", "oo"), r"\infty ")
BASES = dict(
    zip(
        listed("two three four five six seven eight nine ten eleven twelve sixteen"), [*range(2, 13), 16], strict=True
    )
)

FONT = r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it|sf)|mbox|boldsymbol|bm|operatorname\*?)\s*"
NESTED = r"\{((?:[^{}]|\{[^{}]*\})*)\}"  # braces with braces inside, once
DEGREES = r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))"
SPACE = rf"[\s{OPEN}{CLOSE}]*"
BASE = r"\(?\s*(?:base\s*)?\(?\s*(\d{1,2}|" + "|".join(BASES) + r")\s*\)?\s*\)?"


def _based(found: re.Match[str]) -> str:
    base = found[2].lower()
    return f"{found[1]}_{{{BASES.get(base, base)}}}"


# In this order, each over the whole text.
LAYOUT: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"\s+", " "),
    (r"\\(?:text)?color\s*\{\w+\}", ""),
    (r"\\binom\s*(\w)\s*(\w)(?!\w)", r"\\binom{\1}{\2}"),
    (r"\\sqrt\s*\[(\w)\]\s*(\w)", r"\\sqrt[\1]{\2}"),
    (r"\\(max|min|gcd|lcm)\s*\\\{([^{}]*)\\\}", r"\\\1(\2)"),
    (r"√\s*(\d+(?:\.\d+)?|[A-Za-z])", r"\\sqrt{\1}"),
    (r"√", r"\\sqrt "),
    (r"^\$(?=\s*\d[\d,. ]*$)", r"\\$"),
    (r"(?<!\\)\\[()\[\]]|(?<!\\)\$|\\!|\\(?:left|right)\s*\.", ""),
    (r"\\([A-Za-z]+)", lambda command: COMMANDS.get(command[1], command[0])),
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
SEPARATORS = [
    # two numbers, which a comma alone would make one with thousands
    (rf"(?<=\d),?{SPACE}(?:(?<![A-Za-z])(?:and|or)(?![A-Za-z])|;){SPACE}(?=\d{{3}}(?!\d))", ",+"),
    (rf",?{SPACE}(?<![A-Za-z])(?:and|or)(?![A-Za-z]){SPACE}(?:,\s*)?|;", ","),
    (rf",{SPACE}(?:and|or)(?![A-Za-z]){SPACE}", ","),
    (rf"^{SPACE}either(?![A-Za-z])|(?<![A-Za-z])respectively(?![A-Za-z])", ""),
]
MATHEMATICS: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
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


INEQUALITY = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-z])")
BOTH = re.compile(
    rf",?{SPACE}(?<![A-Za-z])and(?![A-Za-z]){SPACE}"
)  # of two inequalities, where a comma may be either
EITHER = re.compile(BOTH.pattern.replace("and", "or"))
INTEGERS = re.compile(
    rf"(?<=\S){SPACE},?{SPACE}(?:(?:where|for|with)\s)?{SPACE}\(?([a-z])\s*\\in\s*\\mathbb\{{?\s*[ZN]\s*\}}?[\^_+]*\)?{SPACE}$"
)
EVERYWHERE = re.compile(
    rf"(?<=\S){SPACE},?{SPACE}(?:for (?:all|every|each|any)|\\forall)(?![A-Za-z]){SPACE}"
    rf"(?:(?:real|positive|integers?|numbers?)\s)*{SPACE}[a-z]{SPACE}(?:\\in\s*\\mathbb\{{?[NZR]\}}?[\^_+*]*)?{SPACE}$"
)
MULTIPLES = re.compile(  # n = 4k + 1, k an integer
    rf"^([a-z])\s*=\s*(?:(\d+)\s*\+\s*)?(\d+)([a-z])(?:\s*([+-]\s*\d+))?{SPACE},?{SPACE}(?:(?:where|for|with)\s)?{SPACE}"
    rf"\(?\4\s*\\in\s*\\mathbb\{{?\s*Z\s*\}}?\)?{SPACE}$"
)


def _compiled(rules: Sequence[tuple]) -> list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]:
    return [(re.compile(pattern), replacement) for pattern, replacement in rules]


LAYOUT_RULES, SEPARATOR_RULES, MATHEMATICS_RULES = _compiled(LAYOUT), _compiled(SEPARATORS), _compiled(MATHEMATICS)
TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
IN_DEGREES = re.compile(r"(\d+(?:\.\d+)?)" + DEGREES)
TEMPERATURE = re.compile(DEGREES + rf"{SPACE}([CF])(?![A-Za-z])")
DEGREES_AT_THE_END = re.compile(DEGREES + rf"(?={SPACE}(?:$|[,)\].]))")
BOX_OPENS = re.compile(r"\\\w*box(?:ed)?\s*\{")
LABEL = re.compile(
    rf"^(?:[\s,*{OPEN}{CLOSE}]*(?:the|my|so|thus|hence|therefore)\b)*[\s,*{OPEN}{CLOSE}]*(?:final\s+)?answer\b(?:\s+is\b)?[\s:={CLOSE}]*"
    rf"|^[\s*{OPEN}{CLOSE}]*(?:so|thus|hence|therefore|then|we get|we have)\b[\s,:{CLOSE}]*",
    re.I,
)
VERB = re.compile(
    rf"(?<=[\s{CLOSE}])(?:is equal to|is|are|equals|equal to|was|be){SPACE}(?=\S)(?<=[\s{CLOSE}{OPEN}])"
)
SENTENCE = re.compile(rf"^{OPEN}?[A-Z]?[a-z]+[\s{CLOSE}{OPEN}]")
SENTENCE_LINE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
HEDGE = re.compile(
    r"\b(?:not|no|never|cannot|if|when|unless|but|maybe|perhaps|either|neither|whereas|while|might|or)\b|n't"
)
IN_PARENTHESES = re.compile(r"(\\sqrt|\^)\s*\(")
DECIMAL = re.compile(r"-?\d+(?:\.\d+)?")
APPROXIMATELY = re.compile(r"\\approx(?![A-Za-z])|~=|≒")
LETTER = re.compile(r"[A-Za-z]|\\[a-z]+")
BRACE_OR_TYPED = re.compile(r"\\.|[{}]", re.S)
BARE_BOX = re.compile(r"\\boxed\s*(-?\d+(?:\.\d+)?|[A-Za-z](?![A-Za-z])|\\[dt]?frac\s*(?:\d\d|\{[^{}]*\}\{[^{}]*\}))")


def last_box(text: str) -> str | None:
    r"""The content of the last box: `\boxed{7}`, and what TeX also takes for one: `\boxed {7}`, `\boxed7`.

    None without a box or when the last one is never closed: an earlier box does not stand in for it.
    """
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    after = re.compile(r"\s*").match(text, start + len("\\boxed"))
    opens = after.end() if after else start
    if text[opens : opens + 1] == "{":
        end = _box_end(text, opens) or closing_brace(text, opens)
        return None if end is None else text[opens + 1 : end]
    bare = BARE_BOX.match(text, start)
    return bare[1] if bare else None


def _box_end(text: str, opens: int) -> int | None:
    """Where the brace at `opens` is closed: not by a brace that is typed, as in the braces of a set."""
    depth = 0
    for brace in BRACE_OR_TYPED.finditer(text, opens):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return None


def unboxed(text: str) -> str:
    """`text` without the boxes that hold all of it; of two boxes side by side neither does."""
    while (box := BOX_OPENS.match(text)) and closing_brace(text, box.end() - 1) == len(text) - 1:
        text = text[box.end() : -1].strip()
    return text


def spelling(answer: str) -> str:
    """`spelled` without the units: what two answers of one number share."""
    return units.UNIT.sub("", spelled(answer)).strip()


@lru_cache(maxsize=2048)  # the ground truth is one for all responses of a group
def spelled(answer: str) -> str:
    r"""One spelling of `answer` for every way to write it, with `\unit{...}` behind a number that has a unit."""
    text = answer.strip()
    if text.isdigit() and text.isascii():
        return text
    text = _ascii(text)
    if "\\begin" not in text:  # there, a double backslash and a line break mean something
        text = _last_line(text)
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    text = unboxed(text.strip())
    if text.startswith("$") and re.match(r"\$\s*[\d.]", text) and len(re.findall(r"(?<!\\)\$", text)) % 2:
        text = "\\" + text
    for pattern, replacement in LAYOUT_RULES:
        text = pattern.sub(replacement, text)
    text = _value_of_sentence(LABEL.sub("", text.strip()).lstrip(" ,:"))
    if text.startswith(OPEN) and text.endswith(CLOSE) and text.count(OPEN) == 1:
        text = text[1:-1]
    text = MULTIPLES.sub(_residue, digits_for_words(text))
    if not INEQUALITY.search(text):  # there, the clause says which of the numbers
        text = INTEGERS.sub(_without_clause, EVERYWHERE.sub("", text))
    else:
        text = EITHER.sub(r" \\lor ", BOTH.sub(r" \\land ", text))
    for pattern, replacement in SEPARATOR_RULES:
        text = pattern.sub(replacement, text)
    if TRIGONOMETRIC.search(text):
        text = IN_DEGREES.sub(r"{\\frac{\1\\pi}{180}}", text)
        text = re.sub(DEGREES, r"\\cdot \\frac{\\pi}{180}", text)
    text = TEMPERATURE.sub(lambda found: f"{OPEN}{ {'C': 'celsius', 'F': 'fahrenheit'}[found[1]] }{CLOSE}", text)
    text = re.sub(DEGREES, "", DEGREES_AT_THE_END.sub(f"{OPEN}degree{CLOSE}", text))
    text = units.with_units(text)
    for pattern, replacement in MATHEMATICS_RULES:
        text = pattern.sub(replacement, text)
    text = _braced(re.sub(r"(?:(?<![.,])\.)?[ ,:\\]*$", "", text.strip().lstrip(" ,:")))
    exact, *rounded = APPROXIMATELY.split(text)
    if len(rounded) == 1 and DECIMAL.fullmatch(rounded[0].strip()):
        text = _exact_part(exact.strip(), rounded[0].strip())
    return _turned(re.sub(r"^\(([A-Z])\)$", r"\1", text.strip()))


def _ascii(text: str) -> str:
    """`text` with LaTeX for the characters of Unicode that stand for it."""
    if text.isascii():
        return text.replace("\t", " ")
    text = re.sub(f"[{''.join(RAISED)}]+", lambda run: "^{" + "".join(RAISED[one] for one in run[0]) + "}", text)
    text = re.sub(f"[{''.join(LOWERED)}]+", lambda run: "_{" + "".join(LOWERED[one] for one in run[0]) + "}", text)
    text = re.sub(r"[¼-¾⅐-⅞]", _vulgar, text)
    return text.replace("或者", "或").translate(UNICODE)


def _without_clause(found: re.Match[str]) -> str:
    """Nothing for `, k \\in \\mathbb{Z}` where the answer has a k; else the clause, which restricts the answer."""
    return "" if re.search(rf"(?<![\\A-Za-z]){found[1]}(?![A-Za-z])", found.string[: found.start()]) else found[0]


def _last_line(text: str) -> str:
    """The last line below lines of words; where a line above it may be an answer, all of them as one."""
    *above, last = [line for line in text.splitlines() if line.strip()] or [""]
    return last if all(SENTENCE_LINE.search(line) for line in above) else " ".join([*above, last])


def _residue(found: re.Match[str]) -> str:
    name, before, modulus, _, after = found.groups()
    return f"{name} \\equiv {int(before or 0) + int(''.join((after or '0').split()))} \\pmod{{{modulus}}}"


def _vulgar(found: re.Match[str]) -> str:
    parts = unicodedata.normalize("NFKC", found[0]).split("⁄")
    return f"\\frac{{{parts[0]}}}{{{parts[1]}}}" if len(parts) == 2 and all(parts) else found[0]


def _value_of_sentence(text: str) -> str:
    """What a sentence with one verb says something to be; the text itself where it is none, or takes itself back."""
    if not SENTENCE.match(text) or HEDGE.search(text):
        return text
    verbs = list(VERB.finditer(text))
    if len(verbs) != 1:
        return text
    value = text[verbs[0].end() :].strip(" :")
    if value.count(CLOSE) > value.count(OPEN):
        value = (
            value.replace(CLOSE, "", 1)
            if CLOSE in value and value.find(CLOSE) < (value.find(OPEN) + 1 or 10**9)
            else value
        )
    return value.strip(" :") or text


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


def key(text: str) -> str:
    """`text` as it is compared exactly: no space but between digits; words as `words.wording` has them."""
    return wording(text) if is_text(text) else re.sub(r"(?<!\d) | (?!\d)", "", text)
