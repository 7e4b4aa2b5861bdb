"""A reward function of the user's own: imported once before anything starts, and copied to the run folder."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from justrl_recipe import processes
from justrl_recipe.errors import UserError
from justrl_recipe.files import sha256
from justrl_recipe.run.folder import RunFolder

IMPORT_LIMIT = 300.0  # seconds for a reward file's own imports


@dataclass(frozen=True)
class Imported:
    """What importing a reward function showed: why it cannot be imported, and the user's files that it is made of."""

    error: str | None = None
    files: tuple[Path, ...] = ()


def import_reward(path: str | None, name: str) -> Imported:
    """Import a reward function in a process of its own; one of this package is not tried.

    Args:
        path, name: `reward.custom_reward_function`'s.
    """
    if path is None or path.startswith("pkg://justrl_recipe."):
        return Imported()
    with processes.scratch_folder() as scratch:
        found, log = Path(scratch, "files.json"), Path(scratch, "log")
        module, arguments = "justrl_recipe.verl_hooks.reward", (path, name, str(found))
        with processes.child(module, *arguments, log=log, stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(IMPORT_LIMIT)
            except subprocess.TimeoutExpired:
                return Imported(f"{path} was still being imported after {IMPORT_LIMIT:.0f} seconds")
        if process.returncode == 0 and found.is_file():
            return Imported(files=tuple(map(Path, json.loads(found.read_text()))))
        said = [line for line in processes.log_lines(log) if line]
        return Imported(said[-1] if said else f"importing {path} ended with exit code {process.returncode}")


def copies(files: Sequence[Path], folder: RunFolder) -> dict[Path, Path]:
    """Where the run folder keeps a copy of each of a reward function's files: by their relative paths."""
    beside = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
    return {file: folder.code / file.relative_to(beside) for file in files}


def changed(files: Sequence[Path], folder: RunFolder) -> list[Path]:
    """The files that differ from the copy that an earlier attempt kept, or that it did not have.

    Raises:
        UserError: one cannot be read.
    """
    if not folder.code.is_dir():
        return []
    kept = copies(files, folder)
    return [file for file, copy in kept.items() if not copy.is_file() or sha256(copy) != sha256(file)]


def copy_code(files: Sequence[Path], folder: RunFolder) -> None:
    """Copy the reward function's files to the run folder.

    Raises:
        UserError: the run folder cannot be written.
    """
    try:
        for file, target in copies(files, folder).items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except OSError as error:
        raise UserError(f"cannot copy {error.filename or files[0]} to {folder.code}: {error.strerror}") from error
