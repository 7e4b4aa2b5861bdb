"""Answers as sets of real numbers: intervals, inequalities and sets of reading.py in, sympy's sets out.

`parse` gives the expression of a text, as `parsing.expression` does.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from sympy import Complement, EmptySet, Expr, FiniteSet, Ge, Gt, Intersection, Interval, Le, Lt, S, Set, Union, oo
from sympy.solvers.inequalities import solve_univariate_inequality

from justrl_recipe.reward_fns.mathematics import exact
from justrl_recipe.reward_fns.mathematics.reading import (
    REALS,
    TURNED,
    Answer,
    Condition,
    Equation,
    Group,
    Sets,
    Value,
)

T = TypeVar("T")
Parse = Callable[[str], Expr]


class NotASet(Exception):
    """The answer describes no set of real numbers."""


HALF_LINES: dict[str, Callable[[Expr], Set]] = {
    "<": lambda bound: Interval.open(-oo, bound),
    ">": lambda bound: Interval.open(bound, oo),
    r"\le": lambda bound: Interval(-oo, bound),
    r"\ge": lambda bound: Interval(bound, oo),
    r"\ne": lambda bound: Complement(S.Reals, FiniteSet(bound)),
}
RELATIONALS = {"<": Lt, ">": Gt, r"\le": Le, r"\ge": Ge}


def as_set(answer: Answer, parse: Parse) -> Set:
    """The set of numbers that an interval, an inequality, a set in braces or an operation on those describes."""
    if isinstance(answer, Sets):
        parts = [as_set(part, parse) for part in answer.parts]
        if answer.operation == "list":  # x < 1, x > 5 can only mean either; 1 < x < 5, x \ne 2 means both
            both = Intersection(*parts)
            if both is not S.EmptySet and any(part == both for part in parts):
                raise NotASet  # several candidates: x > 3, x > 5
            return Union(*parts) if both is S.EmptySet else both
        return {"cup": Union, "cap": Intersection, "setminus": Complement}[answer.operation](*parts)
    if isinstance(answer, Group):
        return _group(answer, parse)
    if isinstance(answer, Condition):
        return _condition(answer, parse)
    if isinstance(answer, Equation) and variable(answer.left):
        return FiniteSet(parse(answer.right_text))
    if answer == REALS:
        return S.Reals
    raise NotASet


def variables(answer: Answer) -> set[str]:
    """The letters of which inequalities speak."""
    if isinstance(answer, Sets):
        return set().union(*map(variables, answer.parts))
    sides = answer.sides if isinstance(answer, Condition) else [answer.left] if isinstance(answer, Equation) else []
    return {name for side in sides if (name := variable(side))}


def _group(group: Group, parse: Parse) -> Set:
    texts = [entry.text for entry in group.entries if isinstance(entry, Value)]
    if len(texts) != len(group.entries):
        raise NotASet
    if group.opens in ("{", ""):
        return FiniteSet(*map(parse, texts)) if texts else EmptySet
    if len(texts) != 2:
        raise NotASet
    low, high = map(parse, texts)
    if not (high - low).is_extended_positive:  # a point; and an interval that holds nothing would equal every other
        raise NotASet
    return Interval(low, high, group.opens == "(", group.closes == ")")


def _condition(condition: Condition, parse: Parse) -> Set:
    names = variables(condition)
    if len(names) > 1:
        raise NotASet
    if not names:
        return _solved(condition, parse)
    found: Set = S.Reals
    for left, relation, right in zip(condition.sides, condition.relations, condition.sides[1:], strict=False):
        if not variable(left) and not variable(right):
            raise NotASet
        if not variable(left):
            left, relation, right = right, TURNED[relation], left
        bound = parse(right)
        if bound.free_symbols:
            return _solved(condition, parse)
        found = Intersection(found, HALF_LINES[relation](bound))
    return found


def _solved(condition: Condition, parse: Parse) -> Set:
    if len(condition.relations) != 1 or condition.relations[0] not in RELATIONALS:
        raise NotASet
    left, right = (parse(side) for side in condition.sides)
    symbols = left.free_symbols | right.free_symbols
    if len(symbols) != 1:
        raise NotASet
    relation = RELATIONALS[condition.relations[0]](left, right)
    if relation in (S.true, S.false):
        raise NotASet
    return solve_univariate_inequality(relation, symbols.pop(), relational=False)


def same_sets(gold: Set, pred: Set) -> bool:
    if gold == pred:
        return True
    return same_in_any_order(_pieces(gold), _pieces(pred), _same_piece)


def same_in_any_order(gold: Sequence[T], pred: Sequence[T], same: Callable[[T, T], bool]) -> bool:
    """Whether each entry of `gold` is the same as one of `pred`, and none is left."""
    if len(gold) != len(pred):
        return False
    left = list(pred)
    for entry in gold:
        match = next((place for place, other in enumerate(left) if same(entry, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def _pieces(numbers: Set) -> list[Set]:
    if isinstance(numbers, Union):
        return [piece for part in numbers.args for piece in _pieces(part)]
    if isinstance(numbers, FiniteSet):
        return [FiniteSet(value) for value in numbers]
    return [] if numbers is S.EmptySet else [numbers]


def _same_piece(gold: Set, pred: Set) -> bool:
    if isinstance(gold, FiniteSet) and isinstance(pred, FiniteSet):
        return exact.equal(gold.args[0], pred.args[0])
    if isinstance(gold, Interval) and isinstance(pred, Interval):
        if (gold.left_open, gold.right_open) != (pred.left_open, pred.right_open):
            return False
        return exact.equal(gold.start, pred.start) and exact.equal(gold.end, pred.end)
    return gold == pred


def variable(side: str) -> str | None:
    """The letter that a side of an inequality is, or None."""
    side = side.strip()
    named = re.fullmatch(r"[A-Za-z](?:_\w)?|\\(?!pi(?![a-z])|infty)[a-z]+", side)
    return side if named and side not in ("e", "i") else None
