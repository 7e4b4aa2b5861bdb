"""Recipes, ablations and systems, tested as data: what a lab that reproduces the paper has to trust."""

import functools
import re
import runpy
from pathlib import Path

import pytest
from command import verl
from composed import load

from justrl_recipe import checks, deviations
from justrl_recipe.config import ABLATIONS, RECIPES, SYSTEMS, Request, leaves, load_base, names, recipe_names

ROOT = Path(__file__).parents[2]
FULL = ("justrl_deepseek", "justrl_nemotron")
SMALL = ("justrl_smollm2", "justrl_tiny")

# Every value that the paper, the authors' post about it or their script states.
PAPER = {
    "algorithm.adv_estimator": "grpo",
    "algorithm.norm_adv_by_std_in_grpo": True,
    "algorithm.use_kl_in_reward": False,
    "algorithm.kl_ctrl.kl_coef": 0.0,
    "data.train_batch_size": 256,
    "data.max_prompt_length": 1024,
    "data.max_response_length": 15360,
    "data.filter_overlong_prompts": True,
    "data.truncation": "error",
    "actor_rollout_ref.actor.ppo_mini_batch_size": 64,
    "actor_rollout_ref.actor.ppo_epochs": 1,
    "actor_rollout_ref.actor.use_dynamic_bsz": True,
    "actor_rollout_ref.actor.clip_ratio_low": 0.2,
    "actor_rollout_ref.actor.clip_ratio_high": 0.28,
    "actor_rollout_ref.actor.clip_ratio_c": 10.0,
    "actor_rollout_ref.actor.loss_agg_mode": "token-mean",
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.actor.use_kl_loss": False,
    "actor_rollout_ref.actor.kl_loss_coef": 0.0,
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "constant",
    "actor_rollout_ref.actor.optim.lr_warmup_steps": 10,
    "actor_rollout_ref.actor.optim.weight_decay": 0.1,
    "actor_rollout_ref.actor.optim.clip_grad": 1.0,
    "actor_rollout_ref.model.use_remove_padding": True,
    "actor_rollout_ref.rollout.name": "vllm",
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.top_p": 1.0,
    "actor_rollout_ref.rollout.top_k": -1,
    "actor_rollout_ref.rollout.max_num_batched_tokens": 32768,
    "actor_rollout_ref.rollout.gpu_memory_utilization": 0.85,
    "actor_rollout_ref.rollout.val_kwargs.do_sample": True,
    "actor_rollout_ref.rollout.val_kwargs.n": 32,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0.7,
    "actor_rollout_ref.rollout.val_kwargs.top_p": 0.9,
    "reward.custom_reward_function.path": "pkg://justrl_recipe.reward_fns.justrl",
    "reward.custom_reward_function.reward_kwargs.validation_sources": ["AIME24", "AIME25", "AMC23"],
    "reward.reward_manager.name": "dapo",
    "reward.reward_kwargs.max_resp_len": 15360,
    "reward.reward_kwargs.overlong_buffer_cfg.enable": False,
    "reward.reward_kwargs.overlong_buffer_cfg.len": 4096,
    "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor": 1.0,
    "reward.reward_kwargs.overlong_buffer_cfg.log": True,
    "trainer.nnodes": 4,
    "trainer.n_gpus_per_node": 8,
    "trainer.test_freq": 50,
    "trainer.save_freq": 50,
    "trainer.val_before_train": True,
}

# What the script sets for its machines; on veRL 0.9.1 a system may set it otherwise without changing what is learned.
SCRIPTS_MEMORY = {
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 32768,
    "actor_rollout_ref.model.enable_gradient_checkpointing": True,
}


@functools.cache
def flat(request: Request) -> dict:
    return dict(leaves(load(request).values))


@pytest.mark.parametrize("recipe", FULL)
@pytest.mark.parametrize("key", PAPER)
def test_full_recipes_have_the_papers_values(recipe, key):
    assert flat(Request(recipe))[key] == PAPER[key]


def test_the_scripts_memory_settings_are_there_for_systems_to_change():
    base = load_base().flat
    assert {key: base[key] for key in SCRIPTS_MEMORY} == SCRIPTS_MEMORY


