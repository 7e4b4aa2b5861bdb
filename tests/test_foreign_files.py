"""No file of others ends in a traceback, blocks, or takes the machine's memory: each reader says in a line what is wrong.

The readers run in this process: starting `verl` for each would take minutes.
"""

import json
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from justrl_recipe.cli import app
from justrl_recipe.data import schema
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import checkpoint, compare, judge, trained
from justrl_recipe.evaluation.folder import EvaluationFolder
from justrl_recipe.planning import shape

SECONDS, MEGABYTES = 10, 500
DIGITS = "1" * 5_000
STEP = {"step": 1, "data": {"actor/entropy": 0.5, "critic/score/mean": 0.1, "val-core/AIME24/acc/mean@4": 0.5}}
MANIFEST = {
    "recipe": "justrl_tiny",
    "ablations": [],
    "overrides": ["seed=1"],
    "scaled": [],
    "deviations": [{"key": "seed", "recipe": 0, "yours": 1}],
    "is_justrl": False,
    "seed": 1,
    "ended": None,
    "status": "running",
    "host": "x",
    "pid": 1,
    "pid_started": 1.5,
    "versions": {"verl": "0.9.1"},
    "reward": {"sha256": "0"},
}
CONFIG = {
    "trainer": {"nnodes": 1, "n_gpus_per_node": 1, "total_training_steps": 5, "default_local_dir": "x"},
    "data": {"max_response_length": 10, "train_files": "x.parquet", "apply_chat_template_kwargs": {}},
    "actor_rollout_ref": {"model": {"path": "m", "lora_rank": 0}, "actor": {"checkpoint": {}}},
}
SAMPLE = {
    "benchmark": "AIME24",
    "problem": 0,
    "sample": 0,
    "prompt": "p",
    "gold": "34",
    "response": "\\boxed{34}",
    "tokens": 3,
    "finish_reason": "stop",
}
SCORE = {"avg": 0.5, "interval": [0.1, 0.9], "pass": {"1": 0.5}, "maj": 0.5, "sampling_error": 0.1}
RESULTS = {
    "model": "m",
    "settings": {},
    "verifier": "robust_verifier",
    "average": {"rule": SCORE},
    "benchmarks": {"AIME24": {"rule": SCORE, "problems": 1, "samples": 1}},
}
MODEL = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
}
ROW = schema.row("math_dapo", 0, "train", "Problem." + schema.TRAINING_SUFFIX, "34")
VERDICT = {"asked": "a", "reply": "A"}
RECIPE = {"defaults": ["justrl_tiny", "_self_"], "seed": 5, "trainer": {"nnodes": 1}}
NEVER_MADE = "tiny_model.path=nowhere"


def verl(*arguments: object) -> int:
    """The exit code of `verl`; an input that is refused raises UserError, a traceback anything else."""
    done = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert "Traceback" not in done.output
    return done.exit_code


def train(file: Path) -> int:
    return verl("data", "train", "--source", file, "--out", file.parent / "out")


def check(file: Path) -> int:
    return verl("data", "check", file)


def benchmarks(file: Path) -> int:
    return verl("data", "benchmarks", "--source", file.parent, "--out", file.parent / "out")


def report(file: Path) -> int:
    return verl("report", file, "--out", file.parent / "out")


def report_of_folder(file: Path) -> int:
    """Of a run of which one file is foreign."""
    if not os.path.lexists(file.parent / "metrics.jsonl"):
        (file.parent / "metrics.jsonl").write_text(json.dumps(STEP) + "\n")
    return report(file.parent)


def grade(file: Path) -> int:
    return verl("eval", "--grade-only", file, "--out", file.parent / "out")


def against(file: Path) -> int:
    (file.parent / "samples.jsonl").write_text(json.dumps(SAMPLE) + "\n")
    return verl("eval", "--grade-only", file.parent / "samples.jsonl", "--against", file, "--out", file.parent / "out")


def claim(file: Path) -> None:
    folder = EvaluationFolder(file.parent)
    folder.samples.write_text("{}\n")
    with folder.claim({"model": "m", "benchmarks": {}}):
        pass


