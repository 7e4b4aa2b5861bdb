"""veRL's training engine alone, with a recipe's settings: memory, time and gradient of one mini-batch.

    python benchmarks/engine.py justrl_deepseek --system h200x1 --model MODEL [--length 3072] [KEY=VALUE ...]
    torchrun --nproc-per-node 2 benchmarks/engine.py ...       # the same, sharded over two GPUs

What a run spends between two rollouts, without Ray, vLLM and their minutes of start: the worker is veRL's own
(verl/workers/engine_workers.py, as `ActorRolloutRefWorker` makes it), the batch is made up: `--sequences` prompts of
64 tokens with responses of `--length`, random tokens and advantages, the same for every setting of one seed. The
log-prob pass gives the old log-probs of the update, so the update's ratio is 1 but for the two passes' difference.
Prints one JSON line: seconds are of the last pass and, as `first_pass_s`, of the first, which compiles kernels; loss
and gradient are of the first; memory in GiB is the peak of all.
`--gradient FILE` keeps a sample of that gradient; `--reference FILE` says how far it is from a kept one, as
|g - reference| / |reference|: kept in float32, that is the rounding error of a setting (docs/performance.md).
`--profile FILE` writes torch's trace of the last update and prints where its time went.
`--rollout FILE` takes the responses that vLLM generated with this model (`rollout.py --keep FILE`) instead of made-up
ones, and says how far the trainer's probabilities are from vLLM's, as veRL's `rollout_probs_diff_mean`.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gpu_trace

PROMPT = 64  # tokens


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--system")
    parser.add_argument("--model", required=True)
    parser.add_argument("--sequences", type=int, default=32, help="of one mini-batch, over all GPUs")
    parser.add_argument("--length", type=int, default=3072, help="tokens of each response")
    parser.add_argument(
        "--shortest", type=int, help="lengths uniform from here to --length; without, all are --length"
    )
    parser.add_argument("--rollout", metavar="FILE", help="responses of vLLM; without, random tokens")
    parser.add_argument("--fork-loss", action="store_true", help="the loss as the authors' fork of veRL takes it")
    parser.add_argument("--passes", type=int, default=2, help="log-probs and update, so often")
    parser.add_argument("--memory", type=float, metavar="GIB", help="what torch may take of the GPU; without, all")
    parser.add_argument("--profile", metavar="FILE", help="a trace of the last update")
    parser.add_argument("--gradient", metavar="FILE", help="keep a sample of the gradient")
    parser.add_argument("--reference", metavar="FILE", help="compare the gradient with this sample")
    parser.add_argument("--name", default="", help="for the output")
    return parser.parse_intermixed_args()


def main(asked: argparse.Namespace) -> None:
    from justrl_recipe.config import Request, load

    overrides = (f"actor_rollout_ref.model.path={asked.model}", *asked.overrides)
    config = load(Request(asked.recipe, asked.system, overrides=overrides)).values
    if config["trainer"]["device"] == "cpu":
        os.environ["VERL_PLATFORM"] = "cpu"  # before veRL is imported
    os.environ.update(config["ray_kwargs"]["ray_init"]["runtime_env"].get("env_vars") or {})
    for key, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}.items():
        os.environ.setdefault(key, value)
    import torch
    from verl.utils.device import get_torch_device, set_expandable_segments

    device = get_torch_device()
    set_expandable_segments(True)  # as veRL's worker does after each transfer of weights (workers/engine_workers.py)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if asked.memory:
        total = torch.cuda.get_device_properties().total_memory
        torch.cuda.set_per_process_memory_fraction(asked.memory * 2**30 / total)
    worker = make_worker(config, fork_loss if asked.fork_loss else None)
    resident = device.memory_allocated()
    batch = kept_rollout(asked.rollout) if asked.rollout else made_up(asked, config)
    share = slice(int(os.environ["RANK"]), None, worker.engine.get_data_parallel_size())
    data = make_batch(batch, share, config)
    gradient = keep_gradient(worker)
    seconds: dict[str, float] = {}
    first: dict = {}
    after_log_probs = 0
    for number in range(1, asked.passes + 1):
        start = time.time()
        old = log_probs(worker, data.clone(), config)
        seconds["log_prob_s"] = time.time() - start
        after_log_probs = after_log_probs or device.max_memory_allocated()
        start = time.time()
        with profiled(asked.profile if number == asked.passes else None):
            metrics = update(worker, data.clone(), old, config)
        seconds["update_s"] = time.time() - start
        first = first or {
            **metrics,
            "pass_s": round(sum(seconds.values()), 2),
            "rollout_probs_diff": probs_diff(old, batch.log_probs[share]) if batch.log_probs else None,
        }
    if asked.gradient:
        torch.save(gradient[0], asked.gradient)
    if int(os.environ["RANK"]) == 0:
        found = {
            "name": asked.name,
            "gpus": int(os.environ["WORLD_SIZE"]),
            "tokens": sum(len(row) for row in data["input_ids"]) * worker.engine.get_data_parallel_size(),
            "overrides": asked.overrides,
            **{name: round(value, 2) for name, value in seconds.items()},
            "first_pass_s": first["pass_s"],
            "mfu": metrics["mfu"],
            "loss": first["loss"],
            "grad_norm": first["grad_norm"],
            "gradient_error": error(gradient[0], torch.load(asked.reference)) if asked.reference else None,
            "rollout_probs_diff": first["rollout_probs_diff"],
            "peak_gib": round(device.max_memory_allocated() / 2**30, 2),
            "first_log_prob_gib": round(after_log_probs / 2**30, 2),
            "reserved_gib": round(device.max_memory_reserved() / 2**30, 2),
            "start_gib": round(resident / 2**30, 2),
        }
        print(json.dumps(found), flush=True)


@contextmanager
def profiled(file: str | None) -> Iterator[None]:
    """Trace what is done inside, into `file`; nothing where it is None."""
    if file is None:
        yield
        return
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        yield
    trace.export_chrome_trace(file)
    print(json.dumps({"profile": file, **gpu_trace.summary(gpu_trace.read(Path(file)))}), flush=True)


def fork_loss(*, data, **rest):
    """The fork's token-mean: of each micro-batch by itself, weighted by its share of the mini-batch's sequences."""
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.losses import ppo_loss

    tokens = data["loss_mask"].values().sum().item()
    tu.assign_non_tensor(data, batch_num_tokens=tokens * data["global_batch_size"] / len(data))
    return ppo_loss(data=data, **rest)


def make_worker(config, loss=None):
    """The actor's worker, as verl/workers/engine_workers.py makes it from `actor_rollout_ref`; `loss` for another."""
    from omegaconf import OmegaConf
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.config import HFModelConfig, TrainingWorkerConfig
    from verl.workers.engine_workers import TrainingWorker
    from verl.workers.utils.losses import ppo_loss

    section = OmegaConf.create(config["actor_rollout_ref"])
    model: HFModelConfig = omega_conf_to_dataclass(section.model)
    actor = omega_conf_to_dataclass(section.actor)
    actor.model_config = model
    engine = actor.engine
    engine.use_dynamic_bsz = section.actor.use_dynamic_bsz
    engine.max_token_len_per_gpu = section.actor.ppo_max_token_len_per_gpu
    engine.infer_max_token_len_per_gpu = section.rollout.log_prob_max_token_len_per_gpu
    engine.use_remove_padding = model.use_remove_padding
    worker = TrainingWorker(
        TrainingWorkerConfig(
            model_type="language_model",
            model_config=model,
            engine_config=engine,
            optimizer_config=actor.optim,
            checkpoint_config=actor.checkpoint,
            profiler_config=None,
        )
    )
    worker.reset()
    worker.set_loss_fn(partial(loss or ppo_loss, config=actor))
    return worker


