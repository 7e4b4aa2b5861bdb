"""No input of a user ends in a traceback: whatever is removed, replaced or retyped is a line that says so."""

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from justrl_recipe.checks import CHECKS
from justrl_recipe.cli import app, main
from justrl_recipe.config import ABLATIONS, SYSTEMS, Request, load, load_base
from justrl_recipe.errors import UserError

SECTIONS = sorted({key.rsplit(".", depth)[0] for key in load_base().raw for depth in range(key.count(".") + 1)})
TINY = load(Request("justrl_tiny"))
OWN = [key for key in TINY.raw if key.split(".")[0] in ("machine", "tiny_model", "tiny_data")]
KEYS = st.sampled_from([*SECTIONS, *OWN, "machine", "tiny_model", "tiny_data", "hydra", "defaults", "system"])
VALUES = st.sampled_from(
    [
        *(
            "null",
            "0",
            "-1",
            "3",
            "2.5",
            "1e400",
            "nan",
            "inf",
            "true",
            "text",
            "''",
            "x" * 300,
            "x" * 5000,
            "ü",
            "../..",
            "/dev/null",
        ),
        *("[]", "[1]", "[[1],{a:2}]", "{}", "{a: 1}", "${seed}", "'${nowhere}'", "pkg://json", "pkg://no.such"),
    ]
)
OVERRIDES = st.one_of(
    st.builds("~{}".format, KEYS),
    st.builds("{}{}={}".format, st.sampled_from(["", "+", "++"]), KEYS, VALUES),
)
WORDS = st.text("abc.=~+[]{}$,:'\\ é\n", max_size=20)


