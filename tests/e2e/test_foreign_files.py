"""No file of others ends in a traceback, blocks, or takes the memory: a reader says in a line what is wrong.

The readers run in this process: starting `verl` for each would take minutes.
"""

import faulthandler
import json
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from justrl_recipe import config
from justrl_recipe.checks import named_code
from justrl_recipe.cli import app
from justrl_recipe.data import json_rows, schema
from justrl_recipe.data import parquet as parquet_files
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import checkpoints, evaluation_run, grading, models
from justrl_recipe.export import base_model, evaluations
from justrl_recipe.planning import model_shape

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
KEPT = {
    "step": 1,
    "batch": "training",
    "data_source": "math",
    "prompt": "p",
    "ground_truth": "34",
    "responses": [{"text": "\\boxed{34}", "left_out": 0, "tokens": 3, "cut": False, "reward": 1.0, "acc": 1.0}],
}
SCORE = {"avg": 0.5, "interval": [0.1, 0.9], "pass": {"1": 0.5}, "maj": 0.5, "sampling_error": 0.1}
RESULTS = {
    "model": "m",
    "settings": {},
    "verifier": "robust_verifier",
    "average": {"rule": SCORE},
    "benchmarks": {"AIME24": {"rule": SCORE, "problems": 1, "samples": 1}},
}
SHOWN = {"truncated": 0.1, "no_box": 0.0, "length": {"mean": 12.0}, "distinct_4": 0.9}
SHOWN_RESULTS = {
    **RESULTS,
    "fingerprint": "f",
    "settings": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 24},
    "benchmarks": {"AIME24": {"rule": SCORE, "problems": 1, "samples": 1, **SHOWN}},
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


def responses(file: Path) -> int:
    return verl("responses", file.parent)


def grade(file: Path) -> int:
    return verl("eval", "--grade-only", file, "--out", file.parent / "out")


def against(file: Path) -> int:
    (file.parent / "samples.jsonl").write_text(json.dumps(SAMPLE) + "\n")
    return verl(
        "eval", "--grade-only", file.parent / "samples.jsonl", "--against", file, "--out", file.parent / "out"
    )


def claim(file: Path) -> None:
    (file.parent / evaluation_run.RESPONSES).write_text("{}\n")
    with evaluation_run.claim(file.parent, {"model": "m", "benchmarks": {}}):
        pass


def replies(file: Path) -> None:
    grading.read_replies(file)


def config_json(file: Path) -> int:
    model_shape.find(str(file.parent))
    return verl("validate", "justrl_deepseek", f"actor_rollout_ref.model.path={file.parent}")


def weights(file: Path) -> None:
    """A model folder with an index of its weights."""
    (file.parent / "config.json").write_text(json.dumps(MODEL))
    (file.parent / "model.safetensors").write_text("")
    (file.parent / "tokenizer.json").write_text("{}")
    models.find(str(file.parent)).fingerprint()


def shards(file: Path) -> None:
    actor = file.parent
    (actor / "huggingface").mkdir()
    (actor / "huggingface" / "config.json").write_text("{}")
    checkpoints._require_shards(actor, [actor / "x"])


def template(file: Path) -> None:
    models.template_of(file.parent)
    models.checkpoint_folder(file.parent)
    models.require_plain_lora(file.parent)


def about(file: Path) -> None:
    models.about_run(file.parent, 1)


def base_card(file: Path) -> None:
    base_model.find(str(file.parent))


def export_with(file: Path) -> None:
    evaluations.read(file)


def recipe(file: Path) -> int:
    return verl("validate", file, NEVER_MADE)


def extended(file: Path) -> int:
    (file.parent / "mine.yaml").write_text("defaults: [base, _self_]\n")
    return verl("validate", file.parent / "mine.yaml", NEVER_MADE)


def ablation(file: Path) -> None:
    config.load(config.Request("justrl_tiny", ablations=(str(file),)))


def system(file: Path) -> None:
    config.load(config.Request("justrl_tiny", system=str(file)))


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
    "data train, CSV": (train, "f.csv", text('problem,answer\n"What is 1 + 1?",2\n')),
    "data check, parquet": (check, "f.parquet", parquet),
    "data check, JSON lines": (check, "f.jsonl", text(json.dumps(ROW) + "\n")),
    "data benchmarks": (benchmarks, "AIME24.jsonl", text('{"problem": "p", "answer": "1"}\n' * 30)),
    "metrics": (report, "metrics.jsonl", text(json.dumps(STEP) + "\n")),
    "console log": (report, "train.log", text("step:1 - actor/entropy:0.5 - a:nan\n")),
    "TensorBoard": (report, "events.out.tfevents.1", events),
    "metrics of a run": (report_of_folder, "metrics.jsonl", text(json.dumps(STEP) + "\n")),
    "manifest": (report_of_folder, "manifest.json", text(json.dumps(MANIFEST))),
    "config of a run": (report_of_folder, "config.yaml", text(json.dumps(CONFIG))),
    "responses": (responses, "responses.jsonl", text(json.dumps(KEPT) + "\n")),
    "responses of a report": (report_of_folder, "responses.jsonl", text(json.dumps(KEPT) + "\n")),
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
    "base model's card": (base_card, "README.md", text("---\nlicense: mit\nbase_model: owner/base\n---\n# Text\n")),
    "results of an export": (export_with, "results.json", text(json.dumps(SHOWN_RESULTS))),
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
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        )
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
    assert outcome(reader, tmp_path / called).startswith("exit code") or name in (
        "data benchmarks",
        "fsdp_config.json",
    )


