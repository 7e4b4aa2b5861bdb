"""Which responses a run keeps: of few prompts, at few steps, and so that a prompt comes back.

A prompt is chosen by a hash of its text, so the choice depends on no seed, and a validation has the same prompts each
time. The steps of a run are divided into at most `PERIODS` periods of equal length. Of each period it keeps

- at the first step, the prompts of the batch with the smallest hashes;
- at any step, the followed prompts, each once: those with the smallest hashes of all that the attempt has seen. After
  its first epoch they are those of the whole data set, and come back with each epoch;
- one validation.
"""

import hashlib
import math
from collections.abc import Mapping

PERIODS = 50
RESPONSES = 8  # of a prompt; as many as the recipe samples, a quarter of those of its validation


def hash_of(source: str, prompt: str) -> float:
    """A number in [0, 1) that only the prompt and its data source decide."""
    text = f"{source}\0{prompt}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / (1 << 48)


class Selection:
    """The prompts of one attempt of a run that are kept.

    Args:
        prompts: of a batch and of a validation; 0 keeps none.
        steps: of the whole run.
    """

    def __init__(self, prompts: int, steps: int):
        self.prompts, self.steps = prompts, steps
        self.every = max(1, math.ceil(steps / PERIODS))
        self.followed: list[float] = []  # the smallest hashes seen
        self.period, self.visited = -1, set[float]()  # the followed prompts that were kept in the period
        self.validated = -math.inf  # the step of the last validation that was kept

    def of_batch(self, step: int, hashes: Mapping[str, float]) -> list[str]:
        """The prompts of a training batch that are kept.

        Args:
            step: from 1 on.
            hashes: the hash of each prompt, by the prompt's id.
        """
        if (step - 1) // self.every != self.period:
            self.period, self.visited = (step - 1) // self.every, set()
        self.followed = sorted({*self.followed, *hashes.values()})[: self.prompts]
        smallest = smallest_first(hashes)[: self.prompts]
        is_due = (step - 1) % self.every == 0 or step == self.steps
        chosen = smallest if is_due else [uid for uid in smallest if self._is_to_visit(hashes[uid])]
        self.visited |= {hashes[uid] for uid in chosen} & set(self.followed)
        return chosen

    def _is_to_visit(self, hash_of_prompt: float) -> bool:
        return (
            hash_of_prompt in self.followed
            and hash_of_prompt not in self.visited
            and len(self.visited) < self.prompts
        )

    def of_validation(self, hashes: Mapping[str, float]) -> list[str]:
        """The prompts of a validation, or of a batch of it, that are kept."""
        return smallest_first(hashes)[: self.prompts]

    def keeps_validation(self, step: int) -> bool:
        """Whether the validation of a step is kept: the first, the last, and those at least a period apart."""
        return self.prompts > 0 and (step - self.validated >= self.every or step == self.steps)


def smallest_first(hashes: Mapping[str, float]) -> list[str]:
    return sorted(hashes, key=lambda uid: hashes[uid])
