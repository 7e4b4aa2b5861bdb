"""Whether two equations say the same: the value of a name, a function, a computation, or what is to be solved."""

import re

from sympy import Expr, Pow

from justrl_recipe.reward_fns.mathematics import exact, units
from justrl_recipe.reward_fns.mathematics.parsing import Unreadable
from justrl_recipe.reward_fns.mathematics.reading import NAME, Answer, Equation
from justrl_recipe.reward_fns.mathematics.values import Values
from justrl_recipe.reward_fns.mathematics.words import is_word

COMMAND = re.compile(r"\\(?!alpha|beta|gamma|theta|lambda|omega)[A-Za-z]+")
CONSTANTS = ("e", "\\pi")
APPLIED = re.compile(r"([A-Za-z])\(([a-z])\)")
CALL = re.compile(r"\([a-z](?:,[a-z])*\)$")


class Equations(Values):
    """The comparison of equations, with each other and with bare answers, of which `same` knows the kinds."""

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
        except Unreadable:
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
