"""`verl report`: logs -> runs -> health, figures, page."""

import html
import json
import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from string import ascii_lowercase, digits

import numpy as np
import psutil
import pytest
import yaml
from command import verl
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from report_pages import Page
from run_folders import STEPS, healthy, two, write_run

from justrl_recipe.errors import UserError
from justrl_recipe.report import figures, health, logs, runs
from justrl_recipe.report.arms import arms, single
from justrl_recipe.report.logs import Series
from justrl_recipe.report.page import without_paths, write
from justrl_recipe.report.panels import BANDS, Panel, headline
from justrl_recipe.report.panels import panels as panels_of
from justrl_recipe.report.runs import Run

TINY = Path(__file__).parents[2] / "benchmarks" / "results" / "tiny"


def report(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    return verl("report", *arguments, cwd=cwd)


def verdicts(folder: Path) -> dict[str, str]:
    """The verdict of every rule by the rule's name."""
    return {re.split("[:,]", one.rule)[0]: one.verdict for one in health.findings(runs.load(folder))}


def panels(loaded: list[Run]) -> list[Panel]:
    """The panels of runs that are drawn each for itself."""
    return panels_of(single(arms(loaded)))


def same(left: logs.Metrics, right: logs.Metrics, rtol: float = 0) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name].steps, right[name].steps)
        np.testing.assert_allclose(left[name].values, right[name].values, rtol=rtol)


# Logs


@pytest.fixture(scope="module")
def entries() -> list[dict]:
    return [json.loads(line) for line in (TINY / "seed0.jsonl").read_text().splitlines()]


def console_lines(entries: list[dict]) -> list[str]:
    """As verl/utils/logger/aggregate_logger.py formats them, with numpy 2's numbers."""
    return [
        " - ".join(
            [f"step:{entry['step']}", *(f"{key}:np.float64({value!r})" for key, value in entry["data"].items())]
        )
        for entry in entries
    ]


def test_console_and_file_log_give_the_same_series(tmp_path, entries):
    noise = ["(WorkerDict pid=7) global_step:3 - nothing", "Training Progress:  4%|1/24 [00:09<03:25]", "a - b:1 - c"]
    log = tmp_path / "train.log"
    prefix = "\x1b[36m(TaskRunnerV1 pid=123)\x1b[0m "
    log.write_text("".join("\n".join([*noise, prefix + line, ""]) for line in console_lines(entries)))
    same(logs.read(log), logs.read(TINY / "seed0.jsonl"))


def test_tensorboard_gives_the_same_series(tmp_path, entries):
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
    from tensorboard.summary.writer.event_file_writer import EventFileWriter  # type: ignore[import-untyped]

    writer = EventFileWriter(str(tmp_path / "tb"))
    for entry in entries:
        for name, value in entry["data"].items():
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(step=entry["step"], summary=summary))
    writer.close()
    same(logs.read(tmp_path / "tb"), logs.read(TINY / "seed0.jsonl"), rtol=1e-6)
    (file,) = (tmp_path / "tb").iterdir()
    same(logs.read(file), logs.read(tmp_path / "tb"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])  # the last event is still being written
    assert len(logs.read(file)) >= len(logs.read(TINY / "seed0.jsonl")) - 1


PARTS = st.text(f"{ascii_lowercase}{digits}@_-", min_size=1)
NAMES = st.builds(
    lambda first, rest: "/".join([first, *rest]),
    st.text(ascii_lowercase, min_size=1),
    st.lists(PARTS, min_size=1, max_size=3),
)


@given(st.dictionaries(NAMES, st.floats(), min_size=1))
def test_what_the_console_prints_comes_back(metrics):
    line = " - ".join(["step:5", *(f"{name}:{value!r}" for name, value in metrics.items())])
    assert all(step == 5 for step, _, _ in logs.from_console_line(line))
    read = {name: value for _, name, value in logs.from_console_line(f"(T pid=1) {line}\n")}
    assert read.keys() == metrics.keys()
    np.testing.assert_array_equal(list(read.values()), list(metrics.values()))


def test_a_number_that_another_process_broke_off_does_not_count():
    line = "step:5 - a/b:1.5 - a/c:0.1(WorkerDict pid=3) WARNING - a/d:2.0\n"
    assert list(logs.from_console_line(line)) == [(5, "a/b", 1.5), (5, "a/d", 2.0)]


