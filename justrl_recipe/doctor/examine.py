"""Asks everything that decides whether this installation can train."""

import os
import platform
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import metadata, requires
from pathlib import Path

import psutil
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from justrl_recipe.config import SYSTEMS
from justrl_recipe.doctor import judge
from justrl_recipe.doctor.judge import Check
from justrl_recipe.doctor.probes import LIMIT, VLLMS, ask
from justrl_recipe.run.provenance import installed

DISTRIBUTIONS = ("verl", "torch", "transformers", "ray", "TransferQueue", "math-verify")
KERNELS = "liger-kernel"  # what the systems with GPUs need besides
RAY_SHARED_MEMORY = 10**10  # bytes; with less, Ray keeps its objects on the disk (its REQUIRE_SHM_SIZE_THRESHOLD)


def examine(progress: Callable[[Sequence[str]], None]) -> list[Check]:
    """Ask everything, half a minute on two cores.

    Args:
        progress: called while probes run, with their names.
    """
    free = psutil.virtual_memory().available  # before the probes take theirs
    found, vllms = installed(*DISTRIBUTIONS, KERNELS), installed(*VLLMS)
    verl = judge.distribution("verl", found.get("verl"), pin("verl", ["justrl-recipe"]))
    sources = ["justrl-recipe", "verl"] if verl.status == "ok" else ["justrl-recipe"]
    pins = {name: pin(name, sources) for name in (*DISTRIBUTIONS, "vllm", KERNELS)}

    expected, there = visible_gpus(), {*found, *vllms}
    answers = ask(["GPUs"], there, progress)
    on_gpu = bool(expected or (answers["GPUs"].found or [[]])[0])
    names = ["plug-in", "vLLM engine", "TransferQueue import", "Ray start"]
    distributions = list(DISTRIBUTIONS)
    if on_gpu:
        distributions.append(KERNELS)
        names.insert(0, "GPU kernels")
    answers |= ask(names[:-1], there, progress)
    answers |= ask(names[-1:], there, progress)  # alone: Ray gives up when it starts slowly
    return [
        judge.python_version(platform.python_version(), metadata("justrl-recipe")["Requires-Python"]),
        *(judge.distribution(name, found.get(name), pins[name]) for name in distributions),
        judge.vllm_distribution(vllms, pins["vllm"], on_gpu),
        judge.gpus(answers["GPUs"], expected, pins["torch"]),
        *(judge.probed(name, answers[name]) for name in names),
        judge.shared_memory(free_bytes("/dev/shm"), needed_shared_memory(on_gpu)),
        judge.memory(free),
        judge.disk(free_bytes("."), on_gpu),
        judge.network(os.environ.get("RAY_ADDRESS"), os.environ.get("RAY_AUTH_MODE"), ip_addresses()),
        judge.open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    ]


def pin(name: str, sources: Sequence[str]) -> str | None:
    """What the metadata of `sources` ask for, with all extras: the first exact version, or else the first range."""
    lines = [line for source in sources for line in requires(source) or []]
    stated = [r for r in map(Requirement, lines) if canonicalize_name(r.name) == canonicalize_name(name)]
    exact = [r for r in stated if str(r.specifier).startswith("==")]
    return str((exact or stated)[0].specifier) if stated else None


def visible_gpus() -> int:
    """How many GPUs the driver has that CUDA_VISIBLE_DEVICES does not hide."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=LIMIT).stdout
    except FileNotFoundError:
        return 0
    there = sum(line.startswith("GPU ") for line in listed.splitlines())
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return there if chosen is None else min(there, sum(one.strip() not in ("", "-1") for one in chosen.split(",")))


def ip_addresses() -> list[str]:
    """This machine's addresses."""
    families = (socket.AF_INET, socket.AF_INET6)
    return [a.address for found in psutil.net_if_addrs().values() for a in found if a.family in families]


def free_bytes(folder: str) -> int:
    return shutil.disk_usage(folder).free if Path(folder).exists() else 0


def needed_shared_memory(on_gpu: bool) -> int:
    """Bytes: what Ray's own default needs, or what the CPU system gives Ray and the weight sync."""
    if on_gpu:
        return RAY_SHARED_MEMORY
    system = yaml.safe_load((SYSTEMS / "cpu.yaml").read_text())
    megabytes = system["actor_rollout_ref"]["rollout"]["checkpoint_engine"]["update_weights_bucket_megabytes"]
    return system["ray_kwargs"]["ray_init"]["object_store_memory"] + megabytes * 2**20
