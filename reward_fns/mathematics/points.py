"""Points at which two functions are compared: a sympy expression in, random exact values for its variables out."""

import itertools
import random
from collections.abc import Iterator

from sympy import Abs, Expr, Integer, Max, Min, Pow, Rational, Symbol, binomial, ceiling, exp, factorial, floor, sign

POINTS = 8  # at which functions have to agree
PIECES = 24  # at which they have to where they may consist of pieces
PIECEWISE = (Abs, floor, ceiling, Max, Min, sign)
COUNTING = (factorial, binomial)
MAGNITUDES = range(-3, 10)  # of points, as powers of ten, where functions may consist of pieces
SMALL, WHOLE = range(9), (9, 400)
FINEST = 1 << 21  # the largest denominator of a point
FINEST_EXPONENT = 1 << 10  # where it becomes an exponent, of which sympy computes the numerator's power
TRIES = 24  # to find them: a function may be real only on a part of the line

CHANCE = random.SystemRandom()  # a policy cannot learn the points


def points(function: Expr) -> Iterator[dict[Symbol, Rational]]:
    """Random exact values for the variables: in each combination of signs, then positive, then whole, even and odd.

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
        for _ in range(TRIES // 2):
            yield {symbol: _fraction(finest) for symbol in symbols}
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