def test_null_is_a_value_that_is_not_finite(tmp_path):
    metrics = healthy()
    metrics["actor/entropy"][3] = np.nan
    metrics["actor/grad_norm"][5] = np.inf
    run = runs.load(write_run(tmp_path / "run", metrics))
    assert len(run.metrics["actor/entropy"].values) == STEPS and len(run.metrics["actor/entropy"].finite) == STEPS - 1
    finding = health.non_finite(run)
    assert finding.verdict == health.ERROR
    assert "1 in actor/entropy" in finding.seen and "1 in actor/grad_norm" in finding.seen


def test_a_resumed_run_counts_as_logged_last(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("step:1 - a/b:1\nstep:2 - a/b:2\nstep:3 - a/b:3\nstep:2 - a/b:20\n")
    np.testing.assert_array_equal(logs.read(log)["a/b"].values, [1, 20, 3])


# Smoothing


@given(
    npst.arrays(float, st.integers(1, 300), elements=st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf])),
    st.integers(2, 100),
)
def test_an_average_stays_within_its_values(values, span):
    average = figures.smoothed(values, span)
    finite = values[np.isfinite(values)]
    first = np.argmax(np.isfinite(values)) if len(finite) else len(values)
    assert np.isnan(average[:first]).all() and np.isfinite(average[first:]).all()
    if len(finite):
        slack = 1e-9 * max(1, np.abs(finite).max())
        assert average[first:].min() >= finite.min() - slack and average[first:].max() <= finite.max() + slack


@given(st.floats(-1e6, 1e6), st.integers(1, 200), st.integers(1, 100))
def test_a_constant_stays_constant(value, count, span):
    np.testing.assert_allclose(figures.smoothed(np.full(count, value), span), value, rtol=1e-9, atol=1e-12)


def test_the_average_is_the_one_that_the_page_explains():
    decay = 1 - 2 / (5 + 1)
    expected = (1 * decay**2 + 2 * decay + 4) / (decay**2 + decay + 1)
    assert figures.smoothed(np.array([1.0, 2.0, 4.0]), 5)[-1] == pytest.approx(expected)


@given(npst.arrays(float, st.integers(1, 3_000), elements=st.floats(-1e6, 1e6)))
def test_thinning_loses_no_peak(values):
    thin = figures.thinned(Series(np.arange(len(values), dtype=float), values))
    assert len(thin.steps) == len(thin.values) <= 2 * figures.COLUMNS
    assert (thin.values.min(), thin.values.max()) == (values.min(), values.max())
    assert (np.diff(thin.steps) >= 0).all()


# Health


def test_a_healthy_run_is_ok_by_every_rule(tmp_path):
    assert set(verdicts(write_run(tmp_path / "run")).values()) == {health.OK}


@pytest.mark.parametrize(
    ("rule", "changes", "verdict"),
    [
        ("Entropy collapse", {"actor/entropy": np.linspace(1.3, 0.9, STEPS)}, "warning"),
        ("Entropy collapse", {"actor/entropy": np.linspace(1.3, 2.0, STEPS)}, "warning"),
        ("Entropy collapse", {"actor/entropy": np.linspace(1.3, 0.5, STEPS)}, "error"),
        ("Length explosion", {"response_length/mean": np.linspace(4_000, 7_000, STEPS)}, "warning"),
        ("Length explosion", {"response_length/mean": np.linspace(4_000, 12_000, STEPS)}, "error"),
        ("Clipping", {"response_length/clip_ratio": np.full(STEPS, 0.2)}, "warning"),
        ("Clipping", {"response_length/clip_ratio": np.full(STEPS, 0.6)}, "error"),
        (
            "Clipping",
            {"response_length/clip_ratio": np.full(STEPS, 0.6), "response_length/max": np.full(STEPS, 900.0)},
            "ok",
        ),
        ("Reward plateau", {"critic/score/mean": -0.5 + 0.05 * np.sin(2.0 * np.arange(STEPS))}, "error"),
        ("Reward plateau", {"critic/score/mean": np.linspace(0.4, -0.6, STEPS)}, "error"),
        ("Reward plateau", {"critic/score/mean": np.full(STEPS, 1.0)}, "ok"),
        ("Rollout/trainer mismatch", {"training/rollout_probs_diff_mean": np.full(STEPS, 0.01)}, "warning"),
        ("Rollout/trainer mismatch", {"training/rollout_probs_diff_mean": np.full(STEPS, 0.1)}, "error"),
        ("Rollout/trainer mismatch", {"training/rollout_actor_probs_pearson_corr": np.full(STEPS, 0.95)}, "warning"),
        ("Rollout/trainer mismatch", {"training/rollout_actor_probs_pearson_corr": np.full(STEPS, 0.5)}, "error"),
        ("Rollout/trainer mismatch", {"rollout_corr/kl": np.full(STEPS, -0.05)}, "warning"),
        ("Rollout/trainer mismatch", {"rollout_corr/kl": np.full(STEPS, 6.0)}, "error"),
        ("No gradient", {"reward/all_right": np.full(STEPS, 0.5)}, "warning"),
        ("No gradient", {"reward/all_wrong": np.full(STEPS, 0.79)}, "error"),
        ("Values that are not finite", {"actor/grad_norm": np.array([np.nan] + [0.1] * (STEPS - 1))}, "error"),
        ("Values that are not finite", {"perf/throughput": np.array([np.nan] + [1.0] * (STEPS - 1))}, "warning"),
    ],
)
def test_each_rule_sees_what_it_is_for_and_the_others_do_not(tmp_path, rule, changes, verdict):
    found = verdicts(write_run(tmp_path / "run", healthy() | changes))
    assert found.pop(rule) == verdict
    assert set(found.values()) == {health.OK}


