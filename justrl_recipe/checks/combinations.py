"""Settings that do not go together.

`problems`: what veRL's trainer, its rewards, Ray or `verl run` would ignore or refuse. `of_sizes` and `of_model`:
batches that do not divide over the GPUs, and sequences that exceed token budgets or the model's context.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from justrl_recipe.checks.accelerators import CPUS_PER_GPU, queue_units
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config, nearest
from justrl_recipe.planning.memory import BACKEND, FUSED, longest
from justrl_recipe.planning.model_shape import Shape

OUR_SAMPLER = "pkg://justrl_recipe.verl_hooks.reward_metrics"
PENALTY = "reward.reward_kwargs.overlong_buffer_cfg"
LOG_PROBS_EVERY = "actor_rollout_ref.rollout.custom.log_probs_every"
RUNTIME_ENV = "ray_kwargs.ray_init.runtime_env"
LOG_PATH, CACHE = "VERL_FILE_LOGGER_PATH", "VLLM_CPU_KVCACHE_SPACE"
LIGER, ROTARY = "actor_rollout_ref.model.use_liger", "LIGER_KERNEL_IMPL_ROPE"
# verl/utils/tracking.py (veRL 0.9.1), with the package that each tracker imports.
TRACKERS = {
    "console": None,
    "file": None,
    "wandb": "wandb",
    "tracking": "wandb",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "vemlp_wandb": "volcengine_ml_platform",
    "tensorboard": "tensorboard",
    "clearml": "clearml",
    "trackio": "trackio",
    "rl_insight": "rl_insight",
}


def problems(config: Config) -> Iterator[Problem]:
    yield from overlong_penalty(config)
    yield from group_filter(config)
    yield from another_trainer(config)
    yield from critic_warmup(config)
    yield from log_probs(config)
    yield from launcher(config)
    yield from rotary_kernel(config)
    yield from trackers(config)


def overlong_penalty(config: Config) -> Iterator[Problem]:
    """DAPO's penalty, which needs its reward manager, the length that it counts from, and all its keys."""
    values = config.flat
    if not values.get(f"{PENALTY}.enable"):
        return
    manager = values["reward.reward_manager.name"]
    if manager != "dapo":
        fix = "set reward.reward_manager.name=dapo"
        why = f"the reward manager {manager!r} has no such penalty"
        yield Problem("overlong-penalty", f"{PENALTY}.enable", why, fix)
    for key, example in (("len", 4096), ("penalty_factor", 1.0), ("log", "true")):
        if values.get(f"{PENALTY}.{key}") is None:
            fix = f"set it, such as to {example}"
            yield Problem("overlong-penalty", f"{PENALTY}.{key}", "the overlong penalty needs it", fix)
    longest, buffer = values.get("reward.reward_kwargs.max_resp_len"), values.get(f"{PENALTY}.len")
    if longest is None:
        fix = "set reward.reward_kwargs.max_resp_len=${data.max_response_length}"
        key = "reward.reward_kwargs.max_resp_len"
        yield Problem("overlong-penalty", key, "the overlong penalty needs it", fix)
    elif buffer is not None and not 0 < buffer <= longest:
        fix = f"give a number from 1 to {longest} (the recipe takes 4,096 of 15,360)"
        yield Problem("overlong-penalty", f"{PENALTY}.len", f"{buffer} does not fit max_resp_len={longest}", fix)


def group_filter(config: Config) -> Iterator[Problem]:
    """DAPO's dynamic sampling, which veRL 0.9.1 leaves to its own sampler, and which needs a metric."""
    sampler = config.values["trainer"]["v1"]["sampler"]["custom_sampler"]
    filter_groups = config.values["algorithm"]["filter_groups"]
    if not filter_groups["enable"]:
        return
    if sampler["path"] == OUR_SAMPLER:
        fix = "add trainer.v1.sampler.custom_sampler.path=null (reward/acc and lost responses are then not logged)"
        why = "true has no effect with the recipe's sampler"
        yield Problem("group-filter", "algorithm.filter_groups.enable", why, fix)
    if not filter_groups["metric"]:
        why = "dynamic sampling needs the metric that it compares"
        yield Problem("group-filter", "algorithm.filter_groups.metric", why, "set it, such as to acc")


