"""What veRL's workers need beside veRL: the agent loop `final_output_agent`, packed attention, and three patches.

veRL 0.9.1 imports this module, the recipe's `actor_rollout_ref.model.external_lib`, in every process that reads the
model's config (verl/workers/config/model.py).
"""

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, register
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from vllm.sampling_params import RequestOutputKind

from justrl_recipe.verl_hooks import packed_attention, patches
from justrl_recipe.verl_hooks.log_probs import RETURN_LOG_PROBS

__all__ = ["FinalOutputAgentLoop", "packed_attention"]

patches.load_shards_of_other_world_sizes()
patches.gather_output_matrix()
patches.key_of_the_server_alone()

FINAL_OUTPUT = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": False}


@register("final_output_agent")
class FinalOutputAgentLoop(SingleTurnAgentLoop):
    """veRL's single-turn agent loop, asking vLLM for the finished response alone; `rollout.agent.default_agent_loop`.

    veRL waits for the end of a response and reads only its token ids and log-probs
    (verl/workers/rollout/vllm_rollout/vllm_async_server.py). By default vLLM's server still turns every token into
    text and hands over the response so far at every token, in one Python process: at 256 responses at once that, and
    not the GPU, limits the speed (docs/performance.md). The tokens and log-probs are the same either way.

    Log-probs are returned in the steps that the trainer chooses, and not in validation, where nothing reads them.
    """

    async def run(self, sampling_params: dict, **kwargs) -> AgentLoopOutput:
        asked = {**sampling_params, **FINAL_OUTPUT, "logprobs": kwargs.get(RETURN_LOG_PROBS, False)}
        return await super().run(asked, **kwargs)
