"""The attention of one decode step on a GPU, by kernel and by layout of vLLM's cache: milliseconds and TB/s a layer.

    python benchmarks/decode_attention.py

For heads as in the recipe's model, responses that have all the same number of tokens, and blocks of the cache in
random order. `splits` is vLLM's `flash_attn_max_num_splits_for_cuda_graph`, whose default is 32; 0 leaves it to the
kernel. Prints a JSON line for each; the first of each number of responses is vLLM's own choice on Hopper. `error` is
the largest difference from attention in float32.
"""

import json
from dataclasses import dataclass
from itertools import product

import torch
from torch.nn.functional import scaled_dot_product_attention
from vllm.v1.attention.ops.triton_unified_attention import unified_attention
from vllm.vllm_flash_attn import flash_attn_varlen_func, get_scheduler_metadata

HEADS, KV_HEADS, HEAD_SIZE = 12, 2, 128
LONGEST = 16_384  # tokens
RESPONSES = {"256 x 2,200": (256, 2_200), "64 x 8,000": (64, 8_000), "16 x 10,000": (16, 10_000)}
SETTINGS = [("FlashAttention 3", "NHD", 16, splits) for splits in (32, 1, 4, 8, 0)]
SETTINGS += [("FlashAttention 3", "HND", 16, splits) for splits in (32, 1)]
SETTINGS += [("FlashAttention 3", layout, 128, splits) for layout, splits in (("NHD", 32), ("HND", 32), ("HND", 1))]
SETTINGS += [("FlashAttention 3", layout, block, 32) for layout, block in (("HND", 64), ("NHD", 256))]
SETTINGS += [("Triton", layout, block, 0) for layout, block in (("NHD", 16), ("HND", 16), ("HND", 128))]
LAUNCHES, REPLAYS = 10, 3


@dataclass(frozen=True)
class Cache:
    """keys, values: [blocks, tokens of a block, heads, head_size]; table: [responses, blocks of the longest]."""

    keys: torch.Tensor
    values: torch.Tensor
    table: torch.Tensor

    def of(self, response: int, tokens: int) -> tuple[torch.Tensor, ...]:
        """Keys and values of a response in float32, [heads, tokens, head_size]."""
        blocks = self.table[response].long()
        both = (states[blocks].flatten(0, 1)[:tokens].float().transpose(0, 1) for states in (self.keys, self.values))
        return tuple(states.repeat_interleave(HEADS // KV_HEADS, 0) for states in both)


def cache(responses: int, tokens: int, layout: str, block: int) -> Cache:
    each = -(-tokens // block)
    shape = (block, KV_HEADS) if layout == "NHD" else (KV_HEADS, block)
    both = torch.randn(responses * each, 2, *shape, HEAD_SIZE, device="cuda", dtype=torch.bfloat16)
    both = both if layout == "NHD" else both.transpose(2, 3)
    table = torch.zeros(responses, LONGEST // block, device="cuda", dtype=torch.int32)
    table[:, :each] = torch.randperm(responses * each, device="cuda", dtype=torch.int32).view(responses, each)
    return Cache(both[:, 0], both[:, 1], table)


def attention(kernel: str, splits: int, query: torch.Tensor, kept: Cache, tokens: int):
    """A call of the kernel with what vLLM gives it, and its output, [responses, heads, head_size]."""
    responses, out = len(query), torch.empty_like(query)
    used = torch.full((responses,), tokens, device="cuda", dtype=torch.int32)
    offsets = torch.arange(responses + 1, device="cuda", dtype=torch.int32)
    given = {"q": query, "k": kept.keys, "v": kept.values, "out": out, "cu_seqlens_q": offsets, "max_seqlen_q": 1}
    given |= {"seqused_k": used, "max_seqlen_k": LONGEST, "softmax_scale": HEAD_SIZE**-0.5, "causal": True}
    given |= {"block_table": kept.table}
    if kernel == "Triton":
        segments, few = 16, 128 // KV_HEADS
        sizes = {"output": (few, HEADS, segments, HEAD_SIZE), "max": (few, HEADS, segments)}
        sizes["expsum"] = sizes["max"]
        given |= {f"softmax_segm_{name}": torch.empty(*size, device="cuda") for name, size in sizes.items()}
        given |= {"seq_threshold_3D": few, "num_par_softmax_segments": segments, "window_size": (-1, -1)}
        given |= {"softcap": 0, "q_descale": None, "k_descale": None, "v_descale": None}
        return lambda: unified_attention(**given), out
    schedule = get_scheduler_metadata(
        *(responses, 1, tokens, HEADS, KV_HEADS, HEAD_SIZE, used),
        cu_seqlens_q=offsets,
        page_size=kept.keys.shape[1],
        causal=True,
        num_splits=splits,
    )
    given |= {"scheduler_metadata": schedule, "num_splits": splits, "fa_version": 3}
    return lambda: flash_attn_varlen_func(**given), out


def milliseconds(call) -> float:
    """Of one call, in a CUDA graph, as vLLM decodes."""
    graph, start, end = torch.cuda.CUDAGraph(), *(torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            call()
    graph.replay()
    start.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / LAUNCHES / REPLAYS


if __name__ == "__main__":
    for (name, (responses, tokens)), setting in product(RESPONSES.items(), SETTINGS):
        kernel, layout, block, splits = setting
        kept = cache(responses, tokens, layout, block)
        query = torch.randn(responses, HEADS, HEAD_SIZE, device="cuda", dtype=torch.bfloat16)
        call, out = attention(kernel, splits, query, kept, tokens)
        call()
        expected = scaled_dot_product_attention(query[0].float()[:, None], *kept.of(0, tokens))[:, 0]
        read = responses * tokens * 2 * KV_HEADS * HEAD_SIZE * 2 / 1e9  # of GB
        ms = milliseconds(call)
        found = {"responses": name, "kernel": kernel, "layout": layout, "block": block, "splits": splits}
        found |= {"ms": round(ms, 4), "tb_per_second": round(read / ms, 2)}
        print(json.dumps({**found, "error": round((out[0].float() - expected).abs().max().item(), 5)}), flush=True)