def outcome(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `verl`, in process; a traceback raises."""
    runner = CliRunner()
    try:
        result = runner.invoke(app, arguments, catch_exceptions=False)
    except UserError as error:
        return 2, str(error)
    return result.exit_code, result.output


@pytest.fixture(autouse=True, scope="module")
def imported():
    """What the first command of a process imports takes longer than any that follows."""
    outcome("validate", "justrl_tiny")


def validate(recipe: str, overrides: list[str]) -> None:
    started = time.process_time()
    code, output = outcome("validate", recipe, "--", *overrides)
    assert code in (0, 1, 2), output
    assert time.process_time() - started < 5
    assert "Traceback" not in output


# What was once a traceback, and a section of each kind.
EXAMPLES = (
    ["~actor_rollout_ref.model"],
    ["reward=null"],
    ["trainer=5"],
    ["~trainer"],
    ["~data", "~reward"],
    ["data.train_batch_size={a: 1}"],
    ["actor_rollout_ref.rollout.val_kwargs=[1]"],
    ["trainer.logger=7"],
    ["trainer.logger=[[1]]"],
    ["actor_rollout_ref.rollout.data_parallel_size=0"],
    ["actor_rollout_ref.actor.ulysses_sequence_parallel_size=0"],
    ["data.gen_batch_size=text"],
    ["tiny_model=3"],
    ["~tiny_data"],
    ["machine=text"],
    ["+a.b.c=1", "+a.b=2"],
    ["seed=1", "seed=2"],
    ["hydra.run.dir=x"],
    ["defaults=[]"],
    ["data.train_batch_size=1", "data.train_batch_size=2"],
    ["+data.é ü=1"],
    ["actor_rollout_ref.actor.ppo_max_token_len_per_gpu=null"],
    ["trainer.save_freq=null"],
    ["tiny_data.path=null"],
    [f"tiny_data.path={'x' * 300}"],
    [f"actor_rollout_ref.model.path={'x' * 300}"],
    [f"data.train_files={'x' * 300}"],
    [f"trainer.resume_from_path={'x' * 300}", "trainer.resume_mode=resume_path"],
    ["actor_rollout_ref.actor.fsdp_config.model_dtype=text"],
    ["ray_kwargs.ray_init.runtime_env.env_vars=7"],
    ["~ray_kwargs.ray_init.runtime_env"],
    ["ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE=much"],
    ["~ray_kwargs.ray_init.runtime_env.env_vars.VLLM_CPU_KVCACHE_SPACE"],
    ["actor_rollout_ref.rollout.dtype=auto"],
)


SAMPLED = 4  # one example of so many is tried with the other verbs by default
SOME = [
    pytest.param(overrides, marks=pytest.mark.exhaustive if number % SAMPLED else ())
    for number, overrides in enumerate(EXAMPLES)
]


def named(overrides: list[str]) -> str:
    return " ".join(overrides)[:60]


@pytest.mark.parametrize("overrides", EXAMPLES, ids=named)
def test_sections_that_are_removed_or_replaced_in_the_tiny_recipe(overrides):
    validate("justrl_tiny", overrides)


@pytest.mark.parametrize("overrides", SOME, ids=named)
def test_sections_that_are_removed_or_replaced_in_the_papers_recipe(overrides):
    validate("justrl_deepseek", overrides)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["justrl_tiny", "justrl_deepseek"]), st.lists(OVERRIDES, min_size=1, max_size=4))
def test_whatever_is_removed_replaced_or_retyped(recipe, overrides):
    validate(recipe, overrides)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WORDS, min_size=1, max_size=2))
@example(["="])
@example(["a"])
@example(["~"])
def test_words_that_are_no_overrides(words):
    validate("justrl_tiny", words)


@pytest.mark.parametrize("verb", [("plan",), ("run", "--dry-run")])
@pytest.mark.parametrize("overrides", SOME, ids=named)
def test_plan_and_dry_run_say_it_too(verb, overrides):
    code, output = outcome(*verb, "justrl_tiny", "--", *overrides)
    assert code in (0, 2) and "Traceback" not in output


@pytest.mark.parametrize(
    "content",
    [
        "",
        "5",
        "[1, 2]",
        "text",
        "a: [",
        "a: 1",
        "trainer:\n  nnodes: 1\ndata: {}\nseed: 1",
        "defaults: 5",
        "defaults: [no_such]",
        "defaults: [justrl_tiny, _self_]\ntrainer: 5",
        "defaults: [justrl_tiny, _self_]\ndata: null",
        "defaults: [justrl_tiny, _self_]\n1: 2\nnull: 3",
        "defaults: [justrl_tiny, _self_]\nseed: !!binary aGVsbG8=",
        "defaults: [justrl_tiny, _self_]\nseed: 2026-01-01",
        "defaults: [justrl_tiny, _self_]\nhydra: 5",
        "\x00",
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, content):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    for verb in (("validate",), ("plan",), ("run", "--dry-run")):
        code, output = outcome(*verb, str(file))
        assert code in (0, 1, 2) and "Traceback" not in output
    assert outcome("validate", "justrl_tiny", "--ablation", str(file))[0] in (0, 1, 2)
    assert outcome("validate", "justrl_tiny", "--system", str(file))[0] in (0, 1, 2)


@pytest.mark.parametrize("name", ["overlong_penalty.yaml", "cpu.yaml", "shared/gpu.yaml"])
def test_an_ablation_or_a_system_given_as_a_recipe(name):
    folder = ABLATIONS if name == "overlong_penalty.yaml" else SYSTEMS
    code, _ = outcome("validate", str(folder / name))
    assert code == 2


@pytest.mark.parametrize("overrides", SOME, ids=named)
def test_a_run_without_the_checks_of_its_keys_is_a_line_too(overrides):
    skip = [word for name in CHECKS for word in ("--skip-check", name)]
    code, output = outcome("run", "justrl_tiny", "--dry-run", *skip, "--", *overrides)
    assert code in (0, 2) and "Traceback" not in output


def test_what_is_wrong_is_listed_beside_what_was_removed():
    """A removed key or section hides no other problem."""
    wrong = ["~actor_rollout_ref.model", "data.train_batch_size=100", "trainer.logger=7", "trainer.save_freq=null"]
    code, output = outcome("validate", "justrl_deepseek", "--", *wrong)
    assert code == 1
    for key in ("actor_rollout_ref.model", "data.train_batch_size", "trainer.logger", "trainer.save_freq"):
        assert f"x {key}: " in output


def test_main_turns_an_error_into_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["verl", "validate", "justrl_tiny", "reward=null"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2 and capsys.readouterr().err.count("\n") == 1
