"""The text of an expression in, sympy's expression out.

By math-verify's parser (latex2sympy2_extended), with exact numbers and the case of names kept.

Called only inside a worker (workers.py), because a parse may take for ever.
"""

import re
from functools import lru_cache

from antlr4 import Token
from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended import latex2sympy2
from sympy import Basic, Expr, I, Integer, Pow, Rational, UnevaluatedExpr
from sympy.core.relational import Relational

from justrl_recipe.reward_fns.mathematics.brackets import FUNCTION, enclosed, with_bars_enclosed
from justrl_recipe.reward_fns.mathematics.literals import REPEATING, repeating
from justrl_recipe.reward_fns.mathematics.words import is_word

COMPLEX = re.compile(r"(?<![\\A-Za-z])i(?![A-Za-z])|(?<![\\A-Za-z])[a-z]?i(?=[\s^)}+\-/*]|$|\\)|\d\s*i|i\d")
NAMES = r"[A-Za-z]|\\(?:pi|theta|alpha|beta|omega)"
# A unit within, an index of a number, which the parser drops, and two numbers side by side.
UNREADABLE = re.compile(r"\\unit|\\approx|!\s*!|[\d)}]\s*_|(?<![_^\d.])\d[\d.]*\s+\.?\d")
MIXED = re.compile(r"(?<![\d.^_])(\d+) ?\\frac ?\{(\d+)\} ?\{(\d+)\}")
# sympy's own way to write a function, which shows \cos(x)y; of \cos{(x)}y the parser makes the cosine of xy.
BRACED_ARGUMENT = re.compile(
    rf"(\\{FUNCTION}(?:\s*[_^]\s*(?:\w|\{{[^{{}}]*\}}))*\s*)"
    r"\{\s*(\((?:[^{}]|\{[^{}]*\})*\))\s*\}"
)
CASE_KEPT = latex2sympy2.ConversionConfig(lowercase_symbols=False)


class Unreadable(Exception):
    """The text is no mathematics to the parser."""


class Parser(latex2sympy2._Latex2Sympy):
    """math-verify's LaTeX parser with ANTLR's fast prediction mode, which gives the same tree or an error.

    Ten times faster on answers; an error is tried again with the full mode (latex2sympy2_extended 1.11.0).
    """

    prediction_mode = PredictionMode.SLL

    def __init__(self, is_real: bool = True) -> None:
        super().__init__(is_real=is_real, config=CASE_KEPT)

    def create_parser(self, latex_str):
        self.made = parser = super().create_parser(latex_str)
        parser._interp.predictionMode = self.prediction_mode
        return parser

    def parse(self, latex_str):
        """The tree of the whole text: the original reads what it can, and says nothing of the rest."""
        tree = super().parse(latex_str)
        if self.made.getCurrentToken().type != Token.EOF:
            raise Unreadable(latex_str)
        return tree

    def convert_postfix_list(self, arr, i=0):
        """Factors side by side; the original adds two numbers, (41)(40) as if it were a mixed number."""
        first = self.convert_postfix(arr[i])
        if i + 1 < len(arr) and getattr(first, "is_Integer", False):
            rest = self.convert_postfix_list(arr, i + 1)
            if not getattr(rest, "is_Matrix", False):
                return self.mul_flat(first, rest)
        return super().convert_postfix_list(arr, i)

    def parse_number(self, text):
        """A literal, exactly, where the original has sympy's `sympify` evaluate it as Python, or rounds it."""
        return Rational(text.replace(",", ""))


class FullParser(Parser):
    prediction_mode = PredictionMode.LL


@lru_cache(maxsize=256)
def expression(text: str, real: bool) -> Expr:
    """The expression that `text` writes, evaluated.

    Raises:
        Unreadable: it is none.
    """
    text = text.strip()
    if (
        not text
        or UNREADABLE.search(text)
        or any(is_word(word) for word in re.findall(r"(?<![\\A-Za-z])[A-Za-z]+", text))
    ):
        raise Unreadable(text)
    paired = with_bars_enclosed(text) if text.count("|") > 2 else text  # of |x|+2|x| the parser makes |x + 2|x||
    if paired is None:
        raise Unreadable(text)
    prepared = re.sub(rf"(?<![\\A-Za-z_])({NAMES})'", r"\1_{p}", paired)  # the parser drops a prime
    # The grammar reads x^2 as a possible name x_{...}^2, which costs it the fast mode; {x}^2 says the same.
    prepared = re.sub(rf"(?<![\\A-Za-z_])({NAMES})(?=\^)", r"{\1}", prepared)
    while (unbraced := BRACED_ARGUMENT.sub(_unbraced, prepared)) != prepared:
        prepared = unbraced
    prepared = MIXED.sub(_mixed, prepared)
    prepared = REPEATING.sub(_repeating, prepared)
    prepared = re.sub(r"\\%", "%", prepared).replace("%", r"\cdot \frac{1}{100}")
    if "'" in prepared or '"' in prepared:
        raise Unreadable(text)
    try:
        parsed = Parser(is_real=real).parse(prepared)
    except Exception:  # the grammar's error listener raises nothing more special
        try:
            parsed = FullParser(is_real=real).parse(prepared)
        except Exception as error:
            raise Unreadable(text) from error
    if not isinstance(parsed, Expr) or isinstance(parsed, Relational):
        raise Unreadable(text)
    parsed = parsed.subs({symbol: I for symbol in parsed.free_symbols if symbol.name == "i"})
    return _evaluated(parsed, real)


def _mixed(found: re.Match[str]) -> str:
    r"""(3+\frac{1}{2}) for 3\frac{1}{2}."""
    whole, numerator, denominator = found.groups()
    proper = int(numerator) < int(denominator)
    return f"({whole}+\\frac{{{numerator}}}{{{denominator}}})" if proper else found[0]


def _unbraced(found: re.Match[str]) -> str:
    function, argument = found.groups()
    return function + argument if enclosed(argument) else found[0]


def _repeating(found: re.Match[str]) -> str:
    value = repeating(found)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _evaluated(parsed: Basic, real: bool) -> Expr:
    """The parser's tree, which it leaves as it was typed, computed; real odd roots of negative numbers are real."""
    if isinstance(parsed, UnevaluatedExpr):
        return _evaluated(parsed.args[0], real)
    if not parsed.args:
        return parsed
    args = [_evaluated(arg, real) for arg in parsed.args]
    if (
        isinstance(parsed, Pow)
        and real
        and args[0].is_Rational
        and args[0] < 0
        and args[1].is_Rational
        and args[1].q % 2
    ):
        return Integer(-1) ** args[1].p * (-args[0]) ** args[1]
    rebuilt = parsed.func(*args)
    return rebuilt.doit() if hasattr(rebuilt, "doit") else rebuilt


def is_real(text: str) -> bool:
    """Whether nothing in `text` speaks of complex numbers."""
    return not COMPLEX.search(text) and "sqrt{-" not in text
