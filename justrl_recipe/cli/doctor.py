"""`verl doctor`: can this installation train, and if not, which commands mend it?"""

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Annotated

import psutil
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.text import Text

from justrl_recipe import doctor as judge
from justrl_recipe.doctor import LIMIT, VLLMS, Check, ask
from justrl_recipe.errors import UserError

EXAMPLE = "Example: verl doctor --json"
DISTRIBUTIONS = ("verl", "torch", "transformers", "ray", "TransferQueue", "math-verify")
CPU_SYSTEM = Path(__file__).parents[1] / "recipes" / "system" / "cpu.yaml"
RAY_SHARED_MEMORY = 10**10  # bytes; with less, Ray keeps its objects on the disk (its REQUIRE_SHM_SIZE_THRESHOLD)
MARKS = {"ok": ("ok", "green"), "problem": ("xx", "red"), "unknown": ("?", "yellow")}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False) -> None:
    """Tell whether this installation can train, and what mends it (exit code 1) or could not be asked (2).

    Where there are GPUs, it is asked about training on them; with CUDA_VISIBLE_DEVICES= about the CPU.
    """
    console = Console(stderr=True)
    try:
        with console.status("looking at the GPUs") as status:
            checks = examine(lambda running: status.update(f"waiting for {', '.join(running)}"))
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        raise typer.Exit(130) from interrupt
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"cannot check: {error}") from error
    found = {check.status for check in checks}
    if as_json:
        print(json.dumps({"ok": found == {"ok"}, "checks": list(map(asdict, checks))}, indent=2))
    else:
        show(checks)
    raise typer.Exit(1 if "problem" in found else 2 if "unknown" in found else 0)


def show(checks: Sequence[Check]) -> None:
    """One line per question, and under a problem what mends it."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark, colour = MARKS[check.status]
        console.print(Text.assemble((f"{mark:>3}", colour), f" {check.name:<{width}}  {check.says}"))
        if check.mend:
            console.print(Text(f"{'':>{width + 4}}  mend: {check.mend}"))


def examine(progress: Callable[[Sequence[str]], None]) -> list[Check]:
    """Ask everything, half a minute on two cores.

    Args:
        progress: called while probes run, with their names.
    """
    free = psutil.virtual_memory().available  # before the probes take theirs
    found, vllms = installed(*DISTRIBUTIONS, "flash-attn"), installed(*VLLMS)
    verl = judge.distribution("verl", found.get("verl"), pin("verl", ["justrl-recipe"]))
    sources = ["justrl-recipe", "verl"] if verl.status == "ok" else ["justrl-recipe"]
    pins = {name: pin(name, sources) for name in (*DISTRIBUTIONS, "vllm", "flash-attn")}

    expected, there = visible_gpus(), {*found, *vllms}
    answers = ask(["GPUs"], there, progress)
    on_gpu = bool(expected or (answers["GPUs"].found or [[]])[0])
    names = ["plug-in", "vLLM engine", "TransferQueue import", "Ray start"]
    answers |= ask([*names, "flash-attention"] if on_gpu else names, there, progress)
    return [
        judge.python_version(platform.python_version(), metadata("justrl-recipe")["Requires-Python"]),
        *(judge.distribution(name, found.get(name), pins[name]) for name in DISTRIBUTIONS),
        judge.vllm_distribution(vllms, pins["vllm"], on_gpu),
        judge.gpus(answers["GPUs"], expected, pins["torch"]),
        judge.flash_attention(answers.get("flash-attention"), pins["flash-attn"]),
        *(judge.probed(name, answers[name]) for name in names),
        judge.shared_memory(free_bytes("/dev/shm"), needed_shared_memory(on_gpu)),
        judge.memory(free),
        judge.disk(free_bytes("."), on_gpu),
        judge.open_files(*resource.getrlimit(resource.RLIMIT_NOFILE), on_gpu),
    ]


def installed(*names: str) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


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


def free_bytes(folder: str) -> int:
    return shutil.disk_usage(folder).free if Path(folder).exists() else 0


def needed_shared_memory(on_gpu: bool) -> int:
    """Bytes: what Ray's own default needs, or what the CPU system gives Ray and the weight sync."""
    if on_gpu:
        return RAY_SHARED_MEMORY
    system = yaml.safe_load(CPU_SYSTEM.read_text())
    megabytes = system["actor_rollout_ref"]["rollout"]["checkpoint_engine"]["update_weights_bucket_megabytes"]
    return system["ray_kwargs"]["ray_init"]["object_store_memory"] + megabytes * 2**20
