"""What `verl validate` and `verl run` find before anything starts: mistakes that real users make."""

import functools
import json
from copy import deepcopy
from pathlib import Path

import pytest
from command import verl
from composed import load

from justrl_recipe import checks
from justrl_recipe.checks import Problem, combinations, known_keys
from justrl_recipe.config import Config, Request, load_base
from justrl_recipe.data import schema
from justrl_recipe.planning import model_shape

OVERRIDES = "actor_rollout_ref.model.override_config"
BOXED = "What is 1 + 1?" + schema.TRAINING_SUFFIX


def found(*overrides: str, recipe: str = "justrl_deepseek", system: str | None = None) -> list[Problem]:
    return checks.of_config(load(Request(recipe, system, overrides=overrides)), load_base())


def in_files(*overrides: str, folder: Path = Path("runs")) -> tuple[list[Problem], list[Problem]]:
    """What is wrong with the files, and what could not be looked at."""
    composed = load(Request("justrl_deepseek", overrides=overrides))
    base = load_base()
    found = [*checks.of_files(composed, base, folder), *checks.of_prompts(composed, base)]
    unchecked = [problem for problem in found if problem.level == "unchecked"]
    return [problem for problem in found if problem.level != "unchecked"], unchecked


def write(file: Path, prompt: str = BOXED, source: str = "math_dapo", rows: int = 300) -> str:
    """A data file, as an override's value."""
    numbered = [schema.row(source, i, "train", f"Problem {i}. {prompt}", "2") for i in range(rows)]
    schema.write_parquet(file, numbered)
    return str(file)


@pytest.fixture
def data(tmp_path) -> list[str]:
    """Overrides for data that is fit, and no checkpoint, so that the machine's disk has no part in the test."""
    train, validation = write(tmp_path / "train.parquet"), write(tmp_path / "validation.parquet", source="AIME24")
    return [f"data.train_files={train}", f"data.val_files={validation}", "trainer.save_freq=-1"]


@pytest.mark.parametrize(
    ("overrides", "key", "fix"),
    [
        (["reward_model.reward_manager=dapo"], "reward_model.reward_manager", "use reward.*"),
        (["reward_model.enable=true"], "reward_model.enable", "use reward.*"),
        (["custom_reward_function.path=x.py"], "custom_reward_function.path", "use reward.custom_reward_function.*"),
        (["actor_rollout_ref.actor.grad_clip=0.5"], "actor_rollout_ref.actor.grad_clip", "actor.optim.clip_grad"),
        (["actor_rollout_ref.actor.clip_ratio=0.1"], "actor_rollout_ref.actor.clip_ratio", "clip_ratio_low"),
        (["actor_rollout_ref.actor.kl_loss_coef=0.001"], "actor_rollout_ref.actor.kl_loss_coef", "use_kl_loss=true"),
        (
            ["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4"],
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
            "ppo_max_token_len_per_gpu",
        ),
        (
            ["actor_rollout_ref.actor.use_fused_kernels=true"],
            "actor_rollout_ref.actor.use_fused_kernels",
            "model.use_fused_kernels",
        ),
        (["algorithm.gamma=0.9"], "algorithm.gamma", "remove it"),
        (["trainer.balance_batch=false"], "trainer.balance_batch", "always balances"),
        (["data.truncation=left"], "data.truncation", "filter_overlong_prompts"),
        (["trainer.resume_from_path=x"], "trainer.resume_from_path", "resume_mode=resume_path"),
        (["+data.use_boxed_suffix_prompt=true"], "data.use_boxed_suffix_prompt", "did you mean"),
        (
            ["+actor_rollout_ref.actor.clip_ratio_hihg=0.3"],
            "actor_rollout_ref.actor.clip_ratio_hihg",
            "clip_ratio_high",
        ),
        (["data.train_batch_size=abc"], "data.train_batch_size", "whole number"),
        (["data.train_batch_size=2.5"], "data.train_batch_size", "whole number"),
        (["data.shuffle=maybe"], "data.shuffle", "boolean"),
        (["actor_rollout_ref.actor.optim.lr=fast"], "actor_rollout_ref.actor.optim.lr", "number"),
        (["algorithm.filter_groups.enable=true"], "algorithm.filter_groups.enable", "custom_sampler.path=null"),
        (
            ["algorithm.rollout_correction.rollout_is=token"],
            "actor_rollout_ref.rollout.custom.log_probs_every",
            "log_probs_every=1",
        ),
        (["actor_rollout_ref.model.path=null"], "actor_rollout_ref.model.path", "name it"),
        (["actor_rollout_ref.model.override_config=null"], "actor_rollout_ref.model.override_config", "such as {}"),
        (["data.apply_chat_template_kwargs=null"], "data.apply_chat_template_kwargs", "such as {}"),
        (["data.train_files=null"], "data.train_files", "name it"),
        (["~data.train_batch_size"], "data.train_batch_size", "restore it"),
        (["trainer.nnodes=0"], "trainer.nnodes", "above 0"),
        (["trainer.critic_warmup=10"], "trainer.critic_warmup", "critic_warmup=0"),
    ],
)
def test_what_verl_would_ignore_or_trip_over(overrides, key, fix):
    assert [problem for problem in found(*overrides) if problem.key == key and fix in problem.fix], found(*overrides)


