"""What is fixed: whether a run is JustRL, and if not, which of its keys differ.

A run is JustRL when it has learned with the recipe's values, its numbers in the recipe's precision, its tokens from
the model's own distribution.

A config is compared with a reference, the shipped recipe on the shipped system without overrides. So what a shipped
system file sets is no deviation (tests show that it changes none of that); on a system of the user's own, the shipped
system with the same device stands in the reference. What else differs is a deviation, unless it is on the list below:
keys that say where a run happens or how it is watched, and kernels that compute the same in the same precision. A key
that copies a free one is free. tests/config_keys.yaml says for each key of veRL which it is.
"""

import functools
import hashlib
import os
import shlex
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from justrl_recipe import config
from justrl_recipe.config import Config, Request
from justrl_recipe.masking import shown

# Where a run happens: machines, memory, how the work is split. Nothing here enters the loss of veRL 0.9.1, which is
# taken over all tokens of the global mini-batch. Not here, though they save memory or time: model.tiled_mlp and
# fsdp_config.use_no_sync_for_gradient_accumulation, which sum gradients in bfloat16, and rollout.max_model_len, which
# cuts responses off.
PLACE = (
    "machine.*",
    "ray_kwargs.*",
    "transfer_queue.*",
    "reward.num_workers",
    "data.cache_dir",
    "data.use_shm",
    "data.dataloader_num_workers",
    "data.filter_overlong_prompts_workers",
    "trainer.device",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.ray_wait_register_center_timeout",
    "trainer.v1.sampler.sampler_kwargs.poll_interval",
    "actor_rollout_ref.nccl_timeout",
    "actor_rollout_ref.model.use_shm",
    "actor_rollout_ref.model.use_remove_padding",
    "actor_rollout_ref.model.enable_gradient_checkpointing",
    "actor_rollout_ref.model.enable_activation_offload",
    "actor_rollout_ref.model.use_fused_kernels",
    "actor_rollout_ref.model.fused_kernel_options.impl_backend",
    "actor_rollout_ref.model.use_liger",
    "actor_rollout_ref.actor.use_fused_kernels",
    "actor_rollout_ref.actor.use_remove_padding",
    "actor_rollout_ref.actor.use_torch_compile",
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "actor_rollout_ref.actor.*entropy_from_logits_*",
    "actor_rollout_ref.actor.*entropy_checkpointing",
    "actor_rollout_ref.actor.*ulysses_sequence_parallel_size",
    "actor_rollout_ref.actor.fsdp_config.param_offload",
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload",
    "actor_rollout_ref.actor.fsdp_config.offload_policy",
    "actor_rollout_ref.actor.fsdp_config.reshard_after_forward",
    "actor_rollout_ref.actor.fsdp_config.fsdp_size",
    "actor_rollout_ref.actor.fsdp_config.forward_prefetch",
    "actor_rollout_ref.actor.fsdp_config.wrap_policy.min_num_params",
    "actor_rollout_ref.actor.fsdp_config.use_orig_params",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile",
    "actor_rollout_ref.ref.use_torch_compile",
    "actor_rollout_ref.ref.log_prob_use_dynamic_bsz",
    "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu",
    "actor_rollout_ref.ref.ulysses_sequence_parallel_size",
    "actor_rollout_ref.rollout.n_gpus_per_node",
    "actor_rollout_ref.rollout.*_parallel_size",
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.max_num_batched_tokens",
    "actor_rollout_ref.rollout.max_num_seqs",
    "actor_rollout_ref.rollout.enable_chunked_prefill",
    "actor_rollout_ref.rollout.enable_prefix_caching",
    "actor_rollout_ref.rollout.scheduling_policy",
    "actor_rollout_ref.rollout.enforce_eager",
    "actor_rollout_ref.rollout.cudagraph_capture_sizes",
    "actor_rollout_ref.rollout.free_cache_engine",
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz",
    "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
    "actor_rollout_ref.rollout.agent.num_workers",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes",
    "critic.use_dynamic_bsz",
)

# The same of vLLM's own arguments (vllm/engine/arg_utils.py, 0.24.0).
ENGINE = "actor_rollout_ref.rollout.engine_kwargs.vllm"
PLACE_OF_ENGINE = tuple(
    f"{ENGINE}.{name}"
    for name in (
        *("distributed_executor_backend", "async_scheduling", "disable_custom_all_reduce", "cpu_offload_gb"),
        *("max_num_partial_prefills", "swap_space", "enable_prefix_caching", "disable_log_stats"),
        *("cudagraph_capture_sizes", "max_cudagraph_capture_size", "compilation_config.*cudagraph_*"),
    )
)

