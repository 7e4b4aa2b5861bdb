"""One process imports veRL and vLLM; every other process of a run is forked from it.

A veRL run is ten processes or more, each of which imports 5 to 25 CPU-seconds worth of modules before it does
anything. Here a server imports them once, and Ray is given a `py_executable` (its runtime environment has that key,
and veRL passes it on) that asks the server for a fork instead of starting an interpreter. vLLM's engine process,
which Python's multiprocessing spawns, comes the same way. Without it (`python -m verl.trainer.main_ppo`) everything
runs as well, and starts later. So it does where the server cannot import a module, or where an import has started
what no fork could use (CUDA, Ray's generator of ids): the server says so in the log and ends, and each process
imports by itself.

Linux only. The client is forkclient.py; the two speak over a Unix socket (see `read_request`). Which modules there
are to import is in shared_imports.py.
"""

import ctypes
import fcntl
import importlib
import json
import multiprocessing.spawn
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from justrl_recipe.processes import end_with_parent
from justrl_recipe.quick_imports import quick_imports
from justrl_recipe.verl_hooks.patches import (
    class_ids_from_the_system,
    take_threads_from_environment,
    threads_as_ray_says,
)

CLIENT = Path(__file__).with_name("forkclient.py")
MAX_FDS = 250
OPEN_FILES = 65_536  # what Ray raises its own processes to, where the machine allows it
COUNT_BY_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"  # torch counts GPUs without starting CUDA; vLLM sets it as well
WAITING = 256  # clients that may wait for the imports
UNUSABLE = "unusable"  # the file that tells the clients to start interpreters


def start(modules: list[str], env: Mapping[str, str]) -> str:
    """Start the server, which imports `modules` under `env`, and return a stand-in for the Python executable.

    For Ray's workers `env` has to have the run's job, `RAY_JOB_ID`: a worker of another job is never given work.
    A fork has the environment of its client, and the variables that the imports set. Returns at once: a client waits
    until the server has imported everything, or has ended. The server ends with the calling thread's process, and
    every fork with the server.
    """
    folder = tempfile.mkdtemp(prefix="justrl-fork-")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # the server's alone, so that it closes with it
    listener.bind(f"{folder}/socket")
    listener.listen(WAITING)
    executable = f"{folder}/python"  # a script, since multiprocessing takes a path and no arguments
    Path(executable).write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{CLIENT}" "{folder}/socket" "$@"\n')
    os.chmod(executable, 0o700)
    # Ray's C++ side reads these when it is imported, so they have to be there before there is a cluster: token
    # authentication as `ray.init` chooses it, and the process whose end ends the workers.
    ray_env = {
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"),
        "RAY_RAYLET_PID": str(os.getpid()),
    }
    server = [sys.executable, "-m", "justrl_recipe.verl_hooks.forkserver"]
    subprocess.Popen(
        [*server, str(os.getpid()), str(listener.fileno()), executable, *modules],
        env={**os.environ, **env, **ray_env},
        pass_fds=[listener.fileno()],
    )
    listener.close()
    return executable


def main(parent: int, listening: int, executable: str, modules: list[str]) -> None:
    """Import, then serve until `parent` ends.

    Args:
        listening: the descriptor of the socket that clients connect to.
    """
    end_with_parent(parent)
    listener = socket.socket(fileno=listening)
    listener.set_inheritable(False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, OPEN_FILES)), hard))
    before = dict(os.environ)
    with quick_imports():  # which also keeps a collection from copying the pages that the forks share
        problem = _import(modules)
    if problem:
        sys.stderr.write(f"fork server: {problem}, so each process imports by itself\n")
        Path(executable).with_name(UNUSABLE).touch()
        return
    imports_set = {name: value for name, value in os.environ.items() if before.get(name) != value}
    multiprocessing.spawn.set_executable(executable)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the forks
    server = os.getpid()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            end_with_parent(server)
            _become(connection, before, imports_set)
        connection.close()


