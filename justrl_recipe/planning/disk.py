"""What a run's checkpoints take on disk."""

from collections.abc import Mapping
from typing import Any

from justrl_recipe.planning.memory import BYTES
from justrl_recipe.planning.shape import Shape


def of_checkpoint(config: Mapping[str, Any], shape: Shape) -> int:
    """Bytes of one checkpoint: the weights as they are trained, Adam's two moments, and a bfloat16 copy if asked."""
    actor = config["actor_rollout_ref"]["actor"]
    fsdp, contents = actor["fsdp_config"], actor["checkpoint"]["save_contents"]
    gpus = config["trainer"]["nnodes"] * config["trainer"]["n_gpus_per_node"]
    copies = gpus // fsdp["fsdp_size"] if 0 < fsdp["fsdp_size"] < gpus else 1  # every rank writes its shard
    width = BYTES[fsdp["model_dtype"]]
    per_parameter = copies * width * (("model" in contents) + 2 * ("optimizer" in contents))
    return shape.parameters * (per_parameter + 2 * ("hf_model" in contents))


def kept(config: Mapping[str, Any]) -> int:
    """How many checkpoints are on disk at the end; veRL saves the last step in any case."""
    trainer = config["trainer"]
    if trainer["save_freq"] <= 0:
        return 0
    saves = -(-trainer["total_training_steps"] // trainer["save_freq"])
    return min(saves, trainer["max_actor_ckpt_to_keep"] or saves)


def of_run(config: Mapping[str, Any], shape: Shape) -> int:
    """Bytes of all the checkpoints that a run keeps."""
    return kept(config) * of_checkpoint(config, shape)
