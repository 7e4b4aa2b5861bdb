"""What the trainer, Ray and the trackers would trip over, and what a run would resume from."""

from pathlib import Path

import pytest
from composed import load

from justrl_recipe import checks
from justrl_recipe.checks import Problem, combinations, known_keys
from justrl_recipe.config import Request, load_base

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
RUNTIME_ENV = "ray_kwargs.ray_init.runtime_env"


def found(*overrides: str, recipe: str = "justrl_deepseek") -> list[Problem]:
    return checks.of_config(load(Request(recipe, overrides=overrides)), load_base())


def levels(problems: list[Problem]) -> dict[str, str]:
    return {problem.key: problem.level for problem in problems}


@pytest.mark.parametrize(
    ("switch", "coefficient", "value"),
    [
        (f"{ACTOR}.use_kl_loss=true", f"{ACTOR}.kl_loss_coef", "0.001"),
        ("algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.kl_coef", "0.001"),
        (
            "reward.reward_kwargs.overlong_buffer_cfg.enable=true",
            "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor",
            "1.0",
        ),
        (f"{ACTOR}.policy_loss.loss_mode=kl_cov", f"{ACTOR}.policy_loss.ppo_kl_coef", "1.0"),
        ("actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.model.lora_alpha", "16"),
    ],
)
def test_a_switch_whose_coefficient_is_zero_is_a_warning(switch, coefficient, value):
    key = switch.split("=")[0]
    assert levels(found(switch, f"{coefficient}=0"))[key] == "warning"
    assert key not in levels(found(switch, f"{coefficient}={value}"))


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("trainer.logger=[console,wanddb]", "wandb"),
        ("trainer.logger=tensorbord", "tensorboard"),
        ("trainer.logger=[Console]", "console"),
        ("trainer.resume_mode=resumepath", "resume_path"),
        (f"{ACTOR}.loss_agg_mode=token_mean", "token-mean"),
        (f"{ACTOR}.optim.lr_scheduler_type=cosin", "cosine"),
        (f"{ACTOR}.fsdp_config.model_dtype=float23", "float32"),
        (f"{ACTOR}.strategy=fspd2", "fsdp2"),
        (f"{ROLLOUT}.dtype=bf16", "bfloat16"),
        ("algorithm.adv_estimator=grop", "grpo"),
        (f"{ACTOR}.policy_loss.loss_mode=vanila", "vanilla"),
        (f"{ACTOR}.kl_loss_type=low_var", "low_var_kl"),
        ("reward.reward_manager.name=dappo", "dapo"),
        (f"{ROLLOUT}.agent.default_agent_loop=single_turn", "single_turn_agent"),
        ("trainer.v1.trainer_mode=synch", "sync"),
    ],
)
def test_a_typing_error_in_a_value_names_the_nearest(override, nearest):
    key = override.split("=")[0]
    [problem] = [problem for problem in found(override) if problem.key == key and problem.check != "unused-key"]
    assert problem.level == "error" and nearest in problem.fix


@pytest.mark.parametrize("recipe", ["justrl_deepseek", "justrl_tiny", "justrl_smollm2"])
def test_the_recipes_own_values_are_among_the_choices(recipe):
    composed = load(Request(recipe, ablations=("robust_verifier",)))
    assert list(known_keys.wrong_choices(composed, load_base())) == []


def test_code_of_ones_own_may_register_names(tmp_path):
    (tmp_path / "mine.py").write_text("def compute_score(): ...")
    own = f"reward.custom_reward_function.path={tmp_path}/mine.py"
    assert "algorithm.adv_estimator" in levels(found("algorithm.adv_estimator=mine"))
    assert "algorithm.adv_estimator" not in levels(found("algorithm.adv_estimator=mine", own))


@pytest.mark.parametrize(("name", "package"), [(n, p) for n, p in combinations.TRACKERS.items() if p])
def test_a_tracker_whose_package_is_missing_is_an_error(monkeypatch, name, package):
    override = f"trainer.logger=[console,{name}]"
    monkeypatch.setattr(combinations, "find_spec", lambda wanted: None)
    assert levels(found(override))["trainer.logger"] == "error"
    monkeypatch.setattr(combinations, "find_spec", lambda wanted: wanted == package or None)
    assert "trainer.logger" not in levels(found(override))


@pytest.mark.parametrize(
    ("override", "key", "recipe"),
    [
        (f"+{RUNTIME_ENV}.env_vars.VERL_FILE_LOGGER_PATH=/tmp/x", "env_vars.VERL_FILE_LOGGER_PATH", "justrl_tiny"),
        (
            f"+{RUNTIME_ENV}.env_vars.VERL_FILE_LOGGER_PATH=/tmp/x",
            "env_vars.VERL_FILE_LOGGER_PATH",
            "justrl_deepseek",
        ),
        (f"{RUNTIME_ENV}.env_vars.OMP_NUM_THREADS=4", "env_vars.OMP_NUM_THREADS", "justrl_tiny"),
        (f"+{RUNTIME_ENV}.env_vars.NCCL_DEBUG=true", "env_vars.NCCL_DEBUG", "justrl_deepseek"),
        (f"{RUNTIME_ENV}.env_vars.VLLM_CPU_KVCACHE_SPACE=much", "env_vars.VLLM_CPU_KVCACHE_SPACE", "justrl_tiny"),
        (f"{RUNTIME_ENV}.env_vars=text", "env_vars", "justrl_tiny"),
        (f"{RUNTIME_ENV}.py_executable=/usr/bin/python3", "py_executable", "justrl_tiny"),
    ],
)
def test_what_starting_the_run_would_replace_or_ray_refuse(override, key, recipe):
    assert levels(found(override, recipe=recipe)).get(f"{RUNTIME_ENV}.{key}") == "error"


