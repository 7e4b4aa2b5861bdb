"""`verl report` of several arms at several seeds: groups, means, bands, paired differences, matrices."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from command import verl
from hypothesis import given
from hypothesis import strategies as st
from report_pages import Page
from run_folders import MANIFEST, healthy, write_run

from justrl_recipe import intervals
from justrl_recipe.report import accuracy, figures, runs, tables
from justrl_recipe.report.arms import INTERVAL, RANGE, arms, band_of, base_of, single, spread
from justrl_recipe.report.logs import Series
from justrl_recipe.report.page import write
from justrl_recipe.report.panels import panels

SMOLLM2 = Path(__file__).parents[2] / "benchmarks" / "results" / "smollm2" / "arms"
METRIC, TITLE = "val-core/AIME24/acc/mean@32", "AIME24 accuracy (avg@32)"
OVERLONG, VERIFIER = ("overlong_penalty",), ("robust_verifier",)


def series(values: dict[int, float]) -> Series:
    return Series(np.array(list(values), dtype=float), np.array(list(values.values()), dtype=float))


def run(values: dict[int, float] | float, seed: int | None = 1, ablations: tuple[str, ...] = (), **about) -> runs.Run:
    """A run with one validation set: values by step, or the last of 40 steps."""
    logged = {METRIC: series(values if isinstance(values, dict) else {0: 0.3, 40: values})}
    changed = [{"key": f"reward.{name}", "recipe": False, "yours": True} for name in ablations]
    manifest = MANIFEST | {"seed": seed, "ablations": list(ablations), "deviations": changed} | about
    arm = runs.arm_name(manifest)
    identity = runs.identity(manifest, None)
    return runs.Run(Path(f"{arm}_{seed}"), arm, arm, logged, manifest, None, 9.0, identity)


def grouped(*of: runs.Run) -> list:
    return arms(runs.with_labels(of))


def rows(*of: runs.Run) -> dict[str, accuracy.Row]:
    [table] = accuracy.tables(grouped(*of))
    assert table.title == TITLE
    return {row.arm.name: row for row in table.rows}


def words(*of: runs.Run) -> str:
    found = grouped(*of)
    return accuracy.in_words(accuracy.tables(found), found)


# Arms


@pytest.fixture(scope="module")
def eight() -> list[runs.Run]:
    return runs.with_labels([runs.load(path) for path in sorted(SMOLLM2.glob("*_?"), reverse=True)])


def test_eight_runs_are_four_arms_the_base_arm_first_and_the_rest_as_given(eight):
    found = arms(eight)
    names = ["justrl_smollm2", "+ robust_verifier", "+ overlong_penalty", "+ overlong_penalty + robust_verifier"]
    assert [arm.name for arm in found] == names and all(sorted(arm.seeds) == [1, 2] for arm in found)
    assert all(base_of(arm, found) == found[0] for arm in found)


def test_an_arm_looks_the_same_in_every_figure_however_the_runs_are_grouped(eight):
    found = arms(eight)
    expected = {arm.name: arm.look for arm in found}
    assert len(set(expected.values())) == len({look.marker for look in expected.values()}) == 4
    for groups in (found, single(found)):
        drawn = [panel for panel in panels(groups) if not panel.metric.startswith("timing")]
        assert len(drawn) > 10
        assert all(curve.look == expected[curve.label.split(",")[0]] for panel in drawn for curve in panel.curves)


def test_an_arm_of_several_seeds_is_one_curve(eight):
    entropy = next(panel for panel in panels(arms(eight)) if panel.metric == "actor/entropy")
    assert [curve.label for curve in entropy.curves] == [f"{arm.name}, 2 seeds" for arm in arms(eight)]
    assert entropy.spread == RANGE and all(len(curve.runs) == 2 for curve in entropy.curves)
    apart = next(panel for panel in panels(single(arms(eight))) if panel.metric == "actor/entropy")
    assert len(apart.curves) == 8 and not apart.spread


def test_arms_of_one_name_and_other_values_are_two_arms():
    other = [{"key": "reward.overlong_penalty", "recipe": False, "yours": 7}]
    found = grouped(run(0.5), run(0.6, 1, OVERLONG), run(0.7, 2, OVERLONG, deviations=other))
    assert [len(arm.runs) for arm in found] == [1, 1, 1] and len({arm.name for arm in found}) == 3
    assert all(re.fullmatch(r"\+ overlong_penalty \[\w{6}\]", arm.name) for arm in found[1:])


def test_arms_of_two_recipes_keep_its_name_and_have_their_own_base():
    other = {"recipe": "justrl_nemotron"}
    found = grouped(run(0.5), run(0.5, 1, OVERLONG), run(0.5, **other), run(0.5, 1, OVERLONG, **other))
    assert {arm.name: base_of(arm, found).name for arm in found} == {
        "justrl_deepseek": "justrl_deepseek",
        "justrl_nemotron": "justrl_nemotron",
        "justrl_deepseek + overlong_penalty": "justrl_deepseek",
        "justrl_nemotron + overlong_penalty": "justrl_nemotron",
    }


def test_two_arms_without_a_change_are_no_base():
    scaled = [{"key": "data.train_batch_size", "recipe": 256, "yours": 16}]
    of = run(0.5), run(0.5, scaled=scaled), run(0.6, 1, OVERLONG)
    found = grouped(*of)
    assert [base_of(arm, found) for arm in found] == [None] * 3
    assert "No arm is compared" in words(*of) and not any(row.is_base for row in rows(*of).values())


# Means and bands

runs_of_an_arm = st.lists(
    st.dictionaries(st.integers(0, 30), st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1), min_size=2, max_size=6
)


@given(runs_of_an_arm)
def test_the_band_holds_every_run_and_the_mean_is_the_mean_of_all(found):
    steps, mean, low, high = spread([series(dict(sorted(one.items()))) for one in found], range(len(found)), RANGE)
    assert set(steps) == set.intersection(*map(set, found))
    for at, step in enumerate(steps):
        values = [one[int(step)] for one in found]
        if any(map(np.isnan, values)):
            assert np.isnan([mean[at], low[at], high[at]]).all()
        else:
            assert mean[at] == pytest.approx(np.mean(values), abs=1e-6)
            assert all(low[at] <= value <= high[at] for value in values)
            assert {low[at], high[at]} <= set(values)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=9))
def test_the_interval_is_student_s(values):
    if np.ptp(values) > 1e-3:
        _, mean, low, high = spread([series({1: value}) for value in values], range(len(values)), INTERVAL)
        expected = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
        assert (low[0], high[0]) == pytest.approx(expected) and mean[0] == pytest.approx(np.mean(values))
        assert intervals.p_value(np.array(values)) == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue)


def test_runs_with_one_seed_count_as_one():
    values = [series({1: value}) for value in (0.0, 1.0, 3.0)]
    assert spread(values, [1, 1, 2], RANGE).mean == [1.75]
    assert rows(run(0.2), run(0.4), run(0.9, 2))["justrl_deepseek"].mean[::2] == (pytest.approx(0.6), 2)
    panel = panels(grouped(run(0.2), run(0.4), run(0.9, 2)))[0]
    assert panel.curves[0].label == "justrl_deepseek, 3 runs"


@pytest.mark.parametrize(("seeds", "band"), [([1], ""), ([1, 2], RANGE), ([1, 2, 3, 4], RANGE), (range(5), INTERVAL)])
def test_a_band_is_an_interval_where_every_arm_has_five_seeds(seeds, band):
    ours = [run(0.5, seed) for seed in seeds]
    assert band_of(grouped(*ours)) == band_of(grouped(*ours, run(0.5, 1, OVERLONG))) == band
    assert band_of(grouped(*ours, run(0.5, 1, OVERLONG), run(0.5, 2, OVERLONG))) == RANGE


def test_a_long_label_is_wrapped_into_its_figure():
    long = run(0.5, 1, ("a_first_ablation", "and_a_second_one", "and_even_a_third_one"))
    panel = panels(grouped(run(0.5), long))[0]
    legend = figures.figure([panel]).legends[0]
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[1].count("\n") == 1 and " ".join(labels[1].split()) == grouped(run(0.5), long)[1].name
    assert figures.legend_columns(["a" * 10, "b" * 10, "c" * 40], 4.2) == 2


def test_a_mean_ends_where_a_run_broke_off_and_its_thin_line_goes_on():
    panel = panels(grouped(run({0: 0.1, 20: 0.4, 40: 0.5}), run({0: 0.3, 10: 0.4, 20: 0.6}, 2)))[0]
    [axes] = figures.figure([panel]).axes
    [mean] = [line for line in axes.lines if line.get_label() == "justrl_deepseek, 2 seeds"]
    assert list(mean.get_xdata()) == [0, 20] and list(mean.get_ydata()) == pytest.approx([0.2, 0.5])
    thin = [list(line.get_xdata()) for line in axes.lines if line is not mean]
    assert thin == [[0, 20, 40], [0, 10, 20]]
    assert "band: min to max of the runs" in axes.get_legend_handles_labels()[1]


def test_the_page_says_where_a_mean_ends():
    found = grouped(run(0.5), run({0: 0.3, 20: 0.4}, 2), run({0: 0.3}, 1, OVERLONG))
    [said] = tables.short_means(found)
    assert "justrl_deepseek end at step 20" in said and tables.short_means(single(found)) == []


def test_many_validations_have_few_markers():
    for count, marked in ((20, 20), (200, figures.MARKS)):
        values = {step: step / 1_000 for step in range(count)}
        panel = panels(grouped(run(values), run(values, 1, OVERLONG)))[0]
        [axes] = figures.figure([panel]).axes
        for line in axes.lines:
            start, every = line.get_markevery()
            assert marked <= len(range(start, count, every)) <= marked + 1


def test_runs_without_a_common_step_have_no_mean():
    panel = panels(grouped(run({0: 0.1, 20: 0.4}), run({5: 0.3, 25: 0.6}, 2)))[0]
    [axes] = figures.figure([panel]).axes
    assert sorted(len(line.get_xdata()) for line in axes.lines) == [0, 2, 2]


def test_a_run_is_smoothed_alone_and_the_mean_is_that_of_the_smoothed_runs(tmp_path):
    found = []
    for seed in (1, 2):
        metrics = healthy() | {"actor/entropy": 1.3 + np.random.default_rng(seed).normal(size=40)}
        found.append(runs.load(write_run(tmp_path / str(seed), metrics, seed=seed)))
    entropy = next(panel for panel in panels(grouped(*found)) if panel.metric == "actor/entropy")
    [axes] = figures.figure([entropy]).axes
    smooth = [figures.smoothed(one.metrics["actor/entropy"].values, 5) for one in found]
    *thin, mean = axes.lines
    np.testing.assert_allclose([line.get_ydata() for line in thin], smooth)
    np.testing.assert_allclose(mean.get_ydata(), np.mean(smooth, axis=0))


# Final accuracy


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


# Matrices


def test_a_cell_of_the_health_matrix_is_the_worst_verdict_and_says_how_many(eight):
    rules, summary = tables.health(arms(eight))
    assert summary == "Errors: 0, warnings: 5, of 56 checks." and len(rules) == 7
    entropy = rules[0]
    assert entropy.name == "Entropy collapse" and entropy.limits.startswith("late entropy below")
    assert [cell[:2] for cell in entropy.cells] == [
        ("warning", "1 of 2"),
        ("ok", ""),
        ("warning", ""),
        ("warning", ""),
    ]
    assert "justrl_smollm2 seed 1: from 0.171 to 0.087" in entropy.cells[0].seen
    assert [label for label, _ in entropy.alarms].count("justrl_smollm2 seed 2") == 1 and len(entropy.alarms) == 5


def test_the_matrix_of_deviations_has_a_line_per_key():
    null = [{"key": "a.b", "recipe": 1, "yours": None}]
    found = grouped(run(0.5), run(0.5, 1, OVERLONG), run(0.5, 1, ("x",), deviations=null))
    deviating, lines = tables.deviations(found)
    assert [arm.name for arm in deviating] == ["+ overlong_penalty", "+ x"]
    overlong = {"key": "reward.overlong_penalty", "recipe": False, "yours": True}
    assert lines == [("a.b", [1], [None, null[0]]), ("reward.overlong_penalty", [False], [overlong, None])]


@pytest.mark.parametrize(
    ("of", "answer"),
    [
        ([run(0.5), run(0.5, 2)], ("Yes", "every key that changes what is learned has the recipe's value")),
        (
            [run(0.5), run(0.5, 1, OVERLONG, is_justrl=False)],
            ("1 of 2 arms", "1 of 2 arms deviate from the recipe"),
        ),
        (
            [run(0.5, 1, OVERLONG, is_justrl=False, scaled=[{"key": "a", "recipe": 1, "yours": 2}])],
            ("No", "justrl_deepseek scales 1 key of JustRL, and 1 key deviates from the recipe"),
        ),
    ],
)
def test_one_line_says_whether_it_is_justrl(of, answer):
    assert tables.is_justrl(grouped(*of)) == answer


# The page


def test_the_page_of_eight_runs(eight, tmp_path):
    source = write(eight, tmp_path, 3).read_text()
    page = Page(source)
    assert "justrl_smollm2, 8 runs in 4 arms" in page.text and "8 finished; last step 40" in page.text
    order = ["Is this JustRL?", "<svg", "Final validation", "<h2>Health", "<h2>Deviations", "<h2>All panels"]
    places = [source.index(text) for text in order]
    assert places == sorted(places)
    assert "No arm can be told apart from its base arm by these values." in page.text
    assert "-2.9 (-7.9 to 2.0)" in page.text and "81.1 (74.9 to 87.3)" in page.text
    assert "thin line" in page.text and "by Holm's method" in page.text
    assert any("seed 1: from 0.18 to 0.0651" in title for title in page.titles)
    assert "justrl_smollm2 + overlong_penalty seed 1: from 0.18 to 0.0651" in page.text  # in print as well


def test_a_name_stays_text_wherever_it_is_shown(tmp_path):
    name = '"><script>alert(1)</script> onmouseover="x'
    folders = [
        write_run(
            tmp_path / f"{number}", healthy(12), ablations=ablations, seed=seed, is_justrl=False, deviations=keys
        )
        for number, (ablations, seed, keys) in enumerate(
            [([], 1, []), ([], 2, []), ([name], 1, [{"key": name, "recipe": name, "yours": name}]), ([name], 2, [])]
        )
    ]
    source = write(runs.with_labels([runs.load(folder) for folder in folders]), tmp_path / "out", 3).read_text()
    page = Page(source)
    assert "script" not in page.tags and "alert(1)" in page.text


@pytest.mark.parametrize(
    ("seeds", "option", "by_arm"),
    [((1, 2), [], True), ((1, 2), ["run"], False), ((1, 1), [], False), ((1, 1), ["arm"], True)],
)
def test_runs_are_grouped_by_arm_where_an_arm_has_several_seeds(tmp_path, seeds, option, by_arm):
    entropy = {"actor/entropy": healthy(12)["actor/entropy"]}
    folders = [
        write_run(tmp_path / f"{name}{number}", entropy, seed=seed, ablations=ablations)
        for name, ablations in (("a", []), ("b", ["overlong_penalty"]))
        for number, seed in enumerate(seeds)
    ]
    assert verl("report", *folders, *(f"--group-by={by}" for by in option), cwd=tmp_path).returncode == 0
    source = (tmp_path / "report" / "report.html").read_text()
    assert (source.count("band: min to max of the runs") > 0) is ("drawn as a thin line" in source) is by_arm
    assert len(re.findall(r'<td data-label="[^"]*" title=', source)) == 7 * (2 if by_arm else 4)


def test_a_wrong_group_is_refused(tmp_path):
    result = verl("report", write_run(tmp_path / "a", healthy(12)), "--group-by", "seed", cwd=tmp_path)
    assert result.returncode == 2 and "seed" in result.stderr and not (tmp_path / "report").exists()


def test_a_pdf_is_a_column_wide_and_has_its_fonts(tmp_path, eight):
    panel = panels(arms(eight))[0]
    figures.write_pdf(figures.figure([panel]), tmp_path / "one.pdf")
    figures.write_pdf(figures.figure([panel, panel]), tmp_path / "two.pdf")
    for name, panels_of_it in (("one", 1), ("two", 2)):
        content = (tmp_path / f"{name}.pdf").read_bytes()
        width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", content)[1])
        assert width == pytest.approx(72 * 3.25 * panels_of_it, abs=1)
        assert b"/FontFile2" in content and b"/Type3" not in content and len(content) < 60_000
