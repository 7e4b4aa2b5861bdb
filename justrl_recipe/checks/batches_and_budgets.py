"""Batches that do not divide over the GPUs, and sequences that exceed token budgets or the model's context."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config
from justrl_recipe.planning.model_shape import Shape

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
TRITON_WIDTH = 128  # verl/utils/kernel/kernels.py


def problems(config: Config) -> Iterator[Problem]:
    """What is wrong with the sizes without knowing the model."""
    yield from _batches(config.flat)
    yield from _parallel(config.flat)
    yield from _budgets(config.flat)


def of_model(config: Config, shape: Shape) -> list[Problem]:
    """What is wrong with the sizes for a model of this shape."""
    checks = (_context, _heads, _fused_kernel, _bucket)
    return [problem for check in checks for problem in check(config.flat, shape)]


def _batches(values: Mapping[str, Any]) -> Iterator[Problem]:
    train, mini, n = values["data.train_batch_size"], values[f"{ACTOR}.ppo_mini_batch_size"], values[f"{ROLLOUT}.n"]
    gpus = values["trainer.nnodes"] * values["trainer.n_gpus_per_node"]
    ranks = max(1, gpus // values[f"{ACTOR}.ulysses_sequence_parallel_size"])
    generated = values.get("data.gen_batch_size") or train
    if train % mini:
        fix = f"give a multiple, such as {mini * max(1, round(train / mini))}"
        why = f"{train} is not a multiple of {ACTOR}.ppo_mini_batch_size={mini}"
        yield Problem("batch-size", "data.train_batch_size", why, fix)
    if mini * n % ranks:
        where = f"{gpus} GPUs" if ranks == gpus else f"{ranks} groups of GPUs"
        why = f"{mini} x rollout.n={n} responses do not divide over {where}"
        yield Problem("batch-size", f"{ACTOR}.ppo_mini_batch_size", why, f"make {mini * n} a multiple of {ranks}")
    if train % generated:
        why = f"{generated} does not divide data.train_batch_size={train}"
        yield Problem("batch-size", "data.gen_batch_size", why, "remove it")
    micro = f"{ACTOR}.ppo_micro_batch_size_per_gpu"
    if not values[f"{ACTOR}.use_dynamic_bsz"] and not values[micro]:
        why = "no value, and without use_dynamic_bsz it is needed"
        yield Problem("batch-size", micro, why, "give the sequences of a micro-batch")
    if values[f"{ACTOR}.use_dynamic_bsz"] != values[f"{ROLLOUT}.log_prob_use_dynamic_bsz"]:
        why = f"it differs from {ACTOR}.use_dynamic_bsz, and veRL requires the same value"
        yield Problem("batch-size", f"{ROLLOUT}.log_prob_use_dynamic_bsz", why, "set both to the same value")


def _parallel(values: Mapping[str, Any]) -> Iterator[Problem]:
    a_node = values["trainer.n_gpus_per_node"]
    gpus = values["trainer.nnodes"] * a_node
    tensor = f"{ROLLOUT}.tensor_model_parallel_size"
    kinds = ("tensor_model", "data", "pipeline_model")
    size = math.prod(values[f"{ROLLOUT}.{kind}_parallel_size"] for kind in kinds)
    if gpus % size or (size < a_node and a_node % size):
        fix = f"give a divisor of {a_node}"
        why = f"replicas of {size} GPUs do not divide over {gpus} GPUs, {a_node} a node"
        yield Problem("parallelism", tensor, why, fix)
    ulysses = f"{ACTOR}.ulysses_sequence_parallel_size"
    if gpus % values[ulysses]:
        why = f"{values[ulysses]} does not divide {gpus} GPUs"
        yield Problem("parallelism", ulysses, why, f"give a divisor of {gpus}")
    attention = "actor_rollout_ref.model.override_config.attn_implementation"
    if values.get(attention) == "packed" and values[ulysses] > 1:
        fix = f"set {ulysses}=1, or with the flash-attn package {attention}=flash_attention_2"
        yield Problem("parallelism", attention, "packed attention does not split sequences over GPUs", fix)
    if values.get(attention) == "packed" and not values["actor_rollout_ref.model.use_remove_padding"]:
        fix = "set actor_rollout_ref.model.use_remove_padding=true"
        yield Problem("parallelism", attention, "packed attention takes packed sequences", fix)
    if values[ulysses] > 1 and not values["actor_rollout_ref.model.use_remove_padding"]:
        fix = "set actor_rollout_ref.model.use_remove_padding=true"
        yield Problem("parallelism", ulysses, "sequences are split over GPUs only when they are packed", fix)


def _budgets(values: Mapping[str, Any]) -> Iterator[Problem]:
    longest = values["data.max_prompt_length"] + values["data.max_response_length"]
    split = values[f"{ACTOR}.ulysses_sequence_parallel_size"]
    for switch, budget in (
        (f"{ACTOR}.use_dynamic_bsz", f"{ACTOR}.ppo_max_token_len_per_gpu"),
        (f"{ROLLOUT}.log_prob_use_dynamic_bsz", f"{ROLLOUT}.log_prob_max_token_len_per_gpu"),
    ):
        if values[switch] and values[budget] * split < longest:
            times = f" x {split} GPUs a sequence" if split > 1 else ""
            why = f"{values[budget]} tokens{times} do not hold prompt and response of {longest}"
            fix = f"give at least {-(-longest // split)}: veRL would stop at the first that long"
            yield Problem("token-budget", budget, why, fix)
    window = values[f"{ROLLOUT}.max_model_len"]
    if window is not None and window < longest:
        why = f"{window} tokens do not hold prompt and response of {longest}: vLLM would cut responses silently"
        yield Problem("token-budget", f"{ROLLOUT}.max_model_len", why, f"give at least {longest}, or null")


def _context(values: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    longest = values["data.max_prompt_length"] + values["data.max_response_length"]
    if longest > shape.context:
        why = f"prompt and response of {longest} tokens exceed the model's context of {shape.context}"
        most = shape.context - values["data.max_prompt_length"]
        fix = f"give at most {most}, or take a model with a longer context"
        yield Problem("context", "data.max_response_length", why, fix)


def _heads(values: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    for key in (f"{ROLLOUT}.tensor_model_parallel_size", f"{ACTOR}.ulysses_sequence_parallel_size"):
        if shape.heads % values[key]:
            why = f"{values[key]} does not divide the model's {shape.heads} heads"
            yield Problem("parallelism", key, why, "give a divisor")


def _fused_kernel(values: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    backend = "actor_rollout_ref.model.fused_kernel_options.impl_backend"
    if not values["actor_rollout_ref.model.use_fused_kernels"] or values[backend] != "triton":
        return
    if shape.hidden % TRITON_WIDTH:
        why = f"veRL's Triton kernel takes widths in multiples of {TRITON_WIDTH}, the model's is {shape.hidden}"
        yield Problem("kernel", backend, why, f"set {backend}=torch")


def _bucket(values: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    """veRL hands vLLM the weights in buckets, and no matrix is split."""
    key = f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes"
    bytes_each = 4 if values[f"{ROLLOUT}.dtype"] == "float32" else 2
    largest = -(-shape.vocabulary * shape.hidden * bytes_each // 2**20)
    if values[key] < largest:
        why = f"{values[key]} MB do not hold the model's embedding of {largest}"
        yield Problem("weight-bucket", key, why, f"give {largest} or more")
