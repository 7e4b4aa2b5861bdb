"""Attention over packed sequences is the attention of each sequence by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from justrl_recipe.checks.combinations import PACKED
from justrl_recipe.verl_hooks import packed_attention
from justrl_recipe.verl_hooks.packed_attention import BY_TORCH, NAME, sequences

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
KERNELS = [
    pytest.param(NAME, "cpu"),
    pytest.param(NAME, "cuda", marks=GPU),
    pytest.param(BY_TORCH, "cuda", marks=GPU),
]


def model(kind: str, attention: str, device: str = "cpu"):
    """A small random model with fewer heads for keys than for queries, the same for the same `kind`."""
    heads, head_size = 4, 16 if device == "cpu" else packed_attention.HEAD_SIZE
    sizes = {"hidden_size": heads * head_size, "intermediate_size": 96, "num_hidden_layers": 2}
    config = AutoConfig.for_model(kind, **sizes, num_attention_heads=heads, num_key_value_heads=2, vocab_size=50)
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


@pytest.mark.parametrize(
    ("capability", "head_size", "precision", "missing", "says"),
    [
        (9, 128, torch.bfloat16, None, "FlashAttention 4"),
        (9, 64, torch.bfloat16, None, "torch, since heads of 64"),
        (9, 128, torch.float32, None, "torch, since torch.float32"),
        (9, 128, torch.bfloat16, "quack", "torch, since no quack"),
        (8, 128, torch.bfloat16, None, "torch, since A card"),
        (10, 96, torch.bfloat16, "cutlass", "torch, since A card, heads of 96, no cutlass"),
    ],
)
def test_flash_attention_4_is_taken_where_it_was_compared_and_the_log_says_which(
    monkeypatch, capsys, capability, head_size, precision, missing, says
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card")
    monkeypatch.setattr(packed_attention, "find_spec", lambda module: None if module == missing else module)
    packed_attention._fastest.cache_clear()
    kernel = packed_attention._fastest(torch.device("cuda:0"), precision, head_size)
    assert packed_attention._fastest(torch.device("cuda:0"), precision, head_size) is kernel
    expected = packed_attention.flash_attention_4 if says == "FlashAttention 4" else packed_attention.torch_kernel
    assert kernel is expected and capsys.readouterr().err == f"packed attention: {says}\n"
    packed_attention._fastest.cache_clear()


def test_padded_sequences_are_refused():
    ids = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match="use_remove_padding=true"):
        model("qwen2", "packed")(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)


def test_the_checks_know_its_names():
    assert PACKED == (NAME, BY_TORCH)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize(
    "option", [{"dropout": 0.1}, {"sliding_window": 4}, {"softcap": 50.0}, {"s_aux": torch.ones(2)}]
)
def test_an_option_that_it_has_not_is_refused_and_not_left_out(option, name):
    states = torch.ones(1, 2, 3, 8)
    with pytest.raises(ValueError, match="has no dropout"):
        attention = AttentionInterface()[name]
        attention(torch.nn.Module(), states, states, states, None, position_ids=torch.arange(3)[None], **option)
