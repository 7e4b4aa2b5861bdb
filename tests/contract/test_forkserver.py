"""A fork that stands for an interpreter behaves like one."""

import ctypes
import importlib.util
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import psutil
import pytest

from justrl_recipe.verl_hooks import forkserver, shared_imports


@contextmanager
def serving(*modules: str, **env: str) -> Iterator[tuple[str, IO[str]]]:
    """The stand-in of a server that has imported the modules, and what the server writes to its log."""
    code = (
        "import sys, time; from justrl_recipe.verl_hooks import forkserver\n"
        f"print(forkserver.start({list(modules)}, {{'FROM_SERVER': '1'}}), flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
        text=True,
    )
    assert process.stdin and process.stdout and process.stderr
    yield process.stdout.readline().strip(), process.stderr
    process.stdin.close()
    process.wait(timeout=20)


@pytest.fixture(scope="module")
def executable(tmp_path_factory):
    """The stand-in of a server that has imported one module, `wave`."""
    with serving("wave", TMPDIR=str(tmp_path_factory.mktemp("tmp"))) as (path, _):
        yield path


def run(executable: str, *arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([executable, *arguments], capture_output=True, text=True, timeout=60, **kwargs)


def test_it_runs_code_that_finds_its_imports_done(executable, tmp_path):
    code = "import os, sys; print('wave' in sys.modules, sys.argv, os.getcwd(), __name__)"
    result = run(executable, "-c", code, "a", "b", cwd=tmp_path)
    assert result.stdout.strip() == f"True ['-c', 'a', 'b'] {tmp_path} __main__"


def test_it_runs_a_script_with_the_callers_environment_and_no_other(executable, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys; print(os.environ.get('MINE'), os.environ.get('FROM_SERVER'), __file__, sys.argv[1])"
    )
    result = run(executable, "-u", str(script), "x", env={"MINE": "yes", "PATH": os.environ["PATH"]})
    assert result.stdout.split() == ["yes", "None", str(script), "x"]


def test_it_is_a_process_group_of_its_own(executable):
    """A raylet kills the process group of a worker that has ended: the run's others must not be in it."""
    result = run(executable, "-c", "import os; print(os.getpgid(0) == os.getpid())")
    assert result.stdout.strip() == "True"


def test_an_exception_is_printed_as_by_an_interpreter(executable):
    result = run(executable, "-c", "raise ValueError('planted')")
    assert "ValueError: planted" in result.stderr and "Traceback" in result.stderr


def test_few_files_may_be_open_by_default_as_on_a_desktop():
    code = (
        "import resource, subprocess, sys; from justrl_recipe.verl_hooks import forkserver\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "python = forkserver.start(['wave'], {})\n"
        "code = 'import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))'\n"
        "print(subprocess.run([python, '-c', code], capture_output=True, text=True, timeout=60))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert f"{min(hard, forkserver.OPEN_FILES)} {hard}" in result.stdout, result.stdout + result.stderr


def test_a_fork_has_the_variables_that_an_import_sets_in_an_interpreter(tmp_path):
    (tmp_path / "planted.py").write_text("import os; os.environ['SET'] = os.environ['BEFORE'] = 'by import'")
    code = "import os; print(os.environ['SET'], os.environ['BEFORE'])"
    with serving("planted", PYTHONPATH=_also(tmp_path), TMPDIR=str(tmp_path), BEFORE="shell") as (python, _):
        as_before = run(python, "-c", code, env={**os.environ, "BEFORE": "shell"})
        of_its_own = run(python, "-c", code, env={**os.environ, "BEFORE": "runtime_env"})
    assert as_before.stdout == "by import by import\n"
    assert of_its_own.stdout == "by import runtime_env\n"


def test_forks_of_a_server_that_has_defined_an_actor_make_different_ids(tmp_path):
    """As those of the requests of two agent loops to one vLLM server, which ends at the second of the same id."""
    (tmp_path / "planted.py").write_text("import ray\n@ray.remote\nclass Actor: pass\n")
    code = "import planted, ray; print(ray.ObjectRef.from_random().hex())"
    with serving("planted", PYTHONPATH=_also(tmp_path), TMPDIR=str(tmp_path)) as (python, log):
        made = {run(python, "-c", code).stdout for _ in range(3)}
        assert "modules imported" in log.readline()
    assert len(made) == 3 and "" not in made


ACTORS = """
import json
import ray
from justrl_recipe.verl_hooks import forkserver, patches

env = {"RAY_JOB_ID": patches.number_job()}
runtime_env = {"py_executable": forkserver.start(["wave", "torch", "ray.actor"], env)}
cluster = {"num_cpus": 4, "num_gpus": 1, "object_store_memory": 10**8}
ray.init("local", include_dashboard=False, runtime_env=runtime_env, **cluster)


@ray.remote
class Actor:
    async def threads(self):
        import sys
        import torch

        return "wave" in sys.modules, torch.get_num_threads()


actors = [Actor.options(**options).remote() for options in ({}, {"num_cpus": 3}, {"num_gpus": 1})]
print(json.dumps(ray.get([actor.threads.remote() for actor in actors])))
"""


THREADS = "import torch; print(torch.get_num_threads())"


@pytest.fixture
def threads_by_default(monkeypatch) -> str:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return run(sys.executable, "-c", THREADS).stdout.strip()


def test_torch_computes_with_as_many_threads_as_ray_says_except_beside_a_gpu(threads_by_default):
    """With all of a machine's, the agent loops kept each other waiting, for 0.1 s at each response."""
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    found = run(sys.executable, "-c", ACTORS, env=env)
    expected = f"[[true, 1], [true, 3], [true, {threads_by_default}]]"
    assert found.stdout.splitlines()[-1:] == [expected], found.stdout + found.stderr


def test_torch_computes_with_as_many_threads_as_the_environment_says(tmp_path, threads_by_default):
    with serving("torch", TMPDIR=str(tmp_path)) as (python, _):
        for given, expected in (("3", "3"), *((other, threads_by_default) for other in ("", "0", "none"))):
            found = run(python, "-c", THREADS, env={**os.environ, "OMP_NUM_THREADS": given})
            assert found.stdout.strip() == expected, found.stderr


STARTS_CUDA = "from justrl_recipe.verl_hooks import forkserver; forkserver.has_started_cuda = lambda: True"
MAKES_AN_ID = "import ray; ray.ObjectRef.from_random()"


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ("1 / 0", "ZeroDivisionError"),
        (STARTS_CUDA, "has started CUDA"),
        (MAKES_AN_ID, "has had Ray make an id"),
    ],
)
def test_where_it_cannot_be_forked_the_stand_in_is_an_interpreter_and_the_log_says_why(tmp_path, planted, says):
    (tmp_path / "planted.py").write_text(planted)
    code = "import os, sys; print('planted' in sys.modules, sys.argv, os.environ['MINE'])"
    with serving("planted", PYTHONPATH=_also(tmp_path), TMPDIR=str(tmp_path)) as (python, log):
        result = run(python, "-c", code, "a", env={**os.environ, "MINE": "yes"})
        assert says in log.readline()
    assert result.stdout.strip() == "False ['-c', 'a'] yes", result.stderr