# Right files with a value replaced or removed, or bytes changed.

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    10**18,
    10**300,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "x" * 3_000,
    "\ud800",
]
VALUES += ["\x1b]0;x\x07$\\frac$", "../..", "a/b\x00", [], [1], ["x"], [[]], {}, {"a": 1}, {"key": []}]
VALUES += [[{"key": "a"}]]
SLOW = {
    "metrics",
    "metrics of a run",
    "responses of a report",
    "config of a run",
    "config.json",
    "manifest",
    "recipe",
    "extended recipe",
}
TEXTS = [name for name, (_, called, _) in READERS.items() if Path(called).suffix in (".json", ".jsonl", ".yaml")]


def places(value: object, place: tuple = ()) -> list[tuple]:
    """The path to every value in nested lists and objects."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, one in inner for found in places(one, (*place, key)))]


def replaced(value: Any, place: tuple, new: object) -> Any:
    """A copy of nested lists and objects with another value at a place, or without it where that is `...`."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(place) == 1 and new is ...:
        del copy[place[0]]
    else:
        copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


def read_changed(name: str, folder: Path, place: tuple | None, draw: Callable[[list], Any]) -> None:
    reader, called, make = READERS[name]
    file = folder / called
    make(file)
    first, *rest = file.read_text().splitlines(keepends=True)
    right = json.loads(first)
    found = draw(places(right)[1:]) if place is None else place
    file.write_text("".join([json.dumps(replaced(right, found, draw([..., *VALUES]))) + "\n", *rest]))
    os.chdir(folder)
    outcome(reader, file)


@pytest.mark.parametrize("name", TEXTS)
def test_a_value_of_another_type(tmp_path_factory, name):
    @settings(max_examples=2 if name in SLOW else 8, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def of_any(data):
        read_changed(name, tmp_path_factory.mktemp("it"), None, lambda values: data.draw(st.sampled_from(values)))

    of_any()


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("data check, JSON lines", ("data_source",), []),
        ("data train, JSON", (0, "reward_model"), []),
        ("metrics", ("data", "actor/entropy"), 1e308),
        ("metrics", ("data", "actor/entropy"), 10**400),
        ("metrics", ("step",), 10**400),
        ("metrics", ("step",), -1),
        ("metrics", ("data",), {"\ud800": 1, "val-core/\x1b[2J/../acc/mean@4": 1}),
        ("metrics", ("data",), {f"val-core/a/acc/mean@{DIGITS[:4_000]}": 1}),
        ("metrics", ("data",), {f"val-core/{number}/acc/mean@4": 1 for number in range(5_000)}),
        ("manifest", ("pid",), 10**30),
        ("manifest", ("deviations",), [{}]),
        ("manifest", ("recipe",), "x" * 1_000_000),
        ("config of a run", ("trainer", "nnodes"), "x" * 1_000),
        ("responses", ("step",), 10**400),
        ("responses", ("responses",), [{"text": "\\boxed{" * 500_000}] * 4),
        ("responses of a report", ("responses", 0, "tokens"), 10**400),
        ("responses of a report", ("responses",), [{}] * 1_000_000),
        ("responses of a report", ("prompt",), "<" * 5_000_000),
        ("responses of a report", ("step",), True),
        ("samples", ("benchmark",), "$\\frac$ [/] \x1b[2J"),
        ("samples", ("tokens",), 10**400),
        ("results", ("benchmarks", "AIME24", "rule", "avg"), "x"),
        ("results", ("model",), "[/] $\\frac$"),
        ("verdicts", (), []),
        ("index of weights", ("weight_map", "w"), []),
        ("fsdp_config.json", ("world_size",), 10**12),
        ("config.json", ("num_hidden_layers",), 10**300),
        ("config.json", ("num_attention_heads",), 0),
        ("config of a checkpoint", ("actor_rollout_ref", "model"), True),
        ("config of a checkpoint", ("data", "apply_chat_template_kwargs"), [1]),
        ("config of a checkpoint", ("data", "train_files"), True),
        ("config of a checkpoint", ("trainer", "default_local_dir"), {}),
    ],
)
def test_values_that_were_tracebacks(tmp_path, name, place, value):
    read_changed(name, tmp_path, place, lambda _: value)


