"""Keys that veRL 0.9.1 composes and then does not read on the path of this package's recipes.

That path: the synchronous v1 trainer, GRPO without critic and reference policy, the FSDP engine, vLLM.
tests/test_unused_keys.py looks for readers of each in veRL's source.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

ACTOR, ROLLOUT, MODEL = (f"actor_rollout_ref.{name}" for name in ("actor", "rollout", "model"))
NOTHING = "remove it: veRL has no such setting on this path"


@dataclass(frozen=True)
class Unused:
    """A key without effect: what to do instead, and beside which values of other keys it has none."""

    key: str
    fix: str
    because: str = " in veRL 0.9.1"
    holds: Callable[[Mapping[str, Any]], bool] = lambda values: True


def _always(fixes: Mapping[str, str]) -> tuple[Unused, ...]:
    return tuple(Unused(key, fix) for key, fix in fixes.items())


def _beside(keys: tuple[str, ...], fix: str, other: str, value: Any) -> tuple[Unused, ...]:
    """Without effect while `other` has `value`."""
    because = f" while {other}={str(value).lower() if isinstance(value, bool) else value}"
    return tuple(Unused(key, fix, because, lambda values: values.get(other) == value) for key in keys)


UNUSED = (
    *_always(
        {
            f"{ACTOR}.grad_clip": f"set {ACTOR}.optim.clip_grad",
            f"{ACTOR}.use_fused_kernels": f"set {MODEL}.use_fused_kernels",
            f"{ACTOR}.use_remove_padding": f"set {MODEL}.use_remove_padding",
            f"{ACTOR}.use_torch_compile": f"set {ACTOR}.fsdp_config.use_torch_compile",
            f"{ACTOR}.rollout_n": f"set {ROLLOUT}.n",
            f"{ACTOR}.optim.total_training_steps": "set trainer.total_training_steps",
            f"{ACTOR}.fsdp_config.dtype": f"set {ACTOR}.fsdp_config.mixed_precision.param_dtype",
            f"{ACTOR}.fsdp_config.strategy": f"set {ACTOR}.strategy",
            f"{ACTOR}.fsdp_config.use_dynamic_bsz": f"set {ACTOR}.use_dynamic_bsz",
            f"{ACTOR}.fsdp_config.max_token_len_per_gpu": f"set {ACTOR}.ppo_max_token_len_per_gpu",
            f"{ACTOR}.fsdp_config.infer_max_token_len_per_gpu": f"set {ROLLOUT}.log_prob_max_token_len_per_gpu",
            f"{ACTOR}.ppo_infer_max_token_len_per_gpu": f"set {ROLLOUT}.log_prob_max_token_len_per_gpu",
            f"{ACTOR}.use_prefix_grouper": NOTHING,
            f"{ACTOR}.calculate_sum_pi_squared": NOTHING,
            f"{ACTOR}.checkpoint.strict": NOTHING,
            f"{ROLLOUT}.do_sample": f"set {ROLLOUT}.temperature=0 for greedy decoding",
            f"{ROLLOUT}.val_kwargs.do_sample": f"set {ROLLOUT}.val_kwargs.temperature=0 for greedy decoding",
            f"{ROLLOUT}.repetition_penalty": NOTHING,
            f"{ROLLOUT}.over_sample_rate": NOTHING,
            f"{ROLLOUT}.multi_stage_wake_up": NOTHING,
            f"{ROLLOUT}.skip_tokenizer_init": NOTHING,
            f"{ROLLOUT}.multi_turn.enable": f"set {ROLLOUT}.agent.default_agent_loop",
            "actor_rollout_ref.nccl_timeout": NOTHING,
            "data.truncation": "set data.filter_overlong_prompts=true: veRL cuts overlong prompts from the left",
            "data.reward_fn_key": "call the column of the data file data_source",
            "data.trust_remote_code": f"set {MODEL}.trust_remote_code",
            "data.tokenizer": f"set {MODEL}.tokenizer_path",
            "data.chat_template_func": f"set {MODEL}.custom_chat_template",
            "data.filter_prompts": "set data.filter_overlong_prompts",
            "data.return_raw_chat": NOTHING,
            "data.return_raw_input_ids": NOTHING,
            "data.return_full_prompt": NOTHING,
            "reward.reward_manager.module.name": "set reward.reward_manager.name",
            "trainer.balance_batch": "remove it: veRL always balances",
            "trainer.default_hdfs_dir": "set trainer.default_local_dir",
            "trainer.esi_redundant_time": NOTHING,
        }
    ),
    Unused(
        f"{ACTOR}.clip_ratio",
        f"set {ACTOR}.clip_ratio_low and {ACTOR}.clip_ratio_high",
        " beside clip_ratio_low and clip_ratio_high",
        lambda values: None not in (values[f"{ACTOR}.clip_ratio_low"], values[f"{ACTOR}.clip_ratio_high"]),
    ),
    *_beside(
        (f"{ACTOR}.ppo_micro_batch_size", f"{ACTOR}.ppo_micro_batch_size_per_gpu"),
        f"set {ACTOR}.ppo_max_token_len_per_gpu",
        f"{ACTOR}.use_dynamic_bsz",
        True,
    ),
    *_beside(
        (f"{ROLLOUT}.log_prob_micro_batch_size", f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu"),
        f"set {ROLLOUT}.log_prob_max_token_len_per_gpu",
        f"{ROLLOUT}.log_prob_use_dynamic_bsz",
        True,
    ),
    *_beside(
        (f"{ACTOR}.ppo_max_token_len_per_gpu",),
        f"set {ACTOR}.ppo_micro_batch_size_per_gpu",
        f"{ACTOR}.use_dynamic_bsz",
        False,
    ),
    *_beside(
        (f"{ACTOR}.kl_loss_coef", f"{ACTOR}.kl_loss_type"),
        f"set {ACTOR}.use_kl_loss=true as well",
        f"{ACTOR}.use_kl_loss",
        False,
    ),
    *_beside(
        ("algorithm.kl_ctrl.kl_coef", "algorithm.kl_penalty"),
        "set algorithm.use_kl_in_reward=true as well",
        "algorithm.use_kl_in_reward",
        False,
    ),
    *_beside(("algorithm.gamma", "algorithm.lam"), NOTHING, "algorithm.adv_estimator", "grpo"),
    *_beside(
        (f"{ACTOR}.optim.min_lr_ratio", f"{ACTOR}.optim.num_cycles"),
        f"set {ACTOR}.optim.lr_scheduler_type=cosine as well",
        f"{ACTOR}.optim.lr_scheduler_type",
        "constant",
    ),
    *_beside(
        (f"{ACTOR}.fsdp_config.offload_policy",),
        f"set {ACTOR}.fsdp_config.param_offload and optimizer_offload, or {ACTOR}.strategy=fsdp2",
        f"{ACTOR}.strategy",
        "fsdp",
    ),
    Unused(
        f"{ACTOR}.optim.lr_warmup_steps_ratio",
        f"set {ACTOR}.optim.lr_warmup_steps",
        " beside lr_warmup_steps",
        lambda values: values[f"{ACTOR}.optim.lr_warmup_steps"] > 0,
    ),
    Unused(
        "trainer.resume_from_path",
        "set trainer.resume_mode=resume_path as well",
        " unless trainer.resume_mode=resume_path",
        lambda values: values["trainer.resume_mode"] != "resume_path",
    ),
)