@pytest.mark.parametrize(
    "override",
    [
        "actor_rollout_ref.actor.optim.lr=2e-6",
        "actor_rollout_ref.actor.entropy_coeff=0.001",
        "data.train_files=[a.parquet,b.parquet]",
        "+actor_rollout_ref.rollout.enable_sleep_mode=false",  # a field of veRL's dataclass that no YAML names
        "actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        "+ray_kwargs.ray_init.num_gpus=1",
        "+reward.custom_reward_function.reward_kwargs.strict=true",
        "trainer.max_actor_ckpt_to_keep=2",
        "actor_rollout_ref.model.use_fused_kernels=true",  # by interpolation also the actor's, which is not read
        "algorithm.gamma=1",  # as it is
    ],
)
def test_what_verl_takes_is_accepted(override):
    assert found(override) == []


def test_what_a_removed_key_may_be_set_to_is_accepted():
    base = load_base()

    def fixes(key: str, values: dict) -> list[str]:
        problems = known_keys.repaired(Config(base.raw, values), base)[0]
        return [found.fix for found in problems if found.key == key and found.check != "missing-value"]

    seen = set()
    for key in base.flat:
        *sections, name = key.split(".")
        values = deepcopy(base.values)
        section = functools.reduce(dict.__getitem__, sections, values)
        section.pop(name)
        [fix] = fixes(key, values) or [None]
        section[name] = None
        assert fix is None or bool(fixes(key, values)) == (fix == "restore it"), key
        seen.add(fix)
    assert seen == {None, "restore it", "restore it or set it to null"}


def test_a_key_is_not_unused_where_its_switch_is_on():
    assert found("actor_rollout_ref.actor.use_kl_loss=true", "actor_rollout_ref.actor.kl_loss_coef=0.001") == []


def test_an_overlong_penalty_without_its_length():
    """As in the authors' released script with the penalty switched on."""
    key = "reward.reward_kwargs.overlong_buffer_cfg"
    [problem] = found(f"{key}.enable=true", "reward.reward_kwargs.max_resp_len=null")
    assert problem.key == "reward.reward_kwargs.max_resp_len" and "${data.max_response_length}" in problem.fix
    assert [p.key for p in found(f"{key}.enable=true", f"{key}.log=null")] == [f"{key}.log"]
    assert [p.key for p in found(f"{key}.enable=true", f"{key}.len=20000")] == [f"{key}.len"]
    [problem] = found(f"{key}.enable=true", "reward.reward_manager.name=naive")
    assert "naive" in problem.why and "dapo" in problem.fix


