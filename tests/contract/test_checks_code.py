"""Code and models that a config names: found by their files, with nothing imported."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
from composed import load

from justrl_recipe.checks import Problem, model, named_code
from justrl_recipe.checks.combinations import PACKED
from justrl_recipe.config import Config, Request, load_base

MODEL = "actor_rollout_ref.model"


def composed(*overrides: str, recipe: str = "justrl_deepseek") -> Config:
    return load(Request(recipe, overrides=overrides))


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("reward.custom_reward_function.path=pkg://no_such.module", "reward.custom_reward_function.path"),
        ("reward.custom_reward_function.path=pkg://json.no_such", "reward.custom_reward_function.path"),
        ("reward.custom_reward_function.path=pkg://json.decoder", "reward.custom_reward_function.path"),
        (f"reward.custom_reward_function.path={'x' * 300}.py", "reward.custom_reward_function.path"),
        (f"{MODEL}.external_lib=no_such_lib", f"{MODEL}.external_lib"),
        (f"{MODEL}.external_lib=[json,no_such_lib]", f"{MODEL}.external_lib"),
        ("trainer.checkpoint_callback_class=json.NoSuchClass", "trainer.checkpoint_callback_class"),
        ("trainer.checkpoint_callback_class=no_such.Class", "trainer.checkpoint_callback_class"),
        ("data.custom_cls.path=pkg://no.such", "data.custom_cls.path"),
        ("+data.sampler.class_path=pkg://no.such", "data.sampler.class_path"),
        ("trainer.v1.sampler.custom_sampler.name=NoSuchBuffer", "trainer.v1.sampler.custom_sampler.path"),
        ("actor_rollout_ref.actor._target_=verl.workers.config.NoSuchConfig", "actor_rollout_ref.actor._target_"),
        (
            "+actor_rollout_ref.rollout.agent.agent_loop_manager_class=verl.no_such.Manager",
            "actor_rollout_ref.rollout.agent.agent_loop_manager_class",
        ),
        (
            "actor_rollout_ref.rollout.agent.agent_loop_config_path=no/such.yaml",
            "actor_rollout_ref.rollout.agent.agent_loop_config_path",
        ),
    ],
)
def test_code_that_is_not_there(override, key):
    problems = list(named_code.problems(composed(override), load_base()))
    assert [(problem.key, problem.level) for problem in problems] == [(key, "error")]


def test_code_that_is_there_and_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "score.py").write_text(
        "raise SystemExit\ntry:\n    from a import compute_score\nfinally: ..."
    )
    (tmp_path / "mine" / "hooks.py").write_text("raise SystemExit\nclass Saved: ...")
    (tmp_path / "loose.py").write_text("raise SystemExit\nfrom mine import *")
    overrides = [
        "reward.custom_reward_function.path=pkg://mine.score",
        f"{MODEL}.external_lib=[justrl_recipe.verl_hooks.extensions,loose,mine.hooks]",
        "trainer.checkpoint_callback_class=mine.hooks.Saved",
        "data.custom_cls.path=loose.py",
        "data.custom_cls.name=Mine",
    ]
    before = set(sys.modules)
    assert list(named_code.problems(composed(*overrides), load_base())) == []
    assert not {"mine", "mine.score", "mine.hooks", "loose", "verl", "torch"} & (set(sys.modules) - before)


@pytest.mark.parametrize("recipe", ["justrl_deepseek", "justrl_tiny", "justrl_smollm2"])
def test_the_recipes_own_code_is_found(recipe):
    assert list(named_code.problems(composed(recipe=recipe), load_base())) == []


@pytest.mark.parametrize(
    ("dotted", "there"),
    [
        ("json.decoder", True),
        ("json.JSONDecoder", False),  # a class, no module
        ("sys", True),
        ("verl.workers.config", True),
        ("verl..workers", False),
        ("", False),
        (".", False),
        ("ü b", False),
    ],
)
def test_modules(dotted, there):
    assert (named_code.missing_module(dotted) is None) == there


QWEN = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 131072,
    "use_sliding_window": False,
    "sliding_window": 4096,
}
GEMMA = {"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "head_dim": 256}


def of_model(folder, config: object, *overrides: str, recipe: str = "justrl_deepseek") -> list[Problem]:
    (folder / "config.json").write_text(json.dumps(config))
    given = composed(f"{MODEL}.path={folder}", *overrides, recipe=recipe)
    return list(model.architecture(given, str(folder)))


@pytest.mark.parametrize(
    ("change", "key", "fix"),
    [
        ({"use_sliding_window": True}, "override_config.attn_implementation", "attn_implementation=sdpa"),
        (
            {"layer_types": ["sliding_attention", "full_attention"]},
            "override_config.attn_implementation",
            "attn_implementation=sdpa",
        ),
        (
            GEMMA | {"attn_logit_softcapping": 50.0},
            "override_config.attn_implementation",
            "attn_implementation=eager",
        ),
        ({"model_type": "gpt_oss", "sliding_window": None}, "override_config.attn_implementation", "=eager"),
        (GEMMA | {"final_logit_softcapping": 30.0}, "use_fused_kernels", "use_fused_kernels=false"),
        ({"model_type": "granite", "logits_scaling": 8.0}, "use_fused_kernels", "use_fused_kernels=false"),
        ({"model_type": "cohere", "logit_scale": 0.0625}, "use_fused_kernels", "use_fused_kernels=false"),
        ({"quantization_config": {"bits": 4}}, "path", "bfloat16"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "path", "decoder"),
        ({"vision_config": {}}, "path", "text model"),
        ({"model_type": "no_such_model"}, "path", "another model"),
        ({"model_type": "no_such_model", "auto_map": {"AutoModel": "m.M"}}, "path", "trust_remote_code=true"),
        ({"model_type": None}, "path", "add them"),
        ({"architectures": []}, "path", "add them"),
        ({"architectures": 5}, "path", "add them"),
    ],
)
def test_models_that_the_recipes_path_does_not_run(tmp_path, change, key, fix):
    problems = of_model(tmp_path, QWEN | change)
    assert [problem.key for problem in problems] == [f"{MODEL}.{key}"] and fix in problems[0].fix
    assert problems[0].level == "error"


@pytest.mark.parametrize("name", PACKED)
def test_packed_attention_has_no_sliding_window(tmp_path, name):
    attention = f"{MODEL}.override_config.attn_implementation"
    [problem] = of_model(tmp_path, QWEN | {"use_sliding_window": True}, f"{attention}={name}")
    assert problem.key == attention and f"{attention}=sdpa" in problem.fix
    assert f"{name} attention does not implement sliding window, which model_type qwen2 uses" == problem.why


def test_sdpa_leaves_out_a_soft_cap(tmp_path):
    """Without an error, and with other log-probs (tests/contract/test_other_models.py)."""
    attention = f"{MODEL}.override_config.attn_implementation"
    capped = GEMMA | {"attn_logit_softcapping": 50.0}
    [problem] = of_model(tmp_path, capped, f"{attention}=sdpa")
    assert problem.key == attention and problem.level == "error" and f"{attention}=eager" in problem.fix
    assert of_model(tmp_path, capped, f"{attention}=eager") == []


def test_a_model_without_kernels_of_ligers_is_a_warning(tmp_path, monkeypatch):
    """Where Liger is installed, as in the environments for GPUs; here is a part of it."""
    tables = tmp_path / "liger_kernel" / "transformers"
    tables.mkdir(parents=True)
    (tables.parent / "__init__.py").touch()
    (tables / "monkey_patch.py").write_text(
        'MODEL_TYPE_TO_APPLY_LIGER_FN = {\n    "qwen2": apply_liger_to_qwen2,\n}\n'
    )
    assert of_model(tmp_path, QWEN | {"model_type": "starcoder2"}) == []
    monkeypatch.syspath_prepend(str(tmp_path))
    assert of_model(tmp_path, QWEN) == []
    [problem] = of_model(tmp_path, QWEN | {"model_type": "starcoder2"})
    assert (problem.key, problem.level) == (f"{MODEL}.use_liger", "warning")
    assert of_model(tmp_path, QWEN | {"model_type": "starcoder2"}, f"{MODEL}.use_liger=false") == []


@pytest.mark.parametrize(
    ("change", "overrides"),
    [
        ({}, []),
        ({"use_sliding_window": True}, [f"{MODEL}.override_config.attn_implementation=sdpa"]),
        ({"model_type": "granite", "logits_scaling": 8.0}, [f"{MODEL}.use_fused_kernels=false"]),
        ({"model_type": "granite", "logits_scaling": 1}, []),
        ({"auto_map": {"AutoModel": "m.M"}}, []),  # transformers has this type itself and runs none of that code
        ({"model_type": "no_such_model", "auto_map": {}}, [f"{MODEL}.trust_remote_code=true"]),
        ({"num_attention_heads": 48, "hidden_size": 48 * 48}, []),
    ],
)
def test_models_that_it_runs(tmp_path, change, overrides):
    assert of_model(tmp_path, QWEN | change, *overrides) == []


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("auto_map", "ran"),
    [
        ({"AutoConfig": "mine.Config"}, True),
        ({"AutoTokenizer": ["mine.Slow", None]}, True),
        ({"AutoModel": "m.M", "AutoTokenizer": "mine.Fast"}, True),
        (["mine.Slow", None], True),
        ({"AutoModelForCausalLM": "mine.Model"}, False),
        ({}, False),
        ("", False),
    ],
)
def test_code_that_verls_reward_workers_would_run_without_trust(tmp_path, file, auto_map, ran):
    """They load the tokenizer with trust_remote_code=True (verl/experimental/reward_loop/reward_loop.py)."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
    (mine / file).write_text(json.dumps((QWEN if file == "config.json" else {}) | {"auto_map": auto_map}))
    config = json.loads((mine / file).read_text()) if file == "config.json" else QWEN
    trust = f"{MODEL}.trust_remote_code"
    assert [problem.key for problem in of_model(mine, config)] == [trust] * ran
    assert of_model(mine, config, f"{trust}=true") == []
    assert [problem.key for problem in of_model(other, QWEN, f"{MODEL}.tokenizer_path={mine}")] == [trust] * ran
    assert of_model(mine, config, f"{MODEL}.tokenizer_path={other}") == []