def test_a_plateau_after_a_rise_is_worth_a_look(tmp_path):
    at = np.arange(400)
    reward = np.minimum(-0.6 + at / 100, 0.4) + 0.02 * np.sin(2.0 * at)
    found = verdicts(write_run(tmp_path / "run", healthy(400) | {"critic/score/mean": reward}))
    assert found["Reward plateau"] == "warning"


@pytest.mark.parametrize("factor", [0.4, 0.1])
def test_collapse_is_relative_where_the_recipe_is_scaled(tmp_path, factor):
    scaled = {"scaled": [{"key": "data.train_batch_size", "recipe": 256, "yours": 16}], "is_justrl": False}
    small = {"actor/entropy": 0.06 * np.linspace(1, factor, STEPS)}
    assert (
        verdicts(write_run(tmp_path / "run", healthy() | small, **scaled))["Entropy collapse"]
        == {
            0.4: "warning",
            0.1: "error",
        }[factor]
    )


@pytest.mark.parametrize(
    ("prefixes", "rule"),
    [
        (("actor/entropy",), "Entropy collapse"),
        (("response_length/mean",), "Length explosion"),
        (("response_length/clip_ratio",), "Clipping"),
        (("critic/score",), "Reward plateau"),
        (("rollout_corr/", "training/rollout"), "Rollout/trainer mismatch"),
        (("reward/all_right",), "No gradient"),
    ],
)
def test_what_is_not_logged_is_never_ok(tmp_path, prefixes, rule):
    rest = {name: values for name, values in healthy().items() if not name.startswith(prefixes)}
    assert verdicts(write_run(tmp_path / "run", rest))[rule] == health.NOT_LOGGED


def test_a_trend_of_a_few_steps_is_none(tmp_path):
    found = verdicts(write_run(tmp_path / "run", healthy(6)))
    assert [found[rule] for rule in ("Entropy collapse", "Length explosion", "Reward plateau")] == ["too early"] * 3


def test_the_tiny_runs_are_healthy_and_the_control_stands_still():
    for seed in range(3):
        found = verdicts(TINY / f"seed{seed}.jsonl")
        assert set(found.values()) <= {health.OK, health.NOT_LOGGED}, seed
    assert verdicts(TINY / "control.jsonl")["Reward plateau"] == health.ERROR


def test_the_share_that_is_cut_off_is_not_the_share_as_long_as_the_longest():
    run = runs.load(TINY / "seed1.jsonl")
    assert run.metrics[runs.CLIP_RATIO].values.max() > 0.8  # a batch of short responses, many of the same length
    assert run.metrics[runs.CLIPPED].values.max() < 0.1


# Labels, looks, bands, layout


