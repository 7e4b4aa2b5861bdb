"""vLLM alone, with a recipe's settings and what veRL asks of it: tokens per second at several numbers of responses.

    python benchmarks/rollout.py justrl_deepseek --system h200x1 --model MODEL --at 64 256 [KEY=VALUE ...]

The engine is the asynchronous one that veRL serves from (verl/workers/rollout/vllm_rollout/vllm_async_server.py),
with the same arguments as far as they change its speed. Each number of responses is generated twice: as veRL asks,
which has vLLM detokenize and hand over every token as it comes, and as justrl_recipe/agent_loop.py asks. Prints one
JSON line for each.
"""

import argparse
import asyncio
import json
import time


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--system")
    parser.add_argument("--model", required=True)
    parser.add_argument("--at", type=int, nargs="+", default=[64], help="responses at once")
    parser.add_argument("--length", type=int, default=2048, help="tokens of each response")
    return parser.parse_intermixed_args()


async def main(asked: argparse.Namespace) -> None:
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from justrl_recipe.agent_loop import FINAL_OUTPUT
    from justrl_recipe.config import Request, load

    config = load(Request(asked.recipe, asked.system, overrides=tuple(asked.overrides))).values
    rollout, data = config["actor_rollout_ref"]["rollout"], config["data"]
    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(
            model=asked.model,
            load_format="dummy",
            dtype=rollout["dtype"],
            max_model_len=data["max_prompt_length"] + data["max_response_length"],
            max_num_seqs=rollout["max_num_seqs"],
            max_num_batched_tokens=rollout["max_num_batched_tokens"],
            gpu_memory_utilization=rollout["gpu_memory_utilization"],
            enable_chunked_prefill=rollout["enable_chunked_prefill"],
            enable_prefix_caching=rollout["enable_prefix_caching"],
            enforce_eager=rollout["enforce_eager"],
            logprobs_mode=rollout["logprobs_mode"],
            compilation_config={"cudagraph_mode": "FULL_AND_PIECEWISE"},
            seed=config["seed"],
        )
    )
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
    await generate(engine, as_verl, 8, "warm-up")
    for count in asked.at:
        for name, params in {"every token": as_verl, "final output": final}.items():
            start = time.time()
            await generate(engine, params, count, name)
            rate = count * asked.length / (time.time() - start)
            found = {"outputs": name, "responses": count, "tokens": asked.length, "tokens_per_second": round(rate)}
            print(json.dumps(found), flush=True)
    engine.shutdown()


async def generate(engine, params, count: int, name: str) -> None:
    """`count` responses to eight prompts each asked several times, as GRPO does."""

    async def one(number: int) -> None:
        prompt = {"prompt_token_ids": [100 + number // 8 * 97 + token for token in range(64)]}
        async for output in engine.generate(prompt, params, f"{name} {count} {number}"):
            last = output
        assert len(last.outputs[0].token_ids) == params.max_tokens

    await asyncio.gather(*(one(number) for number in range(count)))


if __name__ == "__main__":
    asyncio.run(main(arguments()))
