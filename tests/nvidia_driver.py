"""A stand-in for the NVIDIA driver's tool, which lists GPUs that are not there."""

import os
from pathlib import Path


def driver(
    folder: Path, gpus: int = 1, of: str = "NVIDIA H200, 143771, 143150, 9.0", more: str = "", code: int = 0
) -> str:
    """A PATH on which nvidia-smi lists GPUs.

    Args:
        of: name, MiB in all, MiB free and compute capability of each.
        more: a last line of the list.
        code: nvidia-smi's exit code.
    """
    name, rest = of.split(", ", 1)
    lines = [f"{number}, GPU-{number}a, {name}, {rest}" for number in range(gpus)]
    listed = "\n".join([*lines, *([more] if more else [])])
    folder.mkdir(exist_ok=True)
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{listed}\nEND\nexit {code}\n")
    (folder / "nvidia-smi").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