def test_runs_are_told_apart_by_ablation_override_seed_and_name(tmp_path):
    lr = "actor_rollout_ref.actor.optim.lr"
    folders = [
        write_run(tmp_path / "a"),
        write_run(tmp_path / "b", seed=2),
        write_run(tmp_path / "c", seed=2),
        write_run(tmp_path / "d", ablations=["overlong_penalty"], is_justrl=False),
        write_run(
            tmp_path / "e", overrides=[f"{lr}=0", "seed=3"], deviations=[{"key": lr, "recipe": 1e-6, "yours": 0}]
        ),
    ]
    loaded = runs.with_labels([runs.load(folder) for folder in folders])
    assert [run.label for run in loaded] == [
        "justrl_deepseek seed 1",
        "justrl_deepseek seed 2 (b)",
        "justrl_deepseek seed 2 (c)",
        "justrl_deepseek + overlong_penalty",
        "justrl_deepseek + lr=0",
    ]
    entropy = next(panel for panel in panels(loaded) if panel.metric == "actor/entropy")
    looks = [curve.look for curve in entropy.curves]
    assert looks[0] == looks[1] == looks[2] and len(set(looks)) == 3


LR, N, PATH = "actor_rollout_ref.actor.optim.lr", "actor_rollout_ref.rollout.n", "reward.custom_reward_function.path"
OWN_CONFIG = "data: {max_response_length: 8}\ntrainer: {nnodes: 1, n_gpus_per_node: 1, total_training_steps: %d}\n"


def changed(*overrides: str, **about) -> dict:
    """The manifest of a run with these overrides, each a deviation."""
    values = [text.lstrip("+~").partition("=") for text in overrides]
    deviating = [{"key": key, "recipe": None, "yours": yaml.safe_load(value)} for key, _, value in values]
    return {"overrides": list(overrides), "deviations": deviating, **about}


def reward(path: str, sha256: str | None) -> dict:
    return changed(f"{PATH}={path}", reward={"path": path, "name": "compute_score", "sha256": sha256})


@pytest.mark.parametrize(
    ("one", "other", "labels"),
    [
        (reward("a/my.py", "1" * 64), reward("b/other.py", "2" * 64), ("my", "other")),
        (reward("a/my.py", "1" * 64), reward("b/my.py", "2" * 64), None),
        (reward("my.py", "1" * 64), reward("my.py", "2" * 64), None),  # edited in between
        (reward("pkg://a.strict", None), reward("pkg://a.lenient", None), ("strict", "lenient")),
        (changed("actor.lr=1"), changed("critic.lr=1"), None),
        (changed(f"{N}=8"), changed(f"{N}=16"), ("n=8", "n=16")),
        (changed("+a.b=1"), changed("+a.b=2"), ("b=1", "b=2")),
        (changed("a.b={x: 1}") | {"deviations": [{"key": "a.b.x", "recipe": 0, "yours": 1}]}, changed(), ("x=1", "")),
        (changed(), changed(f"~{N}"), ("", "n=null")),
        (changed("a.q=1", "b.q=2", "c.q=3"), changed("a.q=1", "b.q=2", "c.q=4"), None),
        (changed(f"{LR}={'x' * 60}1"), changed(f"{LR}={'x' * 60}2"), None),
        ({"recipe": "a/my.yaml", "scaled": [{"key": N, "recipe": 8, "yours": 4}]}, {"recipe": "b/my.yaml"}, None),
        (
            {"recipe": "my.yaml", "deviations": [{"key": N, "recipe": 8, "yours": 4}]},
            {"recipe": "my.yaml", "deviations": [{"key": N, "recipe": 8, "yours": 2}]},
            None,
        ),
        ({"recipe": "my.yaml", "config": OWN_CONFIG % 9}, {"recipe": "my.yaml", "config": OWN_CONFIG % 8}, None),
        (
            {"ablations": ["a/mine.yaml"], "deviations": [{"key": N, "recipe": 8, "yours": 4}]},
            {"ablations": ["b/mine.yaml"], "deviations": [{"key": N, "recipe": 8, "yours": 2}]},
            None,
        ),
    ],
)
def test_two_arms_share_neither_label_nor_look(tmp_path, one, other, labels):
    """A run of each, and of the first one with another seed on another machine."""
    folders = []
    for name, about in (("first", one), ("seed", one | {"seed": 2, "system": "cpu", "host": "x"}), ("other", other)):
        config = about.get("config")
        folders.append(write_run(tmp_path / name, **{key: value for key, value in about.items() if key != "config"}))
        if config:
            (folders[-1] / "config.yaml").write_text(config)
    loaded = runs.with_labels([runs.load(folder) for folder in folders])
    assert loaded[0].arm == loaded[1].arm != loaded[2].arm
    assert len({run.label for run in loaded}) == 3 and max(len(run.label) for run in loaded) < 80
    for panel in panels(loaded):
        if len(panel.curves) == 3:
            looks = Counter((curve.label, curve.look) for curve in panel.curves)
            assert sorted(looks.values()) == [1, 2] and len({look for _, look in looks}) == 2
    if labels:  # no hash where the names say it
        wanted = [" + ".join(["justrl_deepseek", label] if label else ["justrl_deepseek"]) for label in labels]
        assert [loaded[0].arm, loaded[2].arm] == wanted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (changed("a.x=1", "b.y=2"), changed("b.y=2", "a.x=1")),
        (changed(f"{LR}=1e-6"), changed(f"+{LR}=0.000001") | {"deviations": changed(f"{LR}=1e-6")["deviations"]}),
        (changed(f"{LR}=2"), changed(f"{LR}=2") | {"overrides": [f"{LR}=2", "trainer.save_freq=7", "seed=9"]}),
        ({"recipe": "a/my.yaml"}, {"recipe": "/home/b/my.yaml"}),
        ({}, {"reward": {"path": "pkg://a", "name": "b", "sha256": None}}),  # a manifest of an earlier version
    ],
)
def test_the_same_values_are_one_arm_however_they_were_given(tmp_path, one, other):
    folders = [write_run(tmp_path / "a", **one), write_run(tmp_path / "b", **other)]
    loaded = runs.with_labels([runs.load(folder) for folder in folders])
    assert loaded[0].arm == loaded[1].arm and loaded[0].label != loaded[1].label


