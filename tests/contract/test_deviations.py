"""Fixed means fixed: a run that says is_justrl has the recipe's values, precision and sampling."""

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml
from composed import load
from omegaconf import OmegaConf

from justrl_recipe.config import RECIPES, SYSTEMS, Request, leaves, load_base, names, recipe_names
from justrl_recipe.deviations import FIXED_EXPORTS, describe, deviations, is_free, left_open, scaled

KEYS = yaml.safe_load((Path(__file__).parents[1] / "config_keys.yaml").read_text())
ENGINE = "actor_rollout_ref.rollout.engine_kwargs.vllm"
ONE_FULL_ONE_SMALL = [
    pytest.param(name, marks=[] if name in ("justrl_deepseek", "justrl_tiny") else pytest.mark.exhaustive)
    for name in recipe_names()
]
VARIABLES = "ray_kwargs.ray_init.runtime_env.env_vars"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in [name for name in os.environ if any(fnmatchcase(name, pattern) for pattern in FIXED_EXPORTS)]:
        monkeypatch.delenv(name)


def about(recipe: str | Path, *overrides: str, system: str | None = None, ablations: tuple[str, ...] = ()) -> dict:
    request = Request(str(recipe), system, ablations, overrides)
    return describe(request, load(request))


def keys(found: dict) -> list[str]:
    return [deviation["key"] for deviation in found["deviations"]]


@pytest.mark.parametrize("kind", ["free", "fixed"])
def test_every_key_is_what_it_is_stated_to_be(kind):
    assert [key for key in KEYS[kind] if is_free(key, "another value") != (kind == "free")] == []


@pytest.mark.parametrize("recipe", recipe_names())
def test_no_fixed_key_takes_its_value_from_a_free_one(recipe):
    """Such a key would change without a line, as veRL's `load_contents: ${.save_contents}` did."""
    copies = {}
    for key, value in load(Request(recipe)).raw.items():
        for source in re.findall(r"\$\{(?:oc\.select:\s*)?(\.?[\w.-]+)", str(value)):
            copies[key] = key.rpartition(".")[0] + source if source.startswith(".") else source
    assert len(copies) > 50
    assert [key for key, source in copies.items() if key in KEYS["fixed"] and source in KEYS["free"]] == []


# What would change the precision, the sampling or the values, and was exempt or could be thought to be.
HOLES = (
    f"+{ENGINE}.kv_cache_dtype=fp8",
    f"+{ENGINE}.quantization=fp8",
    f"+{ENGINE}.dtype=float16",
    f"+{ENGINE}.load_format=bitsandbytes",
    f"+{ENGINE}.logits_processors=[mine.Processor]",
    f"+{ENGINE}.generation_config=auto",
    f"+{ENGINE}.hf_overrides={{rope_theta: 1}}",
    f"+{ENGINE}.attention_backend=X",
    f"+{ENGINE}.speculative_config={{method: ngram, rejection_sample_method: synthetic}}",
    f"+{ENGINE}.speculative_config={{method: ngram, synthetic_acceptance_length: 2.0}}",
    f"+{ENGINE}.speculative_config={{model: mine, synthetic_acceptance_rates: [0.9]}}",
    f"+{ENGINE}.speculative_config={{method: custom_class, model: mine}}",
    f"+{ENGINE}.max_model_len=4096",
    f"+{ENGINE}.compilation_config.pass_config.fuse_norm_quant=true",
    f"+{ENGINE}.a_key_of_the_future=1",
    f"+{VARIABLES}.VLLM_ATTENTION_BACKEND=X",
    f"+{VARIABLES}.VLLM_BATCH_INVARIANT='\"1\"'",
    f"+{VARIABLES}.NVIDIA_TF32_OVERRIDE=1",
    f"+{VARIABLES}.VERL_FULL_DETERMINISM=1",
    "ray_kwargs.ray_init.runtime_env.py_executable=python",
    "actor_rollout_ref.rollout.dtype=float16",
    "actor_rollout_ref.rollout.quantization=fp8",
    "actor_rollout_ref.rollout.load_format=auto",
    "actor_rollout_ref.rollout.logprobs_mode=raw_logprobs",
    "actor_rollout_ref.rollout.ignore_eos=true",
    "actor_rollout_ref.rollout.top_p=0.95",
    "actor_rollout_ref.rollout.max_model_len=4096",
    "actor_rollout_ref.rollout.quantization_config_file=mine.json",
    "actor_rollout_ref.rollout.checkpoint_engine.backend=nccl",
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp16",
    "+actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype=bf16",
    "actor_rollout_ref.actor.fsdp_config.model_dtype=bf16",
    "actor_rollout_ref.actor.fsdp_config.use_no_sync_for_gradient_accumulation=true",
    "actor_rollout_ref.actor.strategy=fsdp_turbo",
    "actor_rollout_ref.actor.optim.optimizer=SGD",
    "actor_rollout_ref.actor.checkpoint.load_contents=[model]",
    "actor_rollout_ref.actor.qat.enable=true",
    "actor_rollout_ref.model.lora_rank=8",
    "actor_rollout_ref.model.lora_adapter_path=mine",
    "actor_rollout_ref.model.tiled_mlp.enabled=true",
    "actor_rollout_ref.model.custom_chat_template=mine",
    "data.custom_cls.path=mine.py",
    "data.train_files=other.parquet",
    "data.val_files=[data/validation.parquet,more.parquet]",
    "actor_rollout_ref.model.mtp.enable=true",
    "actor_rollout_ref.model.external_lib=mine",
    "++actor_rollout_ref.model.override_config.attn_implementation=sage_attention",
    "+actor_rollout_ref.model.override_config.model_config.rope_theta=1.0",
    "skip.rollout_tq.enable=true",
    "trainer.v1.trainer_mode=colocate_async",
    "trainer.v1.sampler.sampler_kwargs.max_lost_share=0.5",
    "algorithm.rollout_correction.rollout_is=token",
)