def another_trainer(config: Config) -> Iterator[Problem]:
    """The trainers that `verl run` does not start, or that the recipe's sampler does not go with."""
    trainer = config.values["trainer"]
    if trainer["use_v1"] is not True:
        why = "`verl run` starts only veRL's v1 trainer"
        yield Problem("trainer", "trainer.use_v1", why, "set trainer.use_v1=true")
    if trainer["v1"]["trainer_mode"] != "sync" and trainer["v1"]["sampler"]["custom_sampler"]["path"] == OUR_SAMPLER:
        why = f"{trainer['v1']['trainer_mode']} needs veRL's own sampler, the recipe's is synchronous"
        fix = "set trainer.v1.trainer_mode=sync, or trainer.v1.sampler.custom_sampler.path=null"
        yield Problem("trainer", "trainer.v1.trainer_mode", why, fix)


def critic_warmup(config: Config) -> Iterator[Problem]:
    """veRL 0.9.1 does not update the actor for `critic_warmup` steps, even without a critic."""
    steps = config.values["trainer"]["critic_warmup"]
    if steps:
        why = f"{steps} delays the actor by as many steps, and GRPO has no critic"
        yield Problem("critic-warmup", "trainer.critic_warmup", why, "set trainer.critic_warmup=0", "warning")


def log_probs(config: Config) -> Iterator[Problem]:
    """veRL's corrections for rollout and trainer take vLLM's log-probs of every step."""
    values = config.flat
    every = values.get(LOG_PROBS_EVERY, 1)  # a run of an earlier version has no such key
    correction = [f"algorithm.rollout_correction.{name}" for name in ("rollout_is", "rollout_rs", "bypass_mode")]
    for key in correction:
        if values.get(key) and every != 1:
            why = f"{every} leaves steps without the log-probs that {key} takes"
            yield Problem("log-probs", LOG_PROBS_EVERY, why, f"set {LOG_PROBS_EVERY}=1")


def launcher(config: Config) -> Iterator[Problem]:
    """Settings of Ray that starting the run would replace (verl_hooks/train.py, run/start.py) or that Ray refuses."""
    runtime_env = config.values["ray_kwargs"]["ray_init"]["runtime_env"]
    on_cpu = config.values["trainer"]["device"] == "cpu"
    env_vars = runtime_env.get("env_vars") or {}
    if not isinstance(env_vars, Mapping):
        why = f"{env_vars!r} is not a section of variables"
        yield Problem("launcher", f"{RUNTIME_ENV}.env_vars", why, "set single variables in it")
        return
    for name, value in env_vars.items():
        key = f"{RUNTIME_ENV}.env_vars.{name}"
        if name == LOG_PATH:
            why = "the run's metrics are written to metrics.jsonl in its run folder"
            yield Problem("launcher", key, why, "remove it, and choose the folder by --out")
        elif not isinstance(value, str):
            why = f"{json.dumps(value, default=str)} is not text, and Ray accepts only text"
            yield Problem("launcher", key, why, f"quote it: {key}='\"{value}\"'")
        elif name == CACHE and on_cpu and not value.isdecimal():
            yield Problem(
                "launcher", key, f"{value!r} is not a whole number of GiB", "give it as text, such as '\"1\"'"
            )
    if on_cpu and runtime_env.get("py_executable"):
        why = "on a CPU every process is a fork of one that this package starts"
        yield Problem("launcher", f"{RUNTIME_ENV}.py_executable", why, "remove it")


def rotary_kernel(config: Config) -> Iterator[Problem]:
    """Liger 0.8.5 compiles one of its two rotary embeddings for each number of tokens (docs/performance.md)."""
    env_vars = config.values["ray_kwargs"]["ray_init"]["runtime_env"].get("env_vars") or {}
    named = isinstance(env_vars, Mapping) and env_vars.get(ROTARY) == "nvidia-triton"
    if config.flat.get(LIGER) and not named and config.values["trainer"]["device"] != "cpu":
        why = "on Hopper and later Liger may compile its rotary embedding for each micro-batch, which takes seconds"
        yield Problem("kernel", LIGER, why, f"set ++{RUNTIME_ENV}.env_vars.{ROTARY}=nvidia-triton", "warning")


def trackers(config: Config) -> Iterator[Problem]:
    """Loggers that veRL does not know, and those whose package is not installed."""
    given = config.values["trainer"]["logger"]
    for name in [given] if isinstance(given, str) else given or []:
        if not isinstance(name, str) or name not in TRACKERS:
            yield Problem(
                "logger", "trainer.logger", f"veRL has no tracker {name!r}", nearest(str(name), list(TRACKERS))
            )
        elif (package := TRACKERS[name]) and find_spec(package) is None:
            why = f"{name} needs the package {package}, which is not installed"
            yield Problem("logger", "trainer.logger", why, f"install it (docs/trackers.md), or remove {name}")


