"""Whether a run fits a GPU, and what to change when it does not."""

import copy
from collections.abc import Mapping
from typing import Any

from justrl_recipe.planning import memory
from justrl_recipe.planning.shape import Shape

ACTOR, ROLLOUT, MODEL = (f"actor_rollout_ref.{name}" for name in ("actor", "rollout", "model"))


def peaks(rows: list[memory.Row]) -> tuple[float, float]:
    """Bytes of the update and of the rollout."""
    return sum(row.update for row in rows), sum(row.rollout for row in rows)


def of(shape: Shape, config: Mapping[str, Any], size: float) -> tuple[float, float]:
    """The two peaks of a config on a GPU of `size` bytes."""
    return peaks(memory.rows(shape, config, size, memory.tokens_of_micro_batch(config)))


def fixes(shape: Shape, config: dict[str, Any], size: float) -> list[str] | None:
    """Overrides that make a run fit, none of which changes what is learned; None if they are not enough."""
    chosen: dict[str, str] = {}
    for phase, changes in enumerate((_for_the_update(config), _for_the_rollout())):
        for key, value in changes:
            if of(shape, config, size)[phase] <= size:
                break
            changed = _with(config, key, value)
            if of(shape, changed, size)[phase] < of(shape, config, size)[phase]:
                config = changed
                chosen[key] = f"{key}={str(value).lower()}"
    return list(chosen.values()) if max(of(shape, config, size)) <= size else None


def _for_the_update(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    longest = config["data"]["max_prompt_length"] + config["data"]["max_response_length"]
    return [
        (f"{MODEL}.enable_gradient_checkpointing", True),
        (f"{MODEL}.use_fused_kernels", True),
        (f"{ACTOR}.ppo_max_token_len_per_gpu", longest),
    ]


def _for_the_rollout() -> list[tuple[str, Any]]:
    return [
        (f"{ROLLOUT}.gpu_memory_utilization", 0.7),
        (f"{ROLLOUT}.gpu_memory_utilization", 0.5),
        (f"{ACTOR}.fsdp_config.optimizer_offload", True),
        (f"{ACTOR}.fsdp_config.param_offload", True),
    ]


def _with(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    *sections, name = key.split(".")
    section = changed
    for part in sections:
        section = section[part]
    section[name] = value
    return changed