@pytest.mark.parametrize(
    ("overrides", "key", "says"),
    [
        (["data.train_batch_size=100"], "data.train_batch_size", "such as 128"),
        (
            ["actor_rollout_ref.actor.ppo_mini_batch_size=1", "trainer.nnodes=5", "data.train_batch_size=5"],
            "actor_rollout_ref.actor.ppo_mini_batch_size",
            "divide over 40 GPUs",
        ),
        (["+data.gen_batch_size=100"], "data.gen_batch_size", "does not divide"),
        (
            ["actor_rollout_ref.rollout.tensor_model_parallel_size=3"],
            "actor_rollout_ref.rollout.tensor_model_parallel_size",
            "divisor of 8",
        ),
        (
            ["actor_rollout_ref.actor.ulysses_sequence_parallel_size=3"],
            "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
            "divisor of 32",
        ),
        (
            ["actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192"],
            "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
            "at least 16384",
        ),
        (
            ["actor_rollout_ref.rollout.response_length=30000", "actor_rollout_ref.rollout.max_model_len=null"],
            "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
            "at least 31024",
        ),
        (
            ["actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=8192"],
            "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu",
            "at least 16384",
        ),
        (
            ["actor_rollout_ref.model.use_remove_padding=false"],
            "actor_rollout_ref.model.override_config.attn_implementation",
            "use_remove_padding=true",
        ),
        (
            ["actor_rollout_ref.actor.ulysses_sequence_parallel_size=2"],
            "actor_rollout_ref.model.override_config.attn_implementation",
            "ulysses_sequence_parallel_size=1",
        ),
        (
            ["actor_rollout_ref.rollout.max_model_len=8192"],
            "actor_rollout_ref.rollout.max_model_len",
            "silently",
        ),
        (["ray_kwargs.ray_init.num_cpus=8"], "ray_kwargs.ray_init.num_cpus", "hold 33 CPUs, and Ray counts 8"),
    ],
)
def test_sizes_that_do_not_fit(overrides, key, says):
    hits = [problem for problem in found(*overrides) if problem.key == key]
    assert len(hits) == 1 and says in str(hits[0]), found(*overrides)


def test_a_longest_sequence_beyond_the_model_s_context_is_refused():
    longest = "actor_rollout_ref.rollout.max_model_len"
    shape = model_shape.find("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")
    composed = load(Request("justrl_deepseek", overrides=(f"{longest}=200000",)))
    [problem] = combinations.of_model(composed, shape)
    assert (problem.check, problem.key) == ("context", longest) and "16384" in problem.fix


def test_a_sequence_may_be_split_over_gpus_to_fit_the_budget():
    budget = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192"
    split = "actor_rollout_ref.actor.ulysses_sequence_parallel_size=2"
    assert found(budget, split, f"{OVERRIDES}.attn_implementation=flash_attention_2") == []


def test_overrides_of_the_model_that_verl_would_not_take_or_write_into_checkpoints():
    [problem] = found(f"~{OVERRIDES}.model_config")
    assert "checkpoints" in problem.why and problem.fix.endswith("model_config={}")
    [problem] = found(f"+{OVERRIDES}.rope_theta=10000")
    assert problem.fix == "set actor_rollout_ref.model.override_config.model_config.rope_theta"


def test_validation_that_verl_would_cap():
    [problem] = found("+actor_rollout_ref.rollout.val_kwargs.max_new_tokens=31744")
    assert "caps in-training validation at data.max_response_length=15360" in problem.why
    assert "verl eval RUN --max-tokens 31744" in problem.fix


def test_fit_files_have_no_problem(data):
    assert in_files(*data) == ([], [])


