r"""Whether two answers are the same mathematics: two texts as `spelling.spelled` gives them in, a verdict out.

The texts are read (reading.py) and compared by their kinds: values and equations in equations.py, sets of real
numbers in real_sets.py, and the others here. Called only inside a worker (workers.py), because reading and
comparing expressions may take for ever.
"""

import re
from collections.abc import Sequence

from sympy import Expr

from justrl_recipe.reward_fns.mathematics import exact
from justrl_recipe.reward_fns.mathematics.equations import Equations, base
from justrl_recipe.reward_fns.mathematics.literals import plain_number
from justrl_recipe.reward_fns.mathematics.parsing import Unreadable, is_real
from justrl_recipe.reward_fns.mathematics.reading import (
    NAME,
    REALS,
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
from justrl_recipe.reward_fns.mathematics.real_sets import NotASet, as_set, same_in_any_order, same_sets, variables

TIME = re.compile(r"\d{1,2}:[0-5]\d")


def equivalent(gold: str, pred: str) -> bool:
    """Whether `pred` is the mathematics of `gold`, both as `spelling.spelled` gives them."""
    try:
        return Comparison(is_real(gold) and is_real(pred)).same(read(gold), read(pred))
    except (Unreadable, RecursionError):
        return False


class Comparison(Equations):
    """One comparison, of real or of complex numbers. The first argument of each method is the ground truth."""

    def same(self, gold: Answer, pred: Answer) -> bool:
        if gold == pred == REALS:
            return True
        if isinstance(gold, Group):
            pred = _without_name(pred)
        if isinstance(pred, Group):
            gold = _without_name(gold)
        if isinstance(gold, Group) or isinstance(pred, Group):
            verdict = self.same_group(gold, pred)
            if verdict is not None:
                return verdict
        for kinds, same in (
            (Equation, self.same_equation),
            (Condition | Sets | Group, self.same_set),
            (Residue, self.same_residue),
            (Pieces, self.same_pieces),
            (Matrix, self.same_matrix),
            (Ratio, self.same_ratio),
        ):
            if isinstance(gold, kinds) or isinstance(pred, kinds):
                return same(gold, pred)
        assert isinstance(gold, Value) and isinstance(pred, Value)
        return self.same_value(gold.text, pred.text)

    def same_or_unreadable(self, gold: Answer, pred: Answer) -> bool:
        if gold == pred:
            return True
        try:
            return self.same(gold, pred)
        except Unreadable:
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
        ordered = [side.opens in ("(", "[") for side in (gold, pred)]
        if all(ordered) and len(gold.entries) == 2 and (gold.opens, gold.closes) != (pred.opens, pred.closes):
            return False
        if (verdict := self.same_by_names(gold, pred)) is not None:
            return verdict
        if any(ordered):
            return all(ordered) and self.same_in_order(gold.entries, pred.entries)
        first, second = (self.distinct(side.entries) if side.opens == "{" else side.entries for side in (gold, pred))
        return same_in_any_order(first, second, self.same_or_unreadable)

    def same_by_names(self, gold: Group, pred: Group) -> bool | None:
        """The verdict where entries have names: m = 3, n = 5; None where names do not decide."""
        names = [
            [entry.name if isinstance(entry, Equation) else None for entry in side.entries] for side in (gold, pred)
        ]
        several = [len({base(name) for name in side if name}) > 1 and all(side) for side in names]
        if not any(several):
            return None
        if all(all(side) for side in names):
            return same_in_any_order(gold.entries, pred.entries, self.same_or_unreadable)
        if several[0] and not any(names[1]) and pred.opens in ("", "("):
            return self.same_in_order(_values(gold.entries), pred.entries)
        if several[1] and not any(names[0]) and gold.opens in ("", "("):
            alphabetical = sorted(pred.entries, key=lambda entry: getattr(entry, "name", ""))
            return self.same_in_order(gold.entries, _values(alphabetical))
        return False

    def same_in_order(self, gold: Sequence[Answer], pred: Sequence[Answer]) -> bool:
        return len(gold) == len(pred) and all(self.same(a, b) for a, b in zip(gold, pred, strict=True))

    def distinct(self, entries: Sequence[Answer]) -> list[Answer]:
        kept: list[Answer] = []
        for entry in entries:
            if not any(self.same_or_unreadable(other, entry) for other in kept):
                kept.append(entry)
        return kept

    # sets of real numbers

    def same_set(self, gold: Answer, pred: Answer) -> bool:
        names = variables(gold), variables(pred)
        if names[0] and names[1] and names[0] != names[1]:
            return False
        try:
            if max(map(len, names)) > 1 and not (isinstance(gold, Condition) and isinstance(pred, Condition)):
                return same_in_any_order(_joined(gold), _joined(pred), self.same_or_unreadable)
            return same_sets(as_set(gold, self.expression), as_set(pred, self.expression))
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
            low, high = (self.expression(side) for side in answer.sides)
            relation = answer.relations[0]
            sides.append((high - low, TURNED[relation]) if relation in ("<", r"\le") else (low - high, relation))
        (first, kind), (second, other) = sides
        factor = exact.proportional(first, second) if kind == other else None
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
            values = [self.expression(value) for answer in side.values for value in _texts(answer)]
            if not all(value.is_Integer for value in values):
                return gold.values == pred.values
            classes.append({int(value) % side.modulus for value in values})
        return classes[0] == classes[1]

    def same_ratio(self, gold: Answer, pred: Answer) -> bool:
        sides = [side.parts if isinstance(side, Ratio) else _quotient(side) for side in (gold, pred)]
        if len(sides[0]) != len(sides[1]):
            return False
        if TIME.fullmatch(":".join(sides[0])):
            return all(self.same_value(a, b) for a, b in zip(*sides, strict=True))
        (first, *rest), (other, *others) = values = [[self.expression(part) for part in side] for side in sides]
        if any(value.free_symbols for side in values for value in side):
            return all(exact.equal(one, two) for one, two in zip(*values, strict=True))
        if any(not value.is_finite or exact.is_zero(value) for side in values for value in side):
            return False
        return all(exact.equal(one * other, two * first) for one, two in zip(rest, others, strict=True))

    def same_pieces(self, gold: Answer, pred: Answer) -> bool:
        if not isinstance(gold, Pieces) or not isinstance(pred, Pieces):
            return False
        first, second = (list(zip(side.values, side.conditions, strict=True)) for side in (gold, pred))
        return same_in_any_order(first, second, self.same_piece)

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
        value = self.expression(cell)
        if not factor:
            return value
        return (
            -1 if factor == "-" else self.expression(factor.removesuffix("\\cdot").removesuffix("\\times"))
        ) * value


def _values(entries: Sequence[Answer]) -> list[Answer]:
    return [entry.right for entry in entries if isinstance(entry, Equation)]


def _quotient(answer: Answer) -> tuple[str, ...]:
    """3/5 as the ratio of two parts."""
    if isinstance(answer, Value) and re.search("frac|/", answer.text) and (number := plain_number(answer.text)):
        return str(number.value.numerator), str(number.value.denominator)
    return ()


def _texts(answer: str) -> list[str]:
    found = read(answer)
    entries = found.entries if isinstance(found, Group) else (found,)
    return [entry.text for entry in entries if isinstance(entry, Value)]


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


def _without_name(answer: Answer) -> Answer:
    """(1, 2) for the named point A(1, 2)."""
    if isinstance(answer, Equation) and answer.name and isinstance(answer.right, Group) and answer.right.opens:
        return answer.right
    return answer