def test_where_ray_has_changed_it_is_not_forked_either(tmp_path):
    (tmp_path / "ray").mkdir()
    for name in ("__init__.py", "actor.py"):
        (tmp_path / "ray" / name).touch()
    with serving("wave", PYTHONPATH=_also(tmp_path), TMPDIR=str(tmp_path)) as (python, log):
        result = run(python, "-c", "import sys; print('wave' in sys.modules)")
        assert "ActorClassID" in log.readline()
    assert result.stdout == "False\n", result.stderr


@pytest.mark.parametrize(
    ("answer", "started"), [(0, True), (3, False), (34, False)]
)  # 3: not initialised, 34: a stub
def test_the_driver_tells_whether_cuda_has_started(monkeypatch, answer, started):
    driver = SimpleNamespace(cuDeviceGetCount=lambda count: answer)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert forkserver.has_started_cuda() is started


START_CUDA = {
    "verl.trainer.constants_ppo",
    "verl.utils.kernel.kernels",
    "vllm.compilation.backends",
    "vllm.model_executor.layers.fla.ops.utils",
}


def test_the_modules_that_processes_with_gpus_share_do_not_start_cuda():
    """Also where there is no GPU: it is enough to import one of these for a device to be asked for."""
    code = f"""
import importlib, sys
from justrl_recipe.verl_hooks import forkserver, shared_imports
class Asked(set):
    def find_spec(self, name, path=None, target=None):
        self.add(name)
sys.meta_path.insert(0, asked := Asked())
for module in [*shared_imports.ALL, *shared_imports.BY_DEVICE["cuda"]]:
    importlib.import_module(module)
print("CUDA", sorted(asked & {START_CUDA!r}), forkserver.has_started_cuda())
"""
    env = {**os.environ, **({} if os.path.exists("/dev/nvidiactl") else {"VERL_PLATFORM": "cpu"})}
    counted = {**env, forkserver.COUNT_BY_NVML: "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, env=counted)
    assert "CUDA [] False" in result.stdout, result.stdout + result.stderr[-2000:]


def test_vllm_s_log_level_is_what_verl_gives_its_workers():
    source = importlib.util.find_spec("verl.trainer").submodule_search_locations[0] + "/constants_ppo.py"
    ((name, level),) = shared_imports.LOGGING_LEVEL.items()
    assert f'"{name}": "{level}"' in Path(source).read_text()


def test_it_inherits_open_files(executable):
    reader, writer = os.pipe()
    run(executable, "-c", f"import os; os.write({writer}, b'through')", pass_fds=[writer])
    os.close(writer)
    assert os.read(reader, 100) == b"through"


def test_forks_differ_in_their_random_numbers(executable):
    code = "import random, numpy; print(random.random(), numpy.random.rand())"
    first, second = run(executable, "-c", code).stdout.split(), run(executable, "-c", code).stdout.split()
    assert first[0] != second[0] and first[1] != second[1]


def test_killing_the_stand_in_kills_the_fork(executable):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = subprocess.Popen([executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    fork = psutil.Process(int(process.stdout.readline()))
    process.kill()
    fork.wait(timeout=10)


def test_a_signal_reaches_the_fork(executable):
    code = "import signal, time\ndef leave(*_): print('asked', flush=True); raise SystemExit\n"
    code += "signal.signal(signal.SIGTERM, leave); print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen([executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "asked\n"
    process.wait(timeout=10)


def test_a_stand_in_without_a_server_says_so_and_ends(tmp_path):
    client = [sys.executable, "-I", "-S", forkserver.CLIENT]
    gone = tmp_path / "gone"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(gone))
    listener.close()
    for path in (gone, tmp_path / "no_folder" / "socket"):
        result = subprocess.run([*client, path, "-c", "pass"], capture_output=True, text=True, timeout=10)
        assert result.returncode == 1 and "no fork server" in result.stderr


def test_stand_ins_that_wait_end_with_a_server_that_is_killed_while_it_imports(tmp_path):
    (tmp_path / "planted.py").write_text("import os, time; print(os.getpid(), file=open('pid', 'w')); time.sleep(60)")
    code = (
        "import os, subprocess, time; from justrl_recipe.verl_hooks import forkserver\n"
        "python = forkserver.start(['planted'], {})\n"
        "clients = [subprocess.Popen([python, '-c', 'pass']) for _ in range(2)]\n"
        "while not os.path.exists('pid') or not open('pid').read(): time.sleep(0.05)\n"
        "os.kill(int(open('pid').read()), 9)\n"
        "print([client.wait(timeout=20) for client in clients])"
    )
    env = {**os.environ, "PYTHONPATH": _also(tmp_path), "TMPDIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path
    )
    assert result.stdout == "[1, 1]\n" and result.stderr.count("no fork server") == 2, result.stderr


def test_multiprocessing_spawns_through_it(executable):
    """vLLM's engine process comes this way, from a fork; Python's resource tracker is spawned with it."""
    code = (
        "import multiprocessing as m; process = m.get_context('spawn').Process(target=print, args=('spawned',))\n"
        "process.start(); process.join(); print(process.exitcode, m.spawn.get_executable().decode())"
    )
    result = run(executable, "-c", code)
    assert result.stdout.split() == ["spawned", "0", executable] and not result.stderr, result.stderr


def test_the_server_and_its_forks_end_with_the_process_that_started_it(tmp_path):
    code = (
        "import subprocess, sys, time; from justrl_recipe.verl_hooks import forkserver\n"
        "exe = forkserver.start(['wave'], {})\n"
        "child = subprocess.Popen([exe, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'])\n"
        "time.sleep(60)"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
    assert parent.stdout is not None
    fork = psutil.Process(int(parent.stdout.readline()))
    server = fork.parent()
    os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (runs(fork) or runs(server)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not runs(fork) and not runs(server)
    parent.wait()


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        (1000).to_bytes(8, "big"),
        (1000).to_bytes(8, "big") + b'{"argv": [',
        (5).to_bytes(8, "big") + b"hello",
        (1 << 60).to_bytes(8, "big") + b"{",
    ],
    ids=["nothing", "header", "part", "no JSON", "endless"],
)
def test_a_client_that_ends_before_its_request_is_whole_leaves_no_fork(executable, sent):
    assert run(executable, "-c", "print('up')").stdout == "up\n"
    both = {executable, "justrl_recipe.verl_hooks.forkserver"}
    serving = [process for process in psutil.process_iter() if both <= set(_command(process))]
    server = min(serving, key=psutil.Process.create_time)  # the others are forks of it
    before = set(server.children())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(os.path.join(os.path.dirname(executable), "socket"))
        client.sendall(sent)
    assert run(executable, "-c", "print('still up')").stdout == "still up\n"
    deadline = time.monotonic() + 10
    while set(server.children()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(server.children()) <= before


def _also(folder: Path) -> str:
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
