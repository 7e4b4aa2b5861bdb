"""veRL's checkpoints, `global_step_N`, with a marker that is written last: what has none was cut off.

veRL 0.9.1 saves file by file under the final names (verl/trainer/ppo/v1/trainer_base.py, _save_checkpoint). The
trainer (verl_hooks/trainer.py) writes the marker and prunes; a resume (run/resume.py) and `verl eval` read it.
"""

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from justrl_recipe import files

MARKER = "checkpoint.json"
NAME = re.compile(r"global_step_(\d{1,9})")


def step_of(checkpoint: Path) -> int | None:
    """The step by the name of a checkpoint's folder, None for another folder."""
    match = NAME.fullmatch(checkpoint.name)
    return int(match[1]) if match else None


def saved(folder: Path) -> list[Path]:
    """Every checkpoint in a folder, whole or not, the latest first."""
    found = [path for path in folder.iterdir() if step_of(path) is not None] if folder.is_dir() else []
    return sorted(found, key=lambda path: step_of(path) or 0, reverse=True)


def mark(checkpoint: Path, metrics: Mapping[str, Any]) -> None:
    """Declare a checkpoint whole: write the size and SHA-256 of each of its files once all of them are on the disk.

    Args:
        metrics: of the step, which a resume needs where the run ended before they were logged.

    Raises:
        UserError: the marker cannot be written.
    """
    paths = sorted(_files(checkpoint))
    with ThreadPoolExecutor() as pool:
        content = dict(
            zip((path.relative_to(checkpoint).as_posix() for path in paths), pool.map(seal, paths), strict=True)
        )
    files.write_json(checkpoint / MARKER, {"step": step_of(checkpoint), "files": content, "metrics": dict(metrics)})


def _files(checkpoint: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(checkpoint):
        yield from (Path(folder, name) for name in names if Path(folder, name) != checkpoint / MARKER)


def seal(file: Path) -> dict[str, Any]:
    """Size and hash of a file whose content is on the disk when this returns."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    return {"bytes": file.stat().st_size, "sha256": files.sha256(file)}


def flaw(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be trusted, None for a whole one. Reads every byte of it."""
    try:
        marker = files.read_json_object(checkpoint / MARKER)
        content = {name: (entry["bytes"], entry["sha256"]) for name, entry in marker["files"].items()}
        marker["metrics"].items()
    except files.Unreadable:
        return "it was not saved to its end"
    except (KeyError, TypeError, AttributeError):
        return f"its {MARKER} is damaged"
    for name, (size, _) in content.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} of {size:,} bytes"
    with ThreadPoolExecutor() as pool:
        hashes = pool.map(files.sha256, (checkpoint / name for name in content))
        for (name, (_, expected)), found in zip(content.items(), hashes, strict=True):
            if found != expected:
                return f"{name} has changed since it was saved"
    return None


def metrics(checkpoint: Path) -> dict[str, Any]:
    """The metrics of the step at which a whole checkpoint was saved."""
    return files.read_json_object(checkpoint / MARKER)["metrics"]


def world_size(actor: Path) -> int:
    """How many GPUs saved the shards in `actor`, the folder of a checkpoint that holds them.

    Raises:
        Unreadable: veRL's `fsdp_config.json` is missing there or damaged.
    """
    try:
        return int(files.read_json_object(actor / "fsdp_config.json")["world_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise files.Unreadable(f"{actor / 'fsdp_config.json'} has no world_size") from error


def latest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The latest whole checkpoint of a folder, and why each later one is passed over, a sentence each."""
    passed_over: list[str] = []
    for checkpoint in saved(folder):
        reason = flaw(checkpoint)
        if reason is None:
            return checkpoint, passed_over
        passed_over.append(f"{checkpoint} is passed over: {reason}")
    return None, passed_over


def prune(folder: Path, keep: int, best: Collection[int]) -> None:
    """Remove all checkpoints but the last `keep` marked ones and those of the steps in `best`."""
    marked = [path for path in saved(folder) if (path / MARKER).is_file()]
    kept = {*marked[:keep], *(path for path in marked if step_of(path) in best)}
    for checkpoint in saved(folder):
        if checkpoint not in kept:
            remove(checkpoint)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint; if that is interrupted, what is left has no marker."""
    (checkpoint / MARKER).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)
