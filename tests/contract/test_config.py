"""What a user may ask for, and what they read when it is wrong."""

import shlex
from pathlib import Path

import composed
import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.cli.cp import cp
from justrl_recipe.config import (
    ABLATIONS,
    RECIPES,
    SYSTEMS,
    Request,
    find_recipe,
    leaves,
    load,
    names,
    recipe_names,
)
from justrl_recipe.deviations import describe
from justrl_recipe.errors import UserError
from justrl_recipe.own_files import Made


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
        ("justrl", "does not name a model"),
        ("elsewhere/justrl_tiny.yaml", "justrl_tiny"),
    ],
)
def test_a_recipe_that_is_not_there_names_the_nearest(recipe, says):
    with pytest.raises(UserError, match=says):
        find_recipe(recipe)


N = "actor_rollout_ref.rollout.n"
SIXTEEN = "actor_rollout_ref: {rollout: {n: 16}}\n"


@pytest.mark.parametrize("name", ["mine", "justrl", "justrl_deepseek", "a recipe, of mine=1", "justrl_own_file"])
@pytest.mark.parametrize("system", [None, "h200x1"])
def test_a_recipe_of_ones_own_extends_a_shipped_one(tmp_path, name, system):
    """Whatever it is called: a file called like a shipped one extends it, and does not stand in for it."""
    mine = tmp_path / f"{name}.yaml"
    mine.write_text("defaults: [justrl_deepseek, _self_]\n" + SIXTEEN)
    found, shipped = load(Request(str(mine), system)), load(Request("justrl_deepseek", system))
    assert {key for key in found.raw if found.raw[key] != shipped.raw.get(key)} == {N} and found.flat[N] == 16
    assert found.shipped_system == shipped.shipped_system == (system or "a800x32")


def test_a_recipe_of_ones_own_extends_another_beside_it_and_chooses_a_system(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "base_of_mine.yaml").write_text("defaults: [justrl_deepseek, _self_]\n" + SIXTEEN)
    mine = tmp_path / "mine.yaml"
    mine.write_text("defaults: [base_of_mine, override system: h200x4, _self_]\ndata: {train_batch_size: 128}\n")
    found = load(Request(str(mine)))
    assert (found.flat[N], found.flat["data.train_batch_size"], found.shipped_system) == (16, 128, "h200x4")


@pytest.mark.parametrize(
    ("extends", "beside"),
    [
        ("justrl_deepseek", "justrl_deepseek"),
        ("between", "justrl_deepseek"),
        ("justrl_tiny, override system: h200x1", "system/h200x1"),
    ],
)
def test_a_name_that_is_shipped_and_lies_beside_the_recipe_is_refused(tmp_path, extends, beside):
    mine, other = tmp_path / "mine.yaml", tmp_path / f"{beside}.yaml"
    other.parent.mkdir(exist_ok=True)
    mine.write_text(f"defaults: [{extends}, _self_]\n")
    (tmp_path / "between.yaml").write_text("defaults: [justrl_deepseek, _self_]\n")
    other.write_text((RECIPES / f"{beside}.yaml").read_text())
    assert load(Request(str(mine))).flat[N] == 8  # a copy that says the same, as in a clone of the repository
    other.write_text((RECIPES / f"{beside}.yaml").read_text() + "\n# Changed.\n")
    with pytest.raises(UserError, match=f"extends '{beside}', a shipped file, and .*{other.name} is another"):
        load(Request(str(mine)))


@pytest.mark.parametrize(
    ("group", "name"), [("system", "base_of_mine"), ("system", "h200x9"), ("ablations", "base_of_mine")]
)
def test_an_extension_that_is_not_there_names_the_file(tmp_path, group, name):
    mine = tmp_path / "my_part.yaml"
    mine.write_text(f"defaults: [{name}, _self_]\ntrainer: {{nnodes: 2}}\n")
    system, ablations = (str(mine), ()) if group == "system" else (None, (str(mine),))
    with pytest.raises(UserError) as error:
        load(Request("justrl_tiny", system, ablations))
    assert f"In my_part.yaml: Could not load '{group}/{name}'" in str(error.value)
    assert "justrl_own_file" not in str(error.value) and "search path" not in str(error.value)


def test_a_system_for_a_recipe_that_has_none_is_one_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [justrl, _self_]\n")
    with pytest.raises(UserError, match=r"mine\.yaml has no system to replace: add `- system: "):
        load(Request(str(tmp_path / "mine.yaml"), "h200x1"))


def test_a_copy_of_the_base_runs_with_what_the_command_asks_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cp("justrl", Path("mine.yaml"))
    words = shlex.split(capsys.readouterr().out.split("`")[1])
    values = load(Request(words[2], overrides=tuple(words[3:]))).flat
    assert values["actor_rollout_ref.model.path"] == "PATH" and words[:2] == ["verl", "run"]
    assert None not in [values[word.split("=")[0]] for word in words[3:]] and len(words) == 6


