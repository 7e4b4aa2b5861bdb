"""manifest.json: what a run is, written before it starts, and how it ended."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil

from justrl_recipe.errors import UserError
from justrl_recipe.files import read_json_object, write_json
from justrl_recipe.masking import masked_tree

LOSS_NOTE = (
    "veRL 0.9.1 takes the token-mean loss over all tokens of the global mini-batch; the authors' fork of veRL "
    "0.4.0 takes it per micro-batch, weighted by the micro-batch's share of the sequences"
)
RUNNING, FINISHED, INCOMPLETE, FAILED, INTERRUPTED = "running", "finished", "incomplete", "failed", "interrupted"
STOPPED = "stopped"  # on request, with a checkpoint
DIED = "died"  # never written: a manifest that says `running`, of a process that has ended


# What a manifest says of its latest attempt alone.
OF_ATTEMPT = (
    *("attempts", "started", "ended", "status", "error", "first_step", "last_step", "lost_responses"),
    "tracker_failures",
    *("host", "pid", "pid_started", "versions", "git_commit", "package_sha256", "command"),
)


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@contextmanager
def manifest(file: Path, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Write what the run is before an attempt starts and how that ended; the body sets `status` where it ends well.

    What an earlier attempt wrote moves to the list `attempts`, the latest last.

    Raises:
        UserError: the file cannot be written, e.g. since the disk is full.
    """
    process = psutil.Process()
    content: dict[str, Any] = {
        **about,
        "attempts": earlier(file),
        "host": platform.node(),
        "pid": process.pid,
        "pid_started": process.create_time(),
        "loss": LOSS_NOTE,
        "started": now(),
        "ended": None,
        "status": RUNNING,
        "error": None,
    }
    write(file, content)
    try:
        yield content
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if content["status"] == RUNNING:
            content["status"] = INTERRUPTED if interrupted else FAILED
        content["error"] = str(error) or None
        with suppress(UserError):  # what ended the run is what the user has to read
            _close(file, content)
        raise
    _close(file, content)


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest without the secrets that are known.

    Raises:
        UserError: the file cannot be written.
    """
    write_json(file, masked_tree(content))


def earlier(file: Path) -> list[dict[str, Any]]:
    """How each attempt so far went, by a manifest that another one is to replace; empty without."""
    if not file.is_file():
        return []
    before = read_json_object(file)
    last = {name: before.get(name) for name in OF_ATTEMPT[1:]} | {"status": outcome(before)}
    return [*before.get("attempts", []), last]


def _close(file: Path, content: dict[str, Any]) -> None:
    content["ended"] = now()
    write(file, content)


def outcome(content: Mapping[str, Any]) -> str:
    """The status of a run by its manifest, or `died` where it says `running` and its process has ended.

    A process on another host cannot be looked at: there, `running` stays.
    """
    status = str(content.get("status"))
    if status != RUNNING or content.get("host") != platform.node() or "pid" not in content:
        return status
    try:
        alive = abs(psutil.Process(content["pid"]).create_time() - content["pid_started"]) < 1
    except psutil.NoSuchProcess:
        alive = False
    return RUNNING if alive else DIED