@pytest.mark.parametrize("name", ["data train, parquet", "data check, parquet", "TensorBoard"])
def test_bytes_that_are_damaged_or_cut_off(tmp_path, name):
    """Arrow ends the process at some of them, which is this one."""
    reader, called, make = READERS[name]
    file = tmp_path / called
    make(file)
    right, random = file.read_bytes(), Random(0)
    for number in range(40):
        damaged = bytearray(right)
        for _ in range(random.choice([1, 2, 5])):
            damaged[random.randrange(len(damaged))] = random.choice([0, 127, 128, 255, random.randrange(256)])
        file.write_bytes(damaged if number % 5 else damaged[: random.randrange(len(damaged))])
        outcome(reader, file)


def test_damaged_metadata_of_a_column_is_a_line(tmp_path, monkeypatch):
    """Arrow 26 ends the process there."""

    class Damaged:
        num_row_groups = 1

        def row_group(self, number):
            faulthandler.disable()  # pytest's, which would print this process's stacks
            os.abort()

    with pytest.raises(UserError, match="not a whole parquet file"):
        parquet_files._require_whole_metadata(tmp_path / "f.parquet", Damaged(), {0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content", ["null\n", " null", "null\n{}\n", "{}\nnull\n", '{"a":' + "[" * 50_000 + "]" * 50_000 + "}\n"]
)
def test_json_at_which_arrow_ends_the_process(tmp_path, content):
    (tmp_path / "f.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"f\.jsonl"):
        check(tmp_path / "f.jsonl")


# Large files: sparse or made of few bytes, since writing them would take longer than reading.


def long_line(file: Path) -> None:
    file.write_text('{"step": 1, "data": {"a": "')
    os.truncate(file, 200_000_000)


def many_lists(file: Path) -> None:
    file.write_text("[" + "[]," * 2_000_000 + "[]]")


@pytest.mark.parametrize("make", [long_line, many_lists])
@pytest.mark.parametrize(
    "name",
    ["metrics", "console log", "samples", "data train, JSON lines", "data train, JSON", "data check, JSON lines"],
)
def test_a_file_that_is_huge(tmp_path, name, make):
    reader, called, _ = READERS[name]
    make(tmp_path / called)
    outcome(reader, tmp_path / called)
    (tmp_path / called).unlink()


@pytest.mark.parametrize("name", ["data train, parquet", "data check, parquet"])
@pytest.mark.parametrize("kind", ["texts", "rows"])
def test_parquet_that_unpacks_to_gigabytes(tmp_path, name, kind):
    reader, called, _ = READERS[name]
    count = 300 if kind == "texts" else 20_000_000
    texts = pyarrow.array(["x" * 1_000_000] * count) if kind == "texts" else pyarrow.nulls(count, pyarrow.string())
    table = pyarrow.table({"problem": texts, "answer": texts})
    if "check" in name:
        message = pyarrow.StructArray.from_arrays([texts, texts], ["content", "role"])
        prompts = (
            pyarrow.ListArray.from_arrays(range(count + 1), message)
            if kind == "texts"
            else pyarrow.nulls(count, pyarrow.list_(message.type))
        )
        gold = pyarrow.StructArray.from_arrays([texts], ["ground_truth"])
        table = pyarrow.table({"prompt": prompts, "reward_model": gold, "data_source": texts})
    pyarrow.parquet.write_table(table, tmp_path / called, compression="zstd", use_dictionary=False)
    del table
    assert (tmp_path / called).stat().st_size < 1_000_000
    assert "exit code" not in outcome(reader, tmp_path / called)


def test_a_tokenizer_with_a_pipe_in_its_folder_is_not_waited_for(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer_config.json").write_text("{}")
    os.mkfifo(tmp_path / "model" / "tokenizer.json")
    parquet(tmp_path / "f.parquet")
    with pytest.raises(UserError, match="not a regular file"):
        verl("data", "check", tmp_path / "f.parquet", "--tokenizer", tmp_path / "model")


def test_modules_that_import_each_other_are_looked_at_once(tmp_path):
    (tmp_path / "a.py").write_text("from .b import *\n")
    (tmp_path / "b.py").write_text("from .a import *\n")
    assert not named_code.defines(tmp_path / "a.py", "compute_score")


@pytest.mark.parametrize("spaces", ["", " ", "\n"])
@pytest.mark.parametrize("size", [1, 100, 200_000])
def test_an_array_is_read_as_its_rows(tmp_path, size, spaces):
    """Whatever stands where a piece ends."""
    rows = [
        {"problem": '[{"' + "\\" * (number % 3) + "p" * size * (number % 2), "answer": str(number)}
        for number in range(300)
    ]
    rows = rows[: 300 if size < 1_000 else 6]
    (tmp_path / "f.json").write_text(
        f"[{spaces}" + f"{spaces},{spaces}".join(map(json.dumps, rows)) + f"{spaces}]{spaces}"
    )
    assert list(json_rows.read(tmp_path / "f.json")) == rows


@pytest.mark.parametrize("content", ["[{}", "[{},", "[{},]", "[{} {}]", "[{}]{}", "[{}],", "[,{}]", "["])
def test_an_array_that_is_broken_is_refused(tmp_path, content):
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(ValueError):
        list(json_rows.read(tmp_path / "f.json"))
