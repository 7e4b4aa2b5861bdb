"""What one GPU holds at the two peaks of a step.

A formula per row, checked against measurements in docs/planning.md.

A step has two phases that do not overlap: vLLM generates while the trainer's state waits, then vLLM sleeps while
the trainer computes log-probs and updates. Bytes; T is the number of tokens of one micro-batch on one GPU, P the
number of parameters, G the number of GPUs that they are sharded over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from justrl_recipe.planning.model_shape import Shape

ACTOR, ROLLOUT, MODEL = (f"actor_rollout_ref.{name}" for name in ("actor", "rollout", "model"))
FUSED, BACKEND = f"{MODEL}.use_fused_kernels", f"{MODEL}.fused_kernel_options.impl_backend"
GIB = 2**30
CONTEXT = 1.2 * GIB  # CUDA context, NCCL and cuBLAS workspaces of the trainer; measured on an H200
ASLEEP = 2.7 * GIB  # what vLLM 0.24.0 keeps while it sleeps, mostly CUDA graphs; measured on an H200
PROCESSES = 3.0 * GIB  # Python, Ray, veRL and vLLM themselves on a CPU; measured with the tiny recipe
UPDATE, ROLLOUTS = 0, 1  # the two phases, in the order of `peaks`
CHUNK = 512  # tokens whose logits veRL's fused kernel holds at a time (utils/experimental/torch_functional.py)
BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2}
BYTES |= {"half": 2, "float": 4, "auto": 2}  # vLLM has more names; auto is mostly bfloat16


@dataclass(frozen=True)
class Row:
    """One thing in memory: bytes per GPU while the trainer updates, and while vLLM generates."""

    name: str
    update: float = 0.0
    rollout: float = 0.0


def longest(config: Mapping[str, Any]) -> int:
    """Tokens of a full prompt with a full response, by the data's limits or the rollout's, equal in a recipe."""
    data, rollout = config["data"], config["actor_rollout_ref"]["rollout"]
    prompt = max(data["max_prompt_length"], rollout["prompt_length"])
    return prompt + max(data["max_response_length"], rollout["response_length"])


def tokens_of_micro_batch(config: Mapping[str, Any]) -> int:
    """The most tokens of one micro-batch on one GPU: the budget, or all that a GPU gets where that is less."""
    actor, trainer = config["actor_rollout_ref"]["actor"], config["trainer"]
    responses = actor["ppo_mini_batch_size"] * config["actor_rollout_ref"]["rollout"]["n"]
    share = responses * longest(config) / (trainer["nnodes"] * trainer["n_gpus_per_node"])
    split = longest(config) / actor["ulysses_sequence_parallel_size"]
    if not actor["use_dynamic_bsz"]:
        return int(split * actor["ppo_micro_batch_size_per_gpu"])
    return int(min(actor["ppo_max_token_len_per_gpu"], max(share, split)))


def rows(shape: Shape, config: Mapping[str, Any], memory: float, tokens: int | None = None) -> list[Row]:
    """What one GPU holds.

    Args:
        config: a resolved config.
        memory: of one GPU, in bytes.
        tokens: of one micro-batch, where it is not the largest one that the config gives.
    """
    tokens = tokens or tokens_of_micro_batch(config)
    fsdp = config["actor_rollout_ref"]["actor"]["fsdp_config"]
    always, asleep = _away(config)
    here = _state(shape, config).without(always)
    waits = here.without(asleep)
    shards = _shards(config)
    of_shards = f"over {shards} GPU{'s' * (shards > 1)}"
    rank = config["actor_rollout_ref"]["model"]["lora_rank"]
    of_adapters = f", LoRA of rank {rank}" if rank else ""
    layer, logits = _layer(shape, config, tokens), _logits(shape, config, tokens)
    return [
        Row(f"weights, {fsdp['model_dtype']}, {of_shards}", here.weights, waits.weights),
        Row(f"gradients{of_adapters}", here.gradients),
        Row(f"Adam's two moments{of_adapters}", here.moments, waits.moments),
        *([Row("weights of the reference model", here.reference, here.reference)] if here.reference else []),
        Row("weights and gradients in use, gathered", _gathered(shape, config)),
        Row(f"activations kept of {tokens:,} tokens", _kept(shape, config, tokens)),
        Row("activations of one layer, or logits", max(layer, logits)),
        *_engine(shape, config, memory),
    ]


@dataclass(frozen=True)
class State:
    """Bytes of what the trainer keeps of the model, of one GPU's shard."""

    weights: float
    gradients: float
    moments: float
    reference: float

    def without(self, names: set[str]) -> "State":
        return replace(self, **dict.fromkeys(names, 0.0))


