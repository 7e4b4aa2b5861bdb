"""Loads a checkpoint that another number of GPUs saved: each rank maps all shards and takes its own part of them.

veRL 0.9.1 loads only the files of its own world size (verl/utils/checkpoint/fsdp_checkpoint_manager.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import ShardedOptimStateDictConfig, ShardedStateDictConfig, StateDictType
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.utils.fsdp_utils import fsdp_version, get_fsdp_state_ctx


def load(manager: FSDPCheckpointManager, actor: Path, ranks: int) -> None:
    """Restore model, optimizer and learning-rate schedule from the shards of `ranks` ranks, on every rank.

    A rank takes over the random state of the rank of its number; where there was none, it keeps its own.

    Raises:
        NotImplementedError: FSDP1 with `use_orig_params`, whose optimizer state does not say what it is a part of.
    """
    offload = torch.cuda.is_available()  # as veRL does; FSDP1 on a CPU has nothing to offload from
    sharded = ShardedStateDictConfig(offload_to_cpu=offload), ShardedOptimStateDictConfig(offload_to_cpu=offload)
    named = f"world_size_{ranks}_rank_{{}}.pt"
    weights = [_shard(actor / f"model_{named.format(rank)}") for rank in range(ranks)]
    with get_fsdp_state_ctx(manager.model, StateDictType.SHARDED_STATE_DICT, *sharded):
        if manager.should_load_model:
            now = manager.model.state_dict()
            part = {name: _part(_whole([of_rank[name] for of_rank in weights]), now[name]) for name in weights[0]}
            manager.model.load_state_dict(part, strict=not manager.is_lora_only_state_dict(part))
        if manager.should_load_optimizer:
            moments = [_shard(actor / f"optim_{named.format(rank)}") for rank in range(_parts(weights[0]))]
            manager.optimizer.load_state_dict(_optimizer_state(manager, moments))
    if manager.should_load_extra:
        extra = _shard(actor / f"extra_state_{named.format(manager.rank % ranks)}")
        if manager.rank < ranks:
            manager.load_rng_state(extra["rng"])
        if manager.lr_scheduler is not None:
            manager.lr_scheduler.load_state_dict(extra["lr_scheduler"])
    torch.distributed.barrier()


def _shard(file: Path) -> dict[str, Any]:
    """What a rank saved; tensors stay on the disk until they are used. It is a file of veRL's own, hence a pickle."""
    return torch.load(file, map_location="cpu", mmap=True, weights_only=False)


def _parts(weights: dict[str, Any]) -> int:
    """In how many parts a tensor was sharded: fewer than there were ranks where `fsdp_size` makes replicas."""
    return next((weight.device_mesh.shape[-1] for weight in weights.values() if isinstance(weight, DTensor)), 1)


def _whole(saved: Sequence[torch.Tensor]) -> torch.Tensor:
    """The tensor that each rank saved its part of; what is no DTensor was whole on every rank."""
    first = saved[0]
    if not isinstance(first, DTensor):
        return first
    [dim] = [placement.dim for placement in first.placements if isinstance(placement, Shard)]
    return torch.cat([part.to_local() for part in saved[: first.device_mesh.shape[-1]]], dim=dim)


def _part(whole: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    """What this rank holds of `whole`, sharded and placed as `now` is."""
    if not isinstance(now, DTensor):
        return whole
    return distribute_tensor(whole, now.device_mesh, now.placements, src_data_rank=None).to(now.device)


def _optimizer_state(manager: FSDPCheckpointManager, shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The moments of what this rank holds of each parameter, by the parameter's number."""
    model = manager.model
    flat = fsdp_version(model) == 1
    if flat and model._use_orig_params:
        raise NotImplementedError("resuming on another number of GPUs needs fsdp_config.use_orig_params=false")

    def part(saved: Sequence[torch.Tensor], parameter: torch.Tensor) -> torch.Tensor:
        if flat and saved[0].ndim == 1:
            return _flat_part(saved, parameter.numel(), model.process_group.rank())
        return _part(_whole(saved), parameter) if isinstance(saved[0], DTensor) else saved[0]  # the count of steps

    parameters = [parameter for group in manager.optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {
            name: part([of_rank["state"][number][name] for of_rank in shards], parameters[number]) for name in moments
        }
        for number, moments in shards[0]["state"].items()
    }
    return {"state": state, "param_groups": shards[0]["param_groups"]}


def _flat_part(saved: Sequence[torch.Tensor], length: int, rank: int) -> torch.Tensor:
    """A rank's piece of a moment of FSDP1's flat parameter, which is cut into equal pieces and ends in zeros."""
    piece = torch.cat(list(saved))[rank * length : (rank + 1) * length]
    return torch.nn.functional.pad(piece, (0, length - piece.numel()))
