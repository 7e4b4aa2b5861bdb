"""The recipe's agent loop with responses of given lengths, for step.py; run with `ignore_eos`."""

import json
import time
from collections import Counter

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput

from justrl_recipe.verl_hooks.extensions import FinalOutputAgentLoop

_asked: Counter[str] = Counter()  # how often this process was asked for each prompt: its responses in their order


class GivenLengthAgentLoop(FinalOutputAgentLoop):
    """Takes a response's tokens from the row's `extra_info.lengths`, and notes in `extra_info.log` when it ran."""

    async def run(self, sampling_params: dict, **kwargs) -> AgentLoopOutput:
        about = kwargs["extra_info"]
        length = about["lengths"][_asked[about["index"]] % len(about["lengths"])]
        _asked[about["index"]] += 1
        start = time.time()
        output = await super().run({**sampling_params, "max_tokens": int(length)}, **kwargs)
        with open(about["log"], "a") as log:
            log.write(json.dumps({"start": start, "end": time.time(), "length": len(output.response_ids)}) + "\n")
        return output