def _import(modules: list[str]) -> str | None:
    """Import the modules; what keeps this process from being forked then, if anything does."""
    began, module = time.monotonic(), "ray.actor"  # which the patches below take
    os.environ.setdefault(COUNT_BY_NVML, "1")
    try:
        with class_ids_from_the_system():
            threads_as_ray_says()
            for module in modules:
                importlib.import_module(module)
    except Exception as error:  # what an import may raise: the process that needs the module raises it again
        return f"cannot import {module} ({type(error).__name__}: {error})"
    if has_started_cuda():
        return "an import has started CUDA, which forks cannot use"
    if "ray" in sys.modules and forks_make_the_same_ids():
        return "an import has had Ray make an id, so that forks would repeat each other's"
    sys.stderr.write(f"fork server: {len(sys.modules)} modules imported in {time.monotonic() - began:.0f} s\n")
    return None


def has_started_cuda() -> bool:
    """Whether this process has initialised CUDA: its driver counts devices only after that."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:  # a machine without it
        return False
    return driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == 0


def forks_make_the_same_ids() -> bool:
    """Whether Ray's generator of ids is seeded already, which it is when it makes the first."""
    made = []
    for _ in range(2):
        reader, writer = os.pipe()
        if os.fork() == 0:
            import ray

            os.write(writer, ray.ObjectRef.from_random().binary())
            os._exit(0)
        os.close(writer)
        made.append(os.read(reader, 64))
        os.close(reader)
        os.wait()
    return made[0] == made[1]


def read_request(connection: socket.socket) -> tuple[dict, list[int]]:
    """What the client sends: the length of a JSON object with `argv`, `env`, `cwd` and `fds` (the numbers of
    its descriptors) together with the descriptors themselves, then the object.

    Raises:
        EOFError, ValueError: the client ended before all of it was sent.
    """
    header, received, _, _ = socket.recv_fds(connection, 8, MAX_FDS)
    missing = int.from_bytes(header, "big")
    chunks = []
    while missing:
        chunk = connection.recv(min(missing, 1 << 20))
        if not chunk:
            raise EOFError("the client has ended before its request was whole")
        chunks.append(chunk)
        missing -= len(chunk)
    return json.loads(b"".join(chunks)), list(received)


def _become(connection: socket.socket, before: Mapping[str, str], imports_set: Mapping[str, str]) -> None:
    """Turn this fork into the process that the client was asked to be; never returns.

    Args:
        before: the server's environment before its imports.
        imports_set: the variables that these have set. An interpreter would set them where it begins with the same.
    """
    os.setpgid(0, 0)  # a raylet kills the process group of a worker that has ended
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        request, received = read_request(connection)
        connection.sendall(os.getpid().to_bytes(8, "big"))
    except (EOFError, OSError, ValueError):  # the client has ended, and no one waits for this process
        os._exit(1)
    above = max(request["fds"], default=2) + 1  # where descriptors wait until the numbers that they need are free
    client = fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, above)
    connection.close()
    waiting = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in received]
    for fd in received:
        os.close(fd)
    for fd, number in zip(waiting, request["fds"], strict=True):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    env = request["env"]
    os.environ.update(env)
    os.environ.update({name: value for name, value in imports_set.items() if env.get(name) == before.get(name)})
    os.chdir(request["cwd"])
    threading.Thread(target=_end_with_client, args=(client,), daemon=True).start()
    import numpy

    numpy.random.seed()  # Python reseeds its own generator after a fork, numpy does not
    take_threads_from_environment()
    status = 1
    try:
        _run(request["argv"])
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # the end of a process: what an interpreter prints at its top level
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError):  # closed, as multiprocessing's resource tracker does
                stream.flush()
        os._exit(status)


def _end_with_client(client: int) -> None:
    """End with the client: a signal that kills it is meant for this process."""
    os.read(client, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def _run(argv: list[str]) -> None:
    """Run `[options] -c CODE [args]` or `[options] SCRIPT [args]`, as an interpreter would."""
    while argv[0].startswith("-") and argv[0] != "-c":
        argv = argv[1:]
    main_module = types.ModuleType("__main__")
    sys.modules["__main__"] = main_module
    if argv[0] == "-c":
        sys.argv = ["-c", *argv[2:]]
        code = compile(argv[1], "<string>", "exec")
    else:
        sys.argv = argv
        main_module.__file__ = argv[0]
        code = compile(Path(argv[0]).read_bytes(), argv[0], "exec")
    exec(code, main_module.__dict__)


if __name__ == "__main__":
    # By its name: in __main__, Python 3.12 warns of forks with threads.
    from justrl_recipe.verl_hooks import forkserver

    forkserver.main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
