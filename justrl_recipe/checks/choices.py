"""Values that veRL 0.9.1 takes from a list of its own, so that a typing error is found before the start."""

from collections.abc import Iterator
from typing import Any

from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config, nearest

ACTOR, ROLLOUT, MODEL = (f"actor_rollout_ref.{name}" for name in ("actor", "rollout", "model"))
PRECISIONS = ("fp32", "float32", "bf16", "bfloat16", "fp16", "float16")  # verl/utils/torch_dtypes.py
KL = ("kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3")  # verl/trainer/ppo/core_algos.py, kl_penalty
KL_PENALTIES = (*KL, *(f"{name}+" for name in KL))

CHOICES = {
    f"{ACTOR}.strategy": ("fsdp", "fsdp2", "fsdp_turbo", "megatron", "veomni", "torchtitan", "automodel"),
    f"{ACTOR}.loss_agg_mode": (
        *("token-mean", "token-sum"),
        *("seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"),
    ),
    f"{ACTOR}.optim.lr_scheduler_type": ("constant", "cosine"),
    f"{ACTOR}.kl_loss_type": KL_PENALTIES,
    f"{ACTOR}.fsdp_config.model_dtype": PRECISIONS,
    f"{ACTOR}.fsdp_config.mixed_precision.param_dtype": PRECISIONS,
    f"{ACTOR}.fsdp_config.mixed_precision.reduce_dtype": PRECISIONS,
    f"{ACTOR}.fsdp_config.mixed_precision.buffer_dtype": PRECISIONS,
    f"{ROLLOUT}.dtype": ("auto", "half", "float16", "bfloat16", "float", "float32"),
    f"{MODEL}.fused_kernel_options.impl_backend": ("torch", "triton", "liger"),
    "algorithm.kl_penalty": KL_PENALTIES,
    "algorithm.kl_ctrl.type": ("fixed", "adaptive"),
    "trainer.v1.trainer_mode": ("sync", "colocate_async", "separate_async"),
    "reward.reward_manager.source": ("register", "importlib"),
}

# Names to which code of the user's own may add, by veRL's registries.
REGISTERED = {
    "algorithm.adv_estimator": (
        *("gae", "grpo", "grpo_vectorized", "grpo_passk", "gdpo", "rloo", "rloo_vectorized", "opo", "remax", "gpg"),
        *("reinforce_plus_plus", "reinforce_plus_plus_baseline"),
        *("optimal_token_baseline", "tir_optimal_token_baseline"),
    ),
    f"{ACTOR}.policy_loss.loss_mode": (
        *("vanilla", "dppo_tv", "dppo_kl", "gspo", "sapo", "gpg", "clip_cov", "kl_cov", "geo_mean", "dro", "cispo"),
        "bypass_mode",
    ),
    "reward.reward_manager.name": ("naive", "dapo", "gdpo", "remote", "rate_limited"),
    f"{ROLLOUT}.agent.default_agent_loop": ("single_turn_agent", "tool_agent", "final_output_agent"),
}
CODE_OF_ONES_OWN = (
    f"{MODEL}.external_lib",
    f"{ROLLOUT}.agent.agent_loop_config_path",
    f"{ROLLOUT}.agent.agent_loop_manager_class",
    "trainer.v1.sampler.custom_sampler.path",
    "reward.custom_reward_function.path",
    "reward.reward_manager.source",
)


def problems(config: Config, base: Config) -> Iterator[Problem]:
    """Values that veRL has not; registered names only where no code of the user's own could register them."""
    values = config.flat
    own_code = any(_is_own(values.get(key), base.flat.get(key)) for key in CODE_OF_ONES_OWN)
    for key, choices in (CHOICES if own_code else CHOICES | REGISTERED).items():
        value = values.get(key)
        if value is not None and value not in choices:
            yield Problem("choice", key, f"veRL 0.9.1 has no {value!r}", nearest(str(value), choices))


def _is_own(value: Any, default: Any) -> bool:
    return value is not None and value != default and not str(value).startswith("pkg://justrl_recipe.")
