"""A run as the report sees it: its metrics, what its manifest says of it, and what it is called."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np

from justrl_recipe import files
from justrl_recipe.errors import UserError
from justrl_recipe.report import logs
from justrl_recipe.report.logs import Metrics, Series
from justrl_recipe.run.manifest import RUNNING, outcome
from justrl_recipe.terminal import one_line

METRICS, LOG, MANIFEST, CONFIG = "metrics.jsonl", "train.log", "manifest.json", "config.yaml"
REQUIRED = ("recipe", "ablations", "overrides", "scaled", "deviations", "is_justrl", "ended")  # of a manifest
ALONE = "remove it to report the metrics alone"


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_changes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("key"), str) and {"recipe", "yours"} <= one.keys()
        for one in value
    )


TYPES: dict[str, Callable[[Any], bool]] = {  # of what the report reads of a manifest
    "recipe": lambda value: isinstance(value, str),
    "ablations": _is_texts,
    "overrides": _is_texts,
    "scaled": _is_changes,
    "deviations": _is_changes,
    "versions": lambda value: isinstance(value, dict),
    "reward": lambda value: value is None or isinstance(value, dict),
    "pid": lambda value: type(value) is int and 0 < value < 1 << 31,
    "pid_started": lambda value: isinstance(value, int | float),
}
VALUES = ("deviations", "scaled")  # of a manifest: keys with the values that make the arm
LARGEST = 10**9  # of a size in a config
LONGEST_ARM = 200  # letters
FULL_RECIPES = ("justrl_deepseek", "justrl_nemotron")
LENGTH, LONGEST = "response_length/mean", "response_length/max"
CLIP_RATIO, CLIPPED = "response_length/clip_ratio", "response_length/clipped"  # the second is made here

# A path from the root, or an address; not what follows a word, as in `actor/entropy`, nor the package's `pkg://`.
ABSOLUTE = re.compile(r"(?<![\w.~/:<-])(?:(?!pkg:)[a-z][a-z0-9+]*:/{1,2})?/[^\s/'\",;=]+(?:/[^\s/'\",;=]*)*")


class NoStepYet(UserError):
    """A run that has logged nothing: not wrong, but nothing to report."""


@dataclass(frozen=True)
class Run:
    """One run.

    arm: the name of what it shares with other seeds of the same experiment.
    identity: a hash of the same, by its values; of a bare log, which does not say them, by its path.
    label: unlike that of every other run of a report.
    manifest: None where there is only a log.
    gpus: veRL logs tokens/s per GPU; None where no config.yaml says how many there were.
    limit: the longest response in tokens that the run allows; where no config.yaml says it, the longest that
        was seen.
    """

    path: Path
    arm: str
    label: str
    metrics: Metrics
    manifest: dict[str, Any] | None
    gpus: int | None
    limit: float
    identity: str = ""

    @property
    def status(self) -> str:
        """How it ended, or that it still runs; empty where there is only a log."""
        return status(self.manifest) if self.manifest else ""

    @property
    def full(self) -> bool:
        """Whether it is the paper's own size: a full recipe, or an ablation of it, with nothing scaled."""
        about = self.manifest or {}
        return about.get("recipe") in FULL_RECIPES and not about.get("scaled")

    @property
    def last_step(self) -> int:
        return int(max(series.steps[-1] for series in self.metrics.values()))


def source(path: Path) -> Path:
    """The log of a run that is given by its folder or by a log.

    Raises:
        UserError: there is nothing, or a folder that is no run.
        NoStepYet: a run that has no log.
    """
    if not os.path.exists(path):  # Path.exists raises at a name that no file can have
        raise UserError(f"no such file or folder: {path}")
    if not path.is_dir():
        return path
    if os.path.lexists(path / METRICS):
        return path / METRICS
    if next(path.rglob(logs.EVENT_FILES), None):
        return path
    if os.path.lexists(path / LOG):
        return path / LOG
    if os.path.lexists(path / MANIFEST):
        raise NoStepYet(f"{path} has logged no step yet")
    raise UserError(f"{path} is no run: it has no {METRICS}, {LOG} or {logs.EVENT_FILES}")


def nothing_in(path: Path) -> UserError:
    """Why a log without metrics has none."""
    if path.is_dir() or logs.starts_as_json_lines(path):
        return NoStepYet(f"{path} has logged no step yet")
    return UserError(
        f"{path} is no veRL log: it has no line like `step:1 - actor/entropy:0.5`; give a run folder, its {METRICS} "
        f"or {LOG}, or TensorBoard's {logs.EVENT_FILES}"
    )


def growing(path: Path) -> list[Path]:
    """What grows or changes while a run goes on."""
    if path.is_file():
        return [path]
    return [file for name in (METRICS, LOG, MANIFEST, f"**/{logs.EVENT_FILES}") for file in path.glob(name)]


def ended(path: Path) -> bool:
    """Whether a run is over, by its manifest and its process; a bare log may always go on."""
    manifest = read_manifest(path / MANIFEST)
    return manifest is not None and status(manifest) != RUNNING


def status(manifest: dict[str, Any]) -> str:
    """The outcome of a run; manifests of earlier versions may only say when it ended."""
    written = RUNNING if manifest["ended"] is None else "ended"
    return outcome({"status": written, **manifest})


def load(path: Path) -> Run:
    """Read one run.

    Raises:
        UserError: there is none at `path`, or its files are broken.
        NoStepYet: it has logged nothing.
    """
    metrics = logs.read(source(path))
    if not metrics:
        raise nothing_in(path)
    manifest, size = read_manifest(path / MANIFEST), read_size(path / CONFIG)
    longest = metrics[LONGEST].finite if LONGEST in metrics else np.array([])
    limit = size.limit if size else longest.max(initial=0)
    arm = one_line(arm_name(manifest) if manifest else bare_name(path))[:LONGEST_ARM]
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


