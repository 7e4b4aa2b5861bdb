"""The kinds of answers that reading.py tells apart and equality.py compares."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
TURNED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}  # a relation read from the right
LETTER = r"(?:[A-Za-z]|\\[a-z]+)"
INDEX = r"(?:_(?:\w|\{[\w+\- ]+\}))?"
NAME = re.compile(  # x, x_1, \alpha; AB, radius; \angle ABC; |AB|, |z|; f(x), f^{-1}(x)
    rf"^(?:{LETTER}{INDEX}'?|[A-Za-z]{{2,}}|[A-Za-z ]{{4,}}|\\(?:angle|overline|triangle|widehat)\s*\{{?[A-Z]+\}}?"
    rf"|\|(?:[A-Z]{{2}}|[a-z])\||{LETTER}{INDEX}(?:\^\{{?-1\}}?)?\s*\([^()=]*\))$"
)


@dataclass(frozen=True)
class Value:
    """An expression, and its unit."""

    text: str


@dataclass(frozen=True)
class Equation:
    left: str
    right: "Answer"
    right_text: str

    @property
    def name(self) -> str | None:
        """What is given a value, as in x = 5 or f(x) = x^2; None for an equation."""
        return re.sub(r"[{}\s]", "", self.left) if NAME.fullmatch(self.left.strip()) else None


@dataclass(frozen=True)
class Group:
    """Entries between brackets, `opens` and `closes`; both empty for a bare list."""

    entries: tuple["Answer", ...]
    opens: str = ""
    closes: str = ""


@dataclass(frozen=True)
class Condition:
    """A chain of inequalities: sides, and the relations between them."""

    sides: tuple[str, ...]
    relations: tuple[str, ...]


@dataclass(frozen=True)
class Sets:
    """Sets joined by an operation; of a list of inequalities their context says which."""

    operation: str
    parts: tuple["Answer", ...]


@dataclass(frozen=True)
class Residue:
    name: str
    values: tuple[str, ...]
    modulus: int


@dataclass(frozen=True)
class Ratio:
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    factor: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Pieces:
    """A function by cases: values, and where each holds."""

    values: tuple["Answer", ...]
    conditions: tuple[str, ...]


Answer = Value | Equation | Group | Condition | Sets | Residue | Ratio | Matrix | Pieces
REALS = Value(r"\mathbb{R}")


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