def replies(file: Path) -> None:
    judge._replies(file)


def config_json(file: Path) -> int:
    shape.find(str(file.parent))
    return verl("validate", "justrl_deepseek", f"actor_rollout_ref.model.path={file.parent}")


def weights(file: Path) -> None:
    """A model folder with an index of its weights."""
    (file.parent / "config.json").write_text(json.dumps(MODEL))
    (file.parent / "model.safetensors").write_text("")
    (file.parent / "tokenizer.json").write_text("{}")
    checkpoint.find(str(file.parent)).fingerprint()


def shards(file: Path) -> None:
    actor = file.parent
    (actor / "huggingface").mkdir()
    (actor / "huggingface" / "config.json").write_text("{}")
    checkpoint._require_shards(actor, [actor / "x"])


def template(file: Path) -> None:
    trained.template(file.parent)
    trained.checkpoints(file.parent)
    trained.require_plain_lora(file.parent)


def about(file: Path) -> None:
    trained.about(file.parent, 1)


def recipe(file: Path) -> int:
    return verl("validate", file, NEVER_MADE)


def extended(file: Path) -> int:
    (file.parent / "mine.yaml").write_text("defaults: [base, _self_]\n")
    return verl("validate", file.parent / "mine.yaml", NEVER_MADE)


def ablation(file: Path) -> int:
    return verl("run", "justrl_tiny", "--ablation", file, "--dry-run")


def system(file: Path) -> int:
    return verl("plan", "justrl_tiny", "--system", file)


def parquet(file: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([ROW] * 3, schema.SCHEMA), file)


