"""The reward function of a run, checked: whatever is no reward raises an error that says so."""

import asyncio
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.verl_hooks import reward
from justrl_recipe.verl_hooks.reward import RewardError, checked, load, wrap


def score(path: str, name: str = "compute_score", **reward_kwargs):
    """What veRL gets for a response, called as verl/trainer/ppo/reward.py and the reward managers call it."""
    section = wrap({"path": path, "name": name, "reward_kwargs": reward_kwargs})
    call = {"data_source": "math", "solution_str": "It is 4.", "ground_truth": "4", "extra_info": {"index": "1"}}
    return asyncio.run(reward.compute_score(**{**call, **section["reward_kwargs"]}))


@pytest.mark.parametrize("takes", ["", ", validation_sources=()", ", **kwargs"])
def test_a_function_is_given_the_recipes_argument_only_where_it_takes_it(tmp_path, takes):
    file = tmp_path / "mine.py"
    body = "return {'score': 1.0, 'given': str(locals())}"
    file.write_text(
        f"def compute_score(data_source, solution_str, ground_truth, extra_info=None{takes}):\n    {body}\n"
    )
    found = score(str(file), validation_sources=["AIME24"])
    assert found["score"] == 1.0 and ("AIME24" in found["given"]) == bool(takes)
    if not takes:
        with pytest.raises(TypeError, match="strict"):
            score(str(file), validation_sources=["AIME24"], strict=True)


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ("-1.0", {"score": -1.0}),  # a number is a score and no accuracy
        ("1", {"score": 1.0}),
        ("True", {"score": 1.0}),
        ("numpy.float32(0.5)", {"score": 0.5}),
        ("numpy.bool_(True)", {"score": 1.0}),
        ("numpy.array([0.25])", {"score": 0.25}),
        ("{'score': 1.0, 'acc': True, 'pred': '4'}", {"score": 1.0, "acc": 1.0, "pred": "4"}),
        ("{'score': -1, 'acc': False, 'pred': None}", {"score": -1.0, "acc": 0.0, "pred": None}),
        ("{'score': 1, 'reason': {'a': 2}}", {"score": 1.0, "reason": "{'a': 2}"}),  # veRL averages what is no text
        ("{'score': -1.0, 'acc': None}", {"score": -1.0}),
        ("{'score': 0.3, 'reason': 'partly'}", {"score": 0.3, "reason": "partly"}),
    ],
)
def test_what_is_a_reward_is_passed_on(tmp_path, returned, found):
    file = tmp_path / "mine.py"
    file.write_text(f"import numpy\ndef compute_score(*args, **kwargs):\n    return {returned}\n")
    assert score(str(file)) == found


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("None", "None"),
        ("float('nan')", "nan"),
        ("numpy.float32('inf')", "inf"),
        ("'1.0'", "'1.0'"),
        ("(1.0, 'right')", "tuple"),
        ("[1.0]", "list"),
        ("{}", "without `score`"),
        ("{'reward': 1.0}", "without `score`"),
        ("{'score': None}", "as `score`"),
        ("{'score': float('nan')}", "as `score`"),
        ("{'score': '1'}", "as `score`"),
        ("{'score': 1.0, 'acc': 'yes'}", "as `acc`"),
        ("{'score': 1.0, 'acc': float('nan')}", "as `acc`"),
        ("1 + 2j", "complex"),
        ("numpy.array([1.0, 2.0])", "ndarray"),
    ],
)
def test_what_is_no_reward_raises_and_names_the_function(tmp_path, returned, says):
    file = tmp_path / "mine.py"
    file.write_text(f"import numpy\ndef compute_score(*args, **kwargs):\n    return {returned}\n")
    with pytest.raises(RewardError, match=r"mine\.py: compute_score\(\) for data_source 'math' returned") as error:
        score(str(file))
    assert says in str(error.value) and "\n" not in str(error.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_a_result_is_a_finite_score_or_an_error(result):
    try:
        found = checked(result)
    except ValueError:
        return
    assert type(found["score"]) is float and math.isfinite(found["score"])


def test_an_error_of_the_function_is_its_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def compute_score(*args, **kwargs):\n    raise ZeroDivisionError('planted')\n")
    with pytest.raises(ZeroDivisionError, match="planted"):
        score(str(file))


def test_a_coroutine_function_and_arguments_of_the_recipe(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "async def judge(data_source, solution_str, ground_truth, extra_info=None, weight=1.0):\n"
        "    return {'score': weight, 'acc': ground_truth in solution_str}\n"
    )
    assert score(str(file), "judge", weight=0.5) == {"score": 0.5, "acc": 1.0}


def test_a_helper_beside_the_reward_file_is_imported(tmp_path, monkeypatch):
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "my_helper_module.py").write_text("def half():\n    return 0.5\n")
    file = tmp_path / "rewards" / "mine.py"
    file.write_text("from my_helper_module import half\ndef compute_score(*a, **k):\n    return half()\n")
    monkeypatch.chdir(tmp_path)
    assert score("rewards/mine.py") == {"score": 0.5}


def test_the_path_of_a_file_is_absolute_for_rays_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("mine.py", "./mine.py", "file://mine.py"):
        assert wrap({"path": path, "name": "f"})["reward_kwargs"]["reward"]["path"] == str(tmp_path / "mine.py")
    shipped = "pkg://justrl_recipe.reward_fns.justrl"
    assert wrap({"path": shipped, "name": "f"})["reward_kwargs"]["reward"]["path"] == shipped


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_module_here", "No module named 'no_such_module_here'"),
        ("raise ValueError('two\\nlines')", "ValueError: two"),
        ("def other(): ...", "defines no compute_score()"),
        ("compute_score = 3", "defines no compute_score()"),
        ("def compute_score(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        (None, "cannot be imported"),
    ],
)
def test_a_reward_that_cannot_be_imported_is_one_line(tmp_path, code, says):
    file = tmp_path / "mine.py"
    if code is not None:
        file.write_text(code + "\n")
    with pytest.raises(RewardError) as error:
        load(str(file), "compute_score")
    assert says in str(error.value)
    command = [sys.executable, "-m", "justrl_recipe.verl_hooks.reward", str(file), "compute_score"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and str(file) in done.stderr


def test_verl_loads_and_calls_it_as_a_coroutine_function():
    import inspect

    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    shipped = {"path": "pkg://justrl_recipe.reward_fns.rule_based", "name": "compute_score"}
    found = get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": wrap(shipped)}}))
    assert inspect.iscoroutinefunction(found)
    result = asyncio.run(found(data_source="x", solution_str="\\boxed{4}", ground_truth="4", extra_info={}))
    assert result == {"score": 1.0, "acc": 1.0, "pred": "4", "reason": "exact match"}