def test_a_data_file_may_lie_elsewhere():
    files = ("data.train_files=[/shared/train.parquet]", "data.val_files=/shared/data/validation.parquet")
    assert keys(about("justrl_deepseek", *files)) == []


@pytest.mark.parametrize("override", HOLES)
def test_an_override_that_changes_what_is_learned_is_a_deviation(override):
    found = about("justrl_deepseek", override, system="h200x1")
    assert not found["is_justrl"]
    assert keys(found)[0].startswith(key_of(override))


def key_of(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


def as_yaml(override: str) -> str:
    """An override as the content of a YAML file."""
    content = yaml.safe_load(override.partition("=")[2])
    for part in reversed(key_of(override).split(".")):
        content = {part: content}
    return yaml.safe_dump(content)


@pytest.mark.parametrize("kind", ["recipe", "system", "ablation"])
def test_a_file_of_ones_own_is_exempt_from_nothing(tmp_path, kind):
    """All of them in one file, since composing takes a third of a second."""
    mine, every = tmp_path / "mine.yaml", OmegaConf.merge(*(OmegaConf.create(as_yaml(hole)) for hole in HOLES))
    start = "defaults: [justrl_deepseek, _self_]\n" if kind == "recipe" else ""
    mine.write_text(start + OmegaConf.to_yaml(every))
    found = {
        "recipe": lambda: about(mine),
        "system": lambda: about("justrl_deepseek", system=str(mine)),
        "ablation": lambda: about("justrl_deepseek", ablations=(str(mine),)),
    }[kind]()
    missed = [hole for hole in HOLES if not any(key.startswith(key_of(hole)) for key in keys(found))]
    assert missed == [] and not found["is_justrl"]


def set_by_shipped_systems() -> list[tuple[str, str]]:
    """What each shipped system sets beyond the free keys."""
    return [
        (system, key)
        for system in names(SYSTEMS)
        for key, value in leaves(yaml.safe_load((SYSTEMS / f"{system}.yaml").read_text()))
        if key != "defaults" and not is_free(key, value)
    ]


@pytest.mark.parametrize(("system", "key"), set_by_shipped_systems())
@pytest.mark.parametrize("given", ["in the system", "on the command line"])
def test_a_shipped_systems_value_is_exempt_on_its_own_device_alone(tmp_path, system, key, given):
    """float32 on a CPU is the shipped system; on a GPU beside a trainer in bfloat16 it is a user's change."""
    value = dict(leaves(yaml.safe_load((SYSTEMS / f"{system}.yaml").read_text())))[key]
    mine = tmp_path / "mine.yaml"
    mine.write_text(as_yaml(f"{key}={value!r}") if given == "in the system" else "trainer: {nnodes: 2}\n")
    override = [f"++{key}={value!r}"] if given == "on the command line" else []
    assert keys(about("justrl_deepseek", *override, system=str(mine))) == [key]


@pytest.mark.parametrize(
    ("name", "is_justrl"),
    [
        *[("VLLM_ATTENTION_BACKEND", False), ("NVIDIA_TF32_OVERRIDE", False)],
        *[("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", False), ("VERL_FULL_DETERMINISM", False)],
        ("VLLM_USE_V2_MODEL_RUNNER", True),
        *[("VLLM_LOGGING_LEVEL", True), ("NCCL_DEBUG", True), ("VLLM_CACHE_ROOT", True), ("PATH", True)],
    ],
)
def test_what_the_shell_exports_to_the_run_counts_too(monkeypatch, name, is_justrl):
    monkeypatch.setenv(name, "1")
    found = about("justrl_deepseek")
    assert found["is_justrl"] == is_justrl
    assert found["deviations"] == [] if is_justrl else keys(found) == [f"environment.{name}"]


@pytest.mark.parametrize(
    "override",
    [
        "trainer.nnodes=2",
        "trainer.n_gpus_per_node=4",
        "trainer.logger=[wandb]",
        "trainer.experiment_name=mine",
        "trainer.default_local_dir=/large/disk",
        "trainer.save_freq=10",
        "trainer.test_freq=10",
        "trainer.max_actor_ckpt_to_keep=2",
        "trainer.resume_mode=resume_path",
        "trainer.resume_from_path=run/checkpoints/global_step_50",
        "trainer.del_local_ckpt_after_load=true",
        "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.5",
        "actor_rollout_ref.rollout.max_num_seqs=512",
        "actor_rollout_ref.rollout.enforce_eager=true",
        "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2",
        "actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size=2",
        "actor_rollout_ref.actor.strategy=fsdp2",
        "actor_rollout_ref.actor.fsdp_config.param_offload=true",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=20000",
        "actor_rollout_ref.model.enable_gradient_checkpointing=true",
        "actor_rollout_ref.model.use_liger=false",
        "actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2",
        f"+{ENGINE}.speculative_config={{method: suffix, num_speculative_tokens: 8}}",
        f"+{ENGINE}.speculative_config={{method: ngram, prompt_lookup_max: 4, rejection_sample_method: standard}}",
        f"+{ENGINE}.speculative_config={{method: eagle3, model: mine, draft_tensor_parallel_size: 1}}",
        f"+{ENGINE}.kv_cache_dtype=auto",
        f"+{ENGINE}.enable_prefix_caching=false",
        f"+{ENGINE}.compilation_config.cudagraph_capture_sizes=[1,2]",
        f"+{VARIABLES}.NCCL_SOCKET_IFNAME=eth0",
        f"{VARIABLES}.LIGER_KERNEL_IMPL_ROPE=nvidia-cutedsl",
        f"{VARIABLES}.VLLM_USE_V2_MODEL_RUNNER='\"0\"'",
        f"+{VARIABLES}.WANDB_MODE=offline",
        "+ray_kwargs.ray_init.address=auto",
        "reward.num_workers=2",
        "seed=7",
    ],
)
def test_where_a_run_happens_and_how_it_is_watched_is_no_deviation(override):
    found = about("justrl_deepseek", override)
    assert found["is_justrl"] and found["deviations"] == []


@pytest.mark.parametrize("contents", ["[model]", "[hf_model]", "[model,optimizer,extra,hf_model]"])
def test_what_a_checkpoint_holds_does_not_change_what_is_loaded_from_it(contents):
    override = f"actor_rollout_ref.actor.checkpoint.save_contents={contents}"
    loaded = load(Request("justrl_deepseek", overrides=(override,))).flat
    assert loaded["actor_rollout_ref.actor.checkpoint.load_contents"] == ["model", "optimizer", "extra"]


@pytest.mark.parametrize("system", names(SYSTEMS))
def test_a_shipped_system_is_no_deviation(system):
    assert about("justrl_deepseek", system=system)["is_justrl"]


def test_a_shipped_system_by_path_is_the_shipped_system():
    assert about("justrl_deepseek", system=str(SYSTEMS / "h200x1.yaml"))["is_justrl"]


@pytest.mark.parametrize("recipe", ONE_FULL_ONE_SMALL)
@pytest.mark.parametrize("system", names(SYSTEMS))
def test_a_copy_of_a_system_is_no_deviation(tmp_path, recipe, system):
    mine = tmp_path / "mine.yaml"
    mine.write_text((SYSTEMS / f"{system}.yaml").read_text())
    assert about(recipe, system=str(mine))["deviations"] == []


def test_a_system_of_ones_own_that_places_a_run_is_no_deviation(tmp_path):
    mine = tmp_path / "my_cluster.yaml"
    mine.write_text("trainer: {nnodes: 2}\nactor_rollout_ref: {rollout: {gpu_memory_utilization: 0.6}}\n")
    assert about("justrl_deepseek", system=str(mine))["is_justrl"]
    mine.write_text("defaults: [shared/gpu, _self_]\ntrainer: {nnodes: 2}\n")
    assert about("justrl_deepseek", system=str(mine))["is_justrl"]


# The keys beyond the free ones and values that shipped systems set, and why none of them changes the recipe.
SHIPPED_SYSTEMS_SET = {
    # Empty: a checkpoint's config.json is to stay as it was.
    "actor_rollout_ref.model.override_config.model_config",
    # A CPU computes in float32 throughout, which is more than the recipe's bfloat16.
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.reduce_dtype",
    "actor_rollout_ref.actor.fsdp_config.mixed_precision.buffer_dtype",
    "actor_rollout_ref.rollout.dtype",
    # Weights that can be loaded again and again by vLLM's CPU engine; processes and compilation.
    f"{ENGINE}.worker_extension_cls",
    f"{VARIABLES}.TORCHDYNAMO_DISABLE",
    f"{VARIABLES}.VLLM_ENABLE_V1_MULTIPROCESSING",
}


def test_what_shipped_systems_set_beyond_free_keys_is_known():
    found = set()
    for file in SYSTEMS.rglob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        content.pop("defaults", None)
        found |= {key for key, value in leaves(content) if not is_free(key, value)}
    model_config = "actor_rollout_ref.model.override_config.model_config"  # an empty mapping has no leaves
    assert found | {model_config} == SHIPPED_SYSTEMS_SET


@pytest.mark.parametrize("recipe", ONE_FULL_ONE_SMALL)
@pytest.mark.parametrize("system", names(SYSTEMS))
def test_a_system_says_where_and_never_what_is_learned(recipe, system):
    on_system, as_shipped = load(Request(recipe, system)), load(Request(recipe))
    assert {deviation.key for deviation in deviations(as_shipped, on_system)} <= SHIPPED_SYSTEMS_SET


def test_an_ablation_is_its_keys_and_no_other():
    found = about("justrl_deepseek", ablations=("overlong_penalty",))
    assert keys(found) == ["reward.reward_kwargs.overlong_buffer_cfg.enable"] and not found["is_justrl"]


def test_a_derived_key_is_not_listed_beside_its_source():
    assert keys(about("justrl_deepseek", "data.max_response_length=4096")) == ["data.max_response_length"]


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_copy_of_a_recipe_is_told_from_changes_of_it(tmp_path, recipe):
    """What the tiny recipe scales is the recipe's doing; what the user changes in a copy is the user's."""
    mine = tmp_path / "mine.yaml"
    mine.write_text((RECIPES / f"{recipe}.yaml").read_text())
    copied, original = about(mine), about(recipe)
    assert copied["origin"] == recipe and copied["deviations"] == []
    assert copied["scaled"] == original["scaled"] and copied["is_justrl"] == original["is_justrl"]
    changed = about(mine, "actor_rollout_ref.actor.clip_ratio_high=0.3")
    assert keys(changed) == ["actor_rollout_ref.actor.clip_ratio_high"] and changed["scaled"] == original["scaled"]


def test_another_model_and_another_number_of_steps_are_left_to_a_recipe(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "defaults: [justrl_deepseek, _self_]\n"
        "actor_rollout_ref: {model: {path: Qwen/Qwen2.5-Math-1.5B}}\ntrainer: {total_training_steps: 1000}\n"
    )
    assert about(mine)["is_justrl"]
    assert scaled(load_base("a800x32"), load(Request("justrl_deepseek"))) == []


def test_what_is_left_to_a_recipe_is_what_justrl_yaml_says_and_not_what_verl_leaves_null():
    assert left_open() == {"actor_rollout_ref.model.path", "trainer.experiment_name", "trainer.total_training_steps"}


def test_two_reward_files_can_be_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = "reward.custom_reward_function.path"
    found = []
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "my.py").write_text(f"def compute_score(*args, **kwargs): return {len(found)}\n")
        found.append(about("justrl_tiny", f"{path}={folder}/my.py")["reward"])
    assert found[0]["path"] == "a/my.py" and found[0]["sha256"] != found[1]["sha256"]
    shipped = about("justrl_tiny")["reward"]
    assert shipped == {"path": "pkg://justrl_recipe.reward_fns.justrl", "name": "compute_score", "sha256": None}


def test_deviations_of_a_config_from_itself():
    config = load(Request("justrl_tiny"))
    assert deviations(config, config) == []


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "VERL_HUB_TOKEN", "VLLM_STORE_SECRET", "VERL_PASSWORD"])
def test_a_secret_that_the_shell_exports_is_no_deviation_and_not_recorded(monkeypatch, name):
    monkeypatch.setenv(name, "planted-secret")
    found = about("justrl_deepseek")
    assert found["is_justrl"] and "planted-secret" not in str(found)
