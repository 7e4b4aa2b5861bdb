"""The blocks of the documentation that are marked as runnable, run as they stand, in the order of each file."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import FILES, ROOT, blocks

BIN = Path(sys.executable).parent
RUNNABLE = [file for file in FILES if any(block.runnable for block in blocks(file))]


@pytest.mark.parametrize("file", RUNNABLE, ids=lambda file: str(file.relative_to(ROOT)))
def test_runnable_blocks_run(file: Path, tmp_path: Path):
    """In a folder that has the repository's folders and `.venv/bin`, and nothing else of a user."""
    for name in ("recipes", "ablations", "reward_fns", "benchmarks", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(BIN)
    variables = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    for block in (block for block in blocks(file) if block.runnable):
        for command, output in block.steps:
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120
            )
            printed = done.stdout + done.stderr
            where = f"{file}:{block.line}: {command}"
            assert done.returncode == block.exit_code, f"{where}\n{printed}"
            if output:
                flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                assert doctest.OutputChecker().check_output(output, printed, flags), f"{where}\n{printed}"
