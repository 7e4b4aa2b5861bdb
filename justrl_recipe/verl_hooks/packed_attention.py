"""Causal attention over packed sequences, with what torch ships: `attn_implementation: packed`.

The recipe packs sequences (`use_remove_padding`). transformers attends to these by the flash-attn package,
which has no wheels for this torch, or by masks of tokens x tokens. Here each sequence attends to itself: on a
GPU by torch's own variable-length kernel (torch.nn.attention.varlen), elsewhere sequence by sequence. Importing
this module registers it with transformers; extensions.py has veRL import it. Not with ulysses sequence parallelism,
whose exchange of heads veRL puts into flash-attn's own path.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "packed"
_latest: tuple[torch.Tensor, torch.Tensor, list[int]] | None = None  # every layer of a pass asks for the same


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: torch.Tensor | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface for one row of sequences, one after another.

    Args:
        query: [1, heads, tokens, head_size].
        key, value: [1, kv_heads, tokens, head_size].
        position_ids: [1, tokens]; a sequence starts where they do not count on.

    Returns: [1, tokens, heads, head_size], and no weights.

    Raises:
        ValueError: sequences that are padded, or an option that this attention does not have.
    """
    if query.shape[0] != 1 or attention_mask is not None or position_ids is None:
        raise ValueError(f"attn_implementation={NAME} takes packed sequences: set use_remove_padding=true")
    if dropout or any(kwargs.get(option) is not None for option in ("sliding_window", "softcap", "s_aux")):
        raise ValueError(f"attn_implementation={NAME} has no dropout, sliding window, soft cap or attention sinks")
    offsets, lengths = sequences(position_ids)
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        rows = (states[0].transpose(0, 1) for states in (query, key, value))
        longest = max(lengths)
        out = varlen_attn(*rows, offsets, offsets, longest, longest, scale=scaling, window_size=(-1, 0))
        return out[None], None
    parts = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    outs = [
        scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True) for q, k, v in parts
    ]
    return torch.cat(outs, dim=2).transpose(1, 2), None


def sequences(position_ids: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """Where sequences start and, last, where they end ([sequences + 1], int32, on the device), and their lengths."""
    global _latest
    if _latest is None or _latest[0] is not position_ids:
        row = position_ids[0]
        starts = torch.nonzero(row[1:] != row[:-1] + 1)[:, 0] + 1
        ends = torch.cat([starts.new_zeros(1), starts, starts.new_full((1,), len(row))])
        _latest = position_ids, ends.to(torch.int32), ends.diff().tolist()
    return _latest[1:]


def no_mask(*args, **kwargs) -> None:
    """The position ids say all."""


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, no_mask)
