"""The problems of recipes/justrl_tiny.yaml: seeded arithmetic, in veRL's schema.

Three disjoint sets come out of one seeded shuffle of every problem there is, so no problem of one set
occurs in another: `warmup` (supervised, for the tiny model), `train` (GRPO) and `validation`.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from justrl_recipe.data import schema

DATA_SOURCE = "arithmetic"


@dataclass(frozen=True)
class Problem:
    """One arithmetic question, e.g. `Problem("What is 17 + 8?", "17 + 8 = 25", "25")`."""

    question: str
    working: str
    answer: str

    @property
    def prompt(self) -> str:
        return self.question + schema.TRAINING_SUFFIX


@dataclass(frozen=True)
class Problems:
    warmup: list[Problem]
    train: list[Problem]
    validation: list[Problem]


def all_problems() -> list[Problem]:
    """Every problem, 1,377 of them with 115 distinct answers of one to three digits: sums of two digits, of tens, of
    a two-digit number and a digit, and differences of the latter where nothing is borrowed (what a model of this size
    learns in half a minute)."""
    digits = range(1, 10)
    problems = [_problem(a, "+", b) for a in digits for b in digits]
    problems += [_problem(10 * a, "+", 10 * b) for a in digits for b in digits]
    problems += [_problem(a, "+", b) for a in range(10, 100) for b in digits]
    problems += [_problem(a, "-", b) for a in range(10, 100) for b in digits if a % 10 >= b]
    return problems


def _problem(a: int, sign: str, b: int) -> Problem:
    task, answer = f"{a} {sign} {b}", str(a + b if sign == "+" else a - b)
    return Problem(f"What is {task}?", f"{task} = {answer}", answer)


def make_problems(seed: int, warmup: int, train: int, validation: int) -> Problems:
    """Split all problems into three disjoint sets of the given sizes.

    Raises:
        ValueError: more problems are asked for than there are.
    """
    pool = all_problems()
    if warmup + train + validation > len(pool):
        raise ValueError(f"{warmup} + {train} + {validation} problems asked for, only {len(pool)} exist")
    random.Random(seed).shuffle(pool)
    return Problems(
        warmup=pool[:warmup],
        train=pool[warmup : warmup + train],
        validation=pool[warmup + train : warmup + train + validation],
    )


def rows(problems: list[Problem], split: str) -> Iterator[dict]:
    """The problems as rows of veRL's RL dataset."""
    for index, problem in enumerate(problems):
        yield schema.row(DATA_SOURCE, index, split, problem.prompt, problem.answer)