MINE = hashlib.sha256(b"def compute_score(): ...\n").hexdigest()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ((), None),
        ((f"{MODEL}.trust_remote_code=true", f"{MODEL}.path=theirs"), "Python files of theirs"),
        (
            ("trainer.resume_mode=resume_path", "trainer.resume_from_path=theirs/global_step_3"),
            "theirs/global_step_3",
        ),
        (("trainer.resume_mode=resume_path", "trainer.resume_from_path=null"), None),
        (("skip.rollout_tq.enable=true", "skip.rollout_tq.dump_dir=dumps"), "skip.rollout_tq.dump_dir=dumps"),
        (("reward.custom_reward_function.path=mine.py",), f"path=mine.py (SHA-256 {MINE})"),
        (("reward.custom_reward_function.path=file://mine.py",), f"path=file://mine.py (SHA-256 {MINE})"),
        (("data.custom_cls.path=mine.py", "data.custom_cls.name=compute_score"), f"(SHA-256 {MINE})"),
        (
            ("actor_rollout_ref.model.external_lib=[justrl_recipe.verl_hooks.extensions,yaml]",),
            "external_lib=yaml (SHA",
        ),
        (("trainer.checkpoint_callback_class=json.decoder.JSONDecoder",), "=json.decoder.JSONDecoder (SHA-256"),
        (("actor_rollout_ref.actor.optim._target_=json.JSONDecoder",), "_target_=json.JSONDecoder (SHA-256"),
        (("reward.custom_reward_function.path=pkg://not_there.reward",), "path=pkg://not_there.reward"),
    ],
)
def test_what_runs_code_of_others_is_named_before_a_run(tmp_path, monkeypatch, overrides, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "latest_checkpointed_iteration.txt").write_text("3")
    (tmp_path / "mine.py").write_text("def compute_score(): ...\n")
    found = list(named_code.executed(composed(*overrides), load_base()))
    assert (len(found) == 1 and named in found[0]) if named else not found