def test_settings_of_ray_that_are_taken():
    assert found(f"+{RUNTIME_ENV}.env_vars.NCCL_DEBUG=INFO", f"{RUNTIME_ENV}.py_executable=python3") == []


def checkpoint(folder: Path, step: int = 5, gpus: int = 32, data: bool = True) -> Path:
    actor = folder / f"global_step_{step}" / "actor"
    actor.mkdir(parents=True)
    for rank in range(gpus):
        (actor / f"model_world_size_{gpus}_rank_{rank}.pt").touch()
    if data:
        (actor.parent / "data.pt").touch()
    return actor.parent


def resuming(path: object, *overrides: str) -> list[Problem]:
    mode = "trainer.resume_mode=resume_path"
    return [p for p in found(mode, f"trainer.resume_from_path={path}", *overrides) if p.check == "resume"]


def test_a_whole_checkpoint_is_resumed_from(tmp_path):
    path = checkpoint(tmp_path)
    assert resuming(path) == []
    [problem] = resuming(path, "trainer.total_training_steps=5")
    assert "nothing is left to train" in problem.why
    assert resuming(path, "trainer.nnodes=1") == []  # verl_hooks/resharding.py


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path / "actor",
        lambda path: f"{path}/",
        lambda path: path.parent,
        lambda path: path.parent / "global_step_6",
        lambda path: "null",
        lambda path: (path / "data.pt").unlink() or path,
    ],
)
def test_what_is_no_checkpoint_is_found_before_the_start(tmp_path, spoil):
    problems = resuming(spoil(checkpoint(tmp_path)))
    assert [problem.level for problem in problems] == ["error"]


def test_a_rank_that_is_missing_of_one_node(tmp_path):
    path = checkpoint(tmp_path, gpus=8)
    (path / "actor" / "model_world_size_8_rank_3.pt").unlink()
    [problem] = resuming(path, "trainer.nnodes=1")
    assert "rank 3 of 8" in problem.why


def test_verls_own_way_to_resume_is_refused():
    [problem] = found("trainer.resume_mode=auto")
    assert (problem.check, problem.level) == ("resume", "error") and "verl run --resume" in problem.fix


@pytest.mark.parametrize(
    ("override", "level"),
    [
        (f"{ACTOR}.checkpoint.async_save=true", "error"),
        ("trainer.max_actor_ckpt_to_keep=1", None),
        ("trainer.max_actor_ckpt_to_keep=2", None),
        ("trainer.esi_redundant_time=60", "warning"),
        ("trainer.use_v1=false", "error"),
        ("trainer.critic_warmup=3", "warning"),
        ("trainer.log_val_generations=3", "warning"),
    ],
)
def test_the_level_of_a_problem(override, level):
    assert levels(found(override)).get(override.split("=")[0]) == level


def test_ligers_rotary_embedding_that_compiles_for_each_micro_batch_is_a_warning():
    """The shipped systems name another one; a system of the user's own may not."""
    unset, liger = f"~{RUNTIME_ENV}.env_vars.LIGER_KERNEL_IMPL_ROPE", "actor_rollout_ref.model.use_liger"
    assert found() == []
    [problem] = found(unset)
    assert (problem.key, problem.level) == (liger, "warning") and "=nvidia-triton" in problem.fix
    assert found(unset, f"{liger}=false") == []


def test_dynamic_sampling_needs_its_metric():
    enable = ["algorithm.filter_groups.enable=true", "trainer.v1.sampler.custom_sampler.path=null"]
    assert levels(found(*enable, "algorithm.filter_groups.metric=null"))["algorithm.filter_groups.metric"] == "error"
    assert "algorithm.filter_groups.metric" not in levels(found(*enable, "algorithm.filter_groups.metric=acc"))


def test_resuming_without_the_optimizer_would_learn_something_else(tmp_path):
    contents = f"{ACTOR}.checkpoint.load_contents=[model,hf_model]"
    [problem] = resuming(checkpoint(tmp_path), contents)
    assert problem.level == "error" and "without optimizer, extra" in problem.why
    assert found(contents) == []


def test_saving_without_the_optimizer_makes_a_run_that_cannot_be_resumed():
    contents = f"{ACTOR}.checkpoint.save_contents=[model,hf_model]"
    [problem] = found(contents)
    assert problem.level == "warning" and "without optimizer, extra" in problem.why
    assert found(contents, "trainer.save_freq=-1") == []
