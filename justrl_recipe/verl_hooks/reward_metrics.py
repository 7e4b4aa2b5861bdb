"""Training metrics of what a reward returns beside its score, and of the responses that were lost.

veRL 0.9.1's trainer logs the score alone, which is the penalised one under the overlong penalty. Where the reward
function or the rollout raises for a response, it continues with the other responses of the batch and logs their mean.
The recipes name this class as the trainer's sampler (`trainer.v1.sampler.custom_sampler`): it sees each batch just
before it is trained on, and its `sample` may return metrics.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from justrl_recipe.metrics import ALL_RIGHT, ALL_WRONG, LOST, LOST_FILE
from justrl_recipe.verl_hooks.mini_batches import in_data_order

LOGGED = ("acc", "overlong")


class LostResponsesError(Exception):
    """More responses of a batch were lost than the run allows."""


def mean_rewards(infos: Sequence[dict]) -> dict[str, float]:
    """Means over a batch's reward_extra_info of what LOGGED names."""
    metrics = {}
    for name in LOGGED:
        values = [float(info[name]) for info in infos if info.get(name) is not None]
        if values:
            metrics[f"reward/{name}"] = sum(values) / len(values)
    return metrics


def group_shares(keys: Sequence[str], infos: Sequence[dict]) -> dict[str, float]:
    """Shares of the prompts whose responses are all right, and all wrong: their advantages are 0.

    Args:
        keys: `{prompt}_{session}_{index}` of each response (verl/trainer/ppo/v1/replay_buffer.py).
        infos: the reward_extra_info of each.
    """
    accuracies = defaultdict(set)
    for key, info in zip(keys, infos, strict=True):
        if info.get("acc") is not None:
            accuracies[key.rsplit("_", 2)[0]].add(float(info["acc"]))
    groups = list(accuracies.values())
    if not groups:
        return {}
    return {
        ALL_RIGHT: groups.count({1.0}) / len(groups),
        ALL_WRONG: groups.count({0.0}) / len(groups),
    }


def lost_responses(keys: Collection[str], prompts: Collection[str], n: int) -> int:
    """How many of the `n` responses of each prompt are not among the batch's keys, `{prompt}_{session}_{index}`."""
    wanted = set(prompts)
    there = {key.rsplit("_", 1)[0] for key in keys}
    return n * len(wanted) - sum(response.rsplit("_", 1)[0] in wanted for response in there)


def record(entry: Mapping[str, Any]) -> None:
    """Add a line to lost_responses.jsonl in the run folder, where run/start.py says that there is one."""
    if metrics := os.environ.get("VERL_FILE_LOGGER_PATH"):
        with Path(metrics).with_name(LOST_FILE).open("a") as lines:
            lines.write(json.dumps(entry) + "\n")


class RewardMetricsReplayBuffer(ReplayBuffer):
    """veRL's synchronous replay buffer, in the order of the data; it reports rewards, and what was lost.

    `trainer.v1.sampler.sampler_kwargs`:
        poll_interval: seconds between looks for finished rollouts.
        n, validation_n: responses of a prompt in training and in validation.
        max_lost_share: of a batch's responses; more of them lost ends the run.
    """

    def __init__(self, sampler_kwargs, **kwargs):
        options = dict(sampler_kwargs)
        self.n = {"train": options.pop("n"), "val": options.pop("validation_n")}
        self.max_lost_share = options.pop("max_lost_share")
        self.step = self.lost = 0  # of the latest batch
        self.on_validation: Callable[[KVBatchMeta, int], None] | None = None  # told of a validation's batch and step
        super().__init__(sampler_kwargs=sampler_kwargs, **options, **kwargs)

    def _select_prompt_uids(self, partition_id: str, sampleable_keys: set[str], batch_size: int):
        """Give the responses the order of the data; count those lost, before veRL refuses a batch without any.

        Raises:
            LostResponsesError: it is more than the run allows.
        """
        prompts, keys, steps = super()._select_prompt_uids(partition_id, sampleable_keys, batch_size)
        keys = in_data_order(keys, steps)
        expected = self.n[partition_id] * len(prompts)
        self.lost = lost_responses(keys, prompts, self.n[partition_id])
        if self.lost:
            batch = "training" if partition_id == "train" else "validation"
            record({"step": self.step, "batch": batch, "lost": self.lost, "responses": expected})
            if self.lost > self.max_lost_share * expected:
                raise LostResponsesError(
                    f"{self.lost} of {expected} {batch} responses of step {self.step} were lost, since the reward "
                    "function or the rollout raised an error for them "
                    f"(trainer.v1.sampler.sampler_kwargs.max_lost_share={self.max_lost_share:g})"
                )
        return prompts, keys, steps

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        self.step = global_steps
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        if partition_id == "train":
            data = tq.kv_batch_get(keys=batch.keys, partition_id=partition_id, select_fields=["extra_fields"])
            # TransferQueue gives back a list of dicts or of tensordict's wrappers around them.
            extra_fields = [getattr(item, "data", item) for item in data["extra_fields"]]
            infos = [fields.get("reward_extra_info", {}) for fields in extra_fields]
            metrics = metrics | mean_rewards(infos) | group_shares(batch.keys, infos) | {LOST: self.lost}
        elif self.on_validation:
            self.on_validation(batch, global_steps)
        return batch, metrics
