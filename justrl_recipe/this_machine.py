"""The system `gpu`: what this machine's GPUs amount to, asked for by name or since a recipe's own does not fit."""

import json
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from justrl_recipe import config, gpus
from justrl_recipe.config import THIS_MACHINE, Config, Request
from justrl_recipe.errors import UserError
from justrl_recipe.gpus import Gpus
from justrl_recipe.own_files import Made
from justrl_recipe.planning import gpu_system, model_shape
from justrl_recipe.run import cluster

SHARED = """
defaults: [shared/gpu, _self_]
machine: {{system: gpu, name: {name}, memory_gib: {memory_gib}}}
trainer: {{nnodes: 1, n_gpus_per_node: {count}}}
"""
KEPT = "the recipe's own system is kept, whether or not it fits this machine"


def load(request: Request, address: str | None = None, instead: bool = True) -> tuple[Request, Config, list[str]]:
    """The request with the system that it gets on this machine, its config, and what to say of the system.

    Args:
        address: of a Ray cluster on the command line; a run in a cluster keeps its recipe's own system.
        instead: whether the system takes the place of a recipe's own that does not fit.

    Raises:
        UserError: as `config.load`; `--system gpu` without a GPU, with GPUs of several kinds, or on which the run
            does not fit.
    """
    if request.system == THIS_MACHINE:
        return _made(request, here(), f"--system {THIS_MACHINE}")
    composed = config.load(request)
    if request.system is not None or not instead:
        return request, composed, []
    try:
        found = gpus.find()
    except UserError as error:
        on_gpus = composed.values["trainer"]["device"] == "cuda"
        return request, composed, [f"{KEPT}: {error}"] if on_gpus else []
    why = found and _does_not_fit(composed, found, address)
    if not found or not why:
        return request, composed, []
    try:
        return _made(request, found, why)
    except UserError as error:
        return request, composed, [f"{KEPT}: {error}"]


def _made(request: Request, found: Gpus, why: str) -> tuple[Request, Config, list[str]]:
    text = system_file(request, found)
    said = [f"{why}: the system is made of these GPUs, by estimates (docs/gpus.md)", *text.splitlines()]
    made = with_made(request, text)
    return made, config.load(made), said


def with_made(request: Request, text: str) -> Request:
    """The request on a system that is not on disk."""
    return replace(request, system=THIS_MACHINE, made=Made(f"{THIS_MACHINE}.yaml", text))


def here() -> Gpus:
    """The GPUs of this machine.

    Raises:
        UserError: there are none, or of several kinds.
    """
    found = gpus.find()
    if found is None:
        why = f"{gpus.CHOICE} hides all of them" if gpus.hidden() else "nvidia-smi is not on PATH"
        raise UserError(f"the system {THIS_MACHINE}: no GPU here, {why} (verl doctor)")
    return found


def _does_not_fit(composed: Config, found: Gpus, address: str | None) -> str | None:
    """Why a recipe's own system is not this machine; None where it is, was not shipped, or is of a cluster."""
    name, trainer = composed.shipped_system, composed.values["trainer"]
    if name is None or trainer["device"] != "cuda" or cluster.address(address, composed.values):
        return None
    wanted, memory_gib = composed.values["machine"]["name"], composed.values["machine"]["memory_gib"]
    count = trainer["nnodes"] * trainer["n_gpus_per_node"]
    if trainer["nnodes"] == 1 and count <= found.count and found.are(wanted, memory_gib):
        return None
    return f"the recipe's system {name} is {count} x {wanted}, and here are {found.count} x {found.name}"


def system_file(request: Request, found: Gpus) -> str:
    """The system file of this machine's GPUs for a run.

    Raises:
        UserError: the run does not fit on them, or its model is not here.
    """
    values = on_shared(request, found)
    asked = values["trainer"]["n_gpus_per_node"]
    if asked > found.count:
        raise UserError(f"trainer.n_gpus_per_node={asked}: here are {found.count} x {found.name}")
    shape, flash_attention = model_shape.required(values), find_spec("flash_attn") is not None
    chosen = gpu_system.settings(replace(found, count=asked), values, shape, flash_attention)
    about = f"{found.count} x {found.name} of {found.memory_gib} GiB, {found.free_gib} free, for {request.recipe}."
    return gpu_system.text(chosen, [about, f"Run:   verl run {request.recipe} --system FILE"])


def on_shared(request: Request, found: Gpus) -> dict[str, Any]:
    """The resolved config of a run with what all systems with GPUs share, and nothing for their memory."""
    shared = SHARED.format(name=json.dumps(found.name), memory_gib=found.memory_gib, count=found.count)
    return config.load(with_made(request, shared)).values
