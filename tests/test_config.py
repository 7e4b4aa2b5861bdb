"""What a user may ask for, and what they read when it is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe import deviations
from justrl_recipe.config import Request, find_recipe, leaves, load, load_base
from justrl_recipe.errors import UserError


def test_a_recipe_is_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("justrl_tiny") == find_recipe("recipes/justrl_tiny.yaml") == find_recipe("justrl_tiny.yaml")
    (tmp_path / "mine.yaml").write_text("defaults: [justrl_tiny, _self_]\n")
    assert find_recipe("mine.yaml") == tmp_path / "mine.yaml"


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("justrl_tinny", "justrl_tiny"),
        ("recipes/justrl_depseek.yaml", "justrl_deepseek"),
        ("justrl", "names no model"),
        ("elsewhere/justrl_tiny.yaml", "justrl_tiny"),
    ],
)
def test_a_recipe_that_is_not_there_names_the_nearest(recipe, says):
    with pytest.raises(UserError, match=says):
        find_recipe(recipe)


def test_a_recipe_of_ones_own_builds_on_a_shipped_one(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults: [justrl_deepseek, _self_]\nactor_rollout_ref: {rollout: {n: 16}}\n")
    with pytest.raises(UserError, match=r"mine\.yaml"):  # Hydra takes the search path from the primary file alone
        load(Request(str(mine)))


def test_a_copied_recipe_deviates_from_justrl_in_what_was_changed(tmp_path):
    mine = tmp_path / "mine.yaml"
    text = find_recipe("justrl_deepseek").read_text()
    mine.write_text(text.replace("  model:\n", "  rollout:\n    n: 16\n  model:\n"))
    found = deviations.scaled(load_base(), load(Request(str(mine))))
    assert [(d.key, d.recipe, d.yours) for d in found] == [("actor_rollout_ref.rollout.n", 8, 16)]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("justrl_tiny", system="h200x2"), "h200x[14]"),
        (Request("justrl_tiny", ablations=("overlong",)), "overlong_penalty"),
        (Request("justrl_tiny", overrides=("data.train_batch_sise=8",)), r"data\.train_batch_size"),
        (Request("justrl_tiny", overrides=("actor_rollout_ref.actor.lr=1",)), r"actor_rollout_ref\.actor\.optim\.lr"),
        (Request("justrl_tiny", overrides=("data.train_batch_size=[",)), r"data\.train_batch_size=\["),
        (Request("justrl_tiny", overrides=("data.train_batch_size=${nowhere}",)), "nowhere"),
    ],
)
def test_a_wrong_request_is_one_line_that_names_the_mend(request_, says):
    with pytest.raises(UserError, match=says) as error:
        load(request_)
    assert "\n" not in str(error.value)


def test_a_broken_yaml_is_one_line_with_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [justrl_tiny\n  x: {")
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load(Request(str(tmp_path / "mine.yaml")))


def test_an_override_of_the_recipe_is_a_deviation_and_a_system_or_a_seed_is_none():
    recipe = load(Request("justrl_deepseek"))
    mine = load(
        Request(
            "justrl_deepseek",
            "h200x1",
            overrides=(
                "actor_rollout_ref.actor.clip_ratio_high=0.2",
                "seed=7",
                "trainer.save_freq=5",
                "algorithm.gamma=0.9",
            ),
        )
    )
    assert [d.key for d in deviations.deviations(recipe, mine)] == [
        "actor_rollout_ref.actor.clip_ratio_high",
        "algorithm.gamma",
    ]


def test_a_derived_key_is_not_listed_beside_its_source():
    recipe = load(Request("justrl_deepseek"))
    mine = load(Request("justrl_deepseek", overrides=("data.max_response_length=4096",)))
    assert [d.key for d in deviations.deviations(recipe, mine)] == ["data.max_response_length"]


KEYS = st.text("abc", min_size=1, max_size=2)
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=12)


@given(st.dictionaries(KEYS, TREES, max_size=3))
def test_leaves_are_all_the_values_of_a_tree(tree):
    def count(node):
        return sum(map(count, node.values())) if isinstance(node, dict) else 1

    found = list(leaves(tree))
    assert len(found) == len({key for key, _ in found}) == count(tree)
    for key, value in found:
        node = tree
        for part in key.split("."):
            node = node[part]
        assert node == value