@dataclass
class Batch:
    """Prompts and responses as 1-D tensors of token ids; `log_probs` are vLLM's, of each response's tokens."""

    prompts: list
    responses: list
    log_probs: list | None = None


def made_up(asked: argparse.Namespace, config) -> Batch:
    """Random tokens, the same for one seed."""
    import torch
    from transformers import AutoConfig

    vocabulary = AutoConfig.from_pretrained(asked.model).vocab_size
    generator = torch.Generator().manual_seed(config["seed"])
    tokens = torch.randint(vocabulary, (asked.sequences, PROMPT + asked.length), generator=generator)
    lengths = torch.full((asked.sequences,), asked.length)
    if asked.shortest:
        lengths = torch.randint(asked.shortest, asked.length + 1, (asked.sequences,), generator=generator)
    responses = [row[PROMPT : PROMPT + length] for row, length in zip(tokens, lengths, strict=True)]
    return Batch([row[:PROMPT] for row in tokens], responses)


def kept_rollout(file: str) -> Batch:
    import torch

    found = json.loads(Path(file).read_text())
    return Batch(*([torch.tensor(row) for row in found[name]] for name in ("prompts", "responses", "log_probs")))


def make_batch(batch: Batch, share: slice, config):
    """This rank's sequences with made-up advantages, by the names that veRL's agent loop gives them."""
    import torch
    from tensordict import TensorDict

    prompts, responses = batch.prompts[share], batch.responses[share]
    generator = torch.Generator().manual_seed(config["seed"])
    advantages = torch.randn(len(batch.prompts), generator=generator)[share]

    def nested(rows):
        return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)

    ids = [torch.cat(pair) for pair in zip(prompts, responses, strict=True)]
    ones = [torch.ones_like(row) for row in responses]
    return TensorDict(
        {
            "input_ids": nested(ids),
            "position_ids": nested(torch.arange(len(row)) for row in ids),
            "prompts": nested(prompts),
            "responses": nested(responses),
            "response_mask": nested(ones),
            "loss_mask": nested(row.clone() for row in ones),
            "advantages": nested(row * value for row, value in zip(ones, advantages, strict=True)),
        },
        batch_size=len(ids),
    )


