"""Parts of a run whose responses follow from the weights: a seed for each response, and an order of each batch.

Named by the config of a test's run (`deterministic_rollouts.CONFIG`), whose processes find this file by PYTHONPATH.
"""

import hashlib
from pathlib import Path

HERE = Path(__file__)
AGENT_LOOPS = "[{name: seeded_agent, _target_: deterministic_rollouts.SeededAgentLoop}]\n"
KEYS = ("trainer.v1.sampler.custom_sampler", "actor_rollout_ref.rollout.agent")


def config(folder: Path) -> tuple[str, ...]:
    """The overrides that a run needs; writes a file that they name to `folder`."""
    (folder / "agent_loops.yaml").write_text(AGENT_LOOPS)
    sampler, agent = KEYS
    return (
        *(f"{sampler}.path={HERE}", f"{sampler}.name=OrderedReplayBuffer"),
        *(
            f"{agent}.agent_loop_config_path={folder / 'agent_loops.yaml'}",
            f"{agent}.default_agent_loop=seeded_agent",
        ),
    )


def seed_of(prompt: list[int], session: int) -> int:
    return int.from_bytes(hashlib.sha256(repr((prompt, session)).encode()).digest()[:4], "big")


try:
    import transfer_queue as tq
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
except ImportError:  # the test itself needs the overrides alone
    pass
else:
    from justrl_recipe.verl_hooks.reward_metrics import RewardMetricsReplayBuffer

    class SeededAgentLoop(SingleTurnAgentLoop):
        """veRL's single-turn loop, with a seed by the problem and the number of the response."""

        async def run(self, sampling_params, **kwargs):
            seed = seed_of([repr(kwargs["raw_prompt"])], kwargs["session_id"])
            return await super().run({**sampling_params, "seed": seed}, **kwargs)

    class OrderedReplayBuffer(RewardMetricsReplayBuffer):
        """The recipe's sampler; veRL's keys are random, so its batches have another order in each run."""

        def sample(self, global_steps, partition_id, batch_size):
            batch, metrics = super().sample(global_steps, partition_id, batch_size)
            data = tq.kv_batch_get(keys=batch.keys, partition_id=partition_id, select_fields=["prompts"])
            prompts = [prompt.tolist() for prompt in data["prompts"].unbind()]
            order = {key: (prompt, key.split("_")[1]) for key, prompt in zip(batch.keys, prompts, strict=True)}
            return batch.select_keys(sorted(order, key=order.__getitem__)), metrics
