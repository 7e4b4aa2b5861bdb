"""The table of keys that veRL does not read, beside veRL's source: a key that gets a reader fails here."""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from justrl_recipe.checks import ignored, known_keys
from justrl_recipe.checks.ignored import table
from justrl_recipe.config import RECIPES, Request, leaves, load, load_base

ACCEPTED = yaml.safe_load((Path(__file__).parents[1] / "unused_key_readers.yaml").read_text())
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"

# Modules that a run of this package's recipes does not come to: other trainers, engines, rollouts and tools.
OFF_THE_PATH = re.compile(
    r"trainer/(main_ppo_v0|main_eval|main_generation|sft_trainer|distillation/|ppo/ray_trainer|ppo/prefix_grouper)"
    r"|trainer/ppo/v1/trainer_(colocate|separate)"
    r"|experimental/(?!agent_loop|reward_loop)"
    r"|workers/engine/(?!fsdp/|base|utils|__init__)|workers/engine/fsdp/fsdp_turbo|workers/engine_workers_tinker"
    r"|workers/rollout/(?!vllm_rollout|llm_server|base|replica|utils|schemas)|workers/reward_manager"
    r"|workers/config/(critic|distillation|diffusion)"
    r"|checkpoint_engine/(?!base|__init__)|models/mcore|model_merger|tools/|third_party/torch"
    r"|utils/(megatron|mcore|profiler|qat|modelopt|veomni|npu|fp8|reward_score/|dataset/(multiturn_sft|rm_)"
    r"|checkpoint/(megatron|checkpoint_handler))"
)
CONFIG = re.compile(
    r"conf|cfg|ctrl|kwargs|options|settings|trainer", re.IGNORECASE
)  # what holds a config is called so
LOOK_UPS = ("get", "pop", "getattr", "hasattr", "select", "get_non_tensor_data", "_get_config_value")


@functools.cache
def readers() -> dict[str, set[str]]:
    """By the last part of a key: `file: expression` of everything that may read it from a config."""
    spec = find_spec("verl")
    assert spec is not None and spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    found = defaultdict(set)
    for file in root.rglob("*.py"):
        name = file.relative_to(root).as_posix()
        if not OFF_THE_PATH.match(name):
            for key, expression in reads(ast.parse(file.read_text()), dataclasses="config/" in name):
                found[key].add(f"{name}: {expression}")
    return found


def reads(tree: ast.AST, dataclasses: bool) -> Iterator[tuple[str, str]]:
    """Last part and text of each read: an attribute, a subscript, or a name given to a look-up.

    Args:
        dataclasses: whether `self` may be a config.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=name, ctx=ast.Load()):
                text = ast.unparse(owner)
                if CONFIG.search(text) or (dataclasses and text == "self"):
                    yield name, ast.unparse(node)
            case ast.Subscript(value=owner, slice=ast.Constant(value=str(name)), ctx=ast.Load()):
                if CONFIG.search(ast.unparse(owner)):
                    yield name, ast.unparse(node)
            case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called)) if called in LOOK_UPS:
                for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield argument.value.rpartition(".")[2], ast.unparse(node)


def last_part(key: str) -> str:
    return key.removesuffix(".*").rpartition(".")[2]


@pytest.mark.parametrize("key", sorted({entry.key for entry in table()}))
def test_nothing_on_the_recipes_path_reads_an_unused_key(key):
    assert readers().get(last_part(key), set()) == set(ACCEPTED.get(key, []))


OUR_SECTIONS = (  # which this package's own sampler, reward and trainer read
    "trainer.v1.sampler.sampler_kwargs.",
    "reward.custom_reward_function.reward_kwargs.",
    "actor_rollout_ref.rollout.custom.",
    "keep_responses",
)
PASSED_ON = "ray_kwargs.ray_init."  # whole, to `ray.init` (verl/trainer/main_ppo.py)


def test_a_reader_of_each_used_key_is_found():
    """The search is no use if it finds nothing: it finds a reader of every key that justrl.yaml sets."""
    justrl = dict(leaves(yaml.safe_load((RECIPES / "justrl.yaml").read_text())))
    unread = {
        key
        for key in justrl.keys() & load_base().raw.keys()
        if not key.startswith((*OUR_SECTIONS, PASSED_ON))
        and not any(entry.names(key) for entry in table())
        and not readers().get(last_part(key))
    }
    assert unread == set()
    assert any("log_val_generations" in reader for reader in readers()["log_val_generations"])


@pytest.mark.parametrize(
    "source",
    [
        "config.trainer.balance_batch",
        "config['trainer']['balance_batch']",
        "self.config.get('balance_batch', True)",
        "OmegaConf.select(config, 'trainer.balance_batch')",
        "getattr(cfg, 'balance_batch')",
    ],
)
def test_ways_of_reading_a_key_are_recognised(source):
    assert "balance_batch" in {name for name, _ in reads(ast.parse(source), dataclasses=False)}


def test_no_used_key_takes_its_value_from_an_unused_one():
    """veRL's YAML files hand some values on by interpolation."""
    always = [entry for entry in table() if not entry.beside and not entry.unless]
    handed_on = {
        (key, entry.key)
        for key, value in load_base().raw.items()
        for entry in always
        if f"${{{entry.key}}}" in str(value) or f"${{oc.select:{entry.key}," in str(value)
        if not any(other.names(key) for other in table())
    }
    assert handed_on == set()


