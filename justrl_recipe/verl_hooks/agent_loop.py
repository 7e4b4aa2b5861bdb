"""veRL's single-turn agent loop, asking vLLM for the finished response alone.

veRL 0.9.1 waits for the end of a response and reads only its token ids and log-probs
(verl/workers/rollout/vllm_rollout/vllm_async_server.py). By vLLM's defaults the server still turns every token into
text and hands over the response so far at every token, in one Python process: at 256 responses at once that, and not
the GPU, sets the pace (docs/performance.md). The tokens and log-probs are the same either way.
"""

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from vllm.sampling_params import RequestOutputKind

NAME = "final_output_agent"
FINAL_OUTPUT = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": False}


@register(NAME)
class FinalOutputAgentLoop(SingleTurnAgentLoop):
    """Named by the recipe as `rollout.agent.default_agent_loop`."""

    async def run(self, sampling_params: dict, **kwargs) -> AgentLoopOutput:
        return await super().run({**sampling_params, **FINAL_OUTPUT}, **kwargs)