# --- sizes

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
PACKED = ("packed", "packed_torch")  # of verl_hooks/packed_attention.py, which takes seconds to import
TRITON_WIDTH = 128  # verl/utils/kernel/kernels.py


def of_sizes(config: Config) -> Iterator[Problem]:
    """What is wrong with the sizes without knowing the model."""
    yield from _batches(config.flat)
    yield from _parallel(config.flat)
    yield from _budgets(config.flat, longest(config.values))
    yield from _ray_cpus(config.values)


def of_model(config: Config, shape: Shape) -> list[Problem]:
    """What is wrong with the sizes for a model of this shape."""
    of_context = _context(config.flat, longest(config.values), shape)
    checks = (_heads, _fused_kernel, _bucket)
    return [*of_context, *(problem for check in checks for problem in check(config.flat, shape))]


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
    packed = values.get(attention) in PACKED
    if packed and values[ulysses] > 1:
        fix = f"set {ulysses}=1, or with the flash-attn package {attention}=flash_attention_2"
        yield Problem("parallelism", attention, "packed attention does not split sequences over GPUs", fix)
    if packed and not values["actor_rollout_ref.model.use_remove_padding"]:
        fix = "set actor_rollout_ref.model.use_remove_padding=true"
        yield Problem("parallelism", attention, "packed attention takes packed sequences", fix)
    if values[ulysses] > 1 and not values["actor_rollout_ref.model.use_remove_padding"]:
        fix = "set actor_rollout_ref.model.use_remove_padding=true"
        yield Problem("parallelism", ulysses, "sequences are split over GPUs only when they are packed", fix)


def _budgets(values: Mapping[str, Any], longest: int) -> Iterator[Problem]:
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


def _ray_cpus(values: Mapping[str, Any]) -> Iterator[Problem]:
    given = values["ray_kwargs"]["ray_init"]["num_cpus"]
    counted = os.cpu_count() or 1 if given is None else given
    needed = 1 + queue_units(values) + CPUS_PER_GPU * values["trainer"]["n_gpus_per_node"]
    if counted < needed:
        why = f"veRL's actors hold {needed} CPUs, and Ray counts {counted}: they would wait for ever"
        fix = f"give at least {needed}, whether or not the machine has them"
        yield Problem("launcher", "ray_kwargs.ray_init.num_cpus", why, fix)


def _context(values: Mapping[str, Any], longest: int, shape: Shape) -> Iterator[Problem]:
    if longest > shape.context:
        why = f"prompt and response of {longest} tokens exceed the model's context of {shape.context}"
        most = shape.context - values["data.max_prompt_length"]
        fix = f"give at most {most}, or take a model with a longer context"
        yield Problem("context", "data.max_response_length", why, fix)
    elif (window := values[f"{ROLLOUT}.max_model_len"] or 0) > shape.context:
        why = f"{window} tokens exceed the model's context of {shape.context}"
        yield Problem("context", f"{ROLLOUT}.max_model_len", why, f"remove it: the recipe's is {longest}")


def _heads(values: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    for key in (f"{ROLLOUT}.tensor_model_parallel_size", f"{ACTOR}.ulysses_sequence_parallel_size"):
        if shape.heads % values[key]:
            why = f"{values[key]} does not divide the model's {shape.heads} heads"
            yield Problem("parallelism", key, why, "give a divisor")


def _fused_kernel(values: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    if not values[FUSED]:
        return
    if values[f"{ACTOR}.strategy"] == "fsdp2" and values[BACKEND] == "triton":
        why = (
            "FSDP2 gives veRL's Triton kernel weights in float32 and activations in bfloat16, which it does not take"
        )
        yield Problem("kernel", f"{ACTOR}.strategy", why, f"set {ACTOR}.strategy=fsdp, or {BACKEND}=torch")
    if values[BACKEND] == "triton" and shape.hidden % TRITON_WIDTH:
        why = f"veRL's Triton kernel takes widths in multiples of {TRITON_WIDTH}, the model's is {shape.hidden}"
        yield Problem("kernel", BACKEND, why, f"set {BACKEND}=torch")


def _bucket(values: Mapping[str, Any], shape: Shape) -> Iterator[Problem]:
    """veRL hands vLLM the weights in buckets, and no matrix is split."""
    key = f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes"
    bytes_each = 4 if values[f"{ROLLOUT}.dtype"] == "float32" else 2
    largest = -(-shape.vocabulary * shape.hidden * bytes_each // 2**20)
    if values[key] < largest:
        why = f"{values[key]} MB do not hold the model's embedding of {largest}"
        yield Problem("weight-bucket", key, why, f"give {largest} or more")