def read_manifest(file: Path) -> dict[str, Any] | None:
    """What a run says of itself, or None where there is no such file.

    Raises:
        UserError: it is broken.
    """
    if not os.path.lexists(file):
        return None
    try:
        manifest = files.read_json_object(file)
    except files.Unreadable as error:
        raise UserError(f"{error}: {ALONE}") from error
    if missing := [key for key in REQUIRED if key not in manifest]:
        raise UserError(f"{file} does not say {', '.join(missing)}: {ALONE}")
    if wrong := [key for key, is_right in TYPES.items() if key in manifest and not is_right(manifest[key])]:
        raise UserError(f"{file} has no usable {', '.join(wrong)}: {ALONE}")
    return manifest


class Size(NamedTuple):
    """What a config says that the metrics do not: the longest response in tokens, the GPUs, model and steps."""

    limit: int
    gpus: int
    model: str | None
    steps: int | None


def read_size(file: Path) -> Size | None:
    """From a run's resolved config, or None where there is no such file.

    Raises:
        UserError: it is broken.
    """
    if not os.path.lexists(file):
        return None
    try:
        config = files.read_yaml(file)
        trainer, model = config["trainer"], config.get("actor_rollout_ref", {}).get("model", {}).get("path")
        steps = trainer.get("total_training_steps")
        sizes = [trainer["nnodes"], trainer["n_gpus_per_node"], config["data"]["max_response_length"]]
        if not all(type(size) is int and 0 < size < LARGEST for size in sizes) or not isinstance(steps, int | None):
            raise ValueError("sizes that are no numbers")
        return Size(sizes[2], sizes[0] * sizes[1], str(model) if model else None, steps)
    except files.Unreadable as error:
        raise UserError(f"{error}: {ALONE}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no resolved config: {ALONE}") from error


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


def arm_name(manifest: dict[str, Any]) -> str:
    """Recipe, ablations, and the overrides that make it another experiment: `justrl_tiny + overlong_penalty`."""
    overridden = [text.split("=")[0].lstrip("+~") for text in manifest["overrides"]]
    changes = [
        change(one["key"], one["yours"])
        for one in sorted(manifest["deviations"], key=lambda one: one["key"])
        if any(f"{one['key']}.".startswith(f"{key}.") for key in overridden)
    ]
    more = [f"{len(changes) - 2} more"] if len(changes) > 2 else []
    parts = [manifest["recipe"], *manifest["ablations"]]
    return " + ".join([*map(stem, parts), *changes[:2], *more])


def stem(part: str) -> str:
    """A recipe or an ablation by its name, also where it was given as a file."""
    return Path(part).stem if part.endswith(".yaml") else part


def change(key: str, value: Any) -> str:
    """A deviation in short: `n=16`; of code its name alone, since a reward's name says more than its key."""
    text = value if isinstance(value, str) else json.dumps(value)
    if text.startswith("pkg://"):
        return text.rpartition(".")[2]
    if text.endswith(".py"):
        return Path(text.removeprefix("file://")).stem
    return f"{key.rpartition('.')[2]}={shorten(text, 24, placeholder=' …') or text[:24]}"


def identity(manifest: dict[str, Any], size: Size | None) -> str:
    """What two runs of one arm share, whatever their seeds and wherever they ran: the values that make the arm.

    A recipe is known by its name and values, not by its folder; model and steps, which each recipe names for itself,
    are no deviations of a recipe of the user's own.
    """
    values = [sorted((d["key"], json.dumps(d["yours"], sort_keys=True)) for d in manifest[of]) for of in VALUES]
    reward = (manifest.get("reward") or {}).get("sha256")
    own = [size.model, size.steps] if size and manifest["recipe"].endswith(".yaml") else []
    return digest(json.dumps([stem(manifest["recipe"]), *values, reward, *own]))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def tell_arms_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, with a part of its hash behind the name of an arm where another arm has the same name."""
    identities: dict[str, set[str]] = {}
    for run in runs:
        identities.setdefault(run.arm, set()).add(run.identity)
    return [
        replace(run, arm=f"{run.arm} [{run.identity[:6]}]", label=f"{run.label} [{run.identity[:6]}]")
        if len(identities[run.arm]) > 1
        else run
        for run in runs
    ]


def bare_name(path: Path) -> str:
    """The name of a log: its file's, or its folder's where every file is called like that."""
    usual = path.name in (METRICS, LOG) or path.match(logs.EVENT_FILES)
    return path.absolute().parent.name if usual else path.absolute().name if path.is_dir() else path.stem


def with_labels(runs: Sequence[Run]) -> list[Run]:
    """The runs, told apart: where arms repeat, by seed, then by folder or file, then by number."""

    def tell_apart(runs: list[Run], extra: list[str]) -> list[Run]:
        count = Counter(run.label for run in runs)
        return [
            replace(run, label=f"{run.label} {text}") if count[run.label] > 1 and text else run
            for run, text in zip(runs, extra, strict=True)
        ]

    runs = tell_arms_apart(runs)
    seeds = [(run.manifest or {}).get("seed") for run in runs]
    told = tell_apart(list(runs), ["" if seed is None else f"seed {seed}" for seed in seeds])
    told = tell_apart(told, [f"({run.path.absolute().name})" for run in told])
    return tell_apart(told, [f"#{number}" for number in range(1, len(told) + 1)])


def without_paths(text: str) -> str:
    """A text with the folders of absolute paths and of addresses left out: they name a machine."""
    return ABSOLUTE.sub(lambda match: f"…/{match[0].rstrip('/').rpartition('/')[2]}", text)
