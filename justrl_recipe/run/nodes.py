"""Asks each node of a Ray cluster what a run needs of it: `python -m justrl_recipe.run.nodes REQUEST ANSWER PARENT`.

A process of its own (started by cluster.py), so that the command is never connected to Ray. REQUEST and ANSWER are
JSON files.
"""

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from justrl_recipe.processes import end_with_parent
from justrl_recipe.run.provenance import PACKAGE, package_sha256, versions

LIMIT = 10.0  # seconds for the nodes to answer, and for an ended job to free what it held
CONNECTION_LIMIT = 5  # seconds for each step of the connection
POLL = 0.5  # seconds


@dataclass(frozen=True)
class Demand:
    """What a run takes of a cluster.

    Attributes:
        group: resources of a placement group of veRL's, which is on one node.
        groups: how many of them.
        queue_units: TransferQueue's storage units; each holds a CPU, as its controller does.
    """

    group: dict[str, float]
    groups: int
    queue_units: int = 0

    def groups_on(self, nodes: Iterable[Mapping[str, float]]) -> int:
        """How many placement groups nodes with these resources have room for."""
        return sum(int(min(node.get(name, 0) // amount for name, amount in self.group.items())) for node in nodes)

    def fits(self, nodes: Sequence[Mapping[str, float]]) -> bool:
        """Whether nodes, in the order of their ids, have room for all of it wherever Ray puts the controller.

        TransferQueue 0.1.11 starts first, and puts unit i on node i modulo their number (its utils/common.py).
        """
        left = [{"CPU": 0.0, **node} for node in nodes]
        for number in range(self.queue_units):
            left[number % len(left)]["CPU"] -= 1
        if min(node["CPU"] for node in left) < 0:
            return False
        controllers = [number for number, node in enumerate(left) if node["CPU"] >= 1]
        return bool(controllers) and all(
            self.groups_on({**node, "CPU": node["CPU"] - (at == number)} for at, node in enumerate(left))
            >= self.groups
            for number in controllers
        )


def described(paths: Iterable[str]) -> dict[str, Any]:
    """What a run needs to be the same on every node: versions, and the bytes of files; and which machine it is.

    Of a folder, 0; of what is not there, None.
    """
    found = versions()
    found["python"] = found["python"].rpartition(".")[0]  # patch releases go together
    found["files of justrl-recipe"] = package_sha256(PACKAGE)[:12]
    sizes = {
        path: (os.path.getsize(path) if os.path.isfile(path) else 0) if os.path.exists(path) else None
        for path in paths
    }
    return {"versions": found, "sizes": sizes, "machine": machine()}


def machine() -> str:
    """The same for two processes that can share files, Unix sockets and process ids: one host, container and user."""
    host = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return " ".join([host, *(os.readlink(f"/proc/self/ns/{space}") for space in ("mnt", "pid")), str(os.getuid())])


def look_around(paths: list[str]) -> dict[str, Any]:
    """`described`, on another node. Ray sends this function by its code, since a node may lack this package."""
    try:
        from justrl_recipe.run.nodes import described
    except ImportError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return described(paths)


class NotConnected(Exception):
    """There is no way into the cluster: why, and whether the token is the reason."""

    def __init__(self, why: str, authentication: bool = False):
        super().__init__(why)
        self.authentication = authentication


def connect(address: str) -> str:
    """Connect to the cluster at an address, HOST:PORT or `auto`; the address of its GCS."""
    import ray
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # which its stubs lack
    from ray.exceptions import AuthenticationError, RpcError

    try:
        found = canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError) as error:  # `auto` without a cluster here; no address
        raise NotConnected(str(error).partition(". ")[0]) from error
    assert found is not None
    host, _, port = found.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECTION_LIMIT).close()
    except OSError as error:
        raise NotConnected(f"no Ray cluster answers: {error.strerror or error}") from error
    try:
        GcsClient(address=found)  # at once, where `ray.init` tries for some time
        ray.init(found, log_to_driver=False, logging_level=logging.CRITICAL)
    except AuthenticationError as error:
        raise NotConnected(error.message, authentication=True) from error
    except (ConnectionError, RuntimeError, ValueError, RpcError) as error:
        raise NotConnected(" ".join(str(error.__cause__ or error).split())) from error
    return found


def ask(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the nodes answer; those that do not answer in time have no `found`.

    Args:
        request: `address`, `paths` to look for, and the `demand`.
    """
    import ray
    from ray._private.state import available_resources_per_node
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    address, end = connect(request["address"]), time.monotonic() + LIMIT
    demand = Demand(**request["demand"])
    task = ray.remote(num_cpus=0, max_retries=0)(look_around)
    nodes = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"])
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n["NodeID"], soft=False)).remote(
            request["paths"]
        )
        for n in nodes
    ]
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=LIMIT)
    can_fit = demand.fits([node["Resources"] for node in nodes])
    while True:
        of_node = available_resources_per_node()
        free = [of_node.get(node["NodeID"], {}) for node in nodes]
        if not can_fit or demand.fits(free) or time.monotonic() > end:
            break
        time.sleep(POLL)
    answers = [
        {
            "name": f"{node['NodeManagerHostname']} ({node['NodeName']}, {node['NodeID'][:6]})",
            "total": {name: node["Resources"].get(name, 0) for name in demand.group},
            "free": {name: has.get(name, 0) for name in demand.group},
            "found": _answer(answer) if answer in ready else None,
        }
        for node, has, answer in zip(nodes, free, asked, strict=True)
    ]
    return {"address": address, "nodes": answers}


def _answer(ready: Any) -> dict[str, Any]:
    import ray

    try:
        return ray.get(ready)
    except ray.exceptions.RayError as error:  # its worker cannot start, or the node has died
        return {"error": " ".join(str(error).split())}


def main(request: str, answer: str, parent: str) -> None:
    end_with_parent(int(parent))
    try:
        found = ask(json.loads(Path(request).read_text()))
    except NotConnected as error:
        found = {"why": str(error), "authentication": error.authentication}
    Path(answer).write_text(json.dumps(found))
    os._exit(0)  # Ray takes seconds to shut down; the job ends with its driver


if __name__ == "__main__":
    main(*sys.argv[1:])
