"""An agent loop whose responses follow from the weights: each has a seed of its own.

Named by the config of a test's run (`deterministic_rollouts.config`), whose processes find this file by PYTHONPATH.
"""

import hashlib
from pathlib import Path

HERE = Path(__file__)
AGENT_LOOPS = "[{name: seeded_agent, _target_: deterministic_rollouts.SeededAgentLoop}]\n"
AGENT = "actor_rollout_ref.rollout.agent"


def config(folder: Path) -> tuple[str, ...]:
    """The overrides that a run needs; writes a file that they name to `folder`."""
    (folder / "agent_loops.yaml").write_text(AGENT_LOOPS)
    return (
        f"{AGENT}.agent_loop_config_path={folder / 'agent_loops.yaml'}",
        f"{AGENT}.default_agent_loop=seeded_agent",
    )


def seed_of(prompt: list[int], session: int) -> int:
    return int.from_bytes(hashlib.sha256(repr((prompt, session)).encode()).digest()[:4], "big")


try:
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
except ImportError:  # the test itself needs the overrides alone
    pass
else:

    class SeededAgentLoop(SingleTurnAgentLoop):
        """veRL's single-turn loop, with a seed by the problem and the number of the response."""

        async def run(self, sampling_params, **kwargs):
            seed = seed_of([repr(kwargs["raw_prompt"])], kwargs["session_id"])
            return await super().run({**sampling_params, "seed": seed}, **kwargs)