def probs_diff(trainer, rollout: list) -> float:
    """Mean |p - q| over the tokens, p by the trainer and q by vLLM (verl/utils/debug/metrics.py)."""
    import torch

    ours = trainer.values() if trainer.is_nested else trainer.reshape(-1)
    return (ours.float().cpu().exp() - torch.cat(rollout).exp()).abs().mean().item()


def keep_gradient(worker) -> list:
    """Fills with every 97th value of this rank's gradient, in float32 on the CPU, before each optimizer step."""
    import torch

    kept: list[torch.Tensor] = []
    step = worker.engine.optimizer_step

    def keep_and_step():
        grads = [p.grad for p in worker.engine.module.parameters() if p.grad is not None]
        local = [g.to_local() if hasattr(g, "to_local") else g for g in grads]  # FSDP2's are distributed tensors
        kept.append(torch.cat([g.reshape(-1)[::97] for g in local]).float().cpu())
        return step()

    worker.engine.optimizer_step = keep_and_step
    return kept


def error(gradient, reference) -> float:
    """|gradient - reference| / |reference|, both as `keep_gradient` samples them."""
    return ((gradient - reference).norm() / reference.norm()).item()


def log_probs(worker, data, config):
    """The old log-probs of the responses, as verl/trainer/ppo/v1/trainer_base.py asks for them."""
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.padding import response_from_nested

    temperature = config["actor_rollout_ref"]["rollout"]["temperature"]
    tu.assign_non_tensor(data, calculate_entropy=True, compute_loss=False, temperature=temperature)
    mask = data["response_mask"]
    output = worker.infer_batch(data)
    return response_from_nested(output["log_probs"], mask)


def update(worker, data, old, config) -> dict:
    """One mini-batch of the update; its metrics."""
    from verl.utils import tensordict_utils as tu

    data["old_log_probs"] = old
    size = len(data) * worker.engine.get_data_parallel_size()
    tu.assign_non_tensor(
        data,
        calculate_entropy=False,
        distillation_use_topk=False,
        distillation_only=False,
        global_batch_size=size,
        mini_batch_size=size,
        epochs=1,
        seed=config["seed"],
        dataloader_kwargs={"shuffle": False},
        temperature=config["actor_rollout_ref"]["rollout"]["temperature"],
    )
    metrics = tu.get(worker.train_mini_batch(data), "metrics")
    return {name: value[0] if isinstance(value, list) else value for name, value in metrics.items()}


if __name__ == "__main__":
    main(arguments())
