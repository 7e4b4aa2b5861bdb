"""Whether two values are equal, or two equations say the same: texts in, a verdict out.

A value is a number or an expression, with a unit or as a decimal. An equation gives a name its value, or is a
function, a computation, or what is to be solved.
"""

import re
from fractions import Fraction

from sympy import Expr, N, Pow, Rational

from justrl_recipe.reward_fns.mathematics import exact, parsing, units
from justrl_recipe.reward_fns.mathematics.exact import POINTS, points
from justrl_recipe.reward_fns.mathematics.literals import approximates, plain_number, rounds, same_number
from justrl_recipe.reward_fns.mathematics.reading import NAME, Answer, Equation
from justrl_recipe.reward_fns.mathematics.words import is_word

COMMAND = re.compile(r"\\(?!alpha|beta|gamma|theta|lambda|omega)[A-Za-z]+")
CONSTANTS = ("e", "\\pi")
APPLIED = re.compile(r"([A-Za-z])\(([a-z])\)")
CALL = re.compile(r"\([a-z](?:,[a-z])*\)$")
DIGITS = 50  # of a value that a decimal is compared with
LONG_DECIMAL = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?![\d.])")


class Equations:
    """The comparison of values, and of equations between them, of real or of complex numbers; the ground truth first.

    `same` compares answers of any kind (equality.py).
    """

    def __init__(self, real: bool) -> None:
        self.real = real

    def same_value(self, gold: str, pred: str) -> bool:
        (gold, gold_unit), (pred, pred_unit) = units.split(gold), units.split(pred)
        if not units.compatible(gold_unit, pred_unit):
            return False
        expected, actual = plain_number(gold), plain_number(pred)
        if expected and actual:
            return same_number(expected, actual)
        if expected and (expected.rounded or expected.last_place):
            value = _evaluated(parsing.expression(pred, self.real))
            return value is not None and (value[0] == expected.value or rounds(expected, *value))
        first, second = self.expression(gold), self.expression(pred)
        if exact.equal(first, second):
            return True
        if gold.endswith("%") and not pred.endswith("%"):
            return exact.equal(100 * first, second)
        if actual and actual.many_digits and not first.free_symbols:
            value = _evaluated(first)
            return value is not None and (value[0] == actual.value or approximates(actual, *value))
        return self.within_rounding(gold, first, second)

    def expression(self, text: str) -> Expr:
        return parsing.expression(re.sub(r"^\\approx|\\l?dots$", "", text), self.real)

    def within_rounding(self, gold: str, first: Expr, second: Expr) -> bool:
        """Whether the long decimals within a ground truth, rounded as they are, leave room for `second`."""
        literals = [found for found in LONG_DECIMAL.finditer(gold) if len((found[1] + found[2]).lstrip("0")) >= 6]
        if not literals or first.free_symbols != second.free_symbols or len(literals) > 4:
            return False
        moved = []
        for found in literals:
            step = Rational(1, 2 * 10 ** len(found[2]))
            other = str(Rational(found[0]) + step)
            moved.append(self.expression(f"{gold[: found.start()]}({other}){gold[found.end() :]}"))
        agreed = 0
        for values in points(first):
            at = [N(side.subs(values), DIGITS) for side in (first, second, *moved)]
            if not all(value.is_Float for value in at):
                continue
            expected, value, *others = at
            if abs(expected - value) > 1.01 * sum(abs(other - expected) for other in others):
                return False
            agreed += 1
            if agreed == POINTS:
                return True
        return False

    def same(self, gold: Answer, pred: Answer) -> bool:
        raise NotImplementedError

    def same_equation(self, gold: Answer, pred: Answer) -> bool:
        if isinstance(gold, Equation) and isinstance(pred, Equation):
            if self.same_name(gold, pred) and self.same(gold.right, pred.right):
                return True
            one, other = (APPLIED.fullmatch(side.name or "") for side in (gold, pred))
            if one and other:
                return one[1] == other[1] and self.same_function(gold, one[2], pred, other[2])
            if _computes(gold) or _computes(pred):
                return _computes(gold) and _computes(pred) and self.same(gold.right, pred.right)
            return self.same_zeros(gold, pred)
        if isinstance(gold, Equation):
            states_a_value = bool(gold.name) and not _relates(gold)
            return (states_a_value or _computes(gold)) and self.same(gold.right, pred)
        assert isinstance(pred, Equation)
        if not pred.name and _letters(pred.right_text):
            return False
        return self.same(gold, pred.right) and all(
            self.holds(side.strip(), pred.right_text) for side in pred.left.split("=")
        )

    def holds(self, left: str, right: str) -> bool:
        """Whether a side of a computation is its result, as far as it can be read: 3 = 4 says nothing of 4."""
        left = units.split(left)[0].strip()
        if not left:
            return False
        if NAME.fullmatch(left) and left not in CONSTANTS:
            return True
        try:
            if _letters(left):
                return not _to_solve(self.expression(left))
            return self.same_value(left, right) or self.same_value(right, left)
        except parsing.Unreadable:
            return True

    def same_function(self, gold: Equation, variable: str, pred: Equation, other: str) -> bool:
        """Whether f(x) and f(t) are one function."""
        first, second = self.expression(gold.right_text), self.expression(pred.right_text)
        names = {symbol.name: symbol for symbol in second.free_symbols}
        if other not in names or variable in names:
            return False
        symbol = next((symbol for symbol in first.free_symbols if symbol.name == variable), None)
        return symbol is not None and exact.equal(first, second.subs(names[other], symbol))

    def same_name(self, gold: Equation, pred: Equation) -> bool:
        first, second = gold.name, pred.name
        if not first or not second:
            return False
        if base(first) == base(second) and ("_" in first) != ("_" in second):
            return True  # x_1 = 3 and x = 3
        short, long = sorted((first, second), key=len)
        call = CALL.search(long)  # y = 2x for f(x) = 2x
        return first == second or (call is not None and len(short) == 1 and short not in call[0])

    def same_zeros(self, gold: Equation, pred: Equation) -> bool:
        """Left minus right, up to a factor that is a number and not zero."""
        if "=" in gold.left or "=" in pred.left:
            return False
        first, second = (self.expression(side.left) - self.expression(side.right_text) for side in (gold, pred))
        return exact.proportional(first, second) is not None


