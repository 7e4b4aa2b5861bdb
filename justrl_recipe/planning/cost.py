"""What a run costs: tokens and GPU hours, beside the budgets that the paper compares, and disk for checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from justrl_recipe.config import leaves
from justrl_recipe.planning.memory import BYTES
from justrl_recipe.planning.model_shape import Shape

MEASURED = Path(__file__).with_name("measured.yaml")
# Tokens if every response is full: the paper's own way of counting (its table of token budgets).
PAPER = {
    "justrl_deepseek": {"JustRL": 1.4e11, "ProRL-V2": 2.8e11, "BroRL": 6.8e11},
    "justrl_nemotron": {"JustRL": 1.1e11, "QuestA": 2.6e11},
}
# What changes the time of a step and was in no measurement.
UNMEASURED = (
    "actor_rollout_ref.model.lora_rank",
    "actor_rollout_ref.actor.use_kl_loss",
    "algorithm.use_kl_in_reward",
    *(f"actor_rollout_ref.actor.fsdp_config.{name}" for name in ("param_offload", "optimizer_offload")),
    "actor_rollout_ref.actor.fsdp_config.offload_policy",
)
# The paper's figure of response lengths: from 8,000 tokens to 4,000-5,000 by step 1,000.
LENGTH_AT_START, LENGTH_LATE, SETTLED = 8_000, 4_500, 1_000
PROMPT = 150  # tokens of a problem of DAPO-Math-17k with the template, about


@dataclass(frozen=True)
class Throughput:
    """Tokens per second and GPU, and where the figure comes from."""

    tokens_per_second: float
    source: str


def measured(recipe: str, gpu: str, config: Mapping[str, Any], parameters: int) -> Throughput | None:
    """The throughput that was measured for a recipe on nodes of as many GPUs of this name; None where it was not.

    It holds for models of within a quarter of the parameters, and without what was in no measurement.
    """
    flat, a_node = dict(leaves(config)), config["trainer"]["n_gpus_per_node"]
    for found in yaml.safe_load(MEASURED.read_text()).get(recipe, []):
        here = gpu in found["gpu"] and a_node == found["a_node"] and 0.75 < parameters / found["parameters"] < 1.25
        if here and not any(flat[key] for key in UNMEASURED):
            return Throughput(found["tokens_per_second"], found["source"])
    return None


def responses(config: Mapping[str, Any]) -> int:
    """How many responses the run generates for training."""
    a_step = config["data"]["train_batch_size"] * config["actor_rollout_ref"]["rollout"]["n"]
    return config["trainer"]["total_training_steps"] * a_step


def most_tokens(config: Mapping[str, Any]) -> int:
    """Tokens of the responses if every one is full, as the paper counts."""
    return responses(config) * config["data"]["max_response_length"]


def expected_length(config: Mapping[str, Any]) -> float:
    """The mean response length over a full run, by the paper's figure: down to the late length, then flat.

    Where the responses are shorter than the recipe's nothing is known, and the longest is taken.
    """
    steps, longest = config["trainer"]["total_training_steps"], config["data"]["max_response_length"]
    if longest < LENGTH_AT_START:
        return longest
    falling = min(steps, SETTLED)
    lengths = falling * (LENGTH_AT_START + LENGTH_LATE) / 2 + (steps - falling) * LENGTH_LATE
    return lengths / steps


def gpu_hours(config: Mapping[str, Any], length: float, throughput: float) -> float:
    """GPU hours of the training steps.

    Args:
        length: the mean response, in tokens.
        throughput: tokens of prompts and responses per second and GPU.
    """
    return responses(config) * (length + min(PROMPT, config["data"]["max_prompt_length"])) / throughput / 3600


def checkpoint_bytes(config: Mapping[str, Any], shape: Shape) -> int:
    """Bytes of one checkpoint: the weights as they are trained, Adam's two moments, and a bfloat16 copy if asked.

    With LoRA the moments are of the adapters alone.
    """
    actor, model = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["model"]
    fsdp, contents = actor["fsdp_config"], actor["checkpoint"]["save_contents"]
    gpus = config["trainer"]["nnodes"] * config["trainer"]["n_gpus_per_node"]
    copies = gpus // fsdp["fsdp_size"] if 0 < fsdp["fsdp_size"] < gpus else 1  # every rank writes its shard
    width = BYTES[fsdp["model_dtype"]]
    adapters = shape.adapter_parameters(model["lora_rank"], model["target_modules"])
    weights, trained = shape.parameters + adapters, adapters or shape.parameters
    sharded = copies * width * (weights * ("model" in contents) + 2 * trained * ("optimizer" in contents))
    return sharded + 2 * weights * ("hf_model" in contents)


def checkpoints(config: Mapping[str, Any]) -> int:
    """The most checkpoints that are on disk at once; veRL saves the last step in any case."""
    trainer = config["trainer"]
    if trainer["save_freq"] <= 0:
        return 0
    saves = -(-trainer["total_training_steps"] // trainer["save_freq"])
    keep = trainer["max_actor_ckpt_to_keep"]
    return min(saves, keep + beside_the_last(config)) if keep else saves


def beside_the_last(config: Mapping[str, Any]) -> int:
    """How many checkpoints there can be beside the last ones that are kept: the one that is saved, and the best."""
    return 1 + (config["trainer"]["test_freq"] > 0)


def disk(config: Mapping[str, Any], shape: Shape) -> str:
    """How much disk the checkpoints take at most."""
    count, each = checkpoints(config), checkpoint_bytes(config, shape)
    return f"{count} of {readable(each)}: {readable(count * each)}"


def readable(number: float) -> str:
    """A number of bytes in GB or MB."""
    return f"{number / 1e9:,.0f} GB" if number >= 1e10 else f"{number / 1e6:,.1f} MB"
