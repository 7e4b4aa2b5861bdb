r"""Plain numbers: a spelled text in, a `PlainNumber` with its exact fraction out, and the comparison of two of them.

1,234.5, 1 1/2, 50\%, 1.5\times 10^3, 0.\overline{3} are some.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 300
LONG = 6  # significant digits from which a decimal may stand for a number that no decimal states exactly
DOUBLE = 16  # significant digits of a double, whose last one may be off by one
FLOAT = 12  # significant digits from which a decimal is a float that was printed


@dataclass(frozen=True)
class PlainNumber:
    r"""A literal: its exact value, whether it is a percentage, its base, and how it was rounded.

    Attributes:
        last_place: of a decimal with `LONG` significant digits or more, or one that says it is rounded.
        cut_off: the digits behind the last place may be cut off, not rounded: an ellipsis, or many digits.
        rounded: it says so itself: by \approx or an ellipsis, in scientific notation, or as a printed float.
        many_digits: it has `LONG` significant digits or more.
    """

    value: Fraction
    percent: bool = False
    base: int | None = None
    last_place: Fraction | None = None
    rounded: bool = False
    many_digits: bool = False
    cut_off: bool = False

    def stands_for(self, value: Fraction) -> bool:
        """Whether this decimal is what `value` rounds or truncates to."""
        if self.last_place is None or (value < 0) != (self.value < 0):
            return False
        return -self.last_place / 2 <= abs(value) - abs(self.value) < self.last_place / (1 if self.cut_off else 2)


def same_number(gold: PlainNumber, pred: PlainNumber) -> bool:
    """Whether `pred` is the number of `gold`: exactly, or by a rounding that the decimal at hand allows."""
    if gold.percent and not pred.percent:
        return pred.value in (gold.value, gold.value / 100)
    if pred.percent and not gold.percent:
        return pred.value / 100 == gold.value or (pred.value == gold.value and abs(gold.value) > 1)
    if gold.base and pred.base and gold.base != pred.base:
        return False
    if gold.value == pred.value:
        return True
    return rounds(gold, pred.value) or approximates(pred, gold.value)


def approximates(pred: PlainNumber, value: Fraction, exact: bool = True) -> bool:
    """Whether an answer's decimal has digits enough for `value`, which no decimal states, and all of them right.

    Args:
        exact: `value` is the number itself; else it approximates an irrational one.
    """
    return pred.many_digits and not (exact and terminates(value)) and pred.stands_for(value)


def rounds(gold: PlainNumber, value: Fraction, exact: bool = True) -> bool:
    """Whether a decimal of the ground truth is met by rounding `value`, as in `approximates`, to its places."""
    return (gold.rounded or not (exact and terminates(value))) and gold.stands_for(value)


def terminates(value: Fraction) -> bool:
    """Whether a decimal states `value` exactly."""
    rest = value.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor
    return rest == 1


DECIMAL = re.compile(
    r"(\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(\.\d+)?(?: ?\\(?:times|cdot) ?10\^(?:(\d)|\{([+-]?\d{1,3})\}))?"
)
REPEATING = re.compile(r"(\d*)\.(\d*) ?\\overline ?\{(\d+)\}")
IN_BASE = re.compile(r"(\d+)_(?:(\d)|\{(\d{1,2})\})")
FRACTION = re.compile(r"(?:(\d+) ?)??(?:\\frac ?\{(-?\d+)\} ?\{(-?\d+)\}|(?<![\d}])(\d+) ?/ ?(\d+))")
CUT_OFF = re.compile(r"(?:\\l?dots|\.\.\.|…)$")
ROUNDED = re.compile(rf"^\\approx ?|{CUT_OFF.pattern}")


def plain_number(text: str) -> PlainNumber | None:
    """The number that a spelled text without a unit is; None where it is more than a literal."""
    marked = ROUNDED.sub("", text).strip()
    says_so, text, cut_off = marked != text, marked, bool(CUT_OFF.search(text))
    percent = text.endswith("%")
    body = text.removesuffix("%").removesuffix("\\").strip()
    if body.startswith("(") and body.endswith(")") and "," not in body:
        body = body[1:-1].strip()
    sign = -1 if body.startswith("-") else 1
    body = body.removeprefix("-").removeprefix("+").strip()
    if len(body) > MAX_DIGITS:
        return None
    if match := REPEATING.fullmatch(body):
        return PlainNumber(sign * repeating(match), percent)
    if match := IN_BASE.fullmatch(body):
        base = int(match[2] or match[3])
        return PlainNumber(sign * Fraction(match[1]), percent, base=base) if int(max(match[1])) < base else None
    if match := DECIMAL.fullmatch(body):
        return _decimal(match, sign, percent, says_so, cut_off)
    if match := FRACTION.fullmatch(body):
        whole, *parts = match.groups()
        numerator, denominator = (int(part) for part in parts if part is not None)
        if denominator and (not whole or 0 < numerator < denominator):
            return PlainNumber(sign * (int(whole or 0) + Fraction(numerator, denominator)), percent)
    return None


def repeating(found: re.Match[str]) -> Fraction:
    """The number that a match of `REPEATING` writes."""
    whole, once, again = found.groups()
    return (int(whole + once or 0) + Fraction(int(again), 10 ** len(again) - 1)) / 10 ** len(once)


def _decimal(match: re.Match[str], sign: int, percent: bool, says_so: bool, cut_off: bool) -> PlainNumber:
    whole, decimals, short, long = match.groups()
    digits = re.sub("[, ]", "", whole) + (decimals or "")[1:]
    place = Fraction(10) ** (int(short or long or 0) - len((decimals or "")[1:]))
    significant, scientific = len(digits.lstrip("0")), bool(short or long)
    many = bool(decimals) and significant >= LONG and (scientific or len(decimals) > LONG - 2)
    rounded = bool(decimals) and (says_so or (many and (scientific or significant >= FLOAT)))
    last_place = (2 if significant >= DOUBLE else 1) * place if many or rounded else None
    return PlainNumber(sign * int(digits) * place, percent, None, last_place, rounded, many, many or cut_off)