def test_the_two_full_recipes_differ_in_model_name_and_steps_only():
    deepseek, nemotron = flat(Request("justrl_deepseek")), flat(Request("justrl_nemotron"))
    assert {key for key in deepseek if deepseek[key] != nemotron[key]} == {
        "actor_rollout_ref.model.path",
        "actor_rollout_ref.rollout.prometheus.served_model_name",  # veRL copies the model's path
        "actor_rollout_ref.rollout.trace.experiment_name",  # veRL copies the trainer's
        "trainer.experiment_name",
        "trainer.total_training_steps",
    }
    assert deepseek.keys() == nemotron.keys()
    assert (deepseek["trainer.total_training_steps"], nemotron["trainer.total_training_steps"]) == (4380, 3440)


@pytest.mark.parametrize("recipe", FULL)
def test_the_run_ends_by_steps_and_not_by_epochs(recipe):
    """veRL stops at whichever comes first, and 17k rows give 69 steps an epoch."""
    config = flat(Request(recipe))
    assert config["trainer.total_epochs"] * 69 > config["trainer.total_training_steps"]


@pytest.mark.parametrize("recipe", SMALL)
def test_a_small_recipe_keeps_what_makes_a_run_justrl(recipe):
    small = flat(Request(recipe))
    kept = [key for key in PAPER if key.startswith(("algorithm.", "reward.custom", "reward.reward_manager"))]
    kept = [key for key in kept if not key.endswith("validation_sources")]  # these are of the recipe's own data
    kept += [f"actor_rollout_ref.actor.{key}" for key in ("clip_ratio_low", "clip_ratio_high", "clip_ratio_c")]
    kept += [
        "actor_rollout_ref.rollout.n",
        "actor_rollout_ref.rollout.temperature",
        "actor_rollout_ref.actor.entropy_coeff",
    ]
    kept += ["actor_rollout_ref.actor.use_kl_loss", "actor_rollout_ref.actor.optim.lr_scheduler_type"]
    assert {key: small[key] for key in kept} == {key: PAPER[key] for key in kept}
    updates = small["data.train_batch_size"] / small["actor_rollout_ref.actor.ppo_mini_batch_size"]
    assert updates == 256 / 64
    buffer, longest = small["reward.reward_kwargs.overlong_buffer_cfg.len"], small["data.max_response_length"]
    assert buffer == pytest.approx(longest * 4096 / 15360, rel=0.3)


@pytest.mark.parametrize("recipe", SMALL)
def test_every_scaled_key_of_a_small_recipe_is_marked_with_a_reason(recipe):
    text = (RECIPES / f"{recipe}.yaml").read_text()
    config = load(Request(recipe))
    for deviation in deviations.scaled(load_base(config.shipped_system), config):
        name = deviation.key.rpartition(".")[2]
        lines = [line for line in text.splitlines() if line.strip().startswith(f"{name}:")]
        assert lines, deviation.key
        if name not in ("train_files", "val_files", "path"):
            assert any("#" in line for line in lines), deviation.key


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize("ablation", [None, *names(ABLATIONS)])
def test_every_recipe_and_ablation_composes_without_problems(recipe, ablation):
    config = load(Request(recipe, ablations=(ablation,) if ablation else ()))
    assert checks.of_config(config, load_base()) == []


@pytest.mark.parametrize(
    "file",
    [
        folder / f"{name}.yaml"
        for folder in (RECIPES, SYSTEMS, ABLATIONS)
        for name in names(folder)
        if name != "justrl"
    ],
    ids=lambda file: file.stem,
)
def test_the_command_that_a_file_opens_with_runs_it(file, tmp_path):
    [command] = re.findall(r"^# Run: +verl (run .*)", file.read_text(), re.MULTILINE)
    assert file.stem in command
    assert verl(*command.split(), "--dry-run", cwd=tmp_path).returncode == 0


def test_the_script_of_the_small_ablation_starts_from_the_recipes_model_and_has_every_ablation():
    script = runpy.run_path(str(ROOT / "benchmarks" / "small_scale.py"))
    recipe = flat(Request("justrl_smollm2"))
    assert recipe["actor_rollout_ref.model.path"] == script["WARMED_UP"]
    assert recipe["data.val_files"] == script["VALIDATION"]
    assert {ablation for arm in script["ARMS"].values() for ablation in arm} == set(names(ABLATIONS))
