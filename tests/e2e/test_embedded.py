"""The embedded default: its data, its tokenizer, its model."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from justrl_recipe.config import Request, load
from justrl_recipe.cpu import tiny, tiny_model
from justrl_recipe.cpu.tiny_data import all_problems, make_problems, rows
from justrl_recipe.reward_fns.rule_based import compute_score

SPEC = {
    "seed": 0,
    "model_type": "qwen2",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.04,
    "warmup_steps": 3,
    "warmup_batch_size": 4,
    "warmup_lr": 1e-3,
    "boxed_share": 0.5,
}


@given(st.integers(0, 2**31), st.integers(0, 300), st.integers(1, 300), st.integers(1, 200))
def test_no_problem_of_one_set_is_in_another(seed, warmup, train, validation):
    problems = make_problems(seed, warmup, train, validation)
    sets = [{p.question for p in part} for part in (problems.warmup, problems.train, problems.validation)]
    assert [len(part) for part in sets] == [warmup, train, validation]
    assert len(set.union(*sets)) == warmup + train + validation
    assert problems == make_problems(seed, warmup, train, validation)


def test_the_recipes_validation_is_held_out_and_varied():
    config = load(Request("justrl_tiny")).values["tiny_data"]
    rest = len(all_problems()) - config["train"] - config["validation"]
    problems = make_problems(config["seed"], rest, config["train"], config["validation"])
    held_out = {p.question for p in problems.validation}
    assert len(held_out) >= 200 and len({p.answer for p in problems.validation}) >= 20
    assert not held_out & {p.question for p in problems.warmup + problems.train}


def test_too_many_problems_are_refused():
    with pytest.raises(ValueError, match="only 1377 exist"):
        make_problems(0, 1367, 10, 1)


def test_the_taught_response_earns_the_reward_only_with_its_box():
    problem = all_problems()[17]
    (row,) = rows([problem], "train")
    gold = row["reward_model"]["ground_truth"]
    assert row["prompt"][0]["content"].endswith(
        "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert compute_score(row["data_source"], tiny_model.target(problem, boxed=True), gold)["acc"] is True
    assert compute_score(row["data_source"], tiny_model.target(problem, boxed=False), gold)["acc"] is False


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "model"
    done = []
    tiny_model.make(path, SPEC, all_problems()[:50], done.append)
    assert done == [1, 2, 3]
    return path


@pytest.mark.parametrize("model_type", ["qwen2", "llama"])
def test_transformers_loads_the_saved_model_as_it_was_made(model_type, tmp_path):
    saved = tmp_path / "model"
    spec = {**SPEC, "model_type": model_type, "num_key_value_heads": 1}
    tiny_model.make(saved, spec, all_problems()[:50], lambda step: None)
    config = AutoConfig.from_pretrained(saved)
    assert (config.model_type, config.num_key_value_heads) == (model_type, 1)
    assert config.max_position_embeddings >= 8192
    model, tokenizer = AutoModelForCausalLM.from_pretrained(saved), AutoTokenizer.from_pretrained(saved)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
    prompt = [{"role": "user", "content": all_problems()[3].prompt}]
    text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    assert text == f"{tiny_model.USER}{all_problems()[3].prompt}{tiny_model.ASSISTANT}"
    assert len(tokenizer.encode(text)) < 40
    assert len(tokenizer.encode("\n")) == 1  # veRL's agent loop needs it


@given(st.text())
def test_the_tokenizer_loses_no_byte(saved, text):
    import unicodedata

    tokenizer = AutoTokenizer.from_pretrained(saved)
    normal = unicodedata.normalize("NFC", text)  # Qwen2's own normalisation
    assert tokenizer.decode(tokenizer.encode(normal)) == normal


def test_the_same_spec_makes_the_same_weights_and_another_seed_others(saved, tmp_path):
    tiny_model.make(tmp_path / "same", SPEC, all_problems()[:50], lambda step: None)
    tiny_model.make(tmp_path / "other", {**SPEC, "seed": 1}, all_problems()[:50], lambda step: None)
    first, same, other = (
        AutoModelForCausalLM.from_pretrained(path).get_input_embeddings().weight
        for path in (saved, tmp_path / "same", tmp_path / "other")
    )
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_a_folder_of_somebody_elses_is_not_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("precious")
    with pytest.raises(FileExistsError, match="in the way"):
        tiny_model.make(tmp_path / "model", SPEC, all_problems()[:50], lambda step: None)
    assert (tmp_path / "model" / "weights").read_text() == "precious"


def test_what_was_made_from_other_values_is_made_again(tmp_path):
    data = {"path": str(tmp_path / "data"), "seed": 0, "train": 20, "validation": 5}
    config = {"tiny_data": data, "tiny_model": {**SPEC, "path": str(tmp_path / "data" / "model")}}
    assert not tiny.is_made(config)
    tiny.make(config)
    assert tiny.is_made(config)
    assert not tiny.is_made({**config, "tiny_model": {**config["tiny_model"], "seed": 1}})
    assert not tiny.is_made({**config, "tiny_data": {**data, "train": 21}})
    (tmp_path / "data" / tiny.DATA_FILE).write_text(json.dumps({**data, "train": 19}))
    assert not tiny.is_made(config)
