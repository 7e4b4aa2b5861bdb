"""Causal attention over packed sequences, with what torch and vLLM ship.

The recipe packs sequences (`use_remove_padding`). transformers attends to these by the flash-attn package,
which has no wheels for this torch, or by masks of tokens x tokens. Here each sequence attends to itself:

- `attn_implementation: packed`: by FlashAttention 4, which vLLM's wheel carries with its backward pass
  (vllm/vllm_flash_attn/cute/interface.py), where its gradients were compared (docs/performance.md), else as below.
  The log says which;
- `attn_implementation: packed_torch`: on a GPU by torch's own variable-length kernel (torch.nn.attention.varlen),
  elsewhere sequence by sequence.

Importing this module registers both with transformers; extensions.py has veRL import it. Not with ulysses sequence
parallelism, whose exchange of heads veRL puts into flash-attn's own path.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

NAME, BY_TORCH = "packed", "packed_torch"
# Where FlashAttention 4 was compared: compute capability, features a head, precision.
HOPPER, HEAD_SIZE, PRECISION = 9, 128, torch.bfloat16
MODULES = ("cutlass", "quack")  # that it imports, of packages that vLLM's wheel for CUDA requires
_latest: tuple[torch.Tensor, torch.Tensor, list[int]] | None = None  # every layer of a pass asks for the same


@dataclass(frozen=True)
class Packed:
    """Sequences, one after another.

    states: query, key and value, [tokens, heads or kv_heads, head_size].
    offsets: where sequences start and, last, where they end: [sequences + 1], int32, on the device.
    lengths: of the sequences, in tokens.
    """

    states: tuple[torch.Tensor, ...]
    offsets: torch.Tensor
    lengths: list[int]


def torch_kernel(packed: Packed, scaling: float | None) -> torch.Tensor:
    """Each sequence's attention to itself, [tokens, heads, head_size]."""
    longest = max(packed.lengths)
    if packed.offsets.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        limits = (packed.offsets, packed.offsets, longest, longest)
        return varlen_attn(*packed.states, *limits, scale=scaling, window_size=(-1, 0))
    heads_first = (states.transpose(0, 1)[None].split(packed.lengths, dim=2) for states in packed.states)
    outs = [
        scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        for q, k, v in zip(*heads_first, strict=True)
    ]
    return torch.cat(outs, dim=2)[0].transpose(0, 1)


def fastest_kernel(packed: Packed, scaling: float | None) -> torch.Tensor:
    """As torch_kernel."""
    states = packed.states[0]
    return _fastest(states.device, states.dtype, states.shape[-1])(packed, scaling)


@cache
def _fastest(device: torch.device, precision: torch.dtype, head_size: int) -> Callable[..., torch.Tensor]:
    if device.type != "cuda":
        return torch_kernel
    lacks = []
    if torch.cuda.get_device_capability(device)[0] != HOPPER:
        lacks.append(torch.cuda.get_device_name(device))
    if head_size != HEAD_SIZE:
        lacks.append(f"heads of {head_size}")
    if precision != PRECISION:
        lacks.append(str(precision))
    lacks += [f"no {module}" for module in MODULES if find_spec(module) is None]
    sys.stderr.write(f"packed attention: {'torch, since ' + ', '.join(lacks) if lacks else 'FlashAttention 4'}\n")
    return torch_kernel if lacks else flash_attention_4


def flash_attention_4(packed: Packed, scaling: float | None) -> torch.Tensor:
    """As torch_kernel; on a GPU alone."""
    from vllm.vllm_flash_attn.cute.interface import flash_attn_varlen_func

    longest = max(packed.lengths)
    out, _ = flash_attn_varlen_func(
        *packed.states,
        cu_seqlens_q=packed.offsets,
        cu_seqlens_k=packed.offsets,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        softmax_scale=scaling,
        causal=True,
    )
    return out


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: torch.Tensor | None = None,
    *,
    kernel: Callable[..., torch.Tensor],
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface for one row of sequences, one after another.

    Args:
        query: [1, heads, tokens, head_size].
        key, value: [1, kv_heads, tokens, head_size].
        position_ids: [1, tokens]; a sequence starts where they do not count on.
        kernel: fastest_kernel or torch_kernel.

    Returns: [1, tokens, heads, head_size], and no weights.

    Raises:
        ValueError: sequences that are padded, or an option that this attention does not have.
    """
    if query.shape[0] != 1 or attention_mask is not None or position_ids is None:
        raise ValueError("packed attention takes packed sequences: set use_remove_padding=true")
    if dropout or any(kwargs.get(option) is not None for option in ("sliding_window", "softcap", "s_aux")):
        raise ValueError("packed attention has no dropout, sliding window, soft cap or attention sinks")
    states = tuple(states[0].transpose(0, 1) for states in (query, key, value))
    return kernel(Packed(states, *sequences(position_ids)), scaling)[None], None


def sequences(position_ids: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """Packed.offsets and Packed.lengths."""
    global _latest
    if _latest is None or _latest[0] is not position_ids:
        row = position_ids[0]
        starts = torch.nonzero(row[1:] != row[:-1] + 1)[:, 0] + 1
        ends = torch.cat([starts.new_zeros(1), starts, starts.new_full((1,), len(row))])
        _latest = position_ids, ends.to(torch.int32), ends.diff().tolist()
    return _latest[1:]


def no_mask(*args, **kwargs) -> None:
    """The position ids say all."""


for name, kernel in {NAME: fastest_kernel, BY_TORCH: torch_kernel}.items():
    AttentionInterface.register(name, partial(packed_attention, kernel=kernel))
    AttentionMaskInterface.register(name, no_mask)