def test_heads_that_vllm_takes_on_a_gpu_alone(tmp_path):
    [problem] = of_model(tmp_path, QWEN | {"head_dim": 48}, recipe="justrl_tiny")
    assert "heads of 48" in problem.why
    assert of_model(tmp_path, QWEN | {"head_dim": 32}, recipe="justrl_tiny") == []


def of_folder(folder: Path, content: dict) -> list[Problem]:
    (folder / "config.json").write_text(json.dumps(content))
    return list(model.problems(composed(f"{MODEL}.path={folder}", "trainer.save_freq=-1"), load_base(), folder))


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (["model.safetensors"], None),
        (["pytorch_model.bin"], None),
        (["model.safetensors.index.json", "a.safetensors", "b.safetensors"], None),
        (["pytorch_model.bin.index.json", "a.safetensors", "b.safetensors"], None),
        (["model.safetensors.index.json", "a.safetensors"], "has no b.safetensors"),
        (["model.safetensors.index.json"], "has no a.safetensors"),
        (["tokenizer.json", "adapter_model.safetensors"], "has no weights: neither model.safetensors nor"),
        ([], "has no weights: neither model.safetensors nor"),
    ],
)
def test_weights_that_are_not_there(tmp_path, there, missing):
    for name in there:
        index = {"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
        (tmp_path / name).write_text(json.dumps(index) if name.endswith("index.json") else "")
    problems = of_folder(tmp_path, QWEN)
    assert [problem.key for problem in problems] == [f"{MODEL}.path"] * bool(missing)
    assert not missing or (missing in problems[0].why and "hf download" in problems[0].fix)


@pytest.mark.parametrize(
    ("kind", "architecture", "more", "says"),
    [
        (
            "gemma3",
            "Gemma3ForConditionalGeneration",
            {"text_config": {}, "vision_config": {}},
            "is multimodal (gemma3)",
        ),
        (
            "t5",
            "T5ForConditionalGeneration",
            {"d_model": 64, "is_encoder_decoder": True},
            "is an encoder-decoder (t5)",
        ),
        (
            "gpt2",
            "GPT2LMHeadModel",
            {"n_embd": 64},
            "GPT2LMHeadModel has no hidden_size: supported are decoders such",
        ),
        ("mamba", "MambaForCausalLM", {"hidden_size": 64}, "MambaForCausalLM has no num_attention_heads: supported"),
    ],
)
def test_an_architecture_that_is_not_supported_is_named(tmp_path, kind, architecture, more, says):
    errors = [
        p
        for p in of_folder(tmp_path, {"model_type": kind, "architectures": [architecture], **more})
        if p.level == "error"
    ]
    assert len(errors) == 1 and says in errors[0].why and "KeyError" not in errors[0].why
    assert "decoder" in errors[0].fix or "text model" in errors[0].fix or "docs/other_models.md" in errors[0].fix


@pytest.mark.parametrize(
    "content", ["", "[]", "5", "{", '{"model_type": 5}', "[" * 5000, json.dumps(QWEN | {"num_attention_heads": 0})]
)
def test_a_config_json_that_is_none_is_a_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    given = composed(f"{MODEL}.path={tmp_path}", "trainer.save_freq=-1")
    problems = list(model.problems(given, load_base(), tmp_path))
    assert problems and all(problem.key == f"{MODEL}.path" for problem in problems)
