"""What a run takes of Ray and of its machine, and whether this one has it where the run joins no cluster."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import psutil

from justrl_recipe import gpus
from justrl_recipe.checks.problem import Problem
from justrl_recipe.errors import UserError
from justrl_recipe.gpus import Gpus
from justrl_recipe.planning import memory, model_shape

CPUS_PER_GPU = 3  # of veRL 0.9.1's placement groups: max_colocate_count in verl/single_controller/ray/base.py
COUNT = "trainer.n_gpus_per_node"


def queue_units(values: Mapping[str, Any]) -> int:
    """TransferQueue's storage units, of which each holds one of Ray's CPUs, as its controller does."""
    backend = values["transfer_queue"]["backend"]
    return backend["SimpleStorage"]["num_data_storage_units"] if backend["storage_backend"] == "SimpleStorage" else 0


def problems(values: Mapping[str, Any]) -> Iterator[Problem]:
    """What this machine lacks for a run that joins no cluster; veRL and Ray would wait for it, or say so late.

    Args:
        values: a resolved config.
    """
    trainer = values["trainer"]
    if trainer["device"] != "cuda":
        return
    if trainer["nnodes"] > 1:
        why = f"{trainer['nnodes']} nodes are wanted, and the run joins no Ray cluster"
        fix = "set RAY_ADDRESS to that of a cluster (docs/clusters.md), or choose a system of one node (verl ls)"
        yield Problem("accelerators", "trainer.nnodes", why, fix)
        return
    found, unknown = None, ""
    try:
        found = gpus.find()
    except UserError as error:
        unknown = f" ({error})"
    if found:
        yield from _differences(values, found)
    elif trainer["n_gpus_per_node"] > (here := _count_by_torch()):
        why = f"{trainer['n_gpus_per_node']} wanted, and torch finds {here} here{unknown}"
        yield Problem("accelerators", COUNT, why, "run it where GPUs are (verl doctor); justrl_tiny needs none")


def warnings(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Where the GPUs of this machine, if it has any, are not those of a config of one node; it may run elsewhere."""
    trainer = values["trainer"]
    if trainer["device"] != "cuda" or trainer["nnodes"] > 1:
        return
    try:
        found = gpus.find()
    except UserError:
        return
    if found:
        yield from (replace(problem, level="warning") for problem in _differences(values, found))


def _differences(values: Mapping[str, Any], found: Gpus) -> Iterator[Problem]:
    """Where a config of one node is for other GPUs than those found, or for a machine with more memory."""
    wanted, machine = values["trainer"]["n_gpus_per_node"], values.get("machine") or {}
    name, memory_gib = machine.get("name"), machine.get("memory_gib")
    here = f"{found.count} x {found.name} of {found.memory_gib:g} GiB"
    if wanted > found.count:
        fix = "lower it, or choose --system gpu, which is made of the GPUs here"
        yield Problem("accelerators", COUNT, f"{wanted} wanted, and here are {here}", fix)
    elif name and memory_gib and not found.are(name, memory_gib):
        why = f"the system is for {name} of {memory_gib:g} GiB, and here are {here}"
        fix = "choose --system gpu, which is made of the GPUs here"
        yield Problem("accelerators", "machine.name", why, fix, level="warning")
    offloaded, free = wanted * _offloaded_gib(values), psutil.virtual_memory().available / memory.GIB
    if offloaded > free:
        why = f"{offloaded:.1f} GiB of it are for offloaded state (verl plan), and {free:.1f} are free"
        fix = "end other processes, or run on a machine with more"
        yield Problem("host-memory", "this machine's memory", why, fix, level="warning")


def _offloaded_gib(values: Mapping[str, Any]) -> float:
    """GiB of the host's memory for the state of one GPU; 0 where the model is not estimated."""
    try:
        return memory.on_host(model_shape.required(values), values) / memory.GIB
    except UserError:
        return 0.0


def _count_by_torch() -> int:
    """GPUs of which nvidia-smi says nothing, such as AMD's, parts of one, or any in a container without it."""
    import torch

    return torch.cuda.device_count()
