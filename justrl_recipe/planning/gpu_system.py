"""The system file that GPUs amount to: settings by `verl plan`'s formulas, each with its reason. Asks no machine.

What is set here never changes what a run learns: free_keys.yaml lists all of it. A setting that was measured on one
kind of GPU alone is taken there alone.
"""

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from justrl_recipe.checks.combinations import TRITON_WIDTH
from justrl_recipe.config import put
from justrl_recipe.errors import UserError
from justrl_recipe.gpus import Gpus
from justrl_recipe.planning import fit as fitting
from justrl_recipe.planning import memory
from justrl_recipe.planning.memory import ACTOR, BACKEND, GIB, MODEL, ROLLOUT
from justrl_recipe.planning.model_shape import Shape

OLDEST = (8, 0)  # Ampere: the first with bfloat16 and with the kernels of packed attention
HOPPER = 9  # where veRL's Triton log-probs were measured (docs/performance.md)
ROOM = 0.95  # of the free memory that an update may fill; no estimate was too low (docs/planning.md)
# What vLLM took beyond its share with 256 responses at once on an H200; a smaller GPU's cache holds fewer.
BEYOND, BEYOND_SHARE = 17 * GIB, 0.2
MOST = 0.85  # of a GPU for vLLM: the paper's own share
UTILIZATION = f"{ROLLOUT}.gpu_memory_utilization"
COMMENT = 38  # columns before the reasons


@dataclass(frozen=True)
class Setting:
    key: str
    value: Any
    why: str = ""


def settings(
    gpus: Gpus, config: Mapping[str, Any], shape: Shape, flash_attention: bool, system: str = "gpu"
) -> list[Setting]:
    """What a system file for these GPUs sets beyond shared/gpu.yaml.

    Args:
        config: the resolved config of the run on shared/gpu.yaml.
        flash_attention: whether the flash-attn package is installed.
        system: what the system is called.

    Raises:
        UserError: the run does not fit, or the GPUs are too old.
    """
    if gpus.capability < OLDEST:
        wanted, found = (".".join(map(str, pair)) for pair in (OLDEST, gpus.capability))
        why = f"{gpus.name} has compute capability {found}, and bfloat16 and the kernels take {wanted}"
        raise UserError(f"{why}: choose other GPUs by CUDA_VISIBLE_DEVICES, or take a recipe for the CPU (verl ls)")
    values, count = copy.deepcopy(dict(config)), _count(gpus, config)
    chosen = [
        Setting("machine.system", system),
        Setting("machine.name", gpus.name),
        Setting("machine.memory_gib", gpus.memory_gib),
        Setting("trainer.nnodes", config["trainer"]["nnodes"]),
        count,
        *_kernels(gpus, shape, flash_attention),
    ]
    for setting in chosen:
        put(values, setting.key, setting.value)
    chosen += _update(gpus, values, shape)
    if count.value > 1 and values["actor_rollout_ref"]["actor"]["strategy"] == "fsdp":
        why = "gathers the next layer's weights while a layer computes"
        chosen.append(Setting(f"{ACTOR}.fsdp_config.forward_prefetch", True, why))
    chosen += _rollout(gpus, values, shape)
    return list({setting.key: setting for setting in chosen}.values())


def _count(gpus: Gpus, config: Mapping[str, Any]) -> Setting:
    """As many GPUs as a mini-batch divides over."""
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    responses, nodes = actor["ppo_mini_batch_size"] * rollout["n"], config["trainer"]["nnodes"]
    count = next((number for number in range(gpus.count, 0, -1) if responses % (nodes * number) == 0), gpus.count)
    why = "" if count == gpus.count else f"of {gpus.count}: a mini-batch of {responses} responses divides over these"
    return Setting("trainer.n_gpus_per_node", count, why)


def _kernels(gpus: Gpus, shape: Shape, flash_attention: bool) -> list[Setting]:
    found = []
    if flash_attention:
        key = f"{MODEL}.override_config.attn_implementation"
        found.append(Setting(key, "flash_attention_2", "the flash-attn package is installed"))
    if gpus.capability[0] != HOPPER:
        found.append(Setting(BACKEND, "torch", "Triton's was measured on Hopper alone"))
    elif shape.hidden % TRITON_WIDTH:
        found.append(Setting(BACKEND, "torch", f"Triton's takes widths in multiples of {TRITON_WIDTH}"))
    return found


