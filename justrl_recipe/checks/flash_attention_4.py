"""What FlashAttention 4 (`attn_implementation: packed_fa4`) takes of a config, a model and this machine."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from justrl_recipe.checks.problem import Problem
from justrl_recipe.gpus import Gpus
from justrl_recipe.planning.model_shape import Shape

ATTENTION = "actor_rollout_ref.model.override_config.attn_implementation"
NAME = "packed_fa4"  # in verl_hooks/packed_attention.py, which takes seconds to import
INSTEAD = f"set {ATTENTION}=packed"
# Where its gradients were compared (docs/performance.md): the compute capability of H100 and H200, features a head.
HOPPER, HEAD_SIZE = 9, 128
MODULES = {"cutlass": "nvidia-cutlass-dsl", "quack": "quack-kernels"}  # which vLLM's wheel for CUDA requires


def of_device(values: Mapping[str, Any]) -> Iterator[Problem]:
    """`values`: a config by dotted keys, as in the next function."""
    if values.get(ATTENTION) == NAME and values["trainer.device"] == "cpu":
        yield Problem("kernel", ATTENTION, "FlashAttention 4 is for GPUs", INSTEAD)


def of_model(values: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    if values.get(ATTENTION) == NAME and shape.head_size != HEAD_SIZE:
        why = f"the gradients of FlashAttention 4 were compared for heads of {HEAD_SIZE}, not of {shape.head_size}"
        yield Problem("kernel", ATTENTION, why, INSTEAD)


def of_machine(values: Mapping[str, Any], found: Gpus) -> Iterator[Problem]:
    """What the GPUs of this machine, or what is installed beside them, lacks.

    Args:
        values: a resolved config.
    """
    if values["actor_rollout_ref"]["model"]["override_config"].get("attn_implementation") != NAME:
        return
    if found.capability[0] != HOPPER:
        why = f"the gradients of FlashAttention 4 were compared on H200s, and here are {found.name}"
        yield Problem("kernel", ATTENTION, why, INSTEAD)
    if missing := [package for module, package in MODULES.items() if find_spec(module) is None]:
        fix = f"install requirements/gpu.txt, or {INSTEAD}"
        yield Problem("kernel", ATTENTION, f"FlashAttention 4 needs {' and '.join(missing)}", fix)
