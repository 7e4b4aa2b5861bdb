"""What this package states of veRL, vLLM and their config keys is what their sources say."""

import ast
from importlib.util import find_spec
from pathlib import Path

import yaml
from composed import load

from justrl_recipe.checks import combinations, known_keys, model
from justrl_recipe.checks.known_keys import TABLE
from justrl_recipe.config import SYSTEMS, Request, load_base, names, recipe_names

ACTOR = "actor_rollout_ref.actor"
KEYS = yaml.safe_load((Path(__file__).parents[1] / "config_keys.yaml").read_text())


def installed(package: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


VERL = installed("verl")


def registered(file: str, decorator: str) -> set[str]:
    """The names that a decorator of veRL's registers in a file."""
    calls = (node for node in ast.walk(ast.parse((VERL / file).read_text())) if isinstance(node, ast.Call))
    return {
        str(call.args[0].value)
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == decorator and isinstance(call.args[0], ast.Constant)
    }


def test_the_choices_are_verls():
    losses = registered("trainer/ppo/core_algos.py", "register_policy_loss")
    assert losses - set(known_keys.TABLE["registered"][f"{ACTOR}.policy_loss.loss_mode"]) == set()
    tree = ast.parse((VERL / "trainer/ppo/core_algos.py").read_text())
    [enum] = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "AdvantageEstimator"]
    names = {node.value.value for node in enum.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    assert names == set(known_keys.TABLE["registered"]["algorithm.adv_estimator"])
    folder = VERL / "experimental/reward_loop/reward_manager"
    managers = {
        name
        for file in folder.glob("*.py")
        for decorator in ("register", "register_manager")
        for name in registered(str(file.relative_to(VERL)), decorator)
    }
    assert managers == set(known_keys.TABLE["registered"]["reward.reward_manager.name"])
    actor = (VERL / "workers/config/actor.py").read_text()
    assert all(f'"{mode}"' in actor for mode in known_keys.TABLE["choices"][f"{ACTOR}.loss_agg_mode"])


def test_the_trackers_are_verls():
    tree = ast.parse((VERL / "utils/tracking.py").read_text())
    [backends] = [
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "supported_backend"
    ]
    assert {*backends, "tracking"} == set(combinations.TRACKERS)


def test_verls_reward_workers_still_trust_every_tokenizer():
    """Else `_code_of_the_tokenizer` in checks/model.py is no longer needed."""
    source = (VERL / "experimental/reward_loop/reward_loop.py").read_text()
    assert "self.input_tokenizer = hf_tokenizer(input_tokenizer_local_path, trust_remote_code=True)" in source


def test_the_head_sizes_are_vllms():
    file = installed("vllm") / "v1/attention/backends/cpu_attn.py"
    [sizes] = [
        ast.literal_eval(node.body[-1].value)  # type: ignore[attr-defined]
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "get_supported_head_sizes"
    ]
    assert tuple(sizes) == model.CPU_HEAD_SIZES


def test_every_key_is_stated_to_be_free_or_fixed():
    """A key that is new in a version of veRL has to be looked at, and put into tests/config_keys.yaml."""
    known = set(load_base().raw) | set(TABLE["optional"])
    for recipe in recipe_names():
        for system in names(SYSTEMS):
            known |= set(load(Request(recipe, system)).raw)
    assert known == {*KEYS["free"], *KEYS["fixed"]} and not set(KEYS["free"]) & set(KEYS["fixed"])
