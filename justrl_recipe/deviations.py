"""What is fixed: whether a run is JustRL, and if not, which of its keys differ.

A run is JustRL when it has learned with the recipe's values, its numbers in the recipe's precision, its tokens from
the model's own distribution. A config is compared with a reference, the shipped recipe on the shipped system without
overrides, so what a shipped system file sets is no deviation (tests show that it changes none of that). What else
differs is one, unless it is on the list below: of keys that say where a run happens or how it is watched, and of
kernels that compute the same in the same precision. tests/config_keys.yaml says for each key of veRL which it is.
"""

import functools
import hashlib
import shlex
import sys
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from justrl_recipe import config
from justrl_recipe.config import Config, Request

# Where a run happens: machines, memory, how the work is split. Nothing here enters the loss of veRL 0.9.1, which is
# taken over all tokens of the global mini-batch.
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
    "actor_rollout_ref.model.tiled_mlp.*",
    "actor_rollout_ref.actor.strategy",
    "actor_rollout_ref.actor.use_torch_compile",
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "actor_rollout_ref.actor.entropy_from_logits_*",
    "actor_rollout_ref.actor.entropy_checkpointing",
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
    "actor_rollout_ref.actor.fsdp_config.param_offload",
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload",
    "actor_rollout_ref.actor.fsdp_config.offload_policy",
    "actor_rollout_ref.actor.fsdp_config.reshard_after_forward",
    "actor_rollout_ref.actor.fsdp_config.fsdp_size",
    "actor_rollout_ref.actor.fsdp_config.forward_prefetch",
    "actor_rollout_ref.actor.fsdp_config.wrap_policy.min_num_params",
    "actor_rollout_ref.actor.fsdp_config.use_orig_params",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile",
    "actor_rollout_ref.actor.fsdp_config.use_no_sync_for_gradient_accumulation",
    "actor_rollout_ref.rollout.*_parallel_size",
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.max_num_batched_tokens",
    "actor_rollout_ref.rollout.max_num_seqs",
    "actor_rollout_ref.rollout.max_model_len",
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
    "actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.swap_space",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.cpu_offload_gb",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.max_num_partial_prefills",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.async_scheduling",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.disable_custom_all_reduce",
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
    "actor_rollout_ref.actor.checkpoint.save_contents",
    "actor_rollout_ref.actor.checkpoint.async_save",
    "actor_rollout_ref.rollout.disable_log_stats",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.disable_log_stats",
    "*.trace.*",
    "*.prometheus.*",
    "*profiler*",
)

# The paper and the script state no seed, so any seed is the recipe.
SEEDS = ("seed", "*.seed", "*.data_loader_seed")

# Of an environment that a config gives to its processes, what cannot change a number.
ENVIRONMENT = "ray_kwargs.ray_init.runtime_env"
FREE_VARIABLES = tuple(
    f"{ENVIRONMENT}.env_vars.{name}"
    for name in (
        *("NCCL_*", "GLOO_*", "RAY_*", "WANDB_*", "MLFLOW_*", "SWANLAB_*", "TENSORBOARD_DIR", "HF_*", "*_proxy"),
        *("*_PROXY", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "CUDA_VISIBLE_DEVICES", "TMPDIR"),
        *("VLLM_LOGGING_LEVEL", "VLLM_CACHE_ROOT", "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND"),
    )
)

