"""The folder of an evaluation: the names of its files, and whether it can be resumed from."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.responses import has_content, keep_whole_lines


@dataclass(frozen=True)
class EvaluationFolder:
    """The files of one evaluation; responses and verdicts grow line by line, the others are made from them."""

    path: Path

    @property
    def about(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def responses(self) -> Path:
        return self.path / "samples.jsonl"

    @property
    def verdicts(self) -> Path:
        return self.path / "verdicts.jsonl"

    @property
    def grades(self) -> Path:
        return self.path / "grades.jsonl"

    @contextmanager
    def claim(self, about: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for the one evaluation that is `about` this.

        An evaluation that is in the folder must be the same in everything but `run` (the fingerprint names the
        weights), and each benchmark that both have: benchmarks and samples may be added later.

        Raises:
            UserError: the folder holds another evaluation, is in use, or cannot be made.
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
            benchmarks = {**self._benchmarks_before(about), **about["benchmarks"]}
            keep_whole_lines(self.responses)
            keep_whole_lines(self.verdicts)
            files.write_json(self.about, {**about, "benchmarks": benchmarks})
            yield

    def _benchmarks_before(self, about: Mapping[str, Any]) -> dict[str, str]:
        """The digests of the benchmarks in the folder; raises `UserError` where it holds another evaluation."""
        if not any(map(has_content, (self.responses, self.verdicts, self.path / "results.json"))):
            return {}
        try:
            before = files.read_json_object(self.about)
            digests = dict(before["benchmarks"])
        except (files.Unreadable, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.about} is missing or damaged, so what the folder holds is unknown: choose another --out"
            ) from error
        for name in {**about, **before}:
            if name not in ("benchmarks", "run") and before.get(name) != about.get(name):
                change = f"{name} {json.dumps(before.get(name))}, now {json.dumps(about.get(name))}"
                raise UserError(f"{self.path} holds another evaluation ({change}): choose another --out")
        for name, digest in about["benchmarks"].items():
            if digests.get(name, digest) != digest:
                raise UserError(f"{self.path} was made with other problems of {name}: choose another --out")
        return digests
