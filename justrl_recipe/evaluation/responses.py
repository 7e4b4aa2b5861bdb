"""Responses of a model as JSON lines: ours, which grow line by line, and those that the authors' scripts write."""

import hashlib
import json
import mmap
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.data.benchmarks import by_name
from justrl_recipe.data.schema import normalised_gold
from justrl_recipe.errors import UserError

# {task}_t{T}_p{P}_n{N}-MNT{max}.jsonl, which thunlp/JustRL's evaluation writes per benchmark
AUTHORS_NAME = re.compile(
    r"(?P<task>.+)_t(?P<t>\d+(?:\.\d+)?)_p(?P<p>\d+(?:\.\d+)?)_n(?P<n>\d+)-MNT(?P<max>\d+)\.jsonl"
)
LONGEST_NAME = 200  # letters of a benchmark
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Response:
    """One sampled response to one problem; what a foreign file does not tell is None.

    Attributes:
        problem, sample: the problem's row in its benchmark and the number of the sample, both from 0.
        prompt: the user's message, before the chat template.
        tokens: length of the response.
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


def seed_of(key: Key, seed: int) -> int:
    """The seed of one response, which does not depend on what else is generated."""
    text = "/".join(map(str, (seed, *key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def read(file: Path) -> Iterator[Response]:
    """The responses in a file; its name says whether the authors' scripts wrote it.

    Raises:
        UserError: the file is missing or empty, or a line is cut or not a response; it names the line.
    """
    files.require_content(file)
    authors = AUTHORS_NAME.fullmatch(file.name)
    counts: Counter[int] = Counter()  # of the authors' responses, by problem
    for number, entry in files.json_lines(file):
        try:
            response = _by_authors(authors["task"], entry, counts) if authors else Response(**entry)
            _require_types(response)
        except KeyError as error:
            raise UserError(f"{file}: line {number} is not a sample: no field {error.args[0]}") from error
        except (TypeError, AttributeError, UnicodeError) as error:
            what = str(error).removeprefix("Response.__init__() ")
            raise UserError(f"{file}: line {number} is not a sample: {what}") from error
        yield response
    for problem, count in counts.items():
        if authors and count != int(authors["n"]):
            raise UserError(f"{file}: {count} samples of example_id {problem}, by its name there are {authors['n']}")


def _by_authors(task: str, entry: dict[str, Any], counts: Counter[int]) -> Response:
    """A line of the authors' format, numbered by how many of its problem `counts` has seen."""
    found, problem, gold = by_name(task), entry["example_id"], normalised_gold(entry["answer"])
    counts[problem] += 1
    name = found.name if found else task
    return Response(name, problem, counts[problem] - 1, entry["prompt"], gold, entry["response"])


def _require_types(response: Response) -> None:
    for name in ("benchmark", "prompt", "gold", "response"):
        if not isinstance(getattr(response, name), str):
            raise TypeError(f"{name} is not text")
        getattr(response, name).encode()  # half of a surrogate pair cannot be written
    if len(response.benchmark) > LONGEST_NAME:
        raise TypeError(f"benchmark is a name of more than {LONGEST_NAME} letters")
    for name in ("problem", "sample", "tokens"):
        value = getattr(response, name)
        if (type(value) is not int or not 0 <= value < 1 << 31) and not (name == "tokens" and value is None):
            raise TypeError(f"{name} is not a whole number")
    if not isinstance(response.finish_reason, str | None):
        raise TypeError("finish_reason is not text")


def sampling_settings(file: Path) -> dict[str, Any]:
    """How the responses in a file were sampled, as far as the authors' file names tell."""
    authors = AUTHORS_NAME.fullmatch(file.name)
    if not authors:
        return {}
    return {"temperature": float(authors["t"]), "top_p": float(authors["p"]), "max_tokens": int(authors["max"])}


# --- JSON lines


@contextmanager
def appending(file: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that appends one JSON line to a file; a line is written when it returns, and survives a kill.

    It raises `UserError` where the disk is full; the lines before stay whole.
    """
    with file.open("ab", buffering=0) as opened:

        def append(entry: Mapping[str, Any]) -> None:
            line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
            try:
                written = opened.write(line)
            except OSError as error:
                raise UserError(f"cannot write {file}: {error.strerror}") from error
            if written != len(line):
                raise UserError(f"cannot write {file}: the disk is full")

        yield append


def has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def keep_whole_lines(file: Path) -> None:
    """Remove a last line that a kill has cut, so that the next one starts on a line of its own."""
    if not has_content(file):
        return
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        whole = content.rfind(b"\n") + 1
    os.truncate(file, whole)
