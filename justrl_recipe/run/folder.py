"""The folder of a run: the names of its files, a new one for each run, and the config that writes to it."""

import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from justrl_recipe.config import Config, load_base
from justrl_recipe.errors import UserError
from justrl_recipe.files import LOCK, parse_json
from justrl_recipe.metrics import (
    LOST_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    RESPONSES_FILE,
    STOP_FILE,
    TRACKER_FAILURES_FILE,
)

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps everything."""

    path: Path

    @property
    def lock(self) -> Path:
        """Held by the command that trains in the folder (`files.locked`)."""
        return self.path / LOCK

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / MANIFEST_FILE

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def metrics(self) -> Path:
        return self.path / METRICS_FILE

    @property
    def lost_responses(self) -> Path:
        """Written by verl_hooks/reward_metrics.py: a line for each batch of which responses were lost."""
        return self.path / LOST_FILE

    @property
    def responses(self) -> Path:
        """Written by verl_hooks/responses.py: a line for each prompt whose responses are kept."""
        return self.path / RESPONSES_FILE

    @property
    def tracker_failures(self) -> Path:
        """Written by verl_hooks/trackers.py: a line for each tracker that failed in this attempt."""
        return self.path / TRACKER_FAILURES_FILE

    @property
    def stop(self) -> Path:
        """While it is there, the training process saves and stops after its step."""
        return self.path / STOP_FILE

    @property
    def attempts(self) -> Path:
        """The config and the log of each earlier attempt, in a folder by its number."""
        return self.path / "attempts"

    @property
    def code(self) -> Path:
        """A copy of the user's own reward function, and of what it imports from its folder."""
        return self.path / "code"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def steps(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Step and metrics of each whole line of the metrics file, which a full disk may have cut."""
        if not self.metrics.is_file():
            return
        with self.metrics.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if entry := parse_metrics(line):
                    yield entry

    def keep_attempt(self) -> None:
        """Move the config and the log of the last attempt out of the way of the next one, and copy its metrics."""
        number = sum(1 for _ in self.attempts.glob("*")) + 1
        target = self.attempts / str(number)
        target.mkdir(parents=True)
        for file in (self.config, self.log, self.tracker_failures):
            if file.is_file():
                file.rename(target / file.name)
        if self.metrics.is_file():  # which the next attempt cuts back
            shutil.copyfile(self.metrics, target / self.metrics.name)

    def remove(self) -> None:
        """Remove what a run writes before its first step, and the folder, if nothing else is in it."""
        for path in (self.config, self.manifest, self.log, self.lock):
            path.unlink(missing_ok=True)
        if self.code.is_dir():
            shutil.rmtree(self.code)
        with suppress(OSError):  # it has files of others, or is a mount point
            self.path.rmdir()

    def lost(self) -> list[dict[str, Any]]:
        """The batches of which responses were lost: `step`, `batch`, `lost`, `responses` of each."""
        return _json_lines(self.lost_responses)

    def failed_trackers(self) -> list[dict[str, str]]:
        """The trackers that failed in this attempt: `tracker`, and the first `error` of each."""
        return _json_lines(self.tracker_failures)


def _json_lines(file: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that a training process writes; none where it is not there."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]


def parse_metrics(line: str) -> tuple[int, dict[str, Any]] | None:
    """Step and metrics of a line that veRL's `file` logger wrote; None where it cannot be parsed."""
    try:
        entry = parse_json(line)
        step, metrics = entry["step"], entry["data"]
    except (ValueError, KeyError, TypeError):
        return None
    return (step, metrics) if isinstance(step, int) and isinstance(metrics, dict) else None


def new_run_folder(recipe: str, out: Path | None) -> RunFolder:
    """Make `out`, or `runs/<recipe>-<time>`: always a new folder.

    Raises:
        UserError: `out` holds something already, or cannot be made.
    """
    path = out or RUNS / f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        if out is None:
            return RunFolder(_make_new(path))
        path.mkdir(parents=True, exist_ok=True)
        if RunFolder(path).manifest.is_file():
            raise UserError(f"{path} holds a run: add --resume to continue it, or choose another --out")
        if not _is_unstarted(path):
            raise UserError(f"{path} is not empty: a run needs a folder of its own, choose another --out")
    except OSError as error:
        raise UserError(f"cannot make the run folder {path}: {error.strerror}") from error
    return RunFolder(path)


def _is_unstarted(path: Path) -> bool:
    """Whether a folder is empty, or has only what a command that was killed writes before a manifest."""
    folder, found = RunFolder(path), set(path.iterdir())
    return not found or (folder.lock in found and found <= {folder.lock, folder.config, folder.code})


def _make_new(path: Path) -> Path:
    """Make `path`, or one with a number behind it where another run that started in the same second has it."""
    for number in itertools.count(1):
        found = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            found.mkdir(parents=True)
            break
        except FileExistsError:
            continue
    return found


def placed(composed: Config, run_folder: Path) -> dict[str, Any]:
    """The config as it runs in a run folder.

    Checkpoints go to the run folder unless `trainer.default_local_dir` differs from the recipe's, and the `file`
    logger, which the step lines, the manifest and the report read, is added to the loggers that are named.
    """
    given = composed.values.get("trainer")
    if not isinstance(given, dict):
        raise UserError("trainer: a run cannot do without this section: restore it")
    trainer = dict(given)
    if trainer.get("default_local_dir") == load_base().values["trainer"]["default_local_dir"]:
        trainer["default_local_dir"] = str(RunFolder(run_folder).checkpoints)
    logger = trainer.get("logger")
    loggers = list(logger) if isinstance(logger, list) else [logger] if logger else []
    trainer["logger"] = loggers if "file" in loggers else [*loggers, "file"]
    return {**composed.values, "trainer": trainer}
