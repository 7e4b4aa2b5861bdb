"""The values that a check accepts are those that veRL registers, by its sources."""

import ast
from importlib.util import find_spec
from pathlib import Path

from justrl_recipe.checks import choices, trainer

ACTOR = "actor_rollout_ref.actor"
SPEC = find_spec("verl")


assert SPEC is not None and SPEC.submodule_search_locations
VERL = Path(SPEC.submodule_search_locations[0])


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
    assert losses - set(choices.REGISTERED[f"{ACTOR}.policy_loss.loss_mode"]) == set()
    tree = ast.parse((VERL / "trainer/ppo/core_algos.py").read_text())
    [enum] = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "AdvantageEstimator"]
    names = {node.value.value for node in enum.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    assert names == set(choices.REGISTERED["algorithm.adv_estimator"])
    folder = VERL / "experimental/reward_loop/reward_manager"
    managers = {
        name
        for file in folder.glob("*.py")
        for decorator in ("register", "register_manager")
        for name in registered(str(file.relative_to(VERL)), decorator)
    }
    assert managers == set(choices.REGISTERED["reward.reward_manager.name"])
    actor = (VERL / "workers/config/actor.py").read_text()
    assert all(f'"{mode}"' in actor for mode in choices.CHOICES[f"{ACTOR}.loss_agg_mode"])


def test_the_trackers_are_verls():
    tree = ast.parse((VERL / "utils/tracking.py").read_text())
    [backends] = [
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "supported_backend"
    ]
    assert {*backends, "tracking"} == set(trainer.TRACKERS)