def test_prompts_that_ask_for_another_answer_than_the_verifier_reads(data, tmp_path):
    """DAPO's own file, as it is downloaded."""
    prompt = "Solve the problem. The last line is of the form Answer: $Answer. What is 1 + 1?"
    problems, _ = in_files(*data, f"data.train_files={write(tmp_path / 'dapo.parquet', prompt)}")
    assert {problem.key for problem in problems} == {"data.train_files"}
    assert any("Answer:" in problem.why for problem in problems) and "verl data" in problems[0].fix


def test_verls_own_scorer_on_this_recipes_data(data):
    problems, _ = in_files(*data, "reward.custom_reward_function.path=null")
    assert {problem.key for problem in problems} == {"reward.custom_reward_function.path"}
    assert any("'AIME24'" in problem.why for problem in problems)
    assert any("wants `Answer: ...`" in problem.why for problem in problems)


def test_missing_data_names_the_command_that_makes_it(tmp_path):
    problems, _ = in_files(f"data.train_files={tmp_path}/none.parquet", f"data.val_files={tmp_path}/none.parquet")
    fixes = {problem.key: problem.fix for problem in problems}
    assert f"verl data train --out {tmp_path}" in fixes["data.train_files"]
    assert f"verl data benchmarks --out {tmp_path}" in fixes["data.val_files"]


def test_no_data_file_at_all(data):
    problems, _ = in_files(*data, "data.val_files=[]")
    assert [problem.key for problem in problems] == ["data.val_files"]


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_a_data_file_that_is_none(data, tmp_path, content):
    (tmp_path / "broken.parquet").write_bytes(content)
    problems, _ = in_files(*data, f"data.val_files={tmp_path}/broken.parquet")
    assert [problem.key for problem in problems] == ["data.val_files"] and "broken.parquet" in problems[0].why


def test_data_in_another_schema(data, tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"question": ["1 + 1?"], "answer": ["2"]}), tmp_path / "gsm.parquet")
    problems, _ = in_files(*data, f"data.val_files={tmp_path}/gsm.parquet")
    assert "no column prompt" in problems[0].why


def test_fewer_rows_than_a_batch_takes(data, tmp_path):
    problems, _ = in_files(*data, f"data.train_files={write(tmp_path / 'few.parquet', rows=100)}")
    assert "100 rows" in problems[0].why and "batch" in problems[0].fix


def test_a_missing_file_is_made_by_the_command_of_its_folder():
    problems, _ = in_files("data.train_files=x/words/train.parquet", "data.val_files=x/validation.parquet")
    assert "`python examples/smollm2/make_data.py --out x/words`" in problems[0].fix
    assert "`verl data benchmarks --out x`" in problems[1].fix


def test_a_model_that_is_none_and_one_that_is_not_here(data, tmp_path):
    problems, _ = in_files(*data, f"actor_rollout_ref.model.path={tmp_path}")
    assert "config.json" in problems[0].why
    problems, _ = in_files(*data, "actor_rollout_ref.model.path=/no/such/model")
    assert "no folder /no/such/model" in problems[0].why
    problems, unchecked = in_files(*data, "actor_rollout_ref.model.path=nobody/no-such-model")
    assert problems == [] and "hf download nobody/no-such-model" in unchecked[0].fix


