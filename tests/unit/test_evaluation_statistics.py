"""The estimators against brute force."""

import itertools
from collections import Counter

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.evaluation import scores as statistics


def problem(most: int) -> st.SearchStrategy[tuple[int, int]]:
    """Samples of a problem and how many of them are correct."""
    return st.integers(1, most).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(st.lists(problem(7), min_size=1, max_size=4), st.data())
def test_pass_at_k_is_the_share_of_all_draws_of_k_samples_that_hold_a_correct_one(problems, data):
    k = data.draw(st.integers(1, min(n for n, _ in problems)))
    shares = []
    for n, c in problems:
        draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
        shares.append(sum(any(draw) for draw in draws) / len(draws))
    samples, correct = zip(*problems, strict=True)
    assert statistics.pass_at_k(samples, correct, k) == pytest.approx(sum(shares) / len(shares))


@given(st.lists(problem(64), min_size=1, max_size=50))
def test_pass_at_1_is_the_average(problems):
    samples, correct = zip(*problems, strict=True)
    average = sum(c / n for n, c in problems) / len(problems)
    assert statistics.pass_at_k(samples, correct, 1) == pytest.approx(average)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=9), st.sampled_from("abc"))
def test_majority_is_the_chance_that_a_vote_with_random_ties_is_right(answers, gold):
    found = statistics.majority(answers, [answer == gold for answer in answers])
    votes = Counter(answer for answer in answers if answer)
    winners = [answer for answer, count in votes.items() if count == max(votes.values())]
    assert found == (winners.count(gold) / len(winners) if winners else 0)


def test_an_answer_that_is_right_in_one_spelling_only_does_not_lend_it_its_votes():
    assert statistics.majority(["34", "34", "34", "5", "5"], [False, False, True, True, True]) == 0.5


def test_the_interval_is_that_of_a_bootstrap_over_problems_and_not_over_samples():
    means = numpy.random.default_rng(1).beta(0.5, 0.5, size=40)
    low, high = statistics.interval(means)
    rng = numpy.random.default_rng(2)
    resampled = rng.choice(means, size=(20_000, 40)).mean(axis=1)
    assert (low, high) == pytest.approx(numpy.percentile(resampled, [2.5, 97.5]), abs=0.02)
    assert statistics.interval(means) == (low, high)  # a report of the same samples is the same report


def test_the_interval_of_an_average_over_benchmarks_is_narrower_than_each():
    rng = numpy.random.default_rng(3)
    benchmarks = [rng.beta(0.5, 0.5, size=size) for size in (30, 30, 40)]
    low, high = statistics.interval(*benchmarks)
    centre = numpy.mean([means.mean() for means in benchmarks])
    assert low < centre < high
    assert high - low < min(statistics.interval(means)[1] - statistics.interval(means)[0] for means in benchmarks)


@pytest.mark.parametrize(("score", "bounds"), [(0.0, (0.0, 0.1157)), (1.0, (0.8843, 1.0)), (0.5, (0.4421, 0.5579))])
def test_thirty_equal_problems_are_no_proof_of_certainty(score, bounds):
    assert statistics.interval([score] * 30) == pytest.approx(bounds, abs=1e-4)


def test_a_benchmark_of_equal_problems_shifts_an_average_and_narrows_it():
    low, high = statistics.interval([0.1, 0.9, 0.4, 0.6])
    assert statistics.interval([0.1, 0.9, 0.4, 0.6], [1.0]) == pytest.approx(((low + 1) / 2, (high + 1) / 2))


@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12), min_size=1, max_size=3))
def test_an_interval_holds_the_score_and_stays_in_range(benchmarks):
    low, high = statistics.interval(*benchmarks)
    centre = float(numpy.mean([numpy.mean(means) for means in benchmarks]))
    assert -1e-9 <= low <= centre + 1e-9 and centre - 1e-9 <= high <= 1 + 1e-9


def test_the_sampling_error_is_what_two_evaluations_of_one_model_differ_by():
    rng = numpy.random.default_rng(4)
    abilities, n = rng.beta(0.5, 0.5, size=30), 32
    scores, errors = [], []
    for _ in range(2_000):
        correct = rng.binomial(n, abilities)
        scores.append(correct.mean() / n)
        errors.append(statistics.sampling_error([n] * 30, correct))
    assert numpy.mean(errors) == pytest.approx(numpy.std(scores), rel=0.05)
    assert statistics.sampling_error([1, 1], [0, 1]) is None


@given(
    st.lists(st.lists(st.sampled_from("abé"), max_size=12).map(lambda words: " \n".join(["", *words])), max_size=4)
)
def test_diversity_is_the_share_of_different_runs_of_four_words_over_all_responses(responses):
    runs = [tuple(words[start : start + 4]) for words in map(str.split, responses) for start in range(len(words) - 3)]
    assert statistics.distinct_4(responses) == (len(set(runs)) / len(runs) if runs else None)
