"""The keys that are said to be unread are unread: each is searched for in veRL's source, on the recipe's path."""

import re
from functools import cache

import pytest

from justrl_recipe.checks.unused import UNUSED
from justrl_recipe.search_path import verl_config_folder

# What of veRL 0.9.1 the recipes do not run: other engines and rollouts, other trainers, the v0 trainer.
OFF_THE_PATH = (
    "experimental/fully_async_policy",
    "experimental/one_step_off_policy",
    "experimental/separation",
    "experimental/dynamic_dataset",
    "experimental/teacher_loop",
    "models",
    "model_merger",
    "single_controller/ray/megatron.py",
    "third_party",
    "tools",
    "trainer/constants_ppo.py",
    "trainer/distillation",
    "trainer/main_eval.py",
    "trainer/main_generation_server.py",
    "trainer/main_ppo_v0.py",
    "trainer/ppo/ray_trainer.py",
    "trainer/ppo/v1/trainer_colocate_async.py",
    "trainer/ppo/v1/trainer_separate_async.py",
    "trainer/sft_trainer.py",
    "trainer/sft_trainer_ray.py",
    "utils/checkpoint/megatron_checkpoint_manager.py",
    "utils/dataset/multiturn_sft_dataset.py",
    "utils/megatron",
    "utils/reward_score",
    "workers/engine/automodel",
    "workers/engine/megatron",
    "workers/engine/mindspeed",
    "workers/engine/torchtitan",
    "workers/engine/veomni",
    "workers/engine_workers_tinker.py",
    "workers/reward_manager",
    "workers/rollout/hf_rollout.py",
    "workers/rollout/naive",
    "workers/rollout/schemas.py",
    "workers/rollout/sglang_rollout",
    "workers/rollout/trtllm_rollout",
)

# Names that many things have: of these, a reader is one that names the key's section as well.
SECTIONS = {
    "actor_rollout_ref.actor.fsdp_config.dtype": r"(?:fsdp_config|engine_config|engine)",
    "actor_rollout_ref.rollout.multi_turn.enable": r"multi_turn",
    "actor_rollout_ref.actor.checkpoint.strict": r"(?:checkpoint|checkpoint_config|ckpt_cfg)",
    "data.tokenizer": r"(?:data|data_config)",
    "data.trust_remote_code": r"(?:data|data_config)",
    "reward.reward_manager.module.name": r"(?:module|module_cfg)",
}

# Where the last part of a key is read on the path and is not this key, or is read to no effect. A line is named by a
# part of it; a reader that is not among these fails the test.
OTHER_READERS: dict[str, tuple[str, ...]] = {
    # An alias in the optimizer's own section.
    "actor_rollout_ref.actor.grad_clip": ("workers/config/optimizer.py",),
    # The engine's, which takes the model's (workers/engine_workers.py).
    "actor_rollout_ref.actor.use_fused_kernels": ("model_config", "engine_config.use_fused_kernels,"),
    "actor_rollout_ref.actor.use_remove_padding": ("model_config", "fsdp/transformer_impl.py", "veomni"),
    # The engine's own key.
    "actor_rollout_ref.actor.use_torch_compile": ("engine_config.use_torch_compile",),
    # The dataclass asks that it is set, and `rollout.n` sets it.
    "actor_rollout_ref.actor.rollout_n": ("trajectory[", "assert self.rollout_n != MISSING"),
    # The trainer's key, which the trainer writes into this one before the engine reads it.
    "actor_rollout_ref.actor.optim.total_training_steps": ("v1/trainer_base.py", "optim_config.total_training_steps"),
    # The actor's, critic's and engine's: workers/config/actor.py writes the actor's over the engine's.
    "actor_rollout_ref.actor.fsdp_config.strategy": ("strategy",),
    # The actor's, which workers/engine_workers.py writes over the engine's.
    "actor_rollout_ref.actor.fsdp_config.use_dynamic_bsz": ("use_dynamic_bsz",),
    "actor_rollout_ref.actor.fsdp_config.max_token_len_per_gpu": ("engine_config.max_token_len", "data["),
    "actor_rollout_ref.actor.fsdp_config.infer_max_token_len_per_gpu": ("engine_config.infer_max_token_len",),
    # The critic's.
    "actor_rollout_ref.actor.ppo_infer_max_token_len_per_gpu": ("critic_cfg.",),
    # veRL's check of the temperature in validation, where it is on.
    "actor_rollout_ref.rollout.do_sample": ("val_kwargs.do_sample",),
    "actor_rollout_ref.rollout.val_kwargs.do_sample": ("utils/config.py",),
    # The agent loop gives 1.0, so that the server's default is never taken.
    "actor_rollout_ref.rollout.repetition_penalty": ("sampling_params.setdefault",),
    # A reward model's.
    "actor_rollout_ref.rollout.skip_tokenizer_init": ("reward_loop/reward_model.py",),
    # The data set keeps these and asks none of them again (`self.NAME` has no other reader).
    "data.truncation": ('config.get("truncation"',),
    "data.chat_template_func": ('config.get("chat_template_func"',),
    "data.filter_prompts": ('config.get("filter_prompts"',),
    "data.return_raw_chat": ('config.get("return_raw_chat"',),
    "data.return_full_prompt": ('config.get("return_full_prompt"',),
    # Handed to the FSDP manager, which leaves it unused; checkpoint_handler.py is the supervised trainer's.
    "trainer.default_hdfs_dir": ("v1/trainer_base.py", "utils/checkpoint/checkpoint_handler.py"),
}


@cache
def source() -> list[tuple[str, str]]:
    """Every line of veRL on the recipe's path that is no comment, with its file."""
    root = verl_config_folder().parents[1]
    lines = []
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root).as_posix()
        if not name.startswith(OFF_THE_PATH):
            lines += [
                (name, line.strip()) for line in file.read_text().splitlines() if not line.strip().startswith("#")
            ]
    return lines


def readers(key: str) -> list[str]:
    """The lines that read an attribute or an item of this name."""
    name, section = re.escape(key.rpartition(".")[2]), SECTIONS.get(key, "")
    attribute = rf"\b{section}\.{name}\b" if section else rf"\.{name}\b"
    item = rf"{section}\[[\"']{name}[\"']\]"
    call = rf"{section}(?:\.get\(|\.pop\(|.*getattr\(.*)[\"']{name}[\"']"
    read = re.compile(rf"(?:{attribute}|{item})(?!\s*=[^=])|{call}")
    return [f"{file}: {line}" for file, line in source() if read.search(line)]


ALWAYS = [unused.key for unused in UNUSED if unused.because == " in veRL 0.9.1"]


@pytest.mark.parametrize("key", ALWAYS)
def test_a_key_that_is_said_to_be_unread_has_no_reader(key):
    known = OTHER_READERS.get(key, ())
    assert [line for line in readers(key) if not any(part in line for part in known)] == []


@pytest.mark.parametrize("key", OTHER_READERS)
def test_every_exception_is_needed(key):
    lines = readers(key)
    assert key in ALWAYS and [part for part in OTHER_READERS[key] if not any(part in line for line in lines)] == []


@pytest.mark.parametrize(
    "key", ["trainer.log_val_generations", "actor.optim.clip_grad", "data.filter_overlong_prompts"]
)
def test_a_key_that_is_read_is_found(key):
    assert readers(key)