def test_bare_logs_of_one_name_are_told_apart(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "my.jsonl").write_text('{"step": 1, "data": {"actor/entropy": 0.5}}\n')
    loaded = runs.with_labels([runs.load(tmp_path / place / "my.jsonl") for place in ("a", "b")])
    entropy = next(panel for panel in panels(loaded) if panel.metric == "actor/entropy")
    assert len({curve.look for curve in entropy.curves}) == len({run.label for run in loaded}) == 2


def test_several_runs_have_the_ablation_figure_and_one_has_its_dynamics(tmp_path):
    one = runs.with_labels([runs.load(write_run(tmp_path / "a"))])
    several = runs.with_labels([*one, runs.load(write_run(tmp_path / "b", ablations=["overlong_penalty"]))])
    ours = headline(panels(several), True)
    assert [panel.metric for panel in ours] == ["val-core/AIME24/acc/mean@32", "actor/entropy"]
    assert all(len(panel.curves) == 2 for panel in ours)
    alone = headline(panels(one), False)
    assert [panel.metric for panel in alone] == ["actor/entropy", "critic/score/mean", "response_length/mean"]


def test_every_quantity_has_its_panel(tmp_path):
    run = runs.load(write_run(tmp_path / "a"))
    drawn = {panel.metric for panel in panels([run])}
    left_out = {"response_length/max", "response_length/clip_ratio", "timing_s/gen", "timing_s/step"}
    assert drawn >= set(healthy()) - left_out | {"timing_s/*", runs.CLIPPED, "val-core/AMC23/acc/mean@32"}


def test_the_paper_s_bands_are_for_the_full_recipe_alone(tmp_path):
    scaled = [{"key": "data.train_batch_size", "recipe": 256, "yours": 16}]
    full = runs.load(write_run(tmp_path / "full"))
    tiny = runs.load(write_run(tmp_path / "tiny", recipe="justrl_tiny", scaled=scaled))
    small = runs.load(write_run(tmp_path / "small", scaled=scaled))
    bare = runs.load(TINY / "seed0.jsonl")
    banded = {panel.metric: panel.band for panel in panels([full]) if panel.band}
    assert banded == BANDS
    for other in (tiny, small, bare):
        assert not any(panel.band for panel in panels([other]))