# How a run is named, watched, saved and resumed.
WATCH = (
    "trainer.project_name",
    "trainer.experiment_name",
    "trainer.logger",
    "trainer.log_val_generations",
    "trainer.rollout_data_dir",
    "trainer.validation_data_dir",
    "trainer.val_before_train",
    "trainer.test_freq",
    "trainer.save_freq",
    "trainer.esi_redundant_time",
    "trainer.default_local_dir",
    "trainer.max_actor_ckpt_to_keep",
    "trainer.max_critic_ckpt_to_keep",
    "trainer.remove_previous_ckpt_in_save",
    "trainer.resume_mode",
    "trainer.resume_from_path",
    "trainer.del_local_ckpt_after_load",
    "actor_rollout_ref.actor.checkpoint.save_contents",
    "actor_rollout_ref.actor.checkpoint.async_save",
    "actor_rollout_ref.rollout.disable_log_stats",
    "*.trace.*",
    "*.prometheus.*",
    "*profiler*",
)

# The paper and the script state no seed, so any seed is the recipe.
SEEDS = ("seed", "*.seed", "*.data_loader_seed")

# Environment variables that cannot change a number. In a config, which gives its processes an environment, any other
# is a deviation; of those that the user's shell exports and the processes inherit, the ones in FIXED_EXPORTS are.
ENVIRONMENT = "ray_kwargs.ray_init.runtime_env"
FREE_VARIABLES = (
    *("NCCL_*", "GLOO_*", "RAY_*", "WANDB_*", "MLFLOW_*", "SWANLAB_*", "TENSORBOARD_DIR", "HF_*", "*_proxy"),
    *("*_PROXY", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "CUDA_VISIBLE_DEVICES", "TMPDIR"),
    *(
        "VLLM_LOGGING_LEVEL",
        "VLLM_CACHE_ROOT",
        "VLLM_CONFIG_ROOT",
        "VLLM_HOST_IP",
        "VLLM_PORT",
        "VLLM_NO_USAGE_STATS",
    ),
    *("VLLM_DO_NOT_TRACK", "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND"),
    *("VERL_LOGGING_LEVEL", "VERL_PLATFORM", "VERL_FILE_LOGGER_PATH"),
    *("*_KEY", "*_TOKEN", "*_SECRET", "*_PASSWORD"),  # which a manifest must not record either
)
FIXED_EXPORTS = ("VLLM_*", "VERL_*", "*TF32*")

