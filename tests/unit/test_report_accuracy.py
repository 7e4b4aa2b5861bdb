"""`verl report`: final accuracy per arm, paired differences by seed, and what is said of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_arms import METRIC, OVERLONG, TITLE, VERIFIER, grouped, rows, run
from report_pages import Page

from justrl_recipe import intervals
from justrl_recipe.report import accuracy, runs
from justrl_recipe.report.page import write


def words(*of: runs.Run) -> str:
    found = grouped(*of)
    return accuracy.in_words(accuracy.tables(found), found)


def test_paired_differences_are_those_of_a_calculation_by_hand():
    base = [run(value, seed) for seed, value in enumerate((0.80, 0.82, 0.81))]
    other = [run(value, seed, OVERLONG) for seed, value in enumerate((0.78, 0.79, 0.80))]
    found = rows(*other, *base)["+ overlong_penalty"].difference
    # differences -0.02, -0.03, -0.01: mean -0.02, deviation 0.01; t of 2 degrees at 97.5% is 4.303
    half = 4.30265 * 0.01 / 3**0.5
    assert found.mean.value == pytest.approx(-0.02) and found.mean.seeds == 3
    assert found.mean.interval == pytest.approx((-0.02 - half, -0.02 + half), abs=1e-6)
    assert found.p_value == pytest.approx(0.0742, abs=1e-4) and found.verdict == "cannot be told apart"
    assert words(*other, *base) == "No arm can be told apart from its base arm by these values."


def test_an_arm_that_differs_at_every_seed_is_told_apart():
    base = [run(0.5 + seed / 10, seed) for seed in range(4)]
    other = [run(0.6 + seed / 10 + seed / 1_000, seed, OVERLONG) for seed in range(4)]
    assert rows(*base, *other)["+ overlong_penalty"].difference.verdict == "higher"
    said = f"+ overlong_penalty is higher than justrl_deepseek in {TITLE}."
    assert words(*base, *other) == said
    more = [run(value, seed, VERIFIER) for seed, value in enumerate((0.2, 0.9))]
    assert words(*base, *other, *more) == f"{said} In 1 more comparison the arms cannot be told apart."


def test_several_comparisons_are_corrected_for_their_number():
    base = [run(0.5 + seed / 10, seed) for seed in range(3)]
    near = [run(0.5 + seed / 10 + offset, seed, OVERLONG) for seed, offset in enumerate((0.025, 0.034, 0.049))]
    far = [run(0.5 + seed / 10 + offset, seed, VERIFIER) for seed, offset in enumerate((-0.1, 0.1, 0.11))]
    assert rows(*base, *near)["+ overlong_penalty"].difference.verdict == "higher"
    corrected = rows(*base, *near, *far)["+ overlong_penalty"].difference
    assert corrected.mean.interval[0] > 0 and corrected.corrected == pytest.approx(2 * corrected.p_value)
    assert corrected.verdict == "cannot be told apart, once corrected for the number of comparisons"


def test_holm_is_that_of_the_paper():
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1))
def test_a_corrected_p_value_keeps_its_order_and_is_at_most_that_of_bonferroni(p_values):
    corrected = np.array(intervals.holm(p_values))
    assert (corrected >= p_values).all() and (corrected <= np.minimum(1, len(p_values) * np.array(p_values))).all()
    assert (np.diff(corrected[np.argsort(p_values, kind="stable")]) >= 0).all()


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        ([run(0.4, 7, OVERLONG), run(0.5, 8, OVERLONG)], "no seed in common"),
        ([run(0.4, 1, OVERLONG), run(0.5, 9, OVERLONG)], "one seed: no interval"),
        ([run(0.4, 1, OVERLONG)], "one seed: no interval"),
        ([run(0.4, None, OVERLONG), run(0.5, None, OVERLONG)], "no seed in common"),
        ([run(0.4, 1, OVERLONG), run(0.5, 2, OVERLONG)], "no spread over seeds: no interval"),
    ],
)
def test_without_two_pairs_that_differ_there_is_no_interval(other, verdict):
    base = [run(0.5, 1), run(0.6, 2)]
    found = rows(*base, *other)["+ overlong_penalty"].difference
    assert found.verdict == verdict and found.p_value is None and (not found.mean or found.mean.interval is None)
    assert words(*base, *other).startswith("The arms cannot be told apart: that takes two seeds")


def test_one_seed_has_no_interval_and_an_accuracy_stays_in_its_bounds():
    assert rows(run(0.5))["justrl_deepseek"].mean == (0.5, None, 1)
    assert rows(run(0.99), run(0.9, 2))["justrl_deepseek"].mean.interval[1] == 1.0
    assert words(run(0.5), run(0.6, 2)) == ""


@pytest.mark.parametrize("last", [{20: 0.8}, {20: 0.8, 40: np.nan}])
def test_a_run_that_broke_off_is_left_out_by_name_and_compared_where_both_have_a_value(last):
    base = [run({20: 0.5, 40: 0.6}, 1), run({20: 0.5, 40: 0.6}, 2)]
    found = rows(*base, run({20: 0.7, 40: 0.9}, 1, OVERLONG), run(last, 2, OVERLONG))["+ overlong_penalty"]
    assert (found.step, found.mean) == (40, (0.9, None, 1))
    assert found.left_out == [("justrl_deepseek + overlong_penalty seed 2", 20)]
    assert found.difference.step == 40 and found.difference.mean.seeds == 1
    shorter = rows(*base, run(last, 2, OVERLONG))["+ overlong_penalty"]
    assert (shorter.step, shorter.difference.step) == (20, 20) and shorter.left_out == []


def test_an_arm_without_a_finite_value_has_no_row():
    assert list(rows(run(0.5), run({0: np.nan}, 1, OVERLONG))) == ["justrl_deepseek"]


def test_two_arms_without_a_change_are_no_base():
    scaled = [{"key": "data.train_batch_size", "recipe": 256, "yours": 16}]
    of = run(0.5), run(0.5, scaled=scaled), run(0.6, 1, OVERLONG)
    assert words(*of).startswith("No arm is compared")
    assert not any(row.is_base or row.difference for row in rows(*of).values())


def test_bare_logs_are_not_compared(tmp_path):
    found = []
    for name in ("a", "b"):
        (tmp_path / name).write_text(f'{{"step": 1, "data": {{"{METRIC}": 0.5}}}}\n')
        found.append(runs.load(tmp_path / name))
    assert "No arm is compared" in words(*found)
    write(runs.with_labels(found), tmp_path, 3)
    assert "not compared" in Page((tmp_path / "report.html").read_text()).text


def test_a_reward_is_in_its_own_units():
    assert accuracy.shown(accuracy.Mean(0.8115, (0.75, 0.873), 2), True) == "81.2 (75.0 to 87.3)"
    assert accuracy.shown(accuracy.Mean(-40.5, (-51.0, -30.0), 2), False, True) == "-40.5 (-51 to -30)"
    assert accuracy.shown(accuracy.Mean(0.012, None, 1), True, True) == "+1.2"