def test_checkpoints_that_the_disk_cannot_hold(data, tmp_path, monkeypatch):
    """12 bytes a parameter: 21 GB each, and the script keeps all 88 of them."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100e9}))
    saving = [override for override in data if "save_freq" not in override]
    [problem], _ = in_files(*saving, folder=tmp_path / "not" / "there")
    assert "checkpoints take 88 of 21 GB: 1,877 GB, and 100 GB are free" in problem.why
    assert "trainer.max_actor_ckpt_to_keep=2" in problem.fix  # and the best, and the one that is being saved
    assert in_files(*saving, "trainer.max_actor_ckpt_to_keep=2") == ([], [])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (None, "no file"),
        ("def score(): ...", "defines compute_score()"),
        ("def compute_score(:", "not a Python file"),
        ("def compute_score(*a, **k): ...", None),
        ("from mine import compute_score", None),
    ],
)
def test_a_reward_file_is_looked_at_before_the_start_and_not_run(data, tmp_path, code, says):
    file = tmp_path / "my_reward.py"
    if code is not None:
        file.write_text(f"{code}\n" + ("" if code[-1] == ":" else "raise SystemExit\n"))
    problems, _ = in_files(*data, f"reward.custom_reward_function.path={file}")
    assert len(problems) == (says is not None) and (says is None or says in problems[0].why)


def test_validate_lists_everything_at_once_and_run_refuses_it(data, tmp_path):
    wrong = ["data.train_batch_size=100", "actor_rollout_ref.actor.grad_clip=0.5", "data.val_files=none.parquet"]
    result = verl("validate", "justrl_deepseek", *data, *wrong, cwd=tmp_path)
    assert result.returncode == 1 and result.stdout.splitlines()[-1] == "2 problems, 1 warning"
    marks = {"data.train_batch_size": "x", "actor_rollout_ref.actor.grad_clip": "!", "data.val_files": "x"}
    for key, mark in marks.items():
        assert f"{mark} {key}: " in result.stdout
    as_json = json.loads(verl("validate", "justrl_deepseek", "--json", *data, *wrong, cwd=tmp_path).stdout)
    assert [sorted(problem) for problem in as_json["problems"]] == [["check", "fix", "key", "level", "why"]] * 2
    assert [problem["check"] for problem in as_json["warnings"]] == ["unused-key"] and as_json["unchecked"] == []
    refused = verl("run", "justrl_deepseek", *data, *wrong, "trainer.nnodes=0", cwd=tmp_path)
    lines = refused.stderr.splitlines()
    assert refused.returncode == 2 and [line.split(":")[0] for line in lines].count("error") == 2
    assert not (tmp_path / "runs").exists()


def test_a_check_can_be_skipped_by_the_name_that_it_shows(data, tmp_path):
    wrong = [*data, "data.train_batch_size=100", "actor_rollout_ref.actor.grad_clip=0.5"]
    shown = verl("validate", "justrl_deepseek", *wrong, cwd=tmp_path).stdout
    assert "[batch-size]" in shown and "[unused-key]" in shown
    skipped = verl("validate", "justrl_deepseek", *wrong, "--skip-check", "batch-size", cwd=tmp_path)
    assert (skipped.returncode, skipped.stdout.splitlines()[-1]) == (0, "no problems, 1 warning")
    every = [option for name in ("batch-size", "unused-key") for option in ("--skip-check", name)]
    assert verl("validate", "justrl_deepseek", *wrong, *every, cwd=tmp_path).stdout == "no problems\n"
    dry = verl("run", "justrl_deepseek", *wrong, *every, "--dry-run", cwd=tmp_path)
    assert dry.returncode == 0 and "train_batch_size: 100" in dry.stdout
    for command in (("validate", "justrl_deepseek"), ("run", "--resume", str(tmp_path))):
        unknown = verl(*command, "--skip-check", "batch-sizes", cwd=tmp_path)
        assert unknown.returncode == 2 and "did you mean 'batch-size'?" in unknown.stderr


def test_validate_says_when_all_is_well_and_when_it_could_not_look(data, tmp_path):
    result = verl("validate", "justrl_deepseek", *data, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "no problems\n")
    result = verl("validate", "justrl_deepseek", *data, "actor_rollout_ref.model.path=nobody/none", cwd=tmp_path)
    assert result.returncode == 2 and result.stdout.splitlines()[-1] == "no problems, 1 not checked"
    assert verl("validate", "justrl_tiny", cwd=tmp_path).returncode == 0  # its data and model are made by the run
    assert verl("validate", "justrl_tinny", cwd=tmp_path).returncode == 2