def test_tokens_per_second_are_of_all_gpus_where_their_number_is_known(tmp_path):
    folder = write_run(tmp_path / "a")
    panel = next(panel for panel in panels([runs.load(folder)]) if panel.metric == "perf/throughput")
    assert panel.title == "Tokens/s, all GPUs" and panel.curves[0].runs[0].values[0] == pytest.approx(32_000)
    (folder / "config.yaml").unlink()
    panel = next(panel for panel in panels([runs.load(folder)]) if panel.metric == "perf/throughput")
    assert panel.title == "Tokens/s per GPU" and panel.curves[0].runs[0].values[0] == pytest.approx(1_000)


# Rewards that are numbers, and metrics that are missing or null


ACCURATE = ("reward/acc", "reward/all_right", "reward/all_wrong", "reward/overlong")


def without_accuracy(folder: Path) -> Path:
    """A run whose reward returns a number alone: veRL logs its mean as the validation's `reward`."""
    numbers = {name: values for name, values in healthy().items() if name not in ACCURATE}
    write_run(
        folder, numbers | {"critic/score/mean": 40 + np.arange(STEPS), "critic/score/max": np.full(STEPS, 100.0)}
    )
    file = folder / "metrics.jsonl"
    file.write_text(file.read_text().replace("/acc/mean", "/reward/mean"))
    return folder


def test_a_score_is_never_called_an_accuracy(tmp_path):
    folder = without_accuracy(tmp_path / "run")
    drawn = panels([runs.load(folder)])
    titles = {panel.metric: panel.title for panel in drawn}
    assert titles["val-core/AIME24/reward/mean@32"] == "AIME24 reward (avg@32)"
    assert not [title for title in titles.values() if "ccuracy" in title or "right" in title]
    assert report(folder, cwd=tmp_path).returncode == 0
    text = Page((folder / "report.html").read_text()).text.lower()
    assert "accuracy" not in text and not list((folder / "report").glob("*accuracy*"))


def test_a_reward_beside_an_accuracy_has_a_panel_of_its_own(tmp_path):
    both = [runs.load(without_accuracy(tmp_path / "score")), runs.load(write_run(tmp_path / "acc", seed=2))]
    drawn = {panel.metric: panel for panel in panels(runs.with_labels(both))}
    for name, title in (("acc", "AIME24 accuracy (avg@32)"), ("reward", "AIME24 reward (avg@32)")):
        panel = drawn[f"val-core/AIME24/{name}/mean@32"]
        assert panel.title == title and len(panel.curves) == 1
    assert headline(list(drawn.values()), True)[0].metric == "val-core/AIME24/acc/mean@32"


@pytest.mark.parametrize(("highest", "verdict"), [(1.0, "ok"), (100.0, "error")])
def test_a_reward_of_another_scale_is_not_at_its_ceiling(tmp_path, highest, verdict):
    standing = {"critic/score/mean": 0.95 + 0.01 * np.sin(2.0 * np.arange(STEPS))}
    folder = write_run(tmp_path / "run", healthy() | standing | {"critic/score/max": np.full(STEPS, highest)})
    assert verdicts(folder)["Reward plateau"] == verdict


METRICS = [
    *healthy(),
    "val-core/AIME24/acc/mean@32",
    "critic/score/max",
    "reward/acc",
    "perf/mfu/actor",
]


HOW = ("missing", "null", "null at first", "null at last", "text")
ALONE = [(name, how) for name in METRICS for how in HOW]
SOME = [("all", how) for how in HOW] + ALONE[::7]  # each of HOW with other metrics
REST = [pytest.param(*case, marks=pytest.mark.exhaustive) for case in ALONE if case not in SOME]


@pytest.mark.parametrize(("names", "how"), [*SOME, *REST])
@pytest.mark.usefixtures("page_alone")
def test_metrics_that_are_missing_or_null_never_end_the_report(tmp_path, how, names):
    """One of them alone in the log, which has a single panel then, or all of them."""
    wanted = METRICS if names == "all" else [names]
    entries = []
    for at in range(12):
        null = how in ("null", "text") or at == {"null at first": 0, "null at last": 11}.get(how)
        value = None if null and how != "text" else "nan" if null else 0.5 + at / 100
        data = {} if how == "missing" else dict.fromkeys(wanted, value)
        entries.append({"step": at + 1, "data": data | {"other/metric": 1.0}})
    folder = write_run(tmp_path / "run")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    run = runs.load(folder)
    write([run], tmp_path / "out", 3)
    assert (tmp_path / "out" / "report.html").is_file()
    found = health.findings(run)
    assert not any("nan" in finding.seen for finding in found)
    if how in ("missing", "text"):
        assert {finding.verdict for finding in found} == {health.NOT_LOGGED, health.OK}  # OK: nothing is not finite