def _update(gpus: Gpus, values: dict[str, Any], shape: Shape) -> list[Setting]:
    """What makes the update fit; puts it into `values`.

    Raises:
        UserError: nothing does.
    """
    budget, longest = f"{ACTOR}.ppo_max_token_len_per_gpu", memory.longest(values)
    found = []
    if values["actor_rollout_ref"]["actor"]["ppo_max_token_len_per_gpu"] < longest:
        found.append(Setting(budget, longest, "one full sequence"))
        put(values, budget, longest)
    room = ROOM * gpus.free_gib * GIB
    needed = memory.peaks(shape, values, room)[0] / GIB
    fit = fitting.fit(shape, values, room, phases=(memory.UPDATE,))
    if fit.over:
        why = f"an update takes {needed:.1f} GiB, and {gpus.name} has {gpus.free_gib:.1f} free: {fit}"
        raise UserError(f"{why}{_in_use(gpus)}")
    for key, value in fit.changes.items():
        put(values, key, value)
    host = f"with it {memory.on_host(shape, values) / GIB:.1f} GiB of the host's memory"
    reasons = {f"{ACTOR}.fsdp_config.offload_policy": host, f"{ACTOR}.strategy": "which has offload_policy"}
    for key, value in fit.changes.items():
        found.append(Setting(key, value, reasons.get(key, f"else an update takes {needed:.1f} GiB")))
    if values["actor_rollout_ref"]["actor"]["fsdp_config"]["offload_policy"]:
        found += _larger_micro_batches(values, shape, room)
    return found


def _larger_micro_batches(values: dict[str, Any], shape: Shape, room: float) -> list[Setting]:
    """As many full sequences as fit: each micro-batch moves weights and gradients (docs/planning.md)."""
    budget, longest = f"{ACTOR}.ppo_max_token_len_per_gpu", memory.longest(values)
    tried = copy.deepcopy(values)

    def fits(sequences: int) -> bool:
        put(tried, budget, sequences * longest)
        filled = memory.tokens_of_micro_batch(tried) == sequences * longest
        return filled and memory.peaks(shape, tried, room)[0] <= room

    sequences = next(number for number in itertools.count(1) if not fits(number + 1))
    if sequences == 1:
        return []
    put(values, budget, sequences * longest)
    return [Setting(budget, sequences * longest, f"{sequences} full sequences: each time the whole model moves")]


def _in_use(gpus: Gpus) -> str:
    """What to do where others hold a GPU's memory."""
    if gpus.free_gib > ROOM * gpus.memory_gib:
        return ""
    held = f"{gpus.memory_gib - gpus.free_gib:.1f} GiB of GPU {gpus.fullest}"
    return f": other processes hold {held}, stop them or choose other GPUs by CUDA_VISIBLE_DEVICES"


def _rollout(gpus: Gpus, values: dict[str, Any], shape: Shape) -> list[Setting]:
    """vLLM's share of what is free beside the trainer's state, which is offloaded where the rest is too little.

    Raises:
        UserError: the rest holds no full response.
    """
    size, fsdp = gpus.memory_gib * GIB, f"{ACTOR}.fsdp_config"
    beyond = min(BEYOND, BEYOND_SHARE * size)
    found = []
    for offload in (None, "optimizer_offload", "param_offload"):
        if offload:
            put(values, f"{fsdp}.{offload}", True)
            found.append(Setting(f"{fsdp}.{offload}", True, "without, vLLM's share would hold no full response"))
        put(values, UTILIZATION, 0.0)
        trainer = memory.peaks(shape, values, size)[1]
        share = _twentieths(min(MOST, (gpus.free_gib * GIB - trainer - beyond) / size))
        put(values, UTILIZATION, share)
        if share > 0 and memory.responses_at_once(shape, values, size):
            why = (
                f"of {gpus.free_gib:.1f} GiB free, {trainer / GIB:.1f} are the trainer's and {beyond / GIB:.1f} spare"
            )
            return [*found, Setting(UTILIZATION, share, why)]
    why = f"{gpus.name} has {gpus.free_gib:.1f} GiB free, which hold no full response beside the model"
    raise UserError(f"{why}{_in_use(gpus) or ': it takes more GPUs, or larger ones'}")


def _twentieths(share: float) -> float:
    """A share rounded down to 0.05."""
    return math.floor(20 * share + 1e-9) / 20


def text(chosen: list[Setting], head: list[str]) -> str:
    """The system file; `head` are the lines of its opening comment."""
    lines = ["# @package _global_", *(f"# {line}" for line in head), "defaults:", "  - shared/gpu", "  - _self_", ""]
    opened = set()
    for setting in sorted(chosen, key=lambda setting: _order(setting.key)):
        *sections, name = setting.key.split(".")
        for depth, section in enumerate(sections):
            if (path := ".".join(sections[: depth + 1])) not in opened:
                lines.append(f"{'  ' * depth}{section}:")
                opened.add(path)
        line = f"{'  ' * len(sections)}{name}: {yaml.safe_dump(setting.value).splitlines()[0]}"
        lines.append(f"{line:<{COMMENT}} # {setting.why}" if setting.why else line)
    return "\n".join(lines) + "\n"


def _order(key: str) -> tuple[int, list[str]]:
    """Sections together, the machine first; the settings of one section stay as they were chosen."""
    sections = key.split(".")[:-1]
    return ["machine", "trainer", "actor_rollout_ref"].index(sections[0]), sections
