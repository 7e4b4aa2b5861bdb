"""No input of a user ends in a traceback: whatever is removed, replaced or retyped, `verl validate` says so."""

import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from justrl_recipe.cli import app, main
from justrl_recipe.config import Request, load, load_base
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
)


@pytest.mark.parametrize("overrides", EXAMPLES, ids=" ".join)
@pytest.mark.parametrize("recipe", ["justrl_tiny", "justrl_deepseek"])
def test_sections_that_are_removed_or_replaced(recipe, overrides):
    validate(recipe, overrides)


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
@pytest.mark.parametrize("overrides", EXAMPLES[::2], ids=" ".join)
def test_plan_and_dry_run_say_it_too(verb, overrides):
    code, output = outcome(*verb, "justrl_tiny", "--", *overrides)
    assert code in (0, 2) and "Traceback" not in output


def test_main_turns_an_error_into_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["verl", "validate", "justrl_tiny", "reward=null"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2 and capsys.readouterr().err.count("\n") == 1