# The page


def test_a_report_is_a_page_and_pictures(tmp_path):
    folder = write_run(tmp_path / "run", two())
    result = report(folder, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    page = Page((folder / "report.html").read_text())
    assert "Yes: every key that changes what is learned" in page.text and "script" not in page.tags
    assert all(link.startswith("#") for link in page.links) and len(page.ids) == len(set(page.ids))
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF"}
    files = list((folder / "report").iterdir())
    for suffix in starts:
        names = {file.stem for file in files if file.suffix == suffix}
        assert {"dynamics", "policy_entropy", "mean_reward", "aime24_accuracy_avg_32"} <= names
    assert all(file.read_bytes().startswith(starts[file.suffix]) for file in files)
    assert "secret-host" not in page.text and str(tmp_path) not in (folder / "report.html").read_text()


def test_several_runs_go_to_a_folder_of_their_own(tmp_path):
    other = {"ablations": ["overlong_penalty"], "is_justrl": False}
    folders = [write_run(tmp_path / "a", two()), write_run(tmp_path / "b", two(), **other)]
    assert report(*folders, cwd=tmp_path).returncode == 0
    assert (tmp_path / "report" / "report" / "ablation.png").is_file()
    text = Page((tmp_path / "report" / "report.html").read_text()).text
    assert "justrl_deepseek + overlong_penalty" in text
    assert not (tmp_path / "a" / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_what_comes_from_a_run_stays_text_and_names_no_machine(tmp_path):
    metrics = two() | {"<img src=x onerror=alert(1)>": np.ones(STEPS)}
    folder = write_run(
        tmp_path / "run",
        metrics,
        recipe="<script>alert($1)</script>",
        is_justrl=False,
        deviations=[{"key": "data.<b>", "recipe": "/mnt/secret/x.parquet", "yours": ["s3://bucket/secret/y&z"]}],
        command="verl run /home/secret/mine.yaml --out=/data/secret/out",
    )
    assert report(folder, "--out", tmp_path / "out", cwd=tmp_path).returncode == 0
    source = (tmp_path / "out" / "report.html").read_text()
    page = Page(source)
    assert "script" not in page.tags and "img" not in page.tags and "b" in page.tags
    assert "<script>alert($1)</script>" in page.text and "<img src=x onerror=alert(1)>" in page.text
    assert "secret" not in source
    assert "…/mine.yaml" in page.text and "…/x.parquet" in page.text and "…/y&z" in page.text
    assert html.escape("data.<b>") in source


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("actor/entropy and 1/2", "actor/entropy and 1/2"),
        ("pkg://justrl_recipe.reward_fns.justrl", "pkg://justrl_recipe.reward_fns.justrl"),
        ("data/train.parquet", "data/train.parquet"),
        ("file:///root/a/b.txt", "…/b.txt"),
        ('["/q/w.parquet", "/r.parquet"]', '["…/w.parquet", "…/r.parquet"]'),
    ],
)
def test_absolute_paths_lose_their_folders(text, cleaned):
    assert without_paths(text) == cleaned


