"""A Ray cluster that a run joins: the way in, its nodes, and whether the run fits them."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from justrl_recipe import paths, processes
from justrl_recipe.checks.accelerators import CPUS_PER_GPU, queue_units
from justrl_recipe.checks.problem import Problem
from justrl_recipe.cpu import ON_THIS_MACHINE
from justrl_recipe.errors import UserError
from justrl_recipe.run.nodes import LIMIT, Demand, described

MARK = ".justrl-"  # how a file is called by which a folder is recognised
OWN = (None, "", "local")  # addresses for which a run starts a cluster of its own, as Ray reads them
START_LIMIT = 60.0  # seconds until the process that asks has imported Ray, connected and asked
TOKEN_FILE = Path("~/.ray/auth_token")  # Ray 2.60's default
RAY_LIMITS = {  # Ray 2.60's own are 60, 30 and 20 s
    "RAY_gcs_server_request_timeout_seconds": "5",
    "RAY_py_gcs_connect_timeout_s": "5",
    "RAY_gcs_server_port_wait_time_s": "3",
}
SAME = "install the same environment on every node (docs/clusters.md)"
COUNT_MORE = "start Ray with more CPUs: ray start --num-cpus=N only counts them"
SHARED = "put it on a file system that every node has, under the same path"


@dataclass(frozen=True)
class Cluster:
    """A cluster that was asked.

    Attributes:
        address: HOST:PORT of its GCS.
        token: whether it wants Ray's token.
        nodes: what each answered (run/nodes.py), in the order of their ids.
        here: the same of this machine.
    """

    address: str
    token: bool
    nodes: list[dict[str, Any]]
    here: dict[str, Any]

    @property
    def on_this_machine(self) -> bool:
        """Whether all of its nodes are."""
        return all((node["found"] or {}).get("machine") == self.here["machine"] for node in self.nodes)

    @property
    def environment(self) -> dict[str, str]:
        """With which a process joins it."""
        joins = {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token" if self.token else "disabled"}
        return joins | ({ON_THIS_MACHINE: "1"} if self.on_this_machine else {})


def address(given: str | None, config: Mapping[str, Any] | None = None) -> str | None:
    """The cluster to join, on whatever device; None for one of the run's own.

    Args:
        given: on the command line, before what is in `config` and RAY_ADDRESS.

    Raises:
        UserError: an address of Ray Client, through which veRL does not run.
    """
    section = config["ray_kwargs"].get("ray_init") if config else None
    found = given or (section or {}).get("address") or os.environ.get("RAY_ADDRESS")
    if found in OWN:
        return None
    if "://" in found:
        raise UserError(f"{found}: give the address of the cluster itself, HOST:6379, on one of its nodes")
    return found


def demand(config: Mapping[str, Any]) -> Demand:
    """What veRL takes of a cluster."""
    trainer = config["trainer"]
    each = trainer["n_gpus_per_node"]
    name = "NPU" if trainer["device"] == "npu" else "GPU"
    return Demand({name: each, "CPU": CPUS_PER_GPU * each}, trainer["nnodes"], queue_units(config))


def look(address: str, config: Mapping[str, Any], folder: Path) -> Cluster:
    """Ask every node for what a run reads and for the folders that it writes, and for room for it.

    Raises:
        UserError: there is no way into the cluster, or a folder cannot be written.
    """
    with ExitStack() as marks:
        try:
            marked = [_mark(path, marks) for path in (str(folder), *paths.of(config, paths.WRITTEN))]
        except OSError as error:
            raise UserError(f"cannot write {error.filename}: {error.strerror}") from error
        return ask(address, [*paths.of(config, paths.READ), *marked], demand(config))


def _mark(path: str, marks: ExitStack) -> str:
    """A file in a folder, or in the nearest one above it that is there; removed with the block."""
    there = next(folder for folder in (Path(path).absolute(), *Path(path).absolute().parents) if folder.is_dir())
    return marks.enter_context(tempfile.NamedTemporaryFile(dir=there, prefix=MARK)).name


def ask(address: str, looked_for: Sequence[str], wanted: Demand) -> Cluster:
    """Ask every node whether files are there, and wait up to 10 s for room for what is wanted.

    A cluster that wants a token gets the one that Ray finds, whatever RAY_AUTH_MODE is: where an address is given,
    Ray 2.60 takes it only by that variable.

    Raises:
        UserError: there is no way into the cluster.
    """
    request = {"address": address, "paths": list(looked_for), "demand": asdict(wanted)}
    answer = _child(request, "disabled")
    token = answer.get("authentication", False)
    if token and _has_token():
        answer = _child(request, "token")
    if answer.get("authentication"):
        has = "refuses this one" if _has_token() else "none is here"
        fix = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to that of its nodes (docs/clusters.md)"
        raise UserError(f"the Ray cluster at {address} wants a token, and {has}: {fix}")
    if "why" in answer:
        fix = "give the HOST:PORT that `ray start --head` printed, or unset RAY_ADDRESS to run on this machine alone"
        raise UserError(f"cannot join the Ray cluster at {address}: {answer['why']}: {fix}")
    return Cluster(answer["address"], token, answer["nodes"], described(looked_for))


def _child(request: Mapping[str, Any], auth_mode: str) -> dict[str, Any]:
    with processes.scratch_folder() as scratch:
        asked, answer, log = (Path(scratch, name) for name in ("request.json", "answer.json", "log"))
        asked.write_text(json.dumps(request))
        env = {**RAY_LIMITS, **os.environ, "RAY_AUTH_MODE": auth_mode, "RAY_ADDRESS": ""}  # it would replace `auto`
        arguments = (str(asked), str(answer), str(os.getpid()))
        with processes.child("justrl_recipe.run.nodes", *arguments, log=log, env=env) as process:
            try:
                process.wait(START_LIMIT)
            except subprocess.TimeoutExpired:
                return {"why": f"no answer within {START_LIMIT:.0f} seconds"}
        if answer.is_file():
            return json.loads(answer.read_text())
        return {"why": processes.failure(log, process.returncode)}


def _has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(named or TOKEN_FILE).expanduser().is_file()


def problems(cluster: Cluster, config: Mapping[str, Any]) -> Iterator[Problem]:
    """What is missing or differs on which node, and accelerators that are not there or that another job holds."""
    for node in cluster.nodes:
        yield from of_node(node, cluster.here)
    wanted = demand(config)
    free, total = ([node[which] for node in cluster.nodes] for which in ("free", "total"))
    has = "; ".join(f"{node['name']}: {room(node)}" for node in cluster.nodes)
    if (groups := wanted.groups_on(free)) < wanted.groups:
        need = " and ".join(f"{amount:g} {name}" for name, amount in wanted.group.items())
        why = f"{wanted.groups} groups of {need} are wanted, and there is room for {groups} ({has})"
        yield Problem("cluster", "trainer.nnodes", why, _way_to_room(wanted, total))
    elif not wanted.fits(free):
        key = "transfer_queue.backend.SimpleStorage.num_data_storage_units"
        why = (
            f"its {wanted.queue_units} units, spread over all nodes, and its controller, on any of them, take a CPU "
            f"each beside the accelerators' groups ({has})"
        )
        fix = "wait for the other job to end" if wanted.fits(total) else COUNT_MORE
        yield Problem("cluster", key, why, fix)


def _way_to_room(wanted: Demand, total: Sequence[Mapping[str, float]]) -> str:
    """For a cluster that has too little for the groups: what to do."""
    if wanted.groups_on(total) >= wanted.groups:
        return "wait for the other job to end, or lower trainer.n_gpus_per_node"
    accelerators = {name: amount for name, amount in wanted.group.items() if name != "CPU"}
    if Demand(accelerators, wanted.groups).groups_on(total) >= wanted.groups:
        return COUNT_MORE
    return "add nodes, or lower trainer.nnodes or trainer.n_gpus_per_node"


def room(node: Mapping[str, Any]) -> str:
    """`6 of 8 GPU, 90 of 96 CPU free`."""
    counts = (f"{node['free'][name]:g} of {total:g} {name}" for name, total in node["total"].items())
    return f"{', '.join(counts)} free"


def of_node(node: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong on one node."""
    name, found = f"node {node['name']}", node["found"]
    if found is None:
        yield Problem("cluster", name, f"no answer within {LIMIT:.0f} seconds", "see its Ray logs", "unchecked")
        return
    if "error" in found:
        yield Problem("cluster", name, found["error"], SAME)
        return
    for what in here["versions"].keys() | found["versions"].keys():
        there, ours = (side["versions"].get(what, "not installed") for side in (found, here))
        if there != ours:
            yield Problem("cluster", name, f"{what}: {there} there, {ours} on {platform.node()}", SAME)
    for path, ours in here["sizes"].items():
        there = found["sizes"][path]
        if there is None and Path(path).name.startswith(MARK):
            yield Problem("cluster", name, f"{Path(path).parent} is another folder than on {platform.node()}", SHARED)
        elif there is None:
            yield Problem("cluster", name, f"no {path}", SHARED)
        elif there != ours:
            yield Problem("cluster", name, f"{path} has {there:,} bytes, {ours:,} on {platform.node()}", SHARED)
