"""What the recipe's agent loop asks of vLLM gives the response that veRL's own would get, without its parts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from justrl_recipe.config import Request, load, recipe_names
from justrl_recipe.cpu import tiny_data, tiny_model
from justrl_recipe.evaluation.generation import cpu_environment

pytestmark = pytest.mark.xdist_group("engine")  # one vLLM engine or Ray cluster at a time, beside a training

ASK = """
import asyncio, json, sys
import justrl_recipe.cpu; justrl_recipe.cpu.enable()
from justrl_recipe.verl_hooks.extensions import FINAL_OUTPUT
from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.v1.engine.async_llm import AsyncLLM

async def ask(engine, name, **asked):
    params = SamplingParams(temperature=0, logprobs=0, max_tokens=12, **asked)
    seen = [o.outputs[0] async for o in engine.generate({"prompt_token_ids": [5, 6, 7]}, params, name)]
    log_probs = [at[token].logprob for token, at in zip(seen[-1].token_ids, seen[-1].logprobs)]
    return {"handed_over": len(seen), "ids": list(seen[-1].token_ids), "why": seen[-1].finish_reason,
            "log_probs": log_probs, "text": seen[-1].text}

async def main():
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(
        model=sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=64, logprobs_mode="processed_logprobs"))
    print("FOUND", json.dumps([await ask(engine, "every"), await ask(engine, "final", **FINAL_OUTPUT)]), flush=True)
    engine.shutdown()

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_the_final_output_is_the_one_that_every_token_leads_to(tmp_path):
    spec = load(Request("justrl_tiny")).values["tiny_model"] | {"warmup_steps": 2}
    tiny_model.make(tmp_path / "model", spec, tiny_data.all_problems(), progress=lambda step: None)
    (tmp_path / "ask.py").write_text(ASK)
    result = subprocess.run(
        [sys.executable, "ask.py", "model"],
        cwd=tmp_path,
        env={**os.environ, **cpu_environment(), "VERL_PLATFORM": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    [line] = [line for line in result.stdout.splitlines() if line.startswith("FOUND ")]
    every, final = json.loads(line.removeprefix("FOUND "))
    assert len(every["ids"]) == 12 and every["text"]
    assert 6 < every["handed_over"] <= 12  # vLLM joins those that are not taken in time
    assert final == {**every, "handed_over": 1, "text": ""}


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_asks_by_it(recipe):
    """That veRL finds it by this name is shown by every training: veRL refuses a name that it does not know."""
    actor = load(Request(recipe)).values["actor_rollout_ref"]
    assert actor["rollout"]["agent"]["default_agent_loop"] == "final_output_agent"
    assert (Path(__file__).parents[2] / f"{actor['model']['external_lib'].replace('.', '/')}.py").is_file()