def test_the_table_is_of_this_verl():
    assert version("verl") == "0.9.1"
    known = load_base().raw
    sections = {key.rsplit(".", depth)[0] for key in known for depth in range(key.count(".") + 1)}
    unknown = {
        entry.key
        for entry in table()
        if entry.key.removesuffix(".*") not in sections and not known_keys.is_known(entry.key, load_base().values)
    }
    assert unknown == {"data.chat_template_func", "data.filter_prompts"}  # by veRL as well, but users write them
    others = {other for entry in table() for other in (*entry.beside, *entry.unless)}
    assert others <= known.keys()


def unused(*overrides: str) -> dict[str, str]:
    composed = load(Request("justrl_deepseek", overrides=overrides))
    return {problem.key: problem.level for problem in ignored.unused_keys(composed, load_base())}


@pytest.mark.parametrize(
    ("key", "without", "with_effect"),
    [
        ("trainer.log_val_generations=3", [], ["trainer.logger=[console,wandb]"]),
        ("trainer.log_val_generations=3", ["trainer.logger=file"], ["trainer.logger=tensorboard"]),
        (f"{ACTOR}.clip_ratio=0.1", [], [f"{ACTOR}.clip_ratio_low=null"]),
        ("critic.optim.lr=1e-4", [], ["algorithm.adv_estimator=gae"]),
        ("critic.optim.lr=1e-4", ["critic.enable=false"], ["critic.enable=true"]),
        ("actor_rollout_ref.ref.fsdp_config.param_offload=true", [], [f"{ACTOR}.use_kl_loss=true"]),
        ("actor_rollout_ref.ref.fsdp_config.param_offload=true", [], ["algorithm.use_kl_in_reward=true"]),
        (
            "algorithm.kl_ctrl.target_kl=0.2",
            [],
            ["algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.type=adaptive"],
        ),
        ("algorithm.kl_ctrl.horizon=5", ["algorithm.use_kl_in_reward=true"], ["algorithm.kl_ctrl.type=adaptive"]),
        (f"{ACTOR}.optim.lr_warmup_steps_ratio=0.1", [], [f"{ACTOR}.optim.lr_warmup_steps=-1"]),
        ("trainer.resume_from_path=x", [], ["trainer.resume_mode=resume_path"]),
        ("algorithm.lam=0.9", [], ["algorithm.adv_estimator=gae"]),
    ],
)
def test_a_conditional_key_has_an_effect_only_beside_other_values(key, without, with_effect):
    name = key.split("=")[0]
    assert unused(key, *without).get(name) == "warning"
    assert name not in unused(key, *without, *with_effect)


def test_no_shipped_recipe_sets_an_unused_key_of_its_own():
    for recipe in ("justrl_deepseek", "justrl_tiny", "justrl_smollm2"):
        assert list(ignored.unused_keys(load(Request(recipe)), load_base())) == []
