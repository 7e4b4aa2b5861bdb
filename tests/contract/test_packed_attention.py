"""Attention over packed sequences is the attention of each sequence by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from justrl_recipe.checks.combinations import PACKED
from justrl_recipe.verl_hooks.packed_attention import FLASH_ATTENTION_4, NAME, sequences

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
KERNELS = [
    pytest.param(NAME, "cpu"),
    pytest.param(NAME, "cuda", marks=GPU),
    pytest.param(FLASH_ATTENTION_4, "cuda", marks=GPU),
]


def model(kind: str, attention: str, device: str = "cpu"):
    """A small random model with fewer heads for keys than for queries, the same for the same `kind`."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(kind, **sizes, num_key_value_heads=2, vocab_size=50)
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    return made.to(device, torch.bfloat16 if device == "cuda" else torch.float32)


def packed(lengths: list[int], device: str = "cpu") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(50, (1, sum(lengths)), generator=generator)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return {"input_ids": ids.to(device), "position_ids": positions.to(device)}


def gradient(made) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten().float() for parameter in made.parameters()])


@pytest.mark.parametrize(("name", "device"), KERNELS)
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_logits_and_gradients_are_those_of_transformers_masked_attention(kind, name, device):
    found = {}
    for attention in (name, "sdpa"):
        made = model(kind, attention, device)
        logits = made(**packed([7, 1, 12, 30], device), use_cache=False).logits
        logits.float().logsumexp(-1).sum().backward()
        found[attention] = logits.float(), gradient(made)
    tolerance = 1e-5 if device == "cpu" else 3e-2
    for ours, theirs in zip(found[name], found["sdpa"], strict=True):
        assert torch.linalg.norm(ours - theirs) < tolerance * torch.linalg.norm(theirs)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_a_sequence_does_not_see_its_neighbours(lengths):
    made = model("qwen2", "packed")
    with torch.no_grad():
        together = made(**packed(lengths), use_cache=False).logits[0].split(lengths)
        for sequence, logits in zip(packed(lengths)["input_ids"][0].split(lengths), together, strict=True):
            alone = {"input_ids": sequence[None], "position_ids": torch.arange(len(sequence))[None]}
            torch.testing.assert_close(made(**alone, use_cache=False).logits[0], logits, rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_where_sequences_start(lengths):
    offsets, found = sequences(packed(lengths)["position_ids"])
    assert found == lengths and offsets.tolist() == [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    assert offsets.dtype == torch.int32


def test_padded_sequences_are_refused():
    ids = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match="use_remove_padding=true"):
        model("qwen2", "packed")(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)


def test_the_checks_know_its_names():
    assert PACKED == (NAME, FLASH_ATTENTION_4)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize(
    "option", [{"dropout": 0.1}, {"sliding_window": 4}, {"softcap": 50.0}, {"s_aux": torch.ones(2)}]
)
def test_an_option_that_it_has_not_is_refused_and_not_left_out(option, name):
    states = torch.ones(1, 2, 3, 8)
    with pytest.raises(ValueError, match="has no dropout"):
        attention = AttentionInterface()[name]
        attention(torch.nn.Module(), states, states, states, None, position_ids=torch.arange(3)[None], **option)