def _state(shape: Shape, config: Mapping[str, Any]) -> State:
    """All of it, wherever it is. LoRA trains its adapters alone, and takes the model without them as reference."""
    model, actor = config["actor_rollout_ref"]["model"], config["actor_rollout_ref"]["actor"]
    adapters = shape.adapter_parameters(model["lora_rank"], model["target_modules"])
    width = BYTES[actor["fsdp_config"]["model_dtype"]] / _shards(config)
    trained = width * (adapters or shape.parameters)
    with_reference = not adapters and (actor["use_kl_loss"] or config["algorithm"]["use_kl_in_reward"])
    reference = width * shape.parameters if with_reference else 0.0
    return State(width * (shape.parameters + adapters), trained, 2 * trained, reference)


def _away(config: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Which parts of the state the host has: always, and while vLLM generates. On a CPU nothing is elsewhere.

    veRL 0.9.1 always keeps a reference model there (workers/engine/fsdp/transformer_impl.py); `offload_policy` is
    FSDP2's.
    """
    actor = config["actor_rollout_ref"]["actor"]
    fsdp = actor["fsdp_config"]
    if config["trainer"]["device"] == "cpu":
        return set(), set()
    always = {"reference"}
    if _is_fsdp2(config) and fsdp["offload_policy"]:
        always |= {"weights", "gradients", "moments"}
    offloads = {"weights": fsdp["param_offload"], "moments": fsdp["optimizer_offload"]}
    return always, {name for name, offloaded in offloads.items() if offloaded}


def on_host(shape: Shape, config: Mapping[str, Any]) -> float:
    """Bytes of the trainer's state in the host's memory, of one GPU's shard."""
    always, asleep = _away(config)
    return sum(value for name, value in vars(_state(shape, config)).items() if name in always | asleep)


def _shards(config: Mapping[str, Any]) -> int:
    """Over how many GPUs FSDP splits the model."""
    gpus = config["trainer"]["nnodes"] * config["trainer"]["n_gpus_per_node"]
    size = config["actor_rollout_ref"]["actor"]["fsdp_config"]["fsdp_size"]
    return size if 0 < size < gpus else gpus


def total(rows: Sequence[Row]) -> Row:
    """The sum of rows: the two peaks of a step."""
    return Row("in all", sum(row.update for row in rows), sum(row.rollout for row in rows))


def peaks(shape: Shape, config: Mapping[str, Any], memory: float) -> tuple[float, float]:
    """Bytes of the update and of the rollout on a GPU of `memory` bytes."""
    both = total(rows(shape, config, memory))
    return both.update, both.rollout


def _engine(shape: Shape, config: Mapping[str, Any], memory: float) -> list[Row]:
    """vLLM takes its share of a GPU while it generates and sleeps after; on a CPU it holds what it was given."""
    rollout = config["actor_rollout_ref"]["rollout"]
    if config["trainer"]["device"] == "cpu":
        env = config["ray_kwargs"]["ray_init"]["runtime_env"].get("env_vars") or {}
        space = env.get("VLLM_CPU_KVCACHE_SPACE")  # without it vLLM takes the share that it takes of a GPU
        cache = float(space) * GIB if space else rollout["gpu_memory_utilization"] * memory
        held = cache + BYTES[rollout["dtype"]] * shape.parameters
        return [Row("vLLM: weights and KV cache", held, held), Row("the processes themselves", PROCESSES, PROCESSES)]
    return [
        Row("vLLM: weights, KV cache, work space", ASLEEP, rollout["gpu_memory_utilization"] * memory),
        Row("CUDA and NCCL", CONTEXT, CONTEXT),
    ]


def responses_at_once(shape: Shape, config: Mapping[str, Any], memory: float) -> int:
    """How many full sequences vLLM's KV cache holds on one replica, beside the weights and a tenth for its work."""
    rollout = config["actor_rollout_ref"]["rollout"]
    gpus = rollout["tensor_model_parallel_size"]
    room = gpus * 0.9 * rollout["gpu_memory_utilization"] * memory - 2 * shape.parameters
    return max(0, int(room // (2 * shape.kv_elements * longest(config))))


def _width(config: Mapping[str, Any]) -> int:
    """Bytes of one element in the forward pass: bfloat16 unless mixed_precision says otherwise."""
    precision = config["actor_rollout_ref"]["actor"]["fsdp_config"].get("mixed_precision") or {}
    return BYTES[precision.get("param_dtype", "bf16")]


def _gathered(shape: Shape, config: Mapping[str, Any]) -> float:
    """FSDP holds the embedding and the output matrix whole, and a layer beside the one it fetches; and gradients.

    FSDP2 gathers two untied matrices one at a time, but for fused log-probs. LoRA has hardly any gradients.
    """
    model = config["actor_rollout_ref"]["model"]
    copies = 1 if model["lora_rank"] else 2
    one_at_a_time = _is_fsdp2(config) and not shape.tied and not model["use_fused_kernels"]
    outer = shape.outer_parameters / (2 if one_at_a_time else 1)
    return copies * _width(config) * (outer + 2 * shape.layer_parameters)


def _is_fsdp2(config: Mapping[str, Any]) -> bool:
    return config["actor_rollout_ref"]["actor"]["strategy"] == "fsdp2"


def _per_token_of_layer(shape: Shape, config: Mapping[str, Any]) -> float:
    """What one layer's backward pass needs per token: norms (in float32), attention, and the MLP's four products.

    Liger's kernels keep the norms' inputs as they are, rotate queries and keys in place and make one product anew.
    """
    width = _width(config)
    if config["actor_rollout_ref"]["model"]["use_liger"]:
        attention = 2 * (shape.heads + shape.kv_heads) * shape.head_size
        return width * (attention + 4 * shape.hidden + 3 * shape.intermediate)
    attention = (2 * shape.heads + 4 * shape.kv_heads) * shape.head_size
    return 16 * shape.hidden + width * (attention + 3 * shape.hidden + 4 * shape.intermediate)


def _kept(shape: Shape, config: Mapping[str, Any], tokens: int) -> float:
    """With gradient checkpointing each layer's input; without, all that the backward pass needs."""
    if config["actor_rollout_ref"]["model"]["enable_gradient_checkpointing"]:
        return tokens * shape.layers * shape.hidden * _width(config)
    return tokens * shape.layers * _per_token_of_layer(shape, config)


def _layer(shape: Shape, config: Mapping[str, Any], tokens: int) -> float:
    """The layer in its backward pass: what it needs, and half as much again for its gradients."""
    return 1.5 * tokens * _per_token_of_layer(shape, config)


def _logits(shape: Shape, config: Mapping[str, Any], tokens: int) -> float:
    """Logits, their log-softmax and its gradient; the fused kernel has these for a chunk at a time, in float32."""
    if config["actor_rollout_ref"]["model"]["use_fused_kernels"]:
        return CHUNK * shape.vocabulary * 22 + _width(config) * shape.vocabulary * shape.hidden
    return 3 * _width(config) * tokens * shape.vocabulary
