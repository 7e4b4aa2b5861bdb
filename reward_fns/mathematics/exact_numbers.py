"""Whether a number without variables is zero: a sympy expression in, a verdict out, and never a fixed tolerance.

A number is not zero as soon as an evaluation with an error bound says so. It is zero when it is smaller than a
number of its form can be without being zero. For algebraic numbers that is a theorem, the separation bound of C.
Burnikel, R. Fleischer, K. Mehlhorn, S. Schirra, "A strong and easily computable separation bound for arithmetic
expressions involving radicals" (Algorithmica 2000). For the others (pi, e, logarithms) no bound is known; they are
taken to be zero when they vanish to `SPARE_BITS` bits beyond twice what their literals can produce. An expression
that is written with so few bits and not zero has no reason to come that near to zero, and no example is known that
does (D. Richardson's uniformity conjecture).
"""

import math
from dataclasses import dataclass, field

import mpmath
from sympy import Abs, Add, E, Expr, I, Mul, Pow, Rational, cos, cot, csc, exp, pi, sec, sin, tan, totient
from sympy.core.evalf import PrecisionExhausted, evalf

MAX_BITS = 40_000  # of an evaluation; what needs more is undecided, and so not equal
SPARE_BITS = 400
SURE_BITS = 8  # of accuracy, which make a value certainly not zero
MAX_ROOT = 64  # an exponent with a larger denominator counts as transcendental


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
