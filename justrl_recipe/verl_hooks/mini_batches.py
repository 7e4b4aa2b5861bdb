"""The mini-batches of a step: the prompts in the order of the data, spread evenly over the GPUs.

veRL 0.9.1's default trainer keeps responses in the order in which they finished (transfer_queue's key list), and cuts
mini-batches off in that order: the shortest responses make the first update of a step, the longest the last, and, as
the loss is a mean over the tokens of a mini-batch, a token of the first weighs several times as much. In the authors'
fork a batch has the order of the data, so that a mini-batch is 64 prompts with all their responses. It is here too.

veRL also balances a batch over the GPUs as a whole, which leaves their shares of one mini-batch uneven, and the GPUs
wait for the slowest in each: docs/performance.md has the cost.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions


def in_data_order(responses: Mapping[str, Any], prompts: Iterable[str]) -> dict[str, Any]:
    """The responses by the place of their prompt in `prompts`, those of one prompt by session.

    Args:
        responses: by key, `{prompt}_{session}_{index}` (verl/trainer/ppo/v1/replay_buffer.py).
        prompts: the prompts that were sent to generation, in the order of the data.
    """
    place = {prompt: number for number, prompt in enumerate(prompts)}

    def position(key: str) -> tuple[int, int, int]:
        prompt, session, index = key.rsplit("_", 2)
        return place.get(prompt, len(place)), int(session), int(index)

    return {key: responses[key] for key in sorted(responses, key=position)}


def shares(lengths: Sequence[int], mini_batch: int, ranks: int) -> list[list[int]]:
    """The sequences of each rank, so that each mini-batch is spread evenly by the work that its lengths make.

    Args:
        lengths: of each sequence of the batch, in tokens.
        mini_batch: sequences of each consecutive mini-batch; divides their number, and is divided by `ranks`.

    Returns:
        For each rank the places in `lengths`, mini-batch by mini-batch, as many of each mini-batch as other ranks.
    """
    found: list[list[int]] = [[] for _ in range(ranks)]
    for start in range(0, len(lengths), mini_batch):
        work = calculate_workload(torch.tensor(lengths[start : start + mini_batch])).tolist()
        for rank, part in enumerate(get_seqlen_balanced_partitions(work, k_partitions=ranks, equal_size=True)):
            found[rank] += [start + place for place in part]
    return found
