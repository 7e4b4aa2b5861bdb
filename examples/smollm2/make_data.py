"""Arithmetic word problems for a small pretrained model: training, validation, and worked answers.

    python examples/smollm2/make_data.py [--out data/words] [--seed 0]

The worked answers (`warmup.parquet`) are for veRL's own supervised trainer, which teaches the answer's format before
GRPO. Their wording varies, so that there is some entropy to keep; half of them calculate in parts, which takes twice
the tokens; half box the unit with the number, which the recipe's reward does not accept and the robust verifier does.
So length and form are the policy's to choose, and the paper's ablations have something to act on. No story comes with
the same numbers in two of the three sets, whoever and whatever it is about.
"""

import argparse
import random
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from justrl_recipe import files
from justrl_recipe.cpu.tiny_data import Problem
from justrl_recipe.data import schema

SOURCES = {"train": "word_problems", "validation": "word_problems_validation"}
SIZES = {"warmup": 4096, "train": 4096, "validation": 256}
NAMES = ("Ada", "Ben", "Carla", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Liam")
THINGS = ("apples", "books", "marbles", "stickers", "pencils", "coins", "shells", "cards")
# What supervised trainers read: a conversation a row.
MESSAGES = pyarrow.schema(
    {"messages": pyarrow.list_(pyarrow.struct({"role": pyarrow.string(), "content": pyarrow.string()}))}
)


@dataclass(frozen=True)
class Story:
    """A text with {name}, {thing} and numbers by letter, their ranges, and what to compute from left to right."""

    text: str
    steps: str
    ranges: dict[str, tuple[int, int]]


STORIES = (
    Story(
        "{name} has {a} {thing}, finds {b} more and gives {c} away. How many {thing} does {name} have now?",
        "a + b - c",
        {"a": (10, 80), "b": (5, 60), "c": (3, 40)},
    ),
    Story(
        "{name} buys {a} boxes with {b} {thing} each and loses {c} of them. How many {thing} are left?",
        "a * b - c",
        {"a": (2, 9), "b": (4, 15), "c": (2, 20)},
    ),
    Story(
        "A shelf has {a} rows with {b} {thing} in each. {name} puts {c} more on it. How many {thing} are on it now?",
        "a * b + c",
        {"a": (3, 9), "b": (3, 12), "c": (5, 50)},
    ),
    Story(
        "{name} shares {a} {thing} equally among {b} friends, and one of them finds {c} more. "
        "How many {thing} does that friend have?",
        "a / b + c",
        {"a": (12, 96), "b": (2, 8), "c": (2, 30)},
    ),
    Story(
        "A ticket costs {a} dollars and a drink {b} dollars. {name} pays for one of both with {c} dollars. "
        "How many dollars does {name} get back?",
        "c - a - b",
        {"a": (5, 40), "b": (2, 15), "c": (60, 100)},
    ),
    Story(
        "{name} walks {a} kilometers every day for {b} days, and then {c} more. How many kilometers is that?",
        "a * b + c",
        {"a": (2, 15), "b": (3, 9), "c": (2, 25)},
    ),
    Story(
        "There are {a} {thing} in a bag. {name} takes {b} out on Monday and {c} on Tuesday. "
        "How many {thing} are left?",
        "a - b - c",
        {"a": (60, 150), "b": (5, 30), "c": (5, 30)},
    ),
    Story(
        "{name} reads {a} pages every morning and {b} every evening, for {c} days. How many pages is that?",
        "a + b * c",
        {"a": (3, 20), "b": (3, 20), "c": (2, 6)},
    ),
)
OPENINGS = ("", "First, ", "We have ", "To begin, ", "Start with ", "Let us see: ")
LINKS = ("", "Then ", "Next, ", "So ", "After that, ", "Now ")
CLOSINGS = ("", "The answer is ", "So the answer is ", "Answer: ", "That makes ")
OPERATIONS = {"+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y, "/": lambda x, y: x // y}


def working(steps: str, numbers: dict[str, int]) -> list[str] | None:
    """The lines of a solution, `6 * 4 = 24`, from left to right; None where one has no positive whole result."""
    first, *rest = steps.split()
    result, lines = numbers[first], []
    for sign, letter in zip(rest[::2], rest[1::2], strict=True):
        number = numbers[letter]
        found = OPERATIONS[sign](result, number)
        if found < 1 or (sign == "/" and result % number):
            return None
        lines.append(f"{result} {sign} {number} = {found}")
        result = found
    return lines


def make_problems(seed: int) -> dict[str, list[Problem]]:
    """The three sets, `SIZES` of each; the same for the same seed."""
    rng = random.Random(seed)
    seen: set[tuple] = set()
    problems: list[Problem] = []
    while len(problems) < sum(SIZES.values()):
        story = rng.choice(STORIES)
        numbers = {letter: rng.randint(*bounds) for letter, bounds in story.ranges.items()}
        lines, key = working(story.steps, numbers), (story.text, *numbers.values())
        if lines is None or key in seen:
            continue
        seen.add(key)
        question = story.text.format(name=rng.choice(NAMES), thing=rng.choice(THINGS), **numbers)
        problems.append(Problem(question, "\n".join(lines), lines[-1].split()[-1]))
    sets, start = {}, 0
    for name, size in SIZES.items():
        sets[name] = problems[start : start + size]
        start += size
    return sets


def in_parts(line: str) -> str:
    """`35 + 46 = 81` as `35 + 46 = 35 + 40 + 6 = 75 + 6 = 81`; a line as it is where there is nothing to split."""
    left, sign, right, _, result = line.split()
    number, by = int(left), int(right)
    tens, ones = by // 10 * 10, by % 10
    if not (tens and ones) or sign == "/":
        return line
    if sign == "*":
        return f"{left} * {right} = {left} * {tens} + {left} * {ones} = {number * tens} + {number * ones} = {result}"
    first = OPERATIONS[sign](number, tens)
    return f"{left} {sign} {right} = {left} {sign} {tens} {sign} {ones} = {first} {sign} {ones} = {result}"


def conversation(problem: Problem, rng: random.Random) -> dict[str, list[dict[str, str]]]:
    """The problem with an answer for the warm-up, worded, calculated and boxed in one of the ways that there are."""
    parts, unit = rng.random() < 0.5, rng.random() < 0.5
    first, *rest = [in_parts(line) if parts else line for line in problem.working.splitlines()]
    answer = problem.answer
    if unit:
        [thing] = re.findall(r"How many (\w+)", problem.question)
        answer += rf" \text{{ {thing}}}"
    lines = [
        rng.choice(OPENINGS) + first,
        *(rng.choice(LINKS) + line for line in rest),
        rf"{rng.choice(CLOSINGS)}\boxed{{{answer}}}",
    ]
    turns = {"user": problem.prompt, "assistant": "\n".join(lines)}
    return {"messages": [{"role": role, "content": content} for role, content in turns.items()]}


def write(out: Path, seed: int) -> dict[str, int]:
    """Write warmup.parquet, train.parquet and validation.parquet; return the number of rows of each file."""
    sets = make_problems(seed)
    for split, source in SOURCES.items():
        rows = [
            schema.row(source, index, split, problem.prompt, problem.answer)
            for index, problem in enumerate(sets[split])
        ]
        schema.write_parquet(out / f"{split}.parquet", rows)
    with files.replacing(out / "warmup.parquet") as scratch:
        rng = random.Random(seed)
        taught = [conversation(problem, rng) for problem in sets["warmup"]]
        table = pyarrow.Table.from_pylist(taught, MESSAGES)
        pyarrow.parquet.write_table(table, scratch)
    return {f"{name}.parquet": size for name, size in SIZES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the word problems of justrl_smollm2.")
    parser.add_argument("--out", type=Path, default=Path("data/words"), metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other problems")
    arguments = parser.parse_args()
    for name, rows in write(arguments.out, arguments.seed).items():
        print(f"{arguments.out / name}: {rows:,} rows")


if __name__ == "__main__":
    main()
