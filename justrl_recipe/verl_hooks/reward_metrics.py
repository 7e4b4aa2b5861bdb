"""Training metrics of what a reward returns beside its score: `reward/acc`, `reward/overlong` and of its groups.

veRL 0.9.1's trainer logs the score alone, and that is the penalised one under the overlong penalty. The
recipes name this class as the trainer's sampler (`trainer.v1.sampler.custom_sampler`): its `sample` may return
metrics, and it sees each batch just before it is trained on.
"""

from collections import defaultdict
from collections.abc import Sequence

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

LOGGED = ("acc", "overlong")


def mean_rewards(infos: Sequence[dict]) -> dict[str, float]:
    """Means over a batch's reward_extra_info of what LOGGED names."""
    metrics = {}
    for name in LOGGED:
        values = [float(info[name]) for info in infos if name in info]
        if values:
            metrics[f"reward/{name}"] = sum(values) / len(values)
    return metrics


def group_shares(keys: Sequence[str], infos: Sequence[dict]) -> dict[str, float]:
    """Shares of the prompts whose responses are all right, and all wrong: their advantages are 0.

    Args:
        keys: `{prompt}_{session}_{index}` of each response (verl/trainer/ppo/v1/replay_buffer.py).
        infos: the reward_extra_info of each.
    """
    verdicts = defaultdict(set)
    for key, info in zip(keys, infos, strict=True):
        if "acc" in info:
            verdicts[key.rsplit("_", 2)[0]].add(bool(info["acc"]))
    groups = list(verdicts.values())
    if not groups:
        return {}
    return {
        "reward/all_right": groups.count({True}) / len(groups),
        "reward/all_wrong": groups.count({False}) / len(groups),
    }


class RewardMetricsReplayBuffer(ReplayBuffer):
    """veRL's synchronous replay buffer that also reports what the reward function said.

    `trainer.v1.sampler.sampler_kwargs.poll_interval` (seconds) is how often it looks for finished rollouts.
    """

    def __init__(self, sampler_kwargs, **kwargs):
        super().__init__(sampler_kwargs=sampler_kwargs, **dict(sampler_kwargs), **kwargs)

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        if partition_id == "train":
            data = tq.kv_batch_get(keys=batch.keys, partition_id=partition_id, select_fields=["extra_fields"])
            # TransferQueue gives back a list of dicts or of tensordict's wrappers around them.
            extra_fields = [getattr(item, "data", item) for item in data["extra_fields"]]
            infos = [fields.get("reward_extra_info", {}) for fields in extra_fields]
            metrics = metrics | mean_rewards(infos) | group_shares(batch.keys, infos)
        return batch, metrics
