"""Whether two sympy expressions are equal: decided exactly, never by a fixed tolerance.

Numbers are compared by exact_numbers.py. Expressions with variables are compared at random exact points, which are
drawn anew in each process. Where they are rational functions, the difference is expanded instead, which is a
proof.
"""

import itertools
import random
from collections.abc import Iterator

import sympy
from sympy import (
    E,
    Expr,
    I,
    Integer,
    Poly,
    Pow,
    Rational,
    Symbol,
    acos,
    asin,
    cos,
    cosh,
    cot,
    csc,
    exp,
    log,
    nan,
    oo,
    sec,
    sin,
    sinh,
    tan,
    tanh,
    zoo,
)

from justrl_recipe.reward_fns.mathematics.exact_numbers import is_zero

MAX_EXPANDED_DEGREE = 60  # of what is expanded; beyond, random points decide alone
UNDECIDABLE = (sympy.Integral, sympy.Limit, sympy.Sum, sympy.Product, sympy.Derivative)
REWRITTEN = {
    tan: lambda x: sin(x) / cos(x),
    cot: lambda x: cos(x) / sin(x),
    sec: lambda x: 1 / cos(x),
    csc: lambda x: 1 / sin(x),
    sinh: lambda x: (exp(x) - exp(-x)) / 2,
    cosh: lambda x: (exp(x) + exp(-x)) / 2,
    tanh: lambda x: 1 - 2 / (exp(2 * x) + 1),
}
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
    function = _rewritten(function)
    counts = function.has(*COUNTING)
    found, enough = 0, PIECES if counts or has_pieces(function) else POINTS
    for values in points(function):
        if not _is_real(function, values):
            continue
        value = function.xreplace(values)
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
    first, second = _rewritten(first), _rewritten(second)
    for values in points(first):
        if not (_is_real(first, values) and _is_real(second, values)):
            continue
        above, below = sides = first.xreplace(values), second.xreplace(values)
        if any(side.has(*NOT_FINITE) or not (side.is_number and side.is_finite) for side in sides):
            continue
        zeros = is_zero(above), is_zero(below)
        if zeros[0] != zeros[1]:
            return None
        if not any(zeros):
            factor = above / below
            return factor if vanishes(first - factor * second) else None
    return None


def _rewritten(function: Expr) -> Expr:
    """`function` in sines, cosines and powers of e.

    Of these alone does sympy 1.14 evaluate large arguments to the digits that it promises (`evalf_table`). By the
    sign of others |sec x - tan x| may lose its bars where it is negative.
    """
    for kind, rule in REWRITTEN.items():
        function = function.replace(kind, rule)
    return function


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
        argument = part.args[0].xreplace(values)
        if isinstance(part, asin | acos):
            if not abs(argument) <= 1:
                return False
        elif isinstance(part, Pow) and part.exp.xreplace(values).is_Integer:
            if argument.is_zero:
                return False
        elif not argument.is_positive:
            return False
    return True


# --- points at which functions are compared

POINTS = 8  # at which functions have to agree
PIECES = 24  # at which they have to where they may consist of pieces
PIECEWISE = (sympy.Abs, sympy.floor, sympy.ceiling, sympy.Max, sympy.Min, sympy.sign)
COUNTING = (sympy.factorial, sympy.binomial)
MAGNITUDES = range(-3, 10)  # of points, as powers of ten, where functions may consist of pieces
SMALL, WHOLE = range(9), (9, 400)
FINEST = 1 << 21  # the largest denominator of a point
FINEST_EXPONENT = 1 << 10  # where it becomes an exponent, of which sympy computes the numerator's power
TRIES = 24  # to find them, of which half are positive
FURTHER_TRIES = 400  # where these find too few: a function may be real only on a part of the line

CHANCE = random.SystemRandom()  # a policy cannot learn the points


def points(function: Expr) -> Iterator[dict[Symbol, Rational]]:
    """Random exact values for the variables: in each combination of signs, then positive, then whole, even and odd.

    Half of the positive ones are less than 1, for functions such as an arc cosine; further ones are for what is real
    only between 2 and 3 or from 100 to 200.

    Only whole ones where the function counts something: factorials and binomial coefficients. Where it may have
    pieces, as an absolute value or the root of a square does, first points in each of them and of every magnitude.
    """
    symbols = sorted(function.free_symbols, key=str)
    finest = FINEST_EXPONENT if any(power.exp.free_symbols for power in function.atoms(Pow, exp)) else FINEST
    if has_pieces(function):
        yield from _in_each_piece(function, symbols)
        for magnitude in MAGNITUDES if finest == FINEST else range(-3, 5):
            sides = [CHANCE.choice((1, -1)) for _ in symbols]
            for side in (1, -1):
                yield {
                    symbol: side * one * _fraction(finest) * Integer(10) ** magnitude
                    for symbol, one in zip(symbols, sides, strict=True)
                }
    if not function.has(*COUNTING):
        signs = list(itertools.islice(itertools.product((-1, 1), repeat=len(symbols)), TRIES))
        CHANCE.shuffle(signs)
        for chosen in itertools.islice(itertools.cycle(signs), max(TRIES // 2, len(signs))):
            yield {symbol: one * _fraction(finest) for symbol, one in zip(symbols, chosen, strict=True)}
        for number in range(TRIES):
            yield {symbol: _fraction(finest) / (1, 6)[number % 2] for symbol in symbols}
        for number in range(FURTHER_TRIES):
            yield {symbol: _fraction(finest) * (1, -1, 60, -60)[number % 4] for symbol in symbols}
    for small in SMALL if function.has(*COUNTING) else ():
        yield {symbol: Integer(CHANCE.choice(SMALL) if number else small) for number, symbol in enumerate(symbols)}
    for _ in range(POINTS):
        whole = {symbol: Integer(CHANCE.randint(*WHOLE)) for symbol in symbols}
        for step in (0, 1):
            yield {symbol: value + step for symbol, value in whole.items()}


def has_pieces(function: Expr) -> bool:
    roots = (power for power in function.atoms(Pow) if power.exp.is_Rational and not power.exp.is_Integer)
    return function.has(*PIECEWISE) or any(power.base.free_symbols and power.base.is_Add for power in roots)


def _in_each_piece(function: Expr, symbols: list[Symbol]) -> Iterator[dict[Symbol, Rational]]:
    """A point between each two neighbours of the places where a function of one variable has a corner."""
    if len(symbols) != 1:
        return
    (symbol,) = symbols
    corners = set()
    for part in function.atoms(*PIECEWISE):
        lines = [part.args[0], *(part.args[0] - other for other in part.args[1:])]
        for line in lines:
            slope = line.diff(symbol)
            root = -line.subs(symbol, 0) / slope if slope.is_Rational and slope != 0 else None
            if root is not None and root.is_Rational:
                corners.add(root)
    ordered = sorted(corners)
    for low, high in itertools.pairwise(ordered):
        yield {symbol: low + (high - low) * _fraction(FINEST) / 6}
    if ordered:
        yield {symbol: ordered[0] - _fraction(FINEST)}
        yield {symbol: ordered[-1] + _fraction(FINEST)}


def _fraction(finest: int) -> Rational:
    """Between 1/8 and 6, in steps that no one can guess."""
    denominator = CHANCE.randint(finest // 2, finest)
    return Rational(CHANCE.randint(denominator // 8, 6 * denominator), denominator)
