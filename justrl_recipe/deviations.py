"""What is fixed: which keys say where or how visibly a run happens, and which differ from the recipe.

Every key that is not named here changes what is learned, or may do so: changing it is a deviation.
"""

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from justrl_recipe.config import Config

# Where a run happens. System files may set these keys and no others.
SYSTEM_KEYS = (
    "machine.*",
    "ray_kwargs.*",
    "transfer_queue.*",
    "reward.num_workers",
    "data.dataloader_num_workers",
    "data.filter_overlong_prompts_workers",
    "trainer.device",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.v1.sampler.sampler_kwargs.poll_interval",
    "actor_rollout_ref.model.use_remove_padding",
    "actor_rollout_ref.model.enable_gradient_checkpointing",
    "actor_rollout_ref.model.enable_activation_offload",
    "actor_rollout_ref.model.use_fused_kernels",
    "actor_rollout_ref.model.fused_kernel_options.*",
    "actor_rollout_ref.model.use_liger",
    "actor_rollout_ref.model.use_shm",
    "actor_rollout_ref.model.override_config.attn_implementation",
    "actor_rollout_ref.*.strategy",
    "actor_rollout_ref.*.use_torch_compile",
    "actor_rollout_ref.*max_token_len_per_gpu",
    "actor_rollout_ref.*micro_batch_size_per_gpu",
    "actor_rollout_ref.*entropy_from_logits_with_chunking",
    "actor_rollout_ref.*ulysses_sequence_parallel_size",
    "actor_rollout_ref.actor.fsdp_config.param_offload",
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload",
    "actor_rollout_ref.actor.fsdp_config.fsdp_size",
    "actor_rollout_ref.actor.fsdp_config.reshard_after_forward",
    "actor_rollout_ref.*.fsdp_config.mixed_precision.*",
    "actor_rollout_ref.rollout.dtype",
    "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "actor_rollout_ref.rollout.data_parallel_size",
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.max_num_batched_tokens",
    "actor_rollout_ref.rollout.max_num_seqs",
    "actor_rollout_ref.rollout.max_model_len",
    "actor_rollout_ref.rollout.enforce_eager",
    "actor_rollout_ref.rollout.free_cache_engine",
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "actor_rollout_ref.rollout.load_format",
    "actor_rollout_ref.rollout.agent.num_workers",
    "actor_rollout_ref.rollout.checkpoint_engine.*",
    "actor_rollout_ref.rollout.engine_kwargs.*",
)

# How a run is named and watched.
WATCHING_KEYS = (
    "trainer.project_name",
    "trainer.experiment_name",
    "trainer.logger",
    "trainer.log_val_generations",
    "trainer.rollout_data_dir",
    "trainer.validation_data_dir",
    "trainer.val_before_train",
    "trainer.test_freq",
    "trainer.save_freq",
    "trainer.default_local_dir",
    "trainer.max_actor_ckpt_to_keep",
    "actor_rollout_ref.actor.checkpoint.save_contents*",
    "*.trace.*",  # names that veRL copies from the trainer's
    "*.prometheus.*",
    "*profiler*",
)

# The paper and the script state no seed, so any seed is the recipe.
SEED_KEYS = ("seed", "*.seed", "*.data_loader_seed")

# Sections of this package's embedded default; what they make is named by its path.
EMBEDDED_SECTIONS = ("tiny_model", "tiny_data")
# Sections that veRL does not read: these, and what a system file says of its machine.
OWN_SECTIONS = (*EMBEDDED_SECTIONS, "machine")


@dataclass(frozen=True)
class Deviation:
    """A key whose value is not the recipe's."""

    key: str
    recipe: Any
    yours: Any

    as_dict = asdict


def matches(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether a dotted key matches one of the shell-style patterns."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def deviations(recipe: Config, config: Config) -> list[Deviation]:
    """Where `config` differs from `recipe` in what changes, or may change, what is learned.

    A key that both take from another one by the same interpolation is not listed beside it. A key that one
    side lacks has the value None there.
    """
    theirs, yours = recipe.flat, config.flat
    return [
        Deviation(key, theirs.get(key), yours.get(key))
        for key in sorted(recipe.raw.keys() | config.raw.keys())
        if recipe.raw.get(key) != config.raw.get(key)
        and theirs.get(key) != yours.get(key)
        and not matches(key, SYSTEM_KEYS + WATCHING_KEYS + SEED_KEYS)
    ]


def scaled(base: Config, recipe: Config) -> list[Deviation]:
    """The keys of justrl.yaml that a recipe gives other values, e.g. the tiny one to fit a laptop.

    What justrl.yaml leaves to its recipes (null there) and the embedded default's own sections do not count.
    """
    return [
        d for d in deviations(base, recipe) if d.recipe is not None and d.key.split(".")[0] not in EMBEDDED_SECTIONS
    ]
