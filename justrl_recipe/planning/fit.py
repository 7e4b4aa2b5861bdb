"""What to change where a run does not fit: nothing that changes what is learned, or that `verl validate` refuses."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from justrl_recipe.checks import combinations, model
from justrl_recipe.config import Config, leaves, put
from justrl_recipe.planning.memory import ACTOR, BACKEND, FUSED, GIB, MODEL, ROLLOUT, ROLLOUTS, UPDATE, longest, peaks
from justrl_recipe.planning.model_shape import Shape


@dataclass(frozen=True)
class Fit:
    """Changes, none of which changes what is learned, and the bytes by which a run exceeds the memory with them."""

    changes: dict[str, Any]
    over: float

    def __str__(self) -> str:
        given = " ".join(f"{key}={str(value).lower()}" for key, value in self.changes.items())
        if not self.over:
            return f"give {given}"
        tried = f"tried {given}, still" if given else "nothing saves memory,"
        return f"{tried} {at_least(self.over)} GiB over"


def at_least(size: float) -> str:
    """Bytes as GiB, rounded up to a tenth: what is too little never reads as 0.0."""
    return f"{math.ceil(10 * size / GIB) / 10:.1f}"


def fit(shape: Shape, config: dict[str, Any], memory: float, phases: Sequence[int] = (UPDATE, ROLLOUTS)) -> Fit:
    """What makes a run fit: of the changes below, in their order, those that save memory where it is short."""
    chosen: dict[str, Any] = {}
    refused = _refused(shape, config)
    for phase in phases:
        for changes in (_for_the_update(config), _for_the_rollout())[phase]:
            if peaks(shape, config, memory)[phase] <= memory:
                break
            changed = copy.deepcopy(config)
            for key, value in changes.items():
                put(changed, key, value)
            saves = peaks(shape, changed, memory)[phase] < peaks(shape, config, memory)[phase]
            if saves and _refused(shape, changed) <= refused:
                before, after = dict(leaves(config)), dict(leaves(changed))
                chosen |= {key: value for key, value in after.items() if before[key] != value}
                config = changed
    both = peaks(shape, config, memory)
    return Fit(chosen, max(0.0, max(both[phase] for phase in phases) - memory))


def _refused(shape: Shape, config: dict[str, Any]) -> set[str]:
    """What `verl validate` has against the sizes, the kernels and the model of a config."""
    values, path = Config({}, config), str(config["actor_rollout_ref"]["model"]["path"])
    found = [*combinations.of_sizes(values), *combinations.of_model(values, shape), *model.architecture(values, path)]
    return {f"{problem.check} {problem.key}" for problem in found if problem.level == "error"}


def _for_the_update(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {f"{MODEL}.enable_gradient_checkpointing": True},
        {FUSED: True},
        {FUSED: True, BACKEND: "torch"},
        {f"{ACTOR}.ppo_max_token_len_per_gpu": longest(config)},
        {f"{ACTOR}.strategy": "fsdp2", f"{ACTOR}.fsdp_config.offload_policy": True, BACKEND: "torch"},
    ]


def _for_the_rollout() -> list[dict[str, Any]]:
    return [
        {f"{ROLLOUT}.gpu_memory_utilization": 0.7},
        {f"{ROLLOUT}.gpu_memory_utilization": 0.5},
        {f"{ACTOR}.fsdp_config.optimizer_offload": True},
        {f"{ACTOR}.fsdp_config.param_offload": True},
    ]
