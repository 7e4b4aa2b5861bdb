"""A small Ray cluster: nodes of this machine, each with one logical accelerator and a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

RAY = Path(sys.executable).with_name("ray")
NODES = ("a", "b")
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def cluster(cpus: int = 5, nodes: tuple[str, ...] = NODES, **env: str) -> Iterator[str]:
    """The address of a cluster that ends with the block.

    Args:
        env: for its nodes, such as RAY_AUTH_MODE.
    """
    address = f"127.0.0.1:{free_port()}"
    with ExitStack() as started:
        folder = Path(tempfile.mkdtemp(prefix="justrl-ray-", dir="/tmp"))  # short, for Ray's sockets
        started.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in nodes:
            where = ["--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false"]
            started.enter_context(
                _node(folder / name, where if name == nodes[0] else [f"--address={address}"], cpus, env)
            )
        yield address


@contextmanager
def _node(folder: Path, where: list[str], cpus: int, env: dict[str, str]) -> Iterator[None]:
    folder.mkdir()
    options = [
        *(
            "--block",
            "--node-ip-address=127.0.0.1",
            f"--node-name={folder.name}",
            "--num-gpus=1",
            f"--num-cpus={cpus}",
        ),
        *(f"--temp-dir={folder}/ray", f"--object-store-memory={256 << 20}"),
    ]
    with (folder / "log").open("w") as log:
        environment = {**os.environ, **QUIET, **env}
        process = subprocess.Popen(
            [str(RAY), "start", *where, *options],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while "Ray runtime started" not in (folder / "log").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
