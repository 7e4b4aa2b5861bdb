"""The number of parameters that `verl plan` calculates is transformers'."""

import pytest

from justrl_recipe.planning.model_shape import Shape


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_model_itself(kind, tied):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 3, "num_attention_heads": 6}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 500, "tie_word_embeddings": tied}
    theirs = AutoConfig.for_model(kind, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(theirs)
    assert Shape.of(theirs.to_dict()).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text"])
def test_other_decoders_have_but_a_few_norms_more(kind):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    theirs = AutoConfig.for_model(kind, **sizes, num_key_value_heads=2, vocab_size=500)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(theirs)
    content = theirs.to_dict()
    if kind == "gemma3_text":
        del content["tie_word_embeddings"]  # as in the published config.json
    assert Shape.of(content).parameters == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.01)
    assert Shape.of(content).tied == theirs.tie_word_embeddings
