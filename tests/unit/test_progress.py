"""What a person sees while it trains, and that what watches never ends what it watches."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.run import log
from justrl_recipe.run.folder import RunFolder, parse_metrics
from justrl_recipe.run.progress import Progress, complete_lines, duration, step_line, validation_lines

METRICS = {
    "critic/score/mean": -0.25,
    "reward/acc": 0.375,
    "response_length/mean": 4012.4,
    "actor/entropy": 1.3049,
    "perf/throughput": 1234.5,
}
CONFIG = {"trainer": {"total_training_steps": 4, "nnodes": 1, "n_gpus_per_node": 1}}


def test_a_step_is_one_line():
    assert step_line(3, 4380, METRICS, gpus=32, seconds_left=3723) == (
        "step    3/4380  reward -0.250  acc 0.375  length 4012  entropy 1.305  39,504 tokens/s  1:02:03 left"
    )


@pytest.mark.parametrize("missing", METRICS)
def test_a_metric_that_is_not_logged_is_left_out(missing):
    """`algorithm.rollout_correction.bypass_mode=true` has no entropy, a reward that returns a number no accuracy."""
    whole = step_line(1, 2, METRICS, 1, None)
    line = step_line(1, 2, {key: value for key, value in METRICS.items() if key != missing}, 1, None)
    assert len(line.split("  ")) == len(whole.split("  ")) - 1


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "text", [1.0]])
@pytest.mark.parametrize("key", METRICS)
def test_a_metric_that_is_not_finite_is_marked(key, value):
    """veRL's file logger writes a NaN as null."""
    line = step_line(1, 2, {**METRICS, key: value}, 1, 0)
    assert line.count("not finite") == 1 and line.startswith("step 1/2")


def test_validation_has_a_line_per_source():
    metrics = {
        "val-core/AIME24/acc/mean@32": 0.3,
        "val-aux/AIME24/reward/mean@32": 0.1,
        "val-core/AMC23/reward/mean@32": 0.6,
        "val-core/MATH/acc/mean@4": None,
    }
    assert validation_lines(50, metrics) == [
        "validation at step 50: AIME24 accuracy 0.300 (avg@32)",
        "validation at step 50: AMC23 reward 0.600 (avg@32)",
        "validation at step 50: MATH accuracy not finite (avg@4)",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3600, "1:00:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_line_is_read_once_it_is_whole(tmp_path):
    file = tmp_path / "metrics.jsonl"
    with file.open("w") as writer, file.open() as reader:
        writer.write('{"a": 1}\n{"b"')
        writer.flush()
        assert complete_lines(reader) == ['{"a": 1}']
        writer.write(": 2}\n")
        writer.flush()
        assert complete_lines(reader) == ['{"b": 2}']


@pytest.mark.parametrize(
    "line", ["", "{", "null", "[]", '{"step": 1}', '{"step": "1", "data": {}}', '{"step": 1, "da']
)
def test_a_line_that_is_no_entry_is_none(line):
    assert parse_metrics(line) is None


def follow(folder: RunFolder, code: str, **kwargs) -> list[dict]:
    """What is handed on while a process runs `code`."""
    process = subprocess.Popen([sys.executable, "-c", code], **kwargs)
    return [logged for looks in Progress(folder, CONFIG, verbose=False).follow(process) for logged in looks]


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    found = RunFolder(tmp_path)
    found.log.write_text("noise of veRL\n")
    return found


def test_follows_a_run_until_its_process_ends(folder, capsys):
    entry = json.dumps({"step": 1, "data": {**METRICS, "timing_s/step": 2.0}})
    code = f"import time; time.sleep(0.3); open({str(folder.metrics)!r}, 'a').write({entry!r} + chr(10))"
    assert [logged["timing_s/step"] for logged in follow(folder, code)] == [2.0]
    shown = capsys.readouterr().out
    assert "step 1/4" in shown and "0:06 left" in shown and "noise" not in shown
    assert len(follow(folder, code)) == 1  # the next attempt: what was logged before it is not shown again
    assert capsys.readouterr().out.count("step 1/4") == 1


def test_responses_that_could_not_be_written_are_said(folder, capsys):
    Progress(folder, CONFIG, verbose=False).show(3, {**METRICS, "rollout/unkept_prompts": 2})
    assert "WARNING step 3: no responses were written, see train.log" in capsys.readouterr().out


def test_lost_responses_are_shown_at_their_step(folder, capsys):
    lost = json.dumps({"step": 3, "batch": "training", "lost": 5, "responses": 128})
    entry = json.dumps({"step": 3, "data": METRICS})
    code = f"open({str(folder.lost_responses)!r}, 'w').write({lost!r} + chr(10));"
    follow(folder, f"{code} open({str(folder.metrics)!r}, 'w').write({entry!r} + chr(10))")
    assert "LOST 5 of 128 training responses of step 3\nstep 3/4" in capsys.readouterr().out


def test_a_tracker_that_fails_is_shown_once_and_is_in_the_manifest(folder, capsys):
    failure = json.dumps({"tracker": "wandb", "error": "ConnectionError: gone"})
    code = f"open({str(folder.tracker_failures)!r}, 'w').write({failure!r} + chr(10));"
    follow(folder, f"{code} import time; time.sleep(0.5)")
    assert (
        capsys.readouterr().out.count("WARNING tracker wandb failed, the run continues: ConnectionError: gone") == 1
    )
    assert log.logged(folder)["tracker_failures"] == {"wandb": "ConnectionError: gone"}
    folder.keep_attempt()
    assert log.logged(folder)["tracker_failures"] == {}, "of the next attempt"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*METRICS, "timing_s/step"]), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries({"step": st.integers() | JSON, "data": st.dictionaries(st.sampled_from([*METRICS]), JSON)})
)
def test_whatever_is_logged_is_shown_or_passed_over(tmp_path_factory, entry):
    if found := parse_metrics(json.dumps(entry)):
        Progress(RunFolder(tmp_path_factory.getbasetemp()), CONFIG, verbose=False).show(*found)
