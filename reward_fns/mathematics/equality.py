r"""Whether two answers are the same mathematics, by the kinds of reading.py and the comparison of exact.py.

Called only inside a worker (workers.py), because reading and comparing expressions may take for ever.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from sympy import Expr, N, Pow, Rational, S, oo

from justrl_recipe.reward_fns.mathematics import exact, units
from justrl_recipe.reward_fns.mathematics.literals import approximates, plain_number, rounds, same_number, terminates
from justrl_recipe.reward_fns.mathematics.parsing import Unreadable, expression, is_real
from justrl_recipe.reward_fns.mathematics.reading import (
    NAME,
    TURNED,
    Answer,
    Condition,
    Equation,
    Group,
    Matrix,
    Pieces,
    Ratio,
    Residue,
    Sets,
    Value,
    read,
)
from justrl_recipe.reward_fns.mathematics.real_sets import REALS, NotASet, as_set, same_sets, variables
from justrl_recipe.reward_fns.mathematics.words import is_word

COMMAND = re.compile(r"\\(?!alpha|beta|gamma|theta|lambda|omega)[A-Za-z]+")
DIGITS = 50  # of a value that a decimal is compared with
APPLIED = re.compile(r"([A-Za-z])\(([a-z])\)")
TIME = re.compile(r"\d{1,2}:[0-5]\d")
CALL = re.compile(r"\([a-z](?:,[a-z])*\)$")
LONG_DECIMAL = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?![\d.])")


def equivalent(gold: str, pred: str) -> bool:
    """Whether `pred` is the mathematics of `gold`, both as `spelling.spelled` gives them."""
    try:
        return Comparison(is_real(gold) and is_real(pred)).same(read(gold), read(pred))
    except (Unreadable, RecursionError):
        return False


class Comparison:
    """One comparison, of real or of complex numbers. The first argument of each method is the ground truth."""

    def __init__(self, real: bool) -> None:
        self.real = real

    def same(self, gold: Answer, pred: Answer) -> bool:
        if gold == pred == REALS:
            return True
        if isinstance(gold, Group) and isinstance(pred, Equation) and pred.name and _bracketed(pred.right):
            pred = pred.right
        if isinstance(pred, Group) and isinstance(gold, Equation) and gold.name and _bracketed(gold.right):
            gold = gold.right
        if isinstance(gold, Group) or isinstance(pred, Group):
            verdict = self.same_group(gold, pred)
            if verdict is not None:
                return verdict
        if isinstance(gold, Equation) or isinstance(pred, Equation):
            return self.same_equation(gold, pred)
        if isinstance(gold, Condition | Sets | Group) or isinstance(pred, Condition | Sets | Group):
            return self.same_set(gold, pred)
        if isinstance(gold, Residue) or isinstance(pred, Residue):
            return self.same_residue(gold, pred)
        if isinstance(gold, Pieces) or isinstance(pred, Pieces):
            return self.same_pieces(gold, pred)
        if isinstance(gold, Matrix) or isinstance(pred, Matrix):
            return self.same_matrix(gold, pred)
        if isinstance(gold, Ratio) or isinstance(pred, Ratio):
            return self.same_ratio(gold, pred)
        assert isinstance(gold, Value) and isinstance(pred, Value)
        return self.same_value(gold.text, pred.text)

    # values

    def same_value(self, gold: str, pred: str) -> bool:
        (gold, gold_unit), (pred, pred_unit) = units.split(gold), units.split(pred)
        if not units.compatible(gold_unit, pred_unit):
            return False
        expected, actual = plain_number(gold), plain_number(pred)
        if expected and actual:
            return same_number(expected, actual)
        if expected and (expected.rounded or expected.last_place):
            return self.value_rounds(
                expression(pred, self.real), lambda value: rounds(expected, *value), expected.value
            )
        first, second = self.read(gold), self.read(pred)
        if exact.equal(first, second):
            return True
        if gold.endswith("%") and not pred.endswith("%"):
            return exact.equal(100 * first, second)
        if actual and actual.many_digits and not first.free_symbols:
            return self.value_rounds(first, lambda value: self._stated(actual, *value), actual.value)
        return self.within_rounding(gold, first, second)

    def read(self, text: str) -> Expr:
        return expression(re.sub(r"^\\approx|\\l?dots$", "", text), self.real)

    @staticmethod
    def _stated(literal, value: Fraction, exactly: bool) -> bool:
        return not (exactly and terminates(value)) and approximates(literal, value)

    @staticmethod
    def value_rounds(number: Expr, accepts: Callable[[tuple[Fraction, bool]], bool], near: Fraction) -> bool:
        """Whether a rounded decimal is the value of a number without variables."""
        if number.free_symbols:
            return False
        if number.is_Rational:
            value = Fraction(int(number.p), int(number.q))
            return value == near or accepts((value, True))
        value = N(number, DIGITS)
        return bool(value.is_Float) and accepts((Fraction(str(value)), False))

    def within_rounding(self, gold: str, first: Expr, second: Expr) -> bool:
        """Whether the long decimals within a ground truth, rounded as they are, leave room for `second`."""
        literals = [found for found in LONG_DECIMAL.finditer(gold) if len((found[1] + found[2]).lstrip("0")) >= 6]
        if not literals or first.free_symbols != second.free_symbols or len(literals) > 4:
            return False
        moved = []
        for found in literals:
            step = Rational(1, 2 * 10 ** len(found[2]))
            other = str(Rational(found[0]) + step)
            moved.append(self.read(f"{gold[: found.start()]}({other}){gold[found.end() :]}"))
        agreed = 0
        for values in exact.points(first):
            at = [N(side.subs(values), DIGITS) for side in (first, second, *moved)]
            if not all(value.is_Float for value in at):
                continue
            base, value, *others = at
            if abs(base - value) > 1.01 * sum(abs(other - base) for other in others):
                return False
            agreed += 1
            if agreed == exact.POINTS:
                return True
        return False

    # lists, tuples and sets in braces

    def same_group(self, gold: Answer, pred: Answer) -> bool | None:
        """None where one side is an interval after all."""
        if not isinstance(gold, Group) or not isinstance(pred, Group):
            group, other = (gold, pred) if isinstance(gold, Group) else (pred, gold)
            assert isinstance(group, Group)
            if isinstance(other, Condition | Sets) or other == REALS:
                return None
            if len(group.entries) == 1 and group.opens in ("{", ""):
                return self.same(group.entries[0], other) if group is gold else self.same(other, group.entries[0])
            return False
        ordered = [side.opens in ("(", "[") and side.opens != "" for side in (gold, pred)]
        if all(ordered):
            if len(gold.entries) == 2 and (gold.opens, gold.closes) != (pred.opens, pred.closes):
                return False
            if names := self.named(gold, pred):
                return names[0]
            return self.same_in_order(gold.entries, pred.entries)
        if names := self.named(gold, pred):
            return names[0]
        if any(ordered):
            return False
        sides = [self.distinct(side.entries) if side.opens == "{" else side.entries for side in (gold, pred)]
        return self.same_in_any_order(*sides)

    def named(self, gold: Group, pred: Group) -> tuple[bool] | None:
        """The verdict where entries have names: m = 3, n = 5; None where names do not decide."""
        names = [
            [entry.name if isinstance(entry, Equation) else None for entry in side.entries] for side in (gold, pred)
        ]
        several = [len({_base(name) for name in side if name}) > 1 and all(side) for side in names]
        if not any(several):
            return None
        if all(all(side) for side in names):
            return (self.same_in_any_order(gold.entries, pred.entries),)
        if several[0] and not any(names[1]) and pred.opens in ("", "("):
            return (self.same_in_order(_values(gold.entries), pred.entries),)
        if several[1] and not any(names[0]) and gold.opens in ("", "("):
            alphabetical = sorted(pred.entries, key=lambda entry: getattr(entry, "name", ""))
            return (self.same_in_order(gold.entries, _values(alphabetical)),)
        return (False,)

    def same_in_order(self, gold: Sequence[Answer], pred: Sequence[Answer]) -> bool:
        return len(gold) == len(pred) and all(self.same(a, b) for a, b in zip(gold, pred, strict=True))

    def same_in_any_order(self, gold: Sequence[Answer], pred: Sequence[Answer]) -> bool:
        if len(gold) != len(pred):
            return False
        left = list(pred)
        for entry in gold:
            match = next((place for place, other in enumerate(left) if self.same_or_unreadable(entry, other)), None)
            if match is None:
                return False
            del left[match]
        return True

    def same_or_unreadable(self, gold: Answer, pred: Answer) -> bool:
        if gold == pred:
            return True
        try:
            return self.same(gold, pred)
        except Unreadable:
            return False

    def distinct(self, entries: Sequence[Answer]) -> list[Answer]:
        kept: list[Answer] = []
        for entry in entries:
            if not any(self.same_or_unreadable(other, entry) for other in kept):
                kept.append(entry)
        return kept

    # equations

    def same_equation(self, gold: Answer, pred: Answer) -> bool:
        if isinstance(gold, Equation) and isinstance(pred, Equation):
            if self.same_name(gold, pred) and self.same(gold.right, pred.right):
                return True
            one, other = (APPLIED.fullmatch(side.name or "") for side in (gold, pred))
            if one and other:
                return one[1] == other[1] and self.same_function(gold, one[2], pred, other[2])
            if not _computes(gold) and not _computes(pred):
                return self.same_zeros(gold, pred)
            return _computes(gold) and _computes(pred) and self.same(gold.right, pred.right)
        if isinstance(gold, Equation):
            states_a_value = bool(gold.name) and not _relates(gold)
            return (states_a_value or _computes(gold)) and self.same(gold.right, pred)
        assert isinstance(pred, Equation)
        if not pred.name and _letters(pred.right_text):
            return False
        return self.same(gold, pred.right) and all(map(self.holds, pred.left.split("="), [pred.right_text] * 9))

    def holds(self, left: str, right: str) -> bool:
        """Whether a side of a computation is its result, as far as it can be read: 3 = 4 says nothing of 4."""
        left = units.split(left.strip())[0]
        if not left.strip():
            return False
        if NAME.fullmatch(left.strip()) and left.strip() not in ("\\pi", "e"):
            return True
        try:
            if _letters(left):
                return not _to_solve(self.read(left.strip()))
            return self.same_value(left.strip(), right) or self.same_value(right, left.strip())
        except Unreadable:
            return True

    def same_function(self, gold: Equation, variable: str, pred: Equation, other: str) -> bool:
        """Whether f(x) and f(t) are one function."""
        first, second = self.read(gold.right_text), self.read(pred.right_text)
        names = {symbol.name: symbol for symbol in second.free_symbols}
        if other not in names or variable in names:
            return False
        symbol = next((symbol for symbol in first.free_symbols if symbol.name == variable), None)
        return symbol is not None and exact.equal(first, second.subs(names[other], symbol))

    def same_name(self, gold: Equation, pred: Equation) -> bool:
        first, second = gold.name, pred.name
        if not first or not second:
            return False
        if _base(first) == _base(second) and ("_" in first) != ("_" in second):
            return True  # x_1 = 3 and x = 3
        short, long = sorted((first, second), key=len)
        call = CALL.search(long)  # y = 2x for f(x) = 2x
        return first == second or (call is not None and len(short) == 1 and short not in call[0])

    def same_zeros(self, gold: Equation, pred: Equation) -> bool:
        """Left minus right, up to a factor that is a number and not zero."""
        if "=" in gold.left or "=" in pred.left:
            return False
        first, second = (self.read(side.left) - self.read(side.right_text) for side in (gold, pred))
        return self.proportional(first, second) is not None

    def proportional(self, first: Expr, second: Expr) -> Expr | None:
        """The constant c, not zero, with first = c * second; None without one."""
        if not first.free_symbols or first.free_symbols != second.free_symbols:
            return None
        for values in exact.points(first):
            above, below = first.subs(values), second.subs(values)
            if not (above.is_number and below.is_number) or above.has(oo, S.NaN, S.ComplexInfinity):
                continue
            if below.has(oo, S.NaN, S.ComplexInfinity) or not (above.is_finite and below.is_finite):
                continue
            if exact.is_zero(above) or exact.is_zero(below):
                if exact.is_zero(above) != exact.is_zero(below):
                    return None
                continue
            factor = above / below
            return factor if exact.vanishes(first - factor * second) else None
        return None

    # sets of real numbers

    def same_set(self, gold: Answer, pred: Answer) -> bool:
        names = variables(gold), variables(pred)
        if names[0] and names[1] and names[0] != names[1]:
            return False
        try:
            if max(map(len, names)) > 1 and not (isinstance(gold, Condition) and isinstance(pred, Condition)):
                return self.same_in_any_order(_joined(gold), _joined(pred))
            return same_sets(as_set(gold, self.read), as_set(pred, self.read))
        except NotASet:
            if isinstance(gold, Condition) and isinstance(pred, Condition):
                return self.same_condition(gold, pred)
            return False

    def same_condition(self, gold: Condition, pred: Condition) -> bool:
        """Inequalities of several variables: one side minus the other, up to a positive factor."""
        if len(gold.relations) != 1 or len(pred.relations) != 1:
            return False
        sides = []
        for answer in (gold, pred):
            low, high = (self.read(side) for side in answer.sides)
            relation = answer.relations[0]
            sides.append((high - low, TURNED[relation]) if relation in ("<", r"\le") else (low - high, relation))
        (first, kind), (second, other) = sides
        factor = self.proportional(first, second) if kind == other else None
        return factor is not None and (kind == r"\ne" or bool(factor.is_positive))

    # residues, ratios, matrices

    def same_residue(self, gold: Answer, pred: Answer) -> bool:
        if isinstance(gold, Value) and isinstance(pred, Residue):
            remainder = plain_number(gold.text)
            if remainder is None or not 0 <= remainder.value < pred.modulus or not NAME.fullmatch(pred.name or "n"):
                return False
            return len(pred.values) == 1 and self.same_value(gold.text, pred.values[0])
        if not isinstance(gold, Residue) or not isinstance(pred, Residue) or gold.modulus != pred.modulus:
            return False
        if (gold.name and pred.name and gold.name != pred.name) or not gold.modulus:
            return False
        classes = []
        for side in (gold, pred):
            values = [self.read(value) for answer in side.values for value in _texts(answer)]
            if not all(value.is_Integer for value in values):
                return gold.values == pred.values
            classes.append({int(value) % side.modulus for value in values})
        return classes[0] == classes[1]

    def same_ratio(self, gold: Answer, pred: Answer) -> bool:
        sides = [side.parts if isinstance(side, Ratio) else self.quotient(side) for side in (gold, pred)]
        if len(sides[0]) != len(sides[1]):
            return False
        if TIME.fullmatch(":".join(sides[0])):
            return all(self.same_value(a, b) for a, b in zip(*sides, strict=True))
        (first, *rest), (other, *others) = values = [[self.read(part) for part in side] for side in sides]
        if any(value.free_symbols for side in values for value in side):
            return all(exact.equal(one, two) for one, two in zip(*values, strict=True))
        if any(not value.is_finite or exact.is_zero(value) for side in values for value in side):
            return False
        return all(exact.equal(one * other, two * first) for one, two in zip(rest, others, strict=True))

    @staticmethod
    def quotient(answer: Answer) -> tuple[str, ...]:
        """3/5 as the ratio of two parts."""
        written = isinstance(answer, Value) and ("frac" in answer.text or "/" in answer.text)
        number = plain_number(answer.text) if isinstance(answer, Value) and written else None
        return (str(number.value.numerator), str(number.value.denominator)) if number else ()

    def same_pieces(self, gold: Answer, pred: Answer) -> bool:
        if not isinstance(gold, Pieces) or not isinstance(pred, Pieces) or len(gold.values) != len(pred.values):
            return False
        left = list(zip(pred.values, pred.conditions, strict=True))
        for value, condition in zip(gold.values, gold.conditions, strict=True):
            match = next((piece for piece in left if self.same_piece((value, condition), piece)), None)
            if match is None:
                return False
            left.remove(match)
        return True

    def same_piece(self, gold: tuple[Answer, str], pred: tuple[Answer, str]) -> bool:
        words = [re.sub(r"(?<![A-Za-z])is(?![A-Za-z])", "", condition) for _, condition in (gold, pred)]
        same = words[0].split() == words[1].split() or self.same_or_unreadable(read(words[0]), read(words[1]))
        return same and self.same_or_unreadable(gold[0], pred[0])

    def same_matrix(self, gold: Answer, pred: Answer) -> bool:
        if not isinstance(gold, Matrix) or not isinstance(pred, Matrix):
            return False
        shapes = [[len(row) for row in side.rows] for side in (gold, pred)]
        if shapes[0] != shapes[1]:
            return False
        cells = [[self.cell(side.factor, cell) for row in side.rows for cell in row] for side in (gold, pred)]
        return all(exact.equal(a, b) for a, b in zip(*cells, strict=True))

    def cell(self, factor: str, cell: str) -> Expr:
        value = self.read(cell)
        if not factor:
            return value
        return (-1 if factor == "-" else self.read(factor.removesuffix("\\cdot").removesuffix("\\times"))) * value


def _values(entries: Sequence[Answer]) -> list[Answer]:
    return [entry.right for entry in entries if isinstance(entry, Equation)]


def _texts(answer: str) -> list[str]:
    found = read(answer)
    entries = found.entries if isinstance(found, Group) else (found,)
    return [entry.text for entry in entries if isinstance(entry, Value)]


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
    return NAME.fullmatch(right) is not None and right not in ("e", "\\pi")


def _joined(answer: Answer) -> list[Answer]:
    """The inequalities that hold together: x > 2 and y < 3.

    Raises:
        NotASet: the answer is something else, or has an alternative in it.
    """
    if isinstance(answer, Sets) and answer.operation in ("list", "cap"):
        return [one for part in answer.parts for one in _joined(part)]
    if isinstance(answer, Condition):
        return [answer]
    raise NotASet


def _bracketed(answer: Answer) -> bool:
    return isinstance(answer, Group) and bool(answer.opens)


def _letters(text: str) -> bool:
    """Whether an expression has variables."""
    return bool(re.search(r"[A-Za-df-hj-z]|\\(?:alpha|beta|gamma|theta|lambda|omega)", COMMAND.sub(" ", text)))


def _computes(answer: Equation) -> bool:
    """Whether an equation is a computation and no condition: 2 + 3 = 5."""
    return not answer.name and not _letters(answer.left + answer.right_text)


def _base(name: str | None) -> str:
    return (name or "").split("_")[0]
