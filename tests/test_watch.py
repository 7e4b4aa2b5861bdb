"""What a person sees while it trains."""

import json
import subprocess
import sys

import pytest

from justrl_recipe.run.progress import Watcher, complete_lines, duration, errors, step_line, validation_lines

METRICS = {
    "critic/score/mean": -0.25,
    "reward/acc": 0.375,
    "response_length/mean": 4012.4,
    "actor/entropy": 1.3049,
    "perf/throughput": 1234.5,
}


def test_a_step_is_one_line():
    assert step_line(3, 4380, METRICS, gpus=32, seconds_left=3723) == (
        "step    3/4380  reward -0.250  acc 0.375  length 4012  entropy 1.305  39,504 tokens/s  1:02:03 left"
    )


def test_accuracy_is_left_out_where_nothing_measured_it():
    metrics = {key: value for key, value in METRICS.items() if key != "reward/acc"}
    assert "acc" not in step_line(1, 2, metrics, 1, 0)


def test_validation_has_a_line_per_source():
    metrics = {
        "val-core/AIME24/acc/mean@32": 0.3,
        "val-aux/AIME24/reward/mean@32": 0.1,
        "val-core/AMC23/acc/mean@32": 0.6,
    }
    assert validation_lines(50, metrics) == [
        "validation at step 50: AIME24 accuracy 0.300 (avg@32)",
        "validation at step 50: AMC23 accuracy 0.600 (avg@32)",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3600, "1:00:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("fine\nall fine\n", []),
        ("Traceback\nValueError: bad lr\nmore\n", ["ValueError: bad lr"]),
        (
            "\x1b[36m(WorkerDict pid=7)\x1b[0m torch.OutOfMemoryError: CUDA out of memory.\n"
            "ray.exceptions.RayTaskError: it failed\nray.exceptions.ActorDiedError: died\n",
            ["torch.OutOfMemoryError: CUDA out of memory."],
        ),
        ("KeyError: 'x'\nagain\nKeyError: 'x'\nValueError: then this\n", ["KeyError: 'x'", "ValueError: then this"]),
        ("ray.exceptions.ActorDiedError: The actor died\n", ["ray.exceptions.ActorDiedError: The actor died"]),
        ("(WorkerDict pid=7, ip=10.0.0.1) AssertionError\n", ["AssertionError"]),
        ("[rank0]: ModuleNotFoundError: No module named 'x'", ["ModuleNotFoundError: No module named 'x'"]),
    ],
)
def test_the_errors_that_mean_something(tmp_path, log, found):
    file = tmp_path / "train.log"
    file.write_text(log)
    assert errors(file) == found


def test_a_line_is_read_once_it_is_whole(tmp_path):
    file = tmp_path / "metrics.jsonl"
    with file.open("w") as writer, file.open() as reader:
        writer.write('{"a": 1}\n{"b"')
        writer.flush()
        assert complete_lines(reader) == ['{"a": 1}']
        writer.write(": 2}\n")
        writer.flush()
        assert complete_lines(reader) == ['{"b": 2}']


def test_follows_a_run_until_its_process_ends(tmp_path, capsys):
    metrics, log = tmp_path / "metrics.jsonl", tmp_path / "train.log"
    log.write_text("noise of veRL\n")
    entry = json.dumps({"step": 1, "data": {**METRICS, "timing_s/step": 2.0}})
    code = f"import time; time.sleep(0.3); open({str(metrics)!r}, 'w').write({entry!r} + chr(10))"
    config = {"trainer": {"total_training_steps": 4, "nnodes": 1, "n_gpus_per_node": 1}}
    Watcher(metrics, log, config, verbose=False).follow(subprocess.Popen([sys.executable, "-c", code]))
    shown = capsys.readouterr().out
    assert "step 1/4" in shown and "0:06 left" in shown and "noise" not in shown
