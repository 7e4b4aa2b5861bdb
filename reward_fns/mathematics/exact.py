"""Whether two expressions are equal: decided exactly, never by a fixed tolerance.

A number is not zero as soon as an evaluation with an error bound says so. It is zero when it is smaller than a
number of its form can be without being zero. For algebraic numbers that is a theorem, the separation bound of C.
Burnikel, R. Fleischer, K. Mehlhorn, S. Schirra, "A strong and easily computable separation bound for arithmetic
expressions involving radicals" (Algorithmica 2000). For the others (pi, e, logarithms) no bound is known; they are
taken to be zero when they vanish to `SPARE_BITS` bits beyond twice what their literals can produce. An expression
that is written with so few bits and not zero has no reason to come that near to zero, and no example is known that
does (D. Richardson's uniformity conjecture).

Expressions with variables are compared at random exact points, which are drawn anew in each process. Where they are
rational functions, the difference is expanded as well, which is a proof.
"""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import mpmath
from sympy import (
    Abs,
    Add,
    Derivative,
    E,
    Expr,
    I,
    Integer,
    Integral,
    Limit,
    Max,
    Min,
    Mul,
    Poly,
    Pow,
    Product,
    Rational,
    Sum,
    Symbol,
    acos,
    asin,
    binomial,
    cancel,
    ceiling,
    cos,
    cot,
    csc,
    exp,
    expand,
    factorial,
    floor,
    fraction,
    log,
    nan,
    oo,
    pi,
    sec,
    sign,
    sin,
    tan,
    together,
    totient,
    zoo,
)
from sympy.core.evalf import PrecisionExhausted, evalf

MAX_BITS = 40_000  # of an evaluation; what needs more is undecided, and so not equal
SPARE_BITS = 400
SURE_BITS = 8  # of accuracy, which make a value certainly not zero
POINTS = 8  # at which functions have to agree
PIECES = 24  # at which they have to where they may consist of pieces
PIECEWISE = (Abs, floor, ceiling, Max, Min, sign)
MAGNITUDES = range(-3, 10)  # of points, as powers of ten, where functions may consist of pieces
SMALL, WHOLE = range(9), (9, 400)
FINEST = 1 << 21  # the largest denominator of a point
FINEST_EXPONENT = 1 << 10  # where it becomes an exponent, of which sympy computes the numerator's power
TRIES = 24  # to find them: a function may be real only on a part of the line
MAX_EXPANDED_DEGREE = 60  # of what is expanded; beyond, random points decide alone
MAX_ROOT = 64  # an exponent with a larger denominator counts as transcendental
UNDECIDABLE = (Integral, Limit, Sum, Product, Derivative)

CHANCE = random.SystemRandom()  # a policy cannot learn the points


def equal(one: Expr, other: Expr) -> bool:
    """Whether the expressions have one value, or are one function of the same variables."""
    if one == other:
        return one is not nan
    if any(side.has(oo, -oo, zoo, nan) for side in (one, other)):
        return False
    difference = one - other
    if difference.is_Rational:
        return bool(difference == 0) and one.free_symbols == other.free_symbols
    if difference.has(*UNDECIDABLE):
        return False
    if not (one.free_symbols or other.free_symbols):
        return is_zero(difference)
    if one.free_symbols != other.free_symbols:
        one, other = (cancel(side) if side.is_rational_function() else side for side in (one, other))
        if one.free_symbols != other.free_symbols:
            return False
    return vanishes(one - other)


# Numbers.


@dataclass
class Size:
    """How small a number can be without being zero: |E| >= 1 / (upper^(degree - 1) * lower), as binary logarithms."""

    upper: float = 0.0
    lower: float = 0.0
    roots: dict[Expr, int] = field(default_factory=dict)  # each root taken, and its degree
    order: int = 1  # of a root of unity whose powers are all those within
    literals: float = 0.0  # bits within transcendental functions
    transcendental: bool = False

    def bits(self) -> float:
        degree = int(totient(self.order)) * math.prod(self.roots.values())
        if self.transcendental:
            return 2 * (self.upper + self.lower + self.literals) * min(degree, 4) + SPARE_BITS
        return (degree - 1) * self.upper + self.lower + 1


def is_zero(number: Expr) -> bool:
    """Whether a number without variables is zero; False where that would take more than `MAX_BITS`."""
    if number.is_Rational:
        return bool(number == 0)
    precision, needed = 64, None
    while precision <= MAX_BITS:
        magnitude = _magnitude(number, precision)
        if magnitude is None:
            return False
        if needed is None:
            size = Size()
            size.upper, size.lower = _measure(number, size)
            needed = size.bits()
            if needed > MAX_BITS:
                return False
        if magnitude < -needed:
            return True
        precision = int(max(4 * precision, min(needed + SPARE_BITS, MAX_BITS)))
    return False


def _magnitude(number: Expr, precision: int) -> float | None:
    """The binary logarithm of a bound on |number|; None when it is certainly not zero."""
    try:
        parts = evalf(number, 53, {"maxprec": precision})
    except PrecisionExhausted:
        return mpmath.inf
    except (NotImplementedError, ValueError, TypeError, ZeroDivisionError):
        return None  # it has no value
    if not isinstance(parts, tuple):
        return None
    magnitude = -mpmath.inf
    for part, accuracy in zip(parts[:2], parts[2:], strict=True):
        if part is None:
            continue
        if accuracy >= SURE_BITS:
            return None
        magnitude = max(magnitude, part[2] + part[3] - min(accuracy, 0))
    return magnitude


