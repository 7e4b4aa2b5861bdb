"""Whether two values are equal: texts of numbers or expressions, with units or as decimals, in, a verdict out."""

import re
from fractions import Fraction

from sympy import Expr, N, Rational

from justrl_recipe.reward_fns.mathematics import exact, parsing, units
from justrl_recipe.reward_fns.mathematics.literals import approximates, plain_number, rounds, same_number
from justrl_recipe.reward_fns.mathematics.points import POINTS, points

DIGITS = 50  # of a value that a decimal is compared with
LONG_DECIMAL = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?![\d.])")


class Values:
    """The comparison of texts that are values of real or of complex numbers. The ground truth comes first."""

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
            base, value, *others = at
            if abs(base - value) > 1.01 * sum(abs(other - base) for other in others):
                return False
            agreed += 1
            if agreed == POINTS:
                return True
        return False


def _evaluated(number: Expr) -> tuple[Fraction, bool] | None:
    """A real number to `DIGITS` digits, and whether that is all of it; None for a function or a complex number."""
    if number.free_symbols:
        return None
    if number.is_Rational:
        return Fraction(int(number.p), int(number.q)), True
    value = N(number, DIGITS)
    return (Fraction(str(value)), False) if value.is_Float else None
