"""`verl report` of several arms at several seeds: groups, means, bands, paired differences, matrices."""

import re

import numpy as np
import pytest
import scipy.stats
from command import verl
from hypothesis import given
from hypothesis import strategies as st
from report_arms import OVERLONG, SMOLLM2, grouped, rows, run, series
from report_pages import Page
from run_folders import healthy, two, write_run

from justrl_recipe import intervals
from justrl_recipe.report import figures, runs, tables
from justrl_recipe.report.arms import INTERVAL, RANGE, arms, band_of, base_of, single, spread
from justrl_recipe.report.page import write
from justrl_recipe.report.panels import panels

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


@pytest.mark.usefixtures("undrawn")
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


@pytest.mark.usefixtures("undrawn")
def test_a_name_stays_text_wherever_it_is_shown(tmp_path):
    name = '"><script>alert(1)</script> onmouseover="x'
    folders = [
        write_run(tmp_path / f"{number}", two(), ablations=ablations, seed=seed, is_justrl=False, deviations=keys)
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
@pytest.mark.usefixtures("undrawn")
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


@pytest.mark.usefixtures("undrawn")
def test_seeds_of_several_models_are_one_arm_by_its_name(tmp_path):
    """For a recipe of one's own the model makes the arm; where its seeds start from several, the name does."""
    folders = []
    for seed in (1, 2):
        for ablations in ([], ["overlong_penalty"]):
            folder = write_run(
                tmp_path / f"{seed}{len(ablations)}", two(), recipe="own.yaml", seed=seed, ablations=ablations
            )
            with (folder / "config.yaml").open("a") as config:
                config.write(f"actor_rollout_ref: {{model: {{path: model_{seed}}}}}\n")
            folders.append(folder)
    for by in ("arm", "name"):
        assert verl("report", *folders, "--group-by", by, "--out", by, cwd=tmp_path).returncode == 0
        assert ("drawn as a thin line" in (tmp_path / by / "report.html").read_text()) is (by == "name")


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
