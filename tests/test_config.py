"""What a user may ask for, and what they read when it is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe import checks, fixed
from justrl_recipe.config import Request, find_recipe, leaves, load, load_base
from justrl_recipe.errors import UserError


def problems(*overrides: str, recipe: str = "justrl_deepseek") -> list[str]:
    return checks.problems(load(Request(recipe, overrides=overrides)).values, load_base().values)


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
    found = fixed.scaled(load_base(), load(Request(str(mine))))
    assert [(d.key, d.recipe, d.yours) for d in found] == [("actor_rollout_ref.rollout.n", 8, 16)]


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("justrl_tiny", system="h200x2"), "h200x1"),
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


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["reward_model.reward_manager=dapo"], "legacy"),
        (["reward_model.enable=true"], "legacy"),
        (["custom_reward_function.path=x.py"], "legacy"),
        (["actor_rollout_ref.actor.grad_clip=0.5"], "actor_rollout_ref.actor.optim.clip_grad"),
        (["+data.use_boxed_suffix_prompt=true"], "no key 'data.use_boxed_suffix_prompt'"),
        (["+actor_rollout_ref.rollout.val_kwargs.max_new_tokens=9"], "no key"),
        (["+actor_rollout_ref.actor.clip_ratio_hihg=0.3"], "clip_ratio_high"),
        (["data.train_batch_size=abc"], "whole number"),
        (["data.train_batch_size=2.5"], "whole number"),
        (["data.shuffle=maybe"], "boolean"),
        (["actor_rollout_ref.actor.optim.lr=fast"], "number"),
        (["data.train_batch_size=100"], "no multiple"),
        (["actor_rollout_ref.actor.ppo_mini_batch_size=1", "trainer.nnodes=5"], "divide over 40 GPUs"),
        (["algorithm.filter_groups.enable=true"], "no effect"),
        (["actor_rollout_ref.model.path=null"], "no value"),
        (["data.train_files=null"], "no value"),
        (["trainer.nnodes=null"], "above 0"),
    ],
)
def test_what_verl_would_ignore_or_trip_over_is_refused(overrides, says):
    assert any(says in problem for problem in problems(*overrides)), problems(*overrides)


@pytest.mark.parametrize(
    "override",
    [
        "actor_rollout_ref.actor.optim.lr=2e-6",
        "actor_rollout_ref.actor.entropy_coeff=0.001",
        "data.train_files=[a.parquet,b.parquet]",
        "+actor_rollout_ref.rollout.enable_sleep_mode=false",  # a field of veRL's dataclass that no YAML names
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        "+ray_kwargs.ray_init.num_gpus=1",
        "+reward.custom_reward_function.reward_kwargs.strict=true",
        "trainer.max_actor_ckpt_to_keep=2",
        "algorithm.gamma=1",
    ],
)
def test_what_verl_takes_is_accepted(override):
    assert problems(override) == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (None, "no file"),
        ("def score(): ...", "defines compute_score()"),
        ("def compute_score(:", "no Python file"),
        ("def compute_score(*a, **k): ...", None),
        ("from mine import compute_score", None),
    ],
)
def test_a_reward_file_is_looked_at_before_the_start_and_not_run(tmp_path, code, says):
    file = tmp_path / "my_reward.py"
    if code is not None:
        file.write_text(f"{code}\n" + ("" if code[-1] == ":" else "raise SystemExit\n"))
    override = f"reward.custom_reward_function.path={file}"
    found = checks.missing_files(load(Request("justrl_tiny", overrides=(override,))).values)
    about_it = [problem for problem in found if "custom_reward_function" in problem]
    assert len(about_it) == (says is not None) and (says is None or says in about_it[0])


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
    assert [d.key for d in fixed.deviations(recipe, mine)] == [
        "actor_rollout_ref.actor.clip_ratio_high",
        "algorithm.gamma",
    ]


def test_a_derived_key_is_not_listed_beside_its_source():
    recipe = load(Request("justrl_deepseek"))
    mine = load(Request("justrl_deepseek", overrides=("data.max_response_length=4096",)))
    assert [d.key for d in fixed.deviations(recipe, mine)] == ["data.max_response_length"]


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
