"""What a step loses where the GPUs' shares of a mini-batch are uneven, by the recipe's partition and by veRL's own.

    .venv/bin/python benchmarks/balance.py

The recipe's 256 prompts x 8 responses, with lengths as in the paper's figure (response_lengths.py); a GPU's time for
a mini-batch is the floating-point operations of its share (1.54 B parameters, causal attention), and a mini-batch
lasts as long as its slowest GPU. `finished` is the order in which the responses end, which is the order of veRL
0.9.1's batches.
"""

from statistics import mean

import numpy as np
import response_lengths
import torch
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions

from justrl_recipe.verl_hooks.mini_batches import shares

PROMPTS, RESPONSES, MINI_BATCH, STEPS = 256, 8, 512, 10
PARAMETERS, LAYERS, HIDDEN = 1.54e9, 28, 1_536
GPUS = (2, 4, 8, 32)


def operations(tokens: np.ndarray) -> np.ndarray:
    """Floating-point operations of forward and backward pass of each sequence."""
    return 6 * PARAMETERS * tokens + 6 * LAYERS * HIDDEN * tokens.astype(float) ** 2


def as_verl(tokens: np.ndarray, gpus: int) -> list[list[int]]:
    """`_balance_batch` of verl/trainer/ppo/v1/trainer_base.py."""
    work = calculate_workload(torch.tensor(tokens)).tolist()
    return get_seqlen_balanced_partitions(work, k_partitions=gpus, equal_size=True)


def slowdown(tokens: np.ndarray, shares_of_gpus: list[list[int]]) -> float:
    """Time of the update, the slowest GPU of each mini-batch, by that of an even one."""
    work, gpus = operations(tokens), len(shares_of_gpus)
    each = MINI_BATCH // gpus
    starts = range(0, len(tokens) // gpus, each)
    slowest = sum(max(work[share[start : start + each]].sum() for share in shares_of_gpus) for start in starts)
    return float(slowest / (work.sum() / gpus))


def main() -> None:
    generator = np.random.default_rng(0)
    steps = [150 + response_lengths.draw(generator, PROMPTS, RESPONSES).ravel() for _ in range(STEPS)]
    print("mean", round(mean(step.mean() for step in steps)), "longest", max(step.max() for step in steps))
    finished = [np.sort(step) for step in steps]
    first, last = (np.mean([step[part].mean() for step in finished]) for part in (slice(512), slice(-512, None)))
    print(f"mean tokens of a mini-batch, order of veRL's batches: first {first:.0f}, last {last:.0f}")
    print("| GPUs | veRL, as responses finish | veRL, order of the data | mini-batch by mini-batch |")
    print("|---:|---:|---:|---:|")
    for gpus in GPUS:
        found = [
            mean(slowdown(step, as_verl(step, gpus)) for step in finished),
            mean(slowdown(step, as_verl(step, gpus)) for step in steps),
            mean(slowdown(step, shares(step.tolist(), MINI_BATCH, gpus)) for step in steps),
        ]
        print(f"| {gpus} | {' | '.join(f'{value:.2f}' for value in found)} |")


if __name__ == "__main__":
    main()
