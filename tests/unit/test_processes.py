"""Child processes end with all that they start, and their log says why they failed."""

import subprocess

import psutil
import pytest

from justrl_recipe import processes

PARENT = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(worker.pid, flush=True)
worker.wait()
"""


def test_a_child_ends_with_its_own_workers(tmp_path, monkeypatch):
    (tmp_path / "parent_of_a_worker.py").write_text(PARENT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    log = tmp_path / "log"
    with processes.child("parent_of_a_worker", log=log, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        worker = psutil.Process(int(child.stdout.readline()))
        assert worker.is_running() and child.poll() is None
    assert child.returncode == -9
    psutil.wait_procs([worker], timeout=20)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("log", "returncode", "why"),
    [
        ("starts\nValueError: bad lr\nOSError: then this\ngoodbye\n", 1, "OSError: then this"),
        ("starts\n\x1b[31mcannot read config\x1b[0m\n\n", 2, "cannot read config"),
        ("", 3, "exit code 3"),
        ("", -11, "killed by SIGSEGV"),
        ("", None, "it ended"),
    ],
)
def test_a_failure_is_the_last_error_else_the_last_line_else_how_it_ended(tmp_path, log, returncode, why):
    file = tmp_path / "log"
    file.write_text(log)
    assert processes.failure(file, returncode) == why
