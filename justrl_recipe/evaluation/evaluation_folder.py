"""The folder of an evaluation: the names of its files, and whether an evaluation can be resumed from it.

Responses and verdicts grow line by line; the other files are made from them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.responses import has_content, keep_whole_lines

ABOUT, RESPONSES, VERDICTS, GRADES = "evaluation.json", "samples.jsonl", "verdicts.jsonl", "grades.jsonl"
RESULTS = "results.json"


@contextmanager
def claim(folder: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Hold a folder for the one evaluation that is `about` this.

    An evaluation that is in the folder must be the same in everything but `run` (the fingerprint names the weights),
    and in each benchmark that both have: benchmarks and samples may be added later.

    Raises:
        UserError: the folder holds another evaluation, is in use, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error
    with files.locked(folder):
        benchmarks = {**_benchmarks_before(folder, about), **about["benchmarks"]}
        keep_whole_lines(folder / RESPONSES)
        keep_whole_lines(folder / VERDICTS)
        files.write_json(folder / ABOUT, {**about, "benchmarks": benchmarks})
        yield


def _benchmarks_before(folder: Path, about: Mapping[str, Any]) -> dict[str, str]:
    """The digests of the benchmarks in the folder; raises `UserError` where it holds another evaluation."""
    if not any(has_content(folder / name) for name in (RESPONSES, VERDICTS, RESULTS)):
        return {}
    file = folder / ABOUT
    try:
        before = files.read_json_object(file)
        digests = dict(before["benchmarks"])
    except (files.Unreadable, ValueError, TypeError, KeyError) as error:
        what = f"{file} is missing or damaged, so what the folder holds is unknown"
        raise UserError(f"{what}: choose another --out") from error
    for name in {**about, **before}:
        if name not in ("benchmarks", "run") and before.get(name) != about.get(name):
            change = f"{name} {json.dumps(before.get(name))}, now {json.dumps(about.get(name))}"
            raise UserError(f"{folder} holds another evaluation ({change}): choose another --out")
    for name, digest in about["benchmarks"].items():
        if digests.get(name, digest) != digest:
            raise UserError(f"{folder} was made with other problems of {name}: choose another --out")
    return digests
