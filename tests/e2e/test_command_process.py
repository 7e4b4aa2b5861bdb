"""The command as a process of its own: what it imports, and where its output cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import VERL


@pytest.mark.parametrize("arguments", [["ls"], ["cat", "justrl_tiny"], ["plan", "justrl_tiny"]])
def test_output_that_cannot_be_written_is_an_error_in_one_line(arguments, tmp_path):
    with open("/dev/full", "w") as full:
        result = subprocess.run([VERL, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("stream", "arguments", "code"), [(1, "ls", 0), (1, "cat nothing", 2), (2, "cat nothing", 2)]
)
def test_a_closed_stream_changes_nothing_else(stream, arguments, code, tmp_path):
    command = ["sh", "-c", f"exec {VERL} {arguments} {stream}>&-"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == code and "Traceback" not in result.stderr
    assert ("nothing is called" in result.stderr) == (code == 2 and stream == 1)


def run_and_time(code: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """What Python code does in a process of its own, and its seconds of CPU: other processes share the machine."""
    before = os.times()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=60)
    after = os.times()
    return result, after.children_user + after.children_system - before.children_user - before.children_system


@pytest.fixture(scope="module")
def importing_torch(tmp_path_factory) -> float:
    """Seconds of CPU, for how fast the machine is."""
    return run_and_time("import torch", tmp_path_factory.mktemp("torch"))[1]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ls"], ["cat", "justrl_tiny"], ["run", "justrl_deepseek", "--dry-run"]]
)
def test_what_does_not_train_is_quick_and_imports_nothing_heavy(arguments, importing_torch, tmp_path):
    code = f"import sys; sys.argv = ['verl', *{arguments!r}]\nfrom justrl_recipe.cli import main\n"
    code += "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
    code += "print(*({'torch', 'ray', 'verl', 'vllm', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    result, cpu = run_and_time(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == ""
    assert cpu < 3 * importing_torch  # importing veRL takes that long
