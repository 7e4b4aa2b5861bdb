"""vLLM alone, with a recipe's settings and what veRL asks of it: tokens per second at several numbers of responses.

    python benchmarks/rollout.py justrl_deepseek --system h200x1 --model MODEL --at 64 256 [KEY=VALUE ...]

The engine is the asynchronous one that veRL serves from (verl/workers/rollout/vllm_rollout/vllm_async_server.py),
with the same arguments as far as they change its speed. Each number of responses is generated three times: as veRL
asks (`every token`), which has vLLM detokenize and hand over every token as it comes, and as
justrl_recipe/verl_hooks/extensions.py asks, with log-probs (`final output`) and without (`no log-probs`).
Prints one JSON line for each.

`--profile FOLDER` then has torch's profiler record a few decode steps of each number of responses, without log-probs,
and prints the milliseconds of a step by kernel and those in which the GPU waits.

`--keep FILE` writes down what the model, with its own weights, answers to prompts asked eight times each, and how
likely vLLM found each token: for `engine.py --rollout FILE`.
"""

import argparse
import asyncio
import json
import os
import time
from pathlib import Path

import gpu_trace

OUTPUTS = ("every token", "final output", "no log-probs")
PROFILED = 24  # decode steps


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--system")
    parser.add_argument("--model", required=True)
    parser.add_argument("--at", type=int, nargs="+", default=[64], help="responses at once")
    parser.add_argument("--length", type=int, default=2048, help="tokens of each response")
    parser.add_argument("--outputs", nargs="+", choices=OUTPUTS, default=OUTPUTS)
    parser.add_argument("--profile", metavar="FOLDER")
    parser.add_argument("--keep", metavar="FILE", help="of the first number in --at, instead of measuring")
    return parser.parse_intermixed_args()


async def main(asked: argparse.Namespace) -> None:
    from justrl_recipe.config import Request, load

    config = load(Request(asked.recipe, asked.system, overrides=tuple(asked.overrides))).values
    os.environ.update(config["ray_kwargs"]["ray_init"]["runtime_env"].get("env_vars") or {})
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from justrl_recipe.verl_hooks.extensions import FINAL_OUTPUT

    rollout = config["actor_rollout_ref"]["rollout"]
    arguments = {
        "model": asked.model,
        "load_format": "auto" if asked.keep else "dummy",
        "dtype": rollout["dtype"],
        "max_model_len": rollout["max_model_len"],
        "max_num_seqs": rollout["max_num_seqs"],
        "max_num_batched_tokens": rollout["max_num_batched_tokens"],
        "gpu_memory_utilization": rollout["gpu_memory_utilization"],
        "enable_chunked_prefill": rollout["enable_chunked_prefill"],
        "enable_prefix_caching": rollout["enable_prefix_caching"],
        "enforce_eager": rollout["enforce_eager"],
        "logprobs_mode": rollout["logprobs_mode"],
        "compilation_config": {"cudagraph_mode": "FULL_AND_PIECEWISE"},
        "profiler_config": profiler(asked.profile),
        "seed": config["seed"],
        "distributed_executor_backend": "mp",
    }
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**{**arguments, **(rollout["engine_kwargs"]["vllm"] or {})}))
    as_verl = SamplingParams(
        temperature=rollout["temperature"],
        logprobs=0,
        max_tokens=asked.length,
        ignore_eos=True,
        repetition_penalty=1.0,
    )
    final = as_verl.clone()
    for name, value in FINAL_OUTPUT.items():
        setattr(final, name, value)
    bare = final.clone()
    bare.logprobs = None
    if asked.keep:
        Path(asked.keep).write_text(json.dumps(as_batch(await generate(engine, final, asked.at[0], "kept"))))
        engine.shutdown()
        return
    await generate(engine, as_verl, 8, "warm-up")
    for count in asked.at:
        for name, params in zip(OUTPUTS, (as_verl, final, bare), strict=True):
            if name not in asked.outputs:
                continue
            start = time.time()
            await generate(engine, params, count, name)
            rate = count * asked.length / (time.time() - start)
            found = {"outputs": name, "responses": count, "tokens": asked.length, "tokens_per_second": round(rate)}
            print(json.dumps(found), flush=True)
    for count in asked.at if asked.profile else []:
        await profile(engine, bare, count, Path(asked.profile))
    engine.shutdown()


def profiler(folder: str | None):
    """vLLM's profiler of its engine, which waits until all requests are being decoded."""
    from vllm.config import ProfilerConfig

    if folder is None:
        return ProfilerConfig()
    return ProfilerConfig(
        profiler="torch",
        torch_profiler_dir=str(Path(folder).resolve()),
        torch_profiler_with_stack=False,
        ignore_frontend=True,
        delay_iterations=200,
        max_iterations=PROFILED,
    )


async def profile(engine, params, count: int, folder: Path) -> None:
    """Record decode steps of `count` responses and print where their time goes."""
    short = params.clone()
    short.max_tokens = 400
    before = set(folder.glob("*.json.gz"))
    await engine.start_profile()
    await generate(engine, short, count, "profile")
    await engine.stop_profile()
    for trace in set(folder.glob("*.json.gz")) - before:
        events = gpu_trace.read(trace)
        steps = sum(event.get("cat") == "user_annotation" and event["name"].startswith("execute") for event in events)
        print(json.dumps({"responses": count, "steps": steps, **gpu_trace.summary(events, steps)}), flush=True)


async def generate(engine, params, count: int, name: str) -> list:
    """`count` responses to prompts that are asked eight times each, as GRPO does."""

    async def one(number: int):
        prompt = {"prompt_token_ids": [100 + number // 8 * 97 + token for token in range(64)]}
        async for output in engine.generate(prompt, params, f"{name} {count} {number}"):
            last = output
        assert len(last.outputs[0].token_ids) == params.max_tokens
        return last

    return await asyncio.gather(*(one(number) for number in range(count)))


def as_batch(outputs: list) -> dict[str, list]:
    """Token ids and log-probs by response, as engine.py reads them."""
    found = [output.outputs[0] for output in outputs]
    return {
        "prompts": [list(output.prompt_token_ids) for output in outputs],
        "responses": [list(one.token_ids) for one in found],
        "log_probs": [
            [entry[token].logprob for token, entry in zip(one.token_ids, one.logprobs, strict=True)] for one in found
        ],
    }


if __name__ == "__main__":
    asyncio.run(main(arguments()))