def test_a_metric_that_is_never_finite_is_drawn_as_such(tmp_path):
    folder = write_run(tmp_path / "run", {name: np.full(STEPS, np.nan) for name in two()})
    result = report(folder, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_log_without_anything_that_is_drawn_still_has_its_numbers(tmp_path):
    (tmp_path / "other.jsonl").write_text('{"step": 1, "data": {"my/metric": 2.5}}\n')
    assert report("other.jsonl", cwd=tmp_path).returncode == 0
    assert "my/metric" in Page((tmp_path / "report" / "report.html").read_text()).text


# What may be wrong


def test_a_last_line_that_is_being_written_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "data": {"actor/ent')
    assert runs.load(folder).last_step == STEPS
    log = tmp_path / "train.log"
    log.write_text("step:1 - a/b:1.5\nstep:2 - a/b:0.")
    assert runs.load(log).last_step == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.mkdir(), "is not a run folder"),
        (lambda path: path.touch(), "no step yet"),
        (lambda path: path.write_text("hello\nstep: 1\n"), "is not a veRL log"),
        (lambda path: path.write_bytes(bytes(range(256)) * 20), "is not a veRL log"),
        (
            lambda path: path.write_text('{"step": 1, "data": {}}\n{"step": 2, "da\n{"step": 3, "data": {}}\n'),
            "line 2",
        ),
        (lambda path: path.write_text('{"step": 1, "data": {"a": 1}}\n[1, 2]\n'), "line 2"),
        (lambda path: path.write_text('{"model": "x"}\n'), "line 1"),
        (lambda path: (write_run(path) / "metrics.jsonl").unlink(), "no step yet"),
        (lambda path: (write_run(path) / "manifest.json").write_text("{"), "manifest.json"),
        (lambda path: (write_run(path) / "manifest.json").write_text("{}"), "does not say recipe"),
        (lambda path: (write_run(path) / "config.yaml").write_text("a: [1"), "config.yaml"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path, make, says):
    make(tmp_path / "it")
    result = report("it", "--out", "out", cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and says in line and "it" in line
    assert not (tmp_path / "out").exists()


def test_a_broken_tensorboard_file_says_so(tmp_path):
    file = tmp_path / "events.out.tfevents.1"
    file.write_bytes(b"\x05" + bytes(7) + bytes(4) + b"\xff\xff\xff\xff\xff" + bytes(4))
    with pytest.raises(UserError, match="not a TensorBoard file"):
        logs.read(file)


def test_help_shows_an_example_and_imports_nothing_heavy():
    code = "import sys; sys.argv = ['verl', 'report', '--help']\nfrom justrl_recipe.cli import main\n"
    code += "try: main()\nexcept SystemExit as end: assert not end.code\n"
    code += "heavy = {'jinja2', 'matplotlib', 'pandas', 'torch', 'tensorboard', 'verl'}\n"
    code += "print(*(heavy & set(sys.modules)), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Example: verl report runs/" in result.stdout and result.stderr.strip() == ""


# Watching


def process_that_ended() -> dict:
    ended = subprocess.Popen(["true"])
    started = psutil.Process(ended.pid).create_time()
    ended.wait()
    return {"host": platform.node(), "pid": ended.pid, "pid_started": started}


@pytest.mark.parametrize(
    ("about", "shown", "over"),
    [
        ({"status": "finished"}, "finished", True),
        ({"status": "failed", "ended": None}, "failed", True),
        ({"status": "interrupted"}, "interrupted", True),
        ({"status": "incomplete"}, "incomplete", True),
        ({"status": "running", "ended": None, "host": "elsewhere"}, "running", False),
        ({"status": "running", "ended": None} | process_that_ended(), "died", True),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_the_status_of_a_run_is_shown_and_decides_whether_it_is_watched(tmp_path, about, shown, over):
    folder = write_run(tmp_path / "run", two(), **about)
    assert runs.ended(folder) is over
    write([runs.load(folder)], tmp_path / "out", 3)
    assert shown in Page((tmp_path / "out" / "report.html").read_text()).text


@pytest.mark.usefixtures("undrawn")
def test_a_resumed_run_is_one_curve_with_its_attempts_marked_and_listed(tmp_path):
    earlier = [{"status": "died", "first_step": 1, "last_step": None}]
    folder = write_run(tmp_path / "run", two(), attempts=earlier, first_step=21, last_step=40)
    run = runs.load(folder)
    write([run], tmp_path / "out", None)
    text = Page((tmp_path / "out" / "report.html").read_text()).text
    assert "died, steps 1 to ?" in text and "finished, steps 21 to 40" in text
    [panel] = [panel for panel in panels([run]) if panel.title == "Mean reward"]
    [axes] = figures.figure([panel]).axes
    dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == [20.5] and len(run.metrics["critic/score/mean"].steps) == 40


@pytest.mark.parametrize("attempts", [3, [3], "x", {"a": 1}])
def test_attempts_that_cannot_be_read_are_an_error(tmp_path, attempts):
    with pytest.raises(UserError, match="no usable attempts"):
        runs.load(write_run(tmp_path / "run", attempts=attempts))


def test_a_manifest_without_a_status_is_readable(tmp_path):
    for name, ended, over in (("a", None, False), ("b", "2026-01-02T00:00:00+00:00", True)):
        folder = write_run(tmp_path / name, ended=ended)
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["status"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        assert runs.ended(folder) is over and runs.load(folder).status == ("ended" if over else "running")
