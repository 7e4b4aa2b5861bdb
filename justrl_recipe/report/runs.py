"""A run as the report sees it: its metrics, its manifest, and a name that no other run of the report has."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from justrl_recipe.metrics import CLIP_RATIO, LONGEST
from justrl_recipe.report import logs
from justrl_recipe.report.logs import FloatArray, Metrics, Series
from justrl_recipe.report.manifests import Manifest, Size, attempts, read_manifest, read_size, status
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.run.manifest import RUNNING
from justrl_recipe.terminal import one_line

LONGEST_ARM = 200  # letters
FULL_RECIPES = ("justrl_deepseek", "justrl_nemotron")
CLIPPED = "response_length/clipped"  # a metric that is made here, see `clipped`


@dataclass(frozen=True)
class Run:
    """One run.

    arm: the name of what it shares with other seeds of the same experiment.
    identity: a hash of the same, by its values; of a bare log, which does not contain them, by its path.
    label: different from that of every other run of a report.
    manifest: None where there is only a log.
    gpus: veRL logs tokens/s per GPU; None where no config.yaml says how many there were.
    limit: the longest response in tokens that the run allows; where no config.yaml says it, the longest one seen.
    """

    path: Path
    arm: str
    label: str
    metrics: Metrics
    manifest: Manifest | None
    gpus: int | None
    limit: float
    identity: str

    @property
    def recipe(self) -> str:
        """The name of its recipe, empty where there is only a log."""
        return stem(self.manifest["recipe"]) if self.manifest else ""

    @property
    def seed(self) -> int | None:
        """None where nothing says it."""
        seed = (self.manifest or {}).get("seed")
        return seed if type(seed) is int else None

    @property
    def unchanged(self) -> bool:
        """Whether it is its recipe as it stands: no ablation, no override that deviates."""
        return self.manifest is not None and not self.manifest["ablations"] and not overridden(self.manifest)

    @property
    def status(self) -> str:
        """How it ended, or that it is running; empty where there is only a log."""
        return status(self.manifest) if self.manifest else ""

    @property
    def attempts(self) -> list[tuple[str, Any, Any]]:
        """Status, first and last step of each attempt of a run that was resumed."""
        return attempts(self.manifest) if self.manifest else []

    @property
    def full(self) -> bool:
        """Whether it has the paper's own size: a full recipe, or an ablation of it, with nothing scaled."""
        about = self.manifest or {}
        return about.get("recipe") in FULL_RECIPES and not about.get("scaled")

    @property
    def last_step(self) -> int:
        return int(max(series.steps[-1] for series in self.metrics.values()))

    def finite(self, metric: str) -> FloatArray:
        """The finite values of a metric, empty where it is not logged."""
        return self.metrics[metric].finite if metric in self.metrics else np.array([])


def load(path: Path) -> Run:
    """Read one run.

    Raises:
        UserError: `path` is not a run, or its files are broken.
        NoStepYet: it has logged nothing.
    """
    metrics, folder = logs.read(logs.log_of(path)), RunFolder(path)
    manifest, size = read_manifest(folder.manifest), read_size(folder.config)
    longest = metrics[LONGEST].finite if LONGEST in metrics else np.array([])
    limit = size.limit if size else longest.max(initial=0)
    arm = one_line(arm_name(manifest) if manifest else log_name(path))[:LONGEST_ARM]
    return Run(
        path=path,
        arm=arm,
        label=arm,
        metrics=metrics | clipped(metrics, limit),
        manifest=manifest,
        gpus=size.gpus if size else None,
        limit=float(limit),
        identity=identity(manifest, size) if manifest else digest(str(path.resolve())),
    )


def ended(path: Path) -> bool:
    """Whether a run has ended, by its manifest and its process; a bare log never ends."""
    manifest = read_manifest(RunFolder(path).manifest)
    return manifest is not None and status(manifest) != RUNNING


