"""What we patch in torch, against torch itself; Ray's job number is tested in test_cpu_plugin."""

import subprocess
import sys
import textwrap

import pytest

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