# Keys of which some values are free. Each attention computes the same function; a drafted token that vLLM's standard
# rejection sampling accepts has the model's own distribution (vllm/config/speculative.py, 0.24.0).
SPECULATION = "actor_rollout_ref.rollout.engine_kwargs.vllm.speculative_config"
FREE_VALUES: dict[str, tuple[Any, ...]] = {
    "actor_rollout_ref.model.override_config.attn_implementation": (
        *("packed", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flash_attention_4"),
    ),
    f"{SPECULATION}.method": ("ngram", "suffix"),
    f"{SPECULATION}.rejection_sample_method": ("standard",),
}
FREE_SPECULATION = tuple(
    f"{SPECULATION}.{name}" for name in ("num_speculative_tokens", "prompt_lookup_*", "suffix_*")
)

FREE = PLACE + WATCH + SEEDS + FREE_VARIABLES + FREE_SPECULATION

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


def is_free(key: str, value: Any) -> bool:
    """Whether a user may give a key this value in a run that is JustRL all the same."""
    if key.startswith(f"{ENVIRONMENT}."):
        return _matches(key, FREE_VARIABLES)
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


def scaled(base: Config, recipe: Config) -> list[Deviation]:
    """The keys of justrl.yaml that a shipped recipe gives other values, e.g. the tiny one to fit a laptop.

    What justrl.yaml leaves to its recipes (null there) and the embedded default's own sections do not count.

    Args:
        base: justrl.yaml on the recipe's system.
    """
    return [
        d for d in deviations(base, recipe) if d.recipe is not None and d.key.split(".")[0] not in EMBEDDED_SECTIONS
    ]


def describe(request: Request, composed: Config) -> dict[str, Any]:
    """What the manifest says of a run before it starts: is this JustRL, and if not, which keys deviate.

    A recipe of the user's own is compared with its origin, the shipped recipe from which it differs in the fewest
    keys; against another model or number of steps, which justrl.yaml leaves to its recipes, it does not count.
    """
    path = config.find_recipe(request.recipe)
    if config.shipped(path):
        origin = path.stem
        reference = _shipped(origin, composed.shipped_system)
        changed = deviations(reference, composed)
    else:
        origin, reference, changed = _origin(composed)
    if composed.shipped_system is None:
        known = _values_of_systems()
        changed = [d for d in changed if d.yours not in known.get(d.key, ())]
    of_origin = scaled(config.load_base(reference.shipped_system), reference)
    return {
        "recipe": path.stem if config.shipped(path) else request.recipe,
        "origin": origin,
        "system": request.system,
        "ablations": list(request.ablations),
        "overrides": list(request.overrides),
        "is_justrl": not of_origin and not changed,
        "scaled": [d.as_dict() for d in of_origin],
        "deviations": [d.as_dict() for d in changed],
        "reward": reward(composed),
        "seed": composed.values.get("seed"),
        "command": shlex.join(["verl", *sys.argv[1:]]),
    }


@functools.cache
def _shipped(recipe: str, system: str | None) -> Config:
    return config.load(Request(recipe, system))


def _origin(composed: Config) -> tuple[str, Config, list[Deviation]]:
    """The nearest shipped recipe by name, its config, and where the composed one deviates from it."""
    base = config.load_base().raw
    found = []
    for name in config.recipe_names():
        reference = _shipped(name, composed.shipped_system)
        changed = deviations(reference, composed)
        left_open = [d for d in changed if base.get(d.key, "") is None]  # the model, the steps
        kept = [d for d in changed if d not in left_open]
        found.append((len(kept), len(left_open), name, reference, kept))
    _, _, name, reference, changed = min(found, key=lambda entry: entry[:3])
    return name, reference, changed


def _values_of_systems() -> dict[str, list[Any]]:
    """The values that shipped systems give to their keys, and justrl.yaml to the same: on a system of the user's own
    they are none of the user's doing."""
    base = config.load_base().flat
    found: dict[str, list[Any]] = {}
    for file in config.SYSTEMS.rglob("*.yaml"):
        for key, value in config.leaves(yaml.safe_load(file.read_text())):
            found.setdefault(key, [base.get(key)]).append(value)
    return found


def reward(composed: Config) -> dict[str, Any]:
    """The reward function: its path and name as they were given, and the hash of a file."""
    given = composed.values["reward"]["custom_reward_function"]
    file = Path(str(given["path"] or "").removeprefix("file://"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    return {"path": given["path"], "name": given["name"], "sha256": digest}
