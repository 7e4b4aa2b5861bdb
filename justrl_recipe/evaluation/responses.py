"""Generated responses as JSON lines, ours and those that the authors' scripts write."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.data.benchmarks import by_name
from justrl_recipe.data.problems import require_file
from justrl_recipe.data.schema import normalised_gold
from justrl_recipe.errors import UserError

# {task}_t{T}_p{P}_n{N}-MNT{max}.jsonl, which thunlp/JustRL's evaluation writes per benchmark
AUTHORS_NAME = re.compile(
    r"(?P<task>.+)_t(?P<t>\d+(?:\.\d+)?)_p(?P<p>\d+(?:\.\d+)?)_n(?P<n>\d+)-MNT(?P<max>\d+)\.jsonl"
)
LONGEST_NAME = 200  # letters of a benchmark
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Sample:
    """One response to one problem; what a foreign file does not tell is None.

    Attributes:
        problem, sample: the problem's row in its benchmark and the number of the response, both from 0.
        prompt: what the user says to the model, before the chat template.
        tokens: of the response.
        finish_reason: vLLM's: "stop", or "length" for a truncated one.
    """

    benchmark: str
    problem: int
    sample: int
    prompt: str
    gold: str
    response: str
    tokens: int | None = None
    finish_reason: str | None = None

    @property
    def key(self) -> Key:
        return self.benchmark, self.problem, self.sample

    @property
    def identity(self) -> dict[str, Any]:
        """The key by the names of its parts, for the lines of other files."""
        return {"benchmark": self.benchmark, "problem": self.problem, "sample": self.sample}


def read(file: Path) -> Iterator[Sample]:
    """The samples of a file, which says by its name whether the authors' scripts wrote it.

    Raises:
        UserError: no such file, an empty one, or a line that is cut or no sample; it names the line.
    """
    require_file(file)
    authors = AUTHORS_NAME.fullmatch(file.name)
    counts: Counter[int] = Counter()  # of the authors' samples, by problem
    for number, entry in entries(file):
        try:
            sample = _by_authors(authors["task"], entry, counts) if authors else Sample(**entry)
            _require_types(sample)
        except (KeyError, TypeError, AttributeError, UnicodeError) as error:
            raise UserError(f"{file}: line {number} is no sample: {_what(error)}") from error
        yield sample
    for problem, count in counts.items():
        if authors and count != int(authors["n"]):
            raise UserError(f"{file}: {count} samples of example_id {problem}, by its name there are {authors['n']}")


def settings(file: Path) -> dict[str, Any]:
    """How the samples of a file were drawn, as far as the authors' file names tell."""
    authors = AUTHORS_NAME.fullmatch(file.name)
    if not authors:
        return {}
    return {"temperature": float(authors["t"]), "top_p": float(authors["p"]), "max_tokens": int(authors["max"])}


def entries(file: Path) -> Iterator[tuple[int, Any]]:
    """Each line of a JSON-lines file with its number, from 1.

    Raises:
        UserError: a line is cut or no JSON; it names the line.
    """
    for number, line in enumerate(files.lines(file), 1):
        if not line.strip():
            continue
        try:
            yield number, files.parse_json(line.decode())
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: line {number} is no UTF-8 text") from error
        except ValueError as error:
            raise UserError(f"{file}: line {number} is cut or no JSON: fix it or remove it") from error


def _by_authors(task: str, entry: dict[str, Any], counts: Counter[int]) -> Sample:
    """A line of the authors' format as a sample, numbered by how many of its problem `counts` has seen."""
    found, problem, gold = by_name(task), entry["example_id"], normalised_gold(entry["answer"])
    counts[problem] += 1
    name = found.name if found else task
    return Sample(name, problem, counts[problem] - 1, entry["prompt"], gold, entry["response"])


def _require_types(sample: Sample) -> None:
    for name in ("benchmark", "prompt", "gold", "response"):
        if not isinstance(getattr(sample, name), str):
            raise TypeError(f"{name} is no text")
        getattr(sample, name).encode()  # half a surrogate pair is no text either, and could not be written
    if len(sample.benchmark) > LONGEST_NAME:
        raise TypeError(f"benchmark is a name of more than {LONGEST_NAME} letters")
    for name in ("problem", "sample", "tokens"):
        value = getattr(sample, name)
        if (type(value) is not int or not 0 <= value < 1 << 31) and not (name == "tokens" and value is None):
            raise TypeError(f"{name} is no whole number")
    if not isinstance(sample.finish_reason, str | None):
        raise TypeError("finish_reason is no text")


def _what(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no field {error.args[0]}"
    return str(error).removeprefix("Sample.__init__() ")