@pytest.mark.parametrize("name", [*recipe_names(), *names(ABLATIONS), *names(SYSTEMS)])
def test_what_cp_copies_runs_by_the_command_that_it_prints(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    Path("deep folder").mkdir()
    cp(name, Path("deep folder/mine.yaml"))
    printed = capsys.readouterr().out
    words = shlex.split(printed.split("`")[1])
    recipe, options = words[2], dict(zip(words[3::2], words[4::2], strict=True))
    ablations = (options["--ablation"],) if "--ablation" in options else ()
    composed = load(Request(recipe, options.get("--system"), ablations))
    original = {"--ablation": Request(recipe, None, (name,)), "--system": Request(recipe, name)}
    assert composed.values == load(original[words[3]] if options else Request(name)).values


@pytest.mark.parametrize("target", ["mine.yaml", "folder", "mine.txt", "none/mine.yaml"])
def test_cp_that_cannot_write_is_one_line(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("mine")
    Path("folder").mkdir()
    with pytest.raises(UserError, match=target.split("/")[0]):
        cp("justrl_tiny", Path(target))
    assert Path("mine.yaml").read_text() == "mine"


@pytest.mark.parametrize("header", ["", "# @package _global_\n", "# Of mine.\n# @package _global_\n"])
def test_an_ablation_of_ones_own_speaks_of_the_whole_config(tmp_path, header):
    for number, value in enumerate((12, 16)):
        (tmp_path / f"{number}.yaml").write_text(f"{header}actor_rollout_ref: {{rollout: {{n: {value}}}}}\n")
    paths = (str(tmp_path / "0.yaml"), "overlong_penalty", str(tmp_path / "1.yaml"))
    found = load(Request("justrl_tiny", ablations=paths))
    assert found.flat[N] == 16 and found.flat["reward.reward_kwargs.overlong_buffer_cfg.enable"]


@pytest.mark.parametrize("content", ["", "# Of mine.\n", "---\n", "{}\n", "defaults: []\n", "- a\n", "5\n", "text\n"])
@pytest.mark.parametrize("kind", ["system", "ablations"])
def test_a_system_or_an_ablation_without_keys_is_refused(tmp_path, kind, content):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    asked = Request("justrl_tiny", str(file)) if kind == "system" else Request("justrl_tiny", ablations=(str(file),))
    with pytest.raises(UserError, match=r"mine\.yaml has no keys"):
        load(asked)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not a complete recipe"),
        ("trainer: {nnodes: 2}\n", "not a complete recipe"),
        ("- a\n- list\n", "mine"),
        ("a scalar\n", "mine"),
        ("defaults: [justrl_tinny]\n", "justrl_tinny"),
        ("defaults: 3\n", "mine"),
        ("defaults: [mine, _self_]\n", "mine"),
        ("trainer: {nnodes: 2}\ntrainer: {nnodes: 3}\n", "mine"),
        ("\tx: 1\n", "mine"),
        ("defaults: [justrl_tiny, _self_]\ntrainer: {nnodes: '${nowhere}'}\n", "nowhere"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path, content, says):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError, match=says) as error:
        load(Request(str(tmp_path / "mine.yaml")))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["ablation", "system"])
def test_a_shipped_part_that_is_given_as_a_recipe_says_what_it_is(kind):
    file = (ABLATIONS / "overlong_penalty.yaml") if kind == "ablation" else (SYSTEMS / "h200x1.yaml")
    with pytest.raises(UserError, match=f"give a recipe and --{kind} {file.stem}"):
        load(Request(str(file)))


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request("justrl_tiny", system="h200x3"), "h200x[124]"),
        (Request("justrl_tiny", ablations=("overlong",)), "overlong_penalty"),
        (Request("justrl_tiny", ablations=("none.yaml",)), "not there"),
        (Request("justrl_tiny", system="folder/none.yaml"), "not there"),
        (Request("justrl_tiny", system="../mine.txt"), "not there"),
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


@pytest.mark.parametrize(
    "request_",
    [
        Request("justrl_tiny"),
        Request("justrl_deepseek", "h200x1", ("overlong_penalty", "robust_verifier")),
        Request("justrl_nemotron", overrides=("trainer.save_freq=5", "+a.b={c: [1, x]}", "~data.seed", "++seed=7")),
        Request("justrl_deepseek", overrides=("system=h100x8", "data.train_files=[${seed}]")),
        Request("justrl_deepseek", overrides=("model_engine=megatron",)),  # which chooses files of veRL's
        Request("justrl_deepseek", "gpu", made=Made("gpu.yaml", "defaults: [shared/gpu, _self_]\nseed: 7\n")),
        Request("justrl_tiny", overrides=("+keep_responses=3",)),
        Request("justrl_tiny", overrides=("seed=1,2",)),
        Request("justrl_tiny", overrides=("trainer.no_such_key=5",)),
        Request("justrl_tiny", overrides=("a b",)),
        Request("justrl_tiny", "h100x9"),
        Request("justrl_tinny"),
    ],
    ids=str,
)
def test_the_other_tests_configs_are_those_that_a_user_gets(request_):
    def result(load) -> object:
        try:
            return load(request_)
        except UserError as error:
            return str(error)

    assert result(composed.load) == result(load)


@pytest.mark.parametrize("given", ["8192", "null", "long"])
def test_vllm_s_longest_sequence_follows_the_lengths_of_prompt_and_response(given):
    request_ = Request("justrl_deepseek", overrides=(f"data.max_response_length={given}",))
    longest = "actor_rollout_ref.rollout.max_model_len"
    composed_ = load(request_)
    assert composed_.flat[longest] == (1024 + 8192 if given == "8192" else None)
    assert longest not in [d["key"] for d in describe(request_, composed_)["deviations"]]