def clipped(metrics: Metrics, limit: float) -> Metrics:
    """The share of responses that were cut off at `limit` tokens, in [0, 1].

    veRL's `response_length/clip_ratio` is the share that is as long as the batch's longest one, which says
    nothing of a batch that stays below the limit: there it is 0.
    """
    if CLIP_RATIO not in metrics or LONGEST not in metrics:
        return {}
    steps, shares = metrics[CLIP_RATIO]
    longest = dict(zip(*metrics[LONGEST], strict=True))
    reached = np.array([longest.get(step, np.nan) for step in steps]) >= limit
    return {CLIPPED: Series(steps, np.where(reached, shares, 0 * shares))}


def arm_name(manifest: Manifest) -> str:
    """Recipe, ablations, and the overrides that make it another experiment: `justrl_tiny + overlong_penalty`."""
    changes = overridden(manifest)
    more = [f"{len(changes) - 2} more"] if len(changes) > 2 else []
    return " + ".join([*map(stem, (manifest["recipe"], *manifest["ablations"])), *changes[:2], *more])


def overridden(manifest: Manifest) -> list[str]:
    """The deviations that overrides make, in short and by key."""
    keys = [text.split("=")[0].lstrip("+~") for text in manifest["overrides"]]
    return [
        change(one["key"], one["yours"])
        for one in sorted(manifest["deviations"], key=lambda one: one["key"])
        if any(f"{one['key']}.".startswith(f"{key}.") for key in keys)
    ]


def stem(part: str) -> str:
    """The name of a recipe or an ablation, also where it was given as a file."""
    return Path(part).stem if part.endswith(".yaml") else part


def change(key: str, value: Any) -> str:
    """A deviation in short: `n=16`; of code its name alone, since a reward's name says more than its key."""
    text = value if isinstance(value, str) else json.dumps(value)
    if text.startswith("pkg://"):
        return text.rpartition(".")[2]
    if text.endswith(".py"):
        return Path(text.removeprefix("file://")).stem
    return f"{key.rpartition('.')[2]}={shorten(text, 24, placeholder=' …') or text[:24]}"


def log_name(path: Path) -> str:
    """The name of a log: its file's, or its folder's where every file is called like that."""
    folder = RunFolder(path.parent)
    usual = path in (folder.metrics, folder.log) or path.match(logs.EVENT_FILES)
    return path.absolute().parent.name if usual else path.absolute().name if path.is_dir() else path.stem


def identity(manifest: Manifest, size: Size | None) -> str:
    """What two runs of one arm share, whatever their seeds and wherever they ran: the values that make the arm.

    A recipe is known by its name and values, not by its folder. Model and steps, which each recipe sets for itself,
    are not deviations of a recipe of the user's own, so they count beside them.
    """
    values = [
        sorted((one["key"], json.dumps(one["yours"], sort_keys=True)) for one in manifest[changes])
        for changes in ("deviations", "scaled")
    ]
    reward = (manifest.get("reward") or {}).get("sha256")
    own = [size.model, size.steps] if size and manifest["recipe"].endswith(".yaml") else []
    return digest(json.dumps([stem(manifest["recipe"]), *values, reward, *own]))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def joined_by_name(runs: Iterable[Run]) -> list[Run]:
    """The runs, with arms of one name made one, whatever their values: seeds may start from several models."""
    return [replace(run, identity="") for run in runs]


def with_labels(runs: Sequence[Run]) -> list[Run]:
    """The runs with their labels: where arms repeat with the seed, then with folder or file, then with a number.

    Where two arms have the same name, a part of the hash of their values is added to it.
    """
    identities = defaultdict(set)
    for run in runs:
        identities[run.arm].add(run.identity)
    arms = [f"{run.arm} [{run.identity[:6]}]" if len(identities[run.arm]) > 1 else run.arm for run in runs]
    seeds = [(run.manifest or {}).get("seed") for run in runs]
    additions = (
        ["" if seed is None else f" seed {seed}" for seed in seeds],
        [f" ({run.path.absolute().name})" for run in runs],
        [f" #{number}" for number, _ in enumerate(runs, 1)],
    )
    labels = arms
    for addition in additions:
        count = Counter(labels)
        labels = [
            f"{label}{text}" if count[label] > 1 else label for label, text in zip(labels, addition, strict=True)
        ]
    return [replace(run, arm=arm, label=label) for run, arm, label in zip(runs, arms, labels, strict=True)]