def _measure(number: Expr, size: Size) -> tuple[float, float]:
    """The bound's (upper, lower) of `number`; the roots and functions within are noted in `size`."""
    if number.is_Rational:
        return _bits(number.p), _bits(number.q)
    if number is I:
        size.order = math.lcm(size.order, 4)
        return 0.0, 0.0
    if isinstance(number, Add | Mul):
        upper, lower = _measure(number.args[0], size)
        for part in number.args[1:]:
            more, less = _measure(part, size)
            upper = max(upper + less, more + lower) + 1 if isinstance(number, Add) else upper + more
            lower += less
        return upper, lower
    if isinstance(number, Pow) and number.exp.is_Rational and number.exp.q <= MAX_ROOT:
        return _measure_power(*_measure(number.base, size), number, size)
    if isinstance(number, Abs) and number.args[0].is_real:
        return _measure(number.args[0], size)
    if (order := _root_of_unity(number)) is not None:
        size.order = math.lcm(size.order, order, 4)
        return (2.0, 2.0) if isinstance(number, tan | cot) else (1.0, 1.0)
    size.transcendental = True
    for part in number.args:
        size.literals += sum(_measure(part, size))
    value = _magnitude_of_value(number)
    return max(value, 0.0), max(-value, 0.0)


def _measure_power(upper: float, lower: float, power: Pow, size: Size) -> tuple[float, float]:
    times, root = abs(power.exp.p), power.exp.q
    upper, lower = upper * times, lower * times
    if power.exp.p < 0:
        upper, lower = lower, upper
    if root > 1:
        size.roots[Pow(power.base, Rational(1, root), evaluate=False)] = root
        if upper >= lower:
            upper = (upper + (root - 1) * lower) / root
        else:
            lower = (lower + (root - 1) * upper) / root
    return upper, lower


def _root_of_unity(number: Expr) -> int | None:
    r"""2q of `\cos(p\pi/q)` and the like, and of `e^{ip\pi/q}`, which are algebraic; else None."""
    if isinstance(number, sin | cos | tan | cot | sec | csc):
        turn = number.args[0] / pi
    elif isinstance(number, exp) or (isinstance(number, Pow) and number.base is E):
        turn = number.exp / (I * pi)
    else:
        return None
    return 2 * int(turn.q) if turn.is_Rational else None


def _bits(integer: int) -> float:
    return float(max(abs(int(integer)).bit_length(), 1)) if integer not in (0, 1, -1) else 0.0


def _magnitude_of_value(number: Expr) -> float:
    with mpmath.workprec(53):
        try:
            value = abs(number.evalf(5))
            return float(mpmath.mag(value._mpf_ and mpmath.mpf(value._mpf_)))
        except (AttributeError, TypeError, ValueError, PrecisionExhausted):
            return 64.0


# Functions.


def vanishes(function: Expr) -> bool:
    """Whether a function of variables is zero wherever it is real (everywhere, where it has `I`)."""
    if _degree(function) <= MAX_EXPANDED_DEGREE and function.is_rational_function():
        numerator = expand(fraction(together(function))[0])
        symbols = sorted(numerator.free_symbols, key=str)
        if not symbols:
            return is_zero(numerator)
        return all(is_zero(coefficient) for coefficient in Poly(numerator, *symbols).coeffs())
    counts = function.has(factorial, binomial)
    found, enough = 0, PIECES if counts or _has_pieces(function) else POINTS
    for values in points(function):
        if not _is_real(function, values):
            continue
        value = function.subs(values, simultaneous=True)
        if value.has(oo, -oo, zoo, nan):
            if counts and min(values.values()) >= WHOLE[0]:
                return False  # a factor such as (8 - n)! leaves only points that are known
            continue
        if not is_zero(value):
            return False
        found += 1
        if found >= enough:
            return True
    return found >= POINTS


def points(function: Expr) -> Iterator[dict[Symbol, Rational]]:
    """Random exact values for the variables: in each combination of signs, then positive, then whole, even and odd.

    Only whole ones where the function counts something: factorials and binomial coefficients. Where it may have
    pieces, as an absolute value or the root of a square does, first points in each of them and of every magnitude.
    """
    symbols = sorted(function.free_symbols, key=str)
    finest = FINEST_EXPONENT if any(power.exp.free_symbols for power in function.atoms(Pow, exp)) else FINEST
    if _has_pieces(function):
        yield from _in_each_piece(function, symbols)
        for magnitude in MAGNITUDES if finest == FINEST else range(-3, 5):
            sides = [CHANCE.choice((1, -1)) for _ in symbols]
            for side in (1, -1):
                yield {
                    symbol: side * one * _fraction(finest) * Integer(10) ** magnitude
                    for symbol, one in zip(symbols, sides, strict=True)
                }
    if not function.has(factorial, binomial):
        signs = list(itertools.islice(itertools.product((-1, 1), repeat=len(symbols)), TRIES))
        CHANCE.shuffle(signs)
        for chosen in itertools.islice(itertools.cycle(signs), max(TRIES // 2, len(signs))):
            yield {symbol: one * _fraction(finest) for symbol, one in zip(symbols, chosen, strict=True)}
        for _ in range(TRIES // 2):
            yield {symbol: _fraction(finest) for symbol in symbols}
    for small in SMALL if function.has(factorial, binomial) else ():
        yield {symbol: Integer(CHANCE.choice(SMALL) if number else small) for number, symbol in enumerate(symbols)}
    for _ in range(POINTS):
        whole = {symbol: Integer(CHANCE.randint(*WHOLE)) for symbol in symbols}
        for step in (0, 1):
            yield {symbol: value + step for symbol, value in whole.items()}


def _has_pieces(function: Expr) -> bool:
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
