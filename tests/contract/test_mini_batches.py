"""The mini-batches of a step: what a mini-batch consists of, and how evenly the GPUs share it."""

import random
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.verl_hooks.mini_batches import in_data_order, shares

PROMPTS = [f"prompt{number}" for number in range(12)]


@given(st.randoms())
def test_responses_have_the_order_of_the_data_whatever_finished_first(randomly: random.Random):
    keys = [f"{prompt}_{session}_0" for prompt in PROMPTS for session in range(11)]
    finished = randomly.sample(keys, len(keys))
    assert list(in_data_order(dict.fromkeys(finished), PROMPTS)) == keys
    some = finished[: randomly.randrange(len(keys))]  # where others were lost
    assert list(in_data_order(dict.fromkeys(some), PROMPTS)) == [key for key in keys if key in some]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.randoms())
def test_each_rank_has_as_many_sequences_of_each_mini_batch(ranks, mini_batches, each, randomly: random.Random):
    size = ranks * each
    found = shares([randomly.randint(2, 16_384) for _ in range(size * mini_batches)], size, ranks)
    assert sorted(chain.from_iterable(found)) == list(range(size * mini_batches))
    for rank in found:
        assert [place // size for place in rank] == [number for number in range(mini_batches) for _ in range(each)]


def test_the_ranks_share_each_mini_batch_evenly():
    """At the recipe's size on 32 GPUs, 16 sequences of a mini-batch each; veRL's own partition is 1.2 and more."""
    randomly = random.Random(0)
    lengths = [min(int(randomly.lognormvariate(8.3, 0.65)), 15_360) for _ in range(2_048)]
    found = shares(lengths, 512, 32)
    for number in range(4):
        tokens = [sum(lengths[place] for place in rank[16 * number : 16 * (number + 1)]) for rank in found]
        assert max(tokens) < 1.05 * sum(tokens) / 32
