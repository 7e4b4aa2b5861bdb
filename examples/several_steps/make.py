"""Sums of three and four terms, and a tiny model that half knows them: what recipe.yaml trains.

    python examples/several_steps/make.py SEED [--out data/several_steps]

The supervised warm-up mixes ways to answer, so that length and form are the policy's to choose: at once; a line for
each step; or each step in parts, which takes up to twice the tokens. The answer is boxed as a number, which the
recipe's reward accepts; or with a unit, which only the robust verifier accepts; or not boxed.

SEED is the model's. The problems are the same for all, and no problem of the validation is in the training or in a
warm-up.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from tqdm import tqdm

from justrl_recipe.cpu import tiny_model
from justrl_recipe.data import schema
from justrl_recipe.errors import UserError

SOURCES = {"train": "several_steps", "validation": "several_steps_validation"}
SIZES = {"train": 4096, "validation": 256}
SPEC = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "initializer_range": 0.04,
    "warmup_steps": 900,
    "warmup_lr": 1.5e-3,
}
BATCH = 32
TERMS = (3, 4)  # of a sum
WAYS = {"at once": 0.2, "in steps": 0.4, "in parts": 0.4}
ENDINGS = {"\\boxed{%d}": 0.35, "\\boxed{%d \\text{ apples}}": 0.35, "Answer: %d": 0.3}


@dataclass(frozen=True)
class Sum:
    """Terms, of which all but the first have a sign; every intermediate result is 0 to 99."""

    terms: tuple[int, ...]

    @property
    def prompt(self) -> str:
        return f"What is {self}?{schema.TRAINING_SUFFIX}"

    @property
    def results(self) -> list[int]:
        """After each term."""
        return [sum(self.terms[: count + 1]) for count in range(len(self.terms))]

    def __str__(self) -> str:
        first, *rest = self.terms
        return " ".join([str(first), *(signed(term) for term in rest)])


def signed(term: int) -> str:
    return f"{'+' if term >= 0 else '-'} {abs(term)}"


def working(problem: Sum, way: str) -> str:
    """The lines before the answer."""
    if way == "at once":
        return f"{problem} = {problem.results[-1]}"
    steps = zip(pairwise(problem.results), problem.terms[1:], strict=True)
    return "\n".join(
        f"{before} {signed(term)} = {in_parts(before, term) if way == 'in parts' else ''}{after}"
        for (before, after), term in steps
    )


def in_parts(before: int, term: int) -> str:
    """A step by way of the next ten, where it crosses one: `7 + 5` is `7 + 3 + 2 = 10 + 2`."""
    to_ten = (10 - before % 10) if term > 0 else -(before % 10)
    if abs(term) <= abs(to_ten) or not to_ten:
        return ""
    rest = term - to_ten
    return f"{before} {signed(to_ten)} {signed(rest)} = {before + to_ten} {signed(rest)} = "


def sums(rng: random.Random) -> Iterator[Sum]:
    """Sums without end, none twice."""
    seen: set[Sum] = set()
    while True:
        terms = [rng.randint(1, 99)]
        for _ in range(rng.choice(TERMS) - 1):
            total = sum(terms)
            terms.append(rng.choice([term for term in range(-9, 10) if term and 0 <= total + term <= 99]))
        problem = Sum(tuple(terms))
        if problem not in seen:
            seen.add(problem)
            yield problem


def examples(held_out: set[Sum], seed: int) -> Callable[[random.Random], list[tuple[str, str]]]:
    """Batches of prompts and responses of the warm-up."""
    stream = (problem for problem in sums(random.Random(f"warm-up {seed}")) if problem not in held_out)

    def draw(rng: random.Random) -> list[tuple[str, str]]:
        batch = [next(stream) for _ in range(BATCH)]
        return [(problem.prompt, response(problem, rng)) for problem in batch]

    return draw


def response(problem: Sum, rng: random.Random) -> str:
    [way] = rng.choices(list(WAYS), list(WAYS.values()))
    [ending] = rng.choices(list(ENDINGS), list(ENDINGS.values()))
    return f"{working(problem, way)}\n{ending % problem.results[-1]}"


def main(out: Path, seed: int) -> None:
    torch.set_num_threads(2)  # more of them wait for one another
    stream = sums(random.Random("problems"))
    problems = {name: [next(stream) for _ in range(size)] for name, size in SIZES.items()}
    for name, chosen in problems.items():
        rows = (
            schema.row(SOURCES[name], index, name, problem.prompt, str(problem.results[-1]))
            for index, problem in enumerate(chosen)
        )
        schema.write_parquet(out / f"{name}.parquet", rows)
    draw = examples(set(problems["validation"]), seed)
    spec = {**SPEC, "seed": seed}
    tokenizer = tiny_model.build_tokenizer([text for pair in draw(random.Random(0)) for text in pair])
    model = tiny_model.build_model(spec, tokenizer)
    progress = tqdm(total=spec["warmup_steps"], unit="step")
    tiny_model.warm_up(model, tokenizer, draw, spec, lambda step: progress.update())
    model.save_pretrained(out / f"model_{seed}")
    tokenizer.save_pretrained(out / f"model_{seed}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int, metavar="SEED")
    parser.add_argument("--out", type=Path, default=Path("data/several_steps"))
    asked = parser.parse_args()
    try:
        main(asked.out, asked.seed)
    except (UserError, OSError) as error:  # a folder that cannot be written, a full disk
        sys.exit(f"error: {error}")
    print(f"made {asked.out}: train.parquet, validation.parquet, model_{asked.seed}")