def _evaluated(number: Expr) -> tuple[Fraction, bool] | None:
    """A real number to `DIGITS` digits, and whether that is all of it; None for a function or a complex number."""
    if number.free_symbols:
        return None
    if number.is_Rational:
        return Fraction(int(number.p), int(number.q)), True
    value = N(number, DIGITS)
    return (Fraction(str(value)), False) if value.is_Float else None


def _to_solve(left: Expr) -> bool:
    """Whether the left side of an equation asks for its variable, as in 2x + 1 = 5: the right side is no answer."""
    if len(left.free_symbols) != 1 or left.is_Symbol:
        return False
    return left.is_algebraic_expr() or any(power.exp.free_symbols for power in left.atoms(Pow))


def _relates(gold: Equation) -> bool:
    """Whether an equation is a relation of names, as xy = 12 or AB = CD: its right side alone is no answer."""
    left, right = gold.left.strip(), gold.right_text.strip()
    if re.fullmatch(r"[a-z]{2,4}", left) and not is_word(left, alone=True):
        return True
    return NAME.fullmatch(right) is not None and right not in CONSTANTS


def _letters(text: str) -> bool:
    """Whether an expression has variables."""
    return bool(re.search(r"[A-Za-df-hj-z]|\\(?:alpha|beta|gamma|theta|lambda|omega)", COMMAND.sub(" ", text)))


def _computes(answer: Equation) -> bool:
    """Whether an equation is a computation and no condition: 2 + 3 = 5."""
    return not answer.name and not _letters(answer.left + answer.right_text)


def base(name: str | None) -> str:
    """A name without its index."""
    return (name or "").split("_")[0]