def events(file: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    record = Event(step=1, summary={"value": [{"tag": "actor/entropy", "simple_value": 0.5}]}).SerializeToString()
    file.write_bytes((struct.pack("<QI", len(record), 0) + record + bytes(4)) * 2)


def text(content: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(content)


# The reader, the name of the file, and what makes one that is right.
READERS: dict[str, tuple[Callable[[Path], object], str, Callable[[Path], object]]] = {
    "data train, parquet": (train, "f.parquet", parquet),
    "data train, JSON": (train, "f.json", text(json.dumps([ROW]))),
    "data train, JSON lines": (train, "f.jsonl", text(json.dumps(ROW) + "\n")),
    "data check, parquet": (check, "f.parquet", parquet),
    "data check, JSON lines": (check, "f.jsonl", text(json.dumps(ROW) + "\n")),
    "data benchmarks": (benchmarks, "AIME24.jsonl", text('{"problem": "p", "answer": "1"}\n' * 30)),
    "metrics": (report, "metrics.jsonl", text(json.dumps(STEP) + "\n")),
    "console log": (report, "train.log", text("step:1 - actor/entropy:0.5 - a:nan\n")),
    "TensorBoard": (report, "events.out.tfevents.1", events),
    "metrics of a run": (report_of_folder, "metrics.jsonl", text(json.dumps(STEP) + "\n")),
    "manifest": (report_of_folder, "manifest.json", text(json.dumps(MANIFEST))),
    "config of a run": (report_of_folder, "config.yaml", text(json.dumps(CONFIG))),
    "samples": (grade, "s.jsonl", text(json.dumps(SAMPLE) + "\n")),
    "authors' samples": (
        grade,
        "AIME24_t0.7_p0.9_n1-MNT100.jsonl",
        text('{"example_id": 0, "answer": "34", "prompt": "p", "response": "\\\\boxed{34}"}\n'),
    ),
    "results": (against, "results.json", text(json.dumps(RESULTS))),
    "evaluation": (claim, "evaluation.json", text(json.dumps({"model": "m", "benchmarks": {}}))),
    "verdicts": (replies, "verdicts.jsonl", text(json.dumps(VERDICT) + "\n")),
    "config.json": (config_json, "config.json", text(json.dumps(MODEL))),
    "index of weights": (weights, "model.safetensors.index.json", text('{"weight_map": {"w": "model.safetensors"}}')),
    "fsdp_config.json": (shards, "fsdp_config.json", text('{"world_size": 1}')),
    "config of a checkpoint": (template, "config.yaml", text(json.dumps(CONFIG))),
    "manifest of a checkpoint": (about, "manifest.json", text(json.dumps(MANIFEST))),
    "recipe": (recipe, "r.yaml", text(json.dumps(RECIPE))),
    "extended recipe": (extended, "base.yaml", text(json.dumps(RECIPE))),
    "ablation": (ablation, "a.yaml", text('{"seed": 5}')),
    "system": (system, "s.yaml", text('{"trainer": {"nnodes": 1}}')),
}


def memory(what: str) -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) // 1024


def outcome(reader: Callable[[Path], object], file: Path) -> str:
    """What a reader said of a file: the error, or its exit code; it has to be quick and small."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before, started = memory("VmRSS"), time.process_time()
    waiting = threading.Timer(SECONDS, lambda: os.open(file, os.O_WRONLY | os.O_NONBLOCK))  # ends a blocked open
    waiting.start()
    try:
        code = reader(file)
        said = f"exit code {code}"
        assert code in (None, 0, 1, 2)
    except UserError as error:
        said = str(error)
        assert "\n" not in said
    finally:
        assert waiting.is_alive(), "it waited"
        waiting.cancel()
    assert time.process_time() - started < SECONDS
    assert memory("VmHWM") - before < MEGABYTES
    return said


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fifo(file: Path) -> None:
    os.mkfifo(file)


HARD: dict[str, Callable[[Path], object]] = {
    "folder": lambda file: file.mkdir(),
    "pipe": fifo,
    "broken link": lambda file: file.symlink_to("nowhere"),
    "link to itself": lambda file: file.symlink_to(file.name),
    "/dev/zero": lambda file: file.symlink_to("/dev/zero"),
    "unreadable": lambda file: file.symlink_to("/proc/self/mem"),
    "empty": lambda file: file.touch(),
    "null character": text("\x00"),
    "UTF-16": lambda file: file.write_bytes('{"a": 1}\n'.encode("utf-16")),
    "Latin-1": lambda file: file.write_bytes('{"ü": 1}\n'.encode("latin-1")),
    "byte-order mark": lambda file: file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n'),
    "all bytes": lambda file: file.write_bytes(bytes(range(256)) * 50),
    "deep lists": text("[" * 100_000 + "\n"),
    "deep objects": text('{"a":' * 100_000 + "\n"),
    "deep and closed": text('{"step": ' + "[" * 50_000 + "]" * 50_000 + "}\n"),
    "integer": text(f"{DIGITS}\n"),
    "integer in an object": text(f'{{"step": {DIGITS}, "trainer": {DIGITS}, "problem": {DIGITS}}}\n'),
    "not a number": text('{"step": NaN, "data": {"a": Infinity}, "problem": NaN, "answer": -Infinity}\n'),
    "surrogate": text('{"problem": "\\ud800", "answer": "\\udfff", "step": "\\ud800", "model": "\\ud800"}\n'),
    "null": text("null\n"),
    "text": text('"text"\n'),
    "list": text("[1, 2]\n"),
    "object": text("{}\n"),
    "same key twice": text('{"a": 1, "a": 2}\n'),
    "aliases": text(
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi"))
    ),
    "alias in itself": text("a: &a [*a]\n"),
    "number of base 60": text("seed: " + ":".join(["59"] * 20_000) + "\n"),
    "hexadecimal number": text("seed: 0x" + "f" * 5_000 + "\n"),
}


@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_no_such_file(tmp_path, name, hard):
    reader, called, _ = READERS[name]
    HARD[hard](tmp_path / called)
    outcome(reader, tmp_path / called)


@pytest.mark.parametrize("name", READERS)
def test_the_right_file_is_read(tmp_path, name):
    reader, called, make = READERS[name]
    make(tmp_path / called)
    print(outcome(reader, tmp_path / called))
