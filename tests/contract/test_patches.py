"""What we patch in torch and vLLM, against themselves; Ray's job number is tested in test_cpu_plugin."""

import subprocess
import sys
import textwrap

import pytest

from justrl_recipe.run.folder import RunFolder
from justrl_recipe.run.start import environment

GROUP = """
    import sys, time
    from pathlib import Path
    import psutil, torch
    from justrl_recipe.verl_hooks import patches
    patches.listen_on_loopback()
    import torch.distributed as distributed

    rank, port, host, gone = int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4])
    for _ in range(2):  # a group may be made anew on the same port
        distributed.init_process_group("gloo", init_method=f"tcp://{host}:{port}", rank=rank, world_size=2)
        total = torch.tensor(rank + 1)
        distributed.all_reduce(total)
        assert total == 3
        here = {c.laddr.ip for c in psutil.Process().net_connections(kind="tcp") if c.status == "LISTEN"}
        print(*sorted(here))
        distributed.barrier()
        distributed.destroy_process_group()
        if rank == 0:
            gone.touch()
        while not gone.exists():  # else rank 1 may join the old group's store again
            time.sleep(0.01)
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_group_on_loopback_listens_nowhere_else(host, unused_tcp_port, tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(GROUP)]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(unused_tcp_port), host, tmp_path / "gone"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"GLOO_SOCKET_IFNAME": "lo", "PATH": ""},
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=100) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outputs
    assert [set(out.split()) for out, _ in outputs] == [{"127.0.0.1"}] * 2


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


SERVER = """
    import os, subprocess, sys
    import vllm.envs
    key = os.environ["VLLM_API_KEY"]
    import justrl_recipe.verl_hooks.extensions
    assert vllm.envs.VLLM_API_KEY == key, "the server asks for the run's key"
    engine = "import vllm.envs; print(vllm.envs.compile_factors())"
    print(subprocess.run([sys.executable, "-c", engine], capture_output=True, text=True, check=True).stdout)
"""


def test_a_run_finds_what_vllm_has_compiled_in_another_one(tmp_path):
    factors = []
    for number in range(2):
        scratch = tmp_path / f"scratch-{number}"
        scratch.mkdir()
        env = environment({"trainer": {"device": "cuda"}}, RunFolder(tmp_path / f"run-{number}"), str(scratch), {})
        server = [sys.executable, "-c", textwrap.dedent(SERVER)]
        done = subprocess.run(server, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        factors.append(done.stdout.strip().splitlines()[-1])
    assert factors[0] == factors[1] and "'VLLM_API_KEY': None" in factors[0]


TRANSFER = """
    import asyncio
    import psutil, torch
    import verl  # which loads the plug-in
    from tensordict import TensorDict
    from transfer_queue.client import AsyncTransferQueueClient
    from transfer_queue.metadata import BatchMeta

    psutil.cpu_count = lambda logical: 16
    torch.set_num_threads(1)
    found = []

    class Storage:
        async def put_data(self, *args, **named):
            found.append(torch.get_num_threads())

    class Client(AsyncTransferQueueClient):
        def __init__(self):
            self.client_id, self.storage_manager = "client", Storage()

        async def async_set_custom_meta(self, metadata):
            found.append(torch.get_num_threads())

    data = TensorDict({"responses": torch.zeros(1, 4096)}, batch_size=1)
    metadata = BatchMeta(global_indexes=[0], partition_ids=["train"])
    asyncio.run(Client().async_put(data, metadata))
    print(*found)
"""


def test_a_transfer_leaves_the_number_of_threads():
    """With more, the agent loops' threads wait for each other: docs/performance.md."""
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(TRANSFER)], capture_output=True, text=True)
    assert found.stdout.splitlines()[-1:] == ["1 1"], found.stdout + found.stderr