# Keys of which some values are free. Both FSDP engines take the same precision, and each attention computes the same
# function (null is veRL's default, flash_attention_2). What vLLM's standard rejection sampling accepts has the
# model's own distribution, whatever drafted it (vllm/v1/sample/rejection_sampler.py, 0.24.0).
SPECULATION = f"{ENGINE}.speculative_config"
FREE_VALUES: dict[str, tuple[Any, ...]] = {
    "actor_rollout_ref.actor.strategy": ("fsdp", "fsdp2"),
    "actor_rollout_ref.ref.strategy": ("fsdp", "fsdp2"),
    "actor_rollout_ref.model.override_config.attn_implementation": (
        *(None, "packed", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flash_attention_4"),
    ),
    f"{ENGINE}.kv_cache_dtype": ("auto",),
    f"{SPECULATION}.method": ("ngram", "ngram_gpu", "suffix", "eagle", "eagle3", "draft_model"),
    f"{SPECULATION}.rejection_sample_method": ("standard",),
}
FREE_SPECULATION = tuple(
    f"{SPECULATION}.{name}"
    for name in (
        *("num_speculative_tokens*", "prompt_lookup_*", "suffix_*"),
        *("model", "revision", "draft_tensor_parallel_size", "draft_sample_method"),
    )
)

FREE = PLACE + PLACE_OF_ENGINE + WATCH + SEEDS + FREE_SPECULATION

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

    def as_dict(self) -> dict[str, Any]:
        """As it is written and shown, where a secret is masked."""
        return {"key": self.key, "recipe": self.recipe, "yours": shown(tuple(self.key.split(".")), self.yours)}


def is_free(key: str, value: Any) -> bool:
    """Whether a user may give a key this value in a run that is JustRL all the same."""
    if key.startswith(f"{ENVIRONMENT}."):
        section, _, name = key.removeprefix(f"{ENVIRONMENT}.").partition(".")
        return section == "env_vars" and _matches(name, FREE_VARIABLES)
    return _matches(key, FREE) or value in FREE_VALUES.get(key, ())


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def deviations(reference: Config, composed: Config) -> list[Deviation]:
    """Where `composed` differs from `reference` in what changes, or may change, what is learned.

    A key that both take from another one by the same interpolation is not listed beside it. A key that one side lacks
    has the value None there.
    """
    theirs, yours = reference.flat, composed.flat
    return [
        Deviation(key, theirs.get(key), yours.get(key))
        for key in sorted(reference.raw.keys() | composed.raw.keys())
        if reference.raw.get(key) != composed.raw.get(key)
        and theirs.get(key) != yours.get(key)
        and not is_free(key, yours.get(key))
    ]


def exported() -> list[Deviation]:
    """What the user's shell exports to the run's processes that may change its numbers."""
    return [
        Deviation(f"environment.{name}", None, value)
        for name, value in sorted(os.environ.items())
        if _matches(name, FIXED_EXPORTS) and not _matches(name, FREE_VARIABLES)
    ]


def scaled(base: Config, recipe: Config) -> list[Deviation]:
    """The keys of justrl.yaml that a shipped recipe gives other values, e.g. the tiny one to fit a laptop.

    What justrl.yaml leaves to its recipes and the embedded default's own sections do not count.

    Args:
        base: justrl.yaml on the recipe's system.
    """
    return [
        d
        for d in deviations(base, recipe)
        if d.key not in left_open() and d.key.split(".")[0] not in EMBEDDED_SECTIONS
    ]


@functools.cache
def left_open() -> frozenset[str]:
    """What justrl.yaml leaves to its recipes: the keys that are null in this file, not all that veRL leaves null."""
    content = yaml.safe_load((config.RECIPES / f"{config.BASE}.yaml").read_text())
    return frozenset(key for key, value in config.leaves(content) if value is None)


def describe(request: Request, composed: Config) -> dict[str, Any]:
    """What the manifest says of a run before it starts: is this JustRL, and if not, which keys deviate.

    A recipe of the user's own is compared with its origin, the shipped recipe from which it differs in the fewest
    keys; against another model or number of steps, which justrl.yaml leaves to its recipes, it does not count.
    """
    path = config.find_recipe(request.recipe)
    system = composed.shipped_system or _system_like(composed)
    if config.shipped(path):
        origin = path.stem
        reference = _shipped(origin, system)
        changed = deviations(reference, composed)
    else:
        origin, reference, changed = _origin(composed, system)
    changed += exported()
    of_origin = scaled(config.load_base(system), reference)
    return {
        "recipe": path.stem if config.shipped(path) else request.recipe,
        "origin": origin,
        "system": request.system,
        "ablations": list(request.ablations),
        "overrides": list(request.overrides),
        "is_justrl": not of_origin and not changed,
        "scaled": [d.as_dict() for d in of_origin],
        "deviations": [
            Deviation(d.key, d.recipe, shown(tuple(d.key.split(".")), d.yours)).as_dict() for d in changed
        ],
        "reward": reward(composed),
        "seed": composed.values.get("seed"),
        "command": shlex.join(["verl", *sys.argv[1:]]),
    }


@functools.cache
def _shipped(recipe: str, system: str) -> Config:
    return config.load(Request(recipe, system))


def _system_like(composed: Config) -> str:
    """The shipped system that a run on none of them is compared with: the first one with its device, or the first.

    Beyond free keys, shipped systems differ by their device alone.
    """
    device = composed.flat.get("trainer.device")
    systems = config.names(config.SYSTEMS)
    same = (name for name in systems if config.load_base(name).flat["trainer.device"] == device)
    return next(same, systems[0])


def _origin(composed: Config, system: str) -> tuple[str, Config, list[Deviation]]:
    """The nearest shipped recipe by name, its config on a shipped system, and where the composed one deviates."""
    found = []
    for name in config.recipe_names():
        reference = _shipped(name, system)
        changed = deviations(reference, composed)
        kept = [d for d in changed if d.key not in left_open()]
        found.append((len(kept), len(changed), name, reference, kept))
    _, _, name, reference, changed = min(found, key=lambda entry: entry[:3])
    return name, reference, changed


def reward(composed: Config) -> dict[str, Any]:
    """The reward function: its path and name as they were given, and the hash of a file."""
    path, name = (composed.flat.get(f"reward.custom_reward_function.{key}") for key in ("path", "name"))
    file = Path(str(path or "").removeprefix("file://"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    return {"path": path, "name": name, "sha256": digest}
