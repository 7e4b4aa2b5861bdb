"""Where one evaluation keeps everything, and what it can go on from."""

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.errors import UserError


@dataclass(frozen=True)
class EvaluationFolder:
    """The files of one evaluation; `samples` and `verdicts` grow line by line, the rest is made of them."""

    path: Path

    @property
    def about(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def grades(self) -> Path:
        return self.path / "grades.jsonl"

    @property
    def verdicts(self) -> Path:
        return self.path / "verdicts.jsonl"

    @property
    def results(self) -> Path:
        return self.path / "results.json"

    @contextmanager
    def claim(self, about: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for one evaluation that is `about` this, and nobody else's.

        What the folder has of another one must not end in these results, so everything in `about` has to be equal
        but what the run is (the fingerprint says which weights), the benchmarks by name where both have them: more of
        them, or more samples, may come later.

        Raises:
            UserError: it holds another evaluation, is in use, or cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.path} is in use by another evaluation: choose another --out") from error
            benchmarks = {**self._known(about), **about["benchmarks"]}
            keep_whole_lines(self.samples)
            keep_whole_lines(self.verdicts)
            files.write_json(self.about, {**about, "benchmarks": benchmarks})
            yield

    def _known(self, about: Mapping[str, Any]) -> dict[str, str]:
        """The benchmarks of the evaluation that is in the folder, which must be the same one if it got anywhere."""
        if not any(map(has_content, (self.samples, self.verdicts, self.results))):
            return {}
        try:
            known = files.read_json_object(self.about)
            digests = dict(known["benchmarks"])
        except (files.Unreadable, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.about} is missing or damaged, so what is beside it could be anything") from error
        for name in {**about, **known}:
            if name not in ("benchmarks", "run") and known.get(name) != about.get(name):
                before, now = json.dumps(known.get(name)), json.dumps(about.get(name))
                raise UserError(
                    f"{self.path} holds another evaluation ({name} {before}, now {now}): choose another --out"
                )
        for name, digest in about["benchmarks"].items():
            if digests.get(name, digest) != digest:
                raise UserError(f"{self.path} was made with other problems of {name}: choose another --out")
        return digests


def keep_whole_lines(file: Path) -> None:
    """Take off a last line that a kill has cut, so that the next one starts at a line's beginning."""
    if not file.is_file():
        return
    with file.open("rb+") as opened:
        end = opened.seek(0, 2)
        while end:
            start = max(0, end - (1 << 16))
            opened.seek(start)
            newline = opened.read(end - start).rfind(b"\n")
            if newline >= 0:
                opened.truncate(start + newline + 1)
                return
            end = start
        opened.truncate(0)


def has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


@contextmanager
def appending(file: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that adds one JSON line to a file at once: what it has returned from, a kill cannot take away.

    Raises:
        UserError: the file cannot be written or the disk is full; the lines before stay whole.
    """
    try:
        opened = file.open("ab", buffering=0)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error

    def append(entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        try:
            written = opened.write(line)
        except OSError as error:
            raise UserError(f"cannot write {file}: {error.strerror}") from error
        if written != len(line):
            raise UserError(f"cannot write {file}: the disk is full")

    with opened:
        yield append
