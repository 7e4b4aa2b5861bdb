"""Whether two answers are the same mathematics: math-verify's parser and comparison, in a process of its own.

Called only inside a worker (math_workers.py), because a parse or a comparison may take for ever.
"""

import re
from fractions import Fraction

from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended import latex2sympy2
from math_verify.grader import should_treat_as_complex, verify
from sympy import And, Basic, Eq, Expr, FiniteSet, Float, I, Integer, N, Rational, Union, expand, fraction, together
from sympy.core.relational import Relational

from justrl_recipe.reward_fns.answers import PlainNumber, plain_number

NORMALIZATION = latex2sympy2.NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
)
DIGITS = 30  # of a numeric comparison: enough to tell any two answers apart that a person would write
FLOAT_TOLERANCE = 1e-5  # relative, where an expression holds decimals: they are rounded themselves
ZERO = 1e-20  # absolute
SAMPLES = (Rational(71, 97), Rational(137, 61))  # values of variables, of no special meaning


class Parser(latex2sympy2._Latex2Sympy):
    """math-verify's LaTeX parser with ANTLR's fast prediction mode, which gives the same tree or an error.

    Ten times faster on answers; an error is tried again with the full mode (latex2sympy2_extended 1.11.0).
    """

    prediction_mode = PredictionMode.SLL

    def create_parser(self, latex_str):
        parser = super().create_parser(latex_str)
        parser._interp.predictionMode = self.prediction_mode
        return parser

    def parse_number(self, text):
        """A literal, where the original has sympy's `sympify` evaluate it as Python."""
        digits = text.replace(",", "")
        return Integer(int(digits)) if digits.isdigit() else Float(digits)


class FullParser(Parser):
    prediction_mode = PredictionMode.LL


def parse(text: str, real: bool) -> Basic:
    text = latex2sympy2.normalize_latex(text, NORMALIZATION)
    # The grammar reads x^2 as a possible name x_{...}^2, which costs it the fast mode; {x}^2 says the same.
    text = re.sub(r"(?<![\\A-Za-z_])([A-Za-z]|\\(?:pi|theta|alpha|beta|omega))(?=\^)", r"{\1}", text)
    try:
        expression = Parser(is_real=real).parse(text)
    except Exception:  # the grammar's error listener raises nothing more special
        expression = FullParser(is_real=real).parse(text)
    return expression.subs({symbol: I for symbol in expression.free_symbols if symbol.name == "i"})


def equivalent(gold: str, pred: str) -> bool:
    """Whether `pred` is the mathematics of `gold`, both as `answers.spelling` gives them."""
    if "=" in pred and "=" not in gold:
        pred = ",".join(part.rpartition("=")[2] for part in pred.split(","))
    real = not (should_treat_as_complex(gold) or should_treat_as_complex(pred))
    try:
        expected, actual = _solutions(parse(gold, real)), _solutions(parse(pred, real))
    except Exception:  # see parse: what cannot be read equals nothing
        return False
    if isinstance(expected, Expr) and isinstance(actual, Expr):
        verdict = numerically_equal(expected, actual, [plain_number(gold), plain_number(pred)])
        if verdict is not None:
            return verdict
        numerator, _ = fraction(together(expected - actual))
        if expand(numerator).is_zero:  # a proof for rational functions, far cheaper than math-verify's simplify
            return True
    return verify(expected, actual, timeout_seconds=None, allow_set_relation_comp=True)


def _solutions(expression: Basic) -> Basic:
    """The set that several inequalities describe: x < -1 or x > 2."""
    parts = expression.args if isinstance(expression, FiniteSet) else ()
    if parts and all(isinstance(part, Relational | And) and not isinstance(part, Eq) for part in parts):
        return Union(*(part.as_set() for part in parts))
    return expression


def numerically_equal(expected: Expr, actual: Expr, plain: list[PlainNumber | None]) -> bool | None:
    """Compare two expressions by their values, at `SAMPLES` where they have variables.

    math-verify rounds to six decimals, which takes 1e-9 for 2e-9. Here a decimal of six significant digits or more
    stands for what it rounds or truncates, and an expression with decimals in it for itself to `FLOAT_TOLERANCE`.

    Returns:
        None where values cannot decide: zeros, infinities, and expressions with variables that agree.
    """
    symbols = sorted(expected.free_symbols | actual.free_symbols, key=str)
    tolerance = _tolerance(expected, actual, plain)
    for sample in SAMPLES if symbols else (None,):
        values = {symbol: (sample or 0) + place for place, symbol in enumerate(symbols)}
        a, b = expected.subs(values), actual.subs(values)
        sizes = [abs(N(value, DIGITS)) for value in (a, b, a - b)]
        if not all(size.is_Float or size.is_zero for size in sizes) or max(sizes) < ZERO:
            return None
        *_, difference = sizes
        if any(literal and literal.stands_for(_fraction(value)) for literal, value in ((plain[0], b), (plain[1], a))):
            return True
        if difference > max(sizes) * tolerance:
            return False
        if tolerance < 1e-12 and difference > ZERO:  # near only because both are large: 2^1000 and 2^1000-1
            return None
    return None if symbols and tolerance < FLOAT_TOLERANCE else True


def _fraction(value: Expr) -> Fraction | None:
    digits = N(value, DIGITS)
    return Fraction(str(digits)) if digits.is_Float else None


def _tolerance(expected: Expr, actual: Expr, plain: list[PlainNumber | None]) -> float:
    """Relative: an expression's decimals are rounded, a plain decimal is exact to a float's own precision."""
    with_decimals = [
        (value, number) for value, number in zip((expected, actual), plain, strict=True) if value.has(Float)
    ]
    if any(number is None for _, number in with_decimals):
        return FLOAT_TOLERANCE
    return 1e-12 if with_decimals else 1e-25
