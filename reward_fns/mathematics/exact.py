"""Whether two sympy expressions are equal: decided exactly, never by a fixed tolerance.

Numbers are compared by exact_numbers.py. Expressions with variables are compared at random exact points, which are
drawn anew in each process (points.py). Where they are rational functions, the difference is expanded instead, which
is a proof.
"""

import sympy
from sympy import E, Expr, I, Poly, Pow, Rational, Symbol, acos, asin, log, nan, oo, zoo

from justrl_recipe.reward_fns.mathematics.exact_numbers import is_zero
from justrl_recipe.reward_fns.mathematics.points import COUNTING, PIECES, POINTS, WHOLE, has_pieces, points

MAX_EXPANDED_DEGREE = 60  # of what is expanded; beyond, random points decide alone
UNDECIDABLE = (sympy.Integral, sympy.Limit, sympy.Sum, sympy.Product, sympy.Derivative)
NOT_FINITE = (oo, -oo, zoo, nan)


def equal(one: Expr, other: Expr) -> bool:
    """Whether the expressions have one value, or are one function of the same variables."""
    if one == other:
        return one is not nan
    if any(side.has(*NOT_FINITE) for side in (one, other)):
        return False
    difference = one - other
    if difference.is_Rational:
        return bool(difference == 0) and one.free_symbols == other.free_symbols
    if difference.has(*UNDECIDABLE):
        return False
    if not (one.free_symbols or other.free_symbols):
        return is_zero(difference)
    if one.free_symbols != other.free_symbols:
        one, other = (sympy.cancel(side) if side.is_rational_function() else side for side in (one, other))
        if one.free_symbols != other.free_symbols:
            return False
    return vanishes(one - other)


def vanishes(function: Expr) -> bool:
    """Whether a function of variables is zero wherever it is real (everywhere, where it has `I`)."""
    if _degree(function) <= MAX_EXPANDED_DEGREE and function.is_rational_function():
        numerator = sympy.expand(sympy.fraction(sympy.together(function))[0])
        symbols = sorted(numerator.free_symbols, key=str)
        if not symbols:
            return is_zero(numerator)
        return all(is_zero(coefficient) for coefficient in Poly(numerator, *symbols).coeffs())
    counts = function.has(*COUNTING)
    found, enough = 0, PIECES if counts or has_pieces(function) else POINTS
    for values in points(function):
        if not _is_real(function, values):
            continue
        value = function.subs(values, simultaneous=True)
        if value.has(*NOT_FINITE):
            if counts and min(values.values()) >= WHOLE[0]:
                return False  # a factor such as (8 - n)! leaves only points that are known
            continue
        if not is_zero(value):
            return False
        found += 1
        if found >= enough:
            return True
    return found >= POINTS


def proportional(first: Expr, second: Expr) -> Expr | None:
    """The constant c, not zero, with first = c * second; None without one, and for numbers."""
    if not first.free_symbols or first.free_symbols != second.free_symbols:
        return None
    for values in points(first):
        above, below = sides = first.subs(values), second.subs(values)
        if any(side.has(*NOT_FINITE) or not (side.is_number and side.is_finite) for side in sides):
            continue
        zeros = is_zero(above), is_zero(below)
        if zeros[0] != zeros[1]:
            return None
        if not any(zeros):
            factor = above / below
            return factor if vanishes(first - factor * second) else None
    return None


def _degree(function: Expr) -> int:
    """A bound on the degree of the function's expansion; large where an exponent is no number."""
    if function.is_Add:
        return max(map(_degree, function.args)) + sum(_degree(arg) for arg in function.args if _has_quotient(arg))
    if function.is_Mul:
        return sum(map(_degree, function.args))
    if function.is_Pow:
        return _degree(function.base) * abs(int(function.exp)) if function.exp.is_Integer else MAX_EXPANDED_DEGREE + 1
    return 1 if function.free_symbols else 0


def _has_quotient(function: Expr) -> bool:
    return any(power.exp.is_negative and power.free_symbols for power in function.atoms(Pow))


def _is_real(function: Expr, values: dict[Symbol, Rational]) -> bool:
    """Whether no part of `function` leaves the reals at `values`: no root or logarithm of a negative number."""
    if function.has(I):
        return True  # it is meant to be complex
    for part in function.atoms(Pow, log, asin, acos):
        if isinstance(part, Pow) and part.base is E:
            continue
        argument = part.args[0].subs(values, simultaneous=True)
        if isinstance(part, asin | acos):
            if not abs(argument) <= 1:
                return False
        elif isinstance(part, Pow) and part.exp.subs(values, simultaneous=True).is_Integer:
            if argument.is_zero:
                return False
        elif not argument.is_positive:
            return False
    return True
