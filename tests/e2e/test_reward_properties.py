"""The robust verifier on thousands of pairs that are unequal, or equal, by construction."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import answer_pairs
import pytest

from justrl_recipe.reward_fns.robust_verifier import compute_score

COUNT = 250  # pairs of each kind


def verdicts(pairs: list[tuple[str, str, str]]) -> list[bool]:
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda pair: compute_score("any", f"\\boxed{{{pair[2]}}}", pair[1])["acc"], pairs))


@pytest.mark.parametrize("generator", answer_pairs.UNEQUAL, ids=lambda generator: generator.__name__)
def test_no_unequal_pair_is_accepted(generator):
    pairs = list(answer_pairs.pairs([generator], COUNT, seed=None))
    accepted = [pair for pair, verdict in zip(pairs, verdicts(pairs), strict=True) if verdict]
    assert not accepted


def test_equal_pairs_are_accepted():
    pairs = list(answer_pairs.pairs(answer_pairs.EQUAL, 100 * len(answer_pairs.EQUAL)))
    rejected = [pair for pair, verdict in zip(pairs, verdicts(pairs), strict=True) if not verdict]
    assert len(rejected) <= 0.02 * len(pairs), rejected[:20]
    assert max(Counter(kind for kind, _, _ in rejected).values(), default=0) <= 10, rejected[:20]
