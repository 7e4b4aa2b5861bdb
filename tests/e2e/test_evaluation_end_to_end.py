"""`verl eval` with vLLM's own CPU engine: from a model to results, again, after kills, with a judge."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from command import VERL, verl

from justrl_recipe.config import Request, load
from justrl_recipe.cpu import tiny_data, tiny_model
from justrl_recipe.data import schema
from justrl_recipe.evaluation.grading import judge_prompt
from justrl_recipe.evaluation.responses import Response

pytestmark = pytest.mark.xdist_group("engine")  # one vLLM engine or Ray cluster at a time, beside a training

KILLS = int(os.environ.get("KILLS", "1"))
TASK = ("--benchmark", "arithmetic.parquet", "--max-tokens", "24")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with a tiny model that has learned a little, and a file of arithmetic problems."""
    path = tmp_path_factory.mktemp("eval")
    problems = tiny_data.all_problems()
    spec = load(Request("justrl_tiny")).values["tiny_model"] | {"warmup_steps": 60, "boxed_share": 0.9}
    tiny_model.make(path / "model", spec, problems, progress=lambda step: None)
    schema.write_parquet(path / "arithmetic.parquet", tiny_data.rows(random.Random(0).sample(problems, 40), "test"))
    return path


def verl_eval(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """In this process, which has imported torch; the engine has a process of its own."""
    return verl("eval", *arguments, cwd=folder)


def verl_eval_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [VERL, "eval", *arguments], cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


def results(folder: Path, name: str) -> dict:
    return json.loads((folder / name / "results.json").read_text())


def samples(folder: Path, name: str) -> dict[tuple, dict]:
    lines = [json.loads(line) for line in (folder / name / "samples.jsonl").read_text().split("\n")[:-1]]
    found = {(line["benchmark"], line["problem"], line["sample"]): line for line in lines}
    assert len(found) == len(lines), "a sample was generated twice"
    return found


@pytest.fixture(scope="module")
def evaluated(folder) -> Path:
    done = verl_eval_process(folder, "model", *TASK, "--n", "4", "--out", "first")
    assert done.returncode == 0, done.stderr
    (folder / "first" / "stdout").write_text(done.stdout)
    return folder / "first"


def test_evaluates_a_model_and_says_what_it_found(folder, evaluated):
    found, made = results(folder, "first"), samples(folder, "first")
    assert set(made) == {("arithmetic", problem, sample) for problem in range(40) for sample in range(4)}
    assert all(sample["tokens"] <= 24 and "<|" not in sample["response"] for sample in made.values())
    grades = [json.loads(line) for line in (evaluated / "grades.jsonl").read_text().split("\n")[:-1]]
    right = sum(f"\\boxed{{{sample['gold']}}}" in sample["response"] for sample in made.values())
    about = found["benchmarks"]["arithmetic"]
    assert sum(grade["rule"] for grade in grades) == right
    assert about["rule"]["avg"] == pytest.approx(right / 160) and about["rule"]["pass"]["1"] == about["rule"]["avg"]
    assert about["problems"] == 40 and about["samples"] == 4 and list(about["rule"]["pass"]) == ["1", "2", "4"]
    assert about["truncated"] == sum(sample["finish_reason"] == "length" for sample in made.values()) / 160
    assert f"{100 * right / 160:.2f}" in (evaluated / "stdout").read_text()
    assert f"{100 * right / 160:.2f}" in (evaluated / "results.md").read_text()
    assert (evaluated / "results.png").read_bytes().startswith(b"\x89PNG")
    assert found["run"] is None and found["chat_template"] is None
    assert {sample["response"] for sample in made.values()} != {made["arithmetic", 0, 0]["response"]}


def test_the_same_command_generates_nothing_again_and_more_samples_are_added(folder, evaluated):
    before = (evaluated / "samples.jsonl").read_bytes()
    assert verl_eval(folder, "model", *TASK, "--n", "4", "--out", "first").returncode == 0
    assert (evaluated / "samples.jsonl").read_bytes() == before
    done = verl_eval(folder, "model", *TASK, "--n", "5", "--limit", "10", "--out", "first")
    assert done.returncode == 0, done.stderr
    assert (evaluated / "samples.jsonl").read_bytes().startswith(before)
    assert len(samples(folder, "first")) == 160 + 10
    assert results(folder, "first")["benchmarks"]["arithmetic"]["responses"] == 50


def test_other_settings_in_the_same_folder_are_refused_before_anything_is_generated(folder, evaluated):
    before = (evaluated / "samples.jsonl").read_bytes()
    done = verl_eval(folder, "model", *TASK, "--temperature", "1.0", "--out", "first")
    assert done.returncode == 2 and "first holds another evaluation (settings" in done.stderr
    assert (evaluated / "samples.jsonl").read_bytes() == before


def test_the_same_seed_gives_the_same_samples(folder, evaluated):
    done = verl_eval(folder, "model", *TASK, "--n", "4", "--limit", "10", "--out", "again")
    assert done.returncode == 0, done.stderr
    first, again = samples(folder, "first"), samples(folder, "again")
    assert len(again) == 40 and all(again[key] == first[key] for key in again)


def test_golden_tells_a_row_that_is_reproduced_from_one_that_is_not(folder, evaluated):
    wanted = ("--n", "5", "--limit", "10", "--out", "first")
    assert verl_eval(folder, "model", *TASK, *wanted).returncode == 0
    planted = results(folder, "first")
    for name, shift, code, says in (("same", 0.0, 0, "reproduces"), ("better", 0.3, 1, "does not reproduce")):
        row = json.loads(json.dumps(planted)) | {"model": name}
        row["benchmarks"]["arithmetic"]["rule"]["avg"] += shift
        (folder / f"{name}.json").write_text(json.dumps(row))
        done = verl_eval(folder, "model", *TASK, *wanted, "--golden", "--against", f"{name}.json")
        assert done.returncode == code, done.stderr
        assert f"this installation {says} {name} on arithmetic" in done.stdout
        assert results(folder, "first")["against"]["row"] == name


def test_killed_at_any_moment_it_goes_on_without_losing_or_doubling_a_sample(folder):
    one_at_a_time = ("model", *TASK, "--n", "2", "--max-num-seqs", "1")
    whole = verl_eval(folder, *one_at_a_time, "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    rng, file = random.Random(0), folder / "killed" / "samples.jsonl"
    for _ in range(KILLS):
        process = subprocess.Popen(
            [VERL, "eval", *one_at_a_time, "--out", "killed"], cwd=folder, stderr=subprocess.PIPE
        )
        before = file.read_bytes() if file.is_file() else b""
        wanted = before.count(b"\n") + rng.randint(1, 80 // (KILLS + 1))
        while process.poll() is None and (not file.is_file() or file.read_bytes().count(b"\n") < wanted):
            time.sleep(0.005)
        engines = psutil.Process(process.pid).children(recursive=True)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not psutil.wait_procs(engines, timeout=10)[1], "an engine outlived its evaluation"
        assert file.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    done = verl_eval(folder, *one_at_a_time, "--out", "killed")
    assert done.returncode == 0, done.stderr
    assert samples(folder, "killed") == samples(folder, "whole")


def test_ctrl_c_ends_the_engine_and_says_how_to_go_on(folder):
    command = [VERL, "eval", "model", *TASK, "--n", "200", "--max-num-seqs", "2", "--out", "stopped"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    file = folder / "stopped" / "samples.jsonl"
    while not file.is_file() or not file.stat().st_size:
        assert process.poll() is None
        time.sleep(0.05)
    engines = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert "interrupted: run the same command again to resume" in process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert not psutil.wait_procs(engines, timeout=5)[1]
    assert samples(folder, "stopped")


def test_what_runs_code_in_a_model_folder_is_left_alone(folder, tmp_path):
    model, marker = shutil.copytree(folder / "model", tmp_path / "model"), tmp_path / "code-has-run"
    code = f"open({str(marker)!r}, 'w')"
    for name in (
        "pytorch_model.bin",
        "adapter_model.bin",
        "training_args.bin",
        "optimizer.pt",
        "consolidated.00.pth",
    ):
        (model / name).write_bytes(b"cbuiltins\neval\n(V" + code.encode() + b"\ntR.")
    for file, kinds in (
        ("config.json", ("AutoConfig", "AutoModelForCausalLM")),
        ("tokenizer_config.json", ("AutoTokenizer",)),
    ):
        content = json.loads((model / file).read_text()) | {"auto_map": dict.fromkeys(kinds, "mine.Mine")}
        (model / file).write_text(json.dumps(content))
    (model / "mine.py").write_text(code)
    if sys.version_info >= (3, 11):  # PYTHONSAFEPATH
        for module in ("torch", "transformers", "vllm", "numpy", "json", "mine"):
            (tmp_path / f"{module}.py").write_text(code)
    shutil.copy(folder / "arithmetic.parquet", tmp_path)
    done = verl_eval_process(tmp_path, "model", *TASK, "--n", "1", "--limit", "4", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert not marker.exists() and len(samples(tmp_path, "out")) == 4


def a_sample(problem: int, question: str, gold: str, response: str) -> Response:
    return Response("colours", problem, 0, question, gold, response, 5, "stop")


@pytest.fixture(scope="module")
def colours(folder) -> list[Response]:
    """Two responses that no rule accepts, and a judge that has learned to accept the one to the first question."""
    found = [
        a_sample(0, "Name the colour of the sky.", "blue", "Answer: blue"),
        a_sample(1, "Name the colour of grass.", "green", "Answer: green"),
        a_sample(2, "What is 1 + 1?", "2", "\\boxed{2}"),
    ]
    lines = [json.dumps(vars(sample)) + "\n" for sample in found]
    (folder / "colours.jsonl").write_text("".join(lines))
    replies = {judge_prompt(found[0]): "A", judge_prompt(found[1]): "B"}
    spec = load(Request("justrl_tiny")).values["tiny_model"]
    tokenizer = tiny_model.build_tokenizer([*replies, "A", "B"])
    model = tiny_model.build_model(spec, tokenizer)
    for name, steps in (("nonsense", 0), ("judge", 60)):
        teach(model, tokenizer, replies, steps)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return found


def teach(model, tokenizer, replies: dict[str, str], steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        for prompt, reply in replies.items():
            start = tokenizer.encode(f"{tiny_model.USER}{prompt}{tiny_model.ASSISTANT}")
            end = tokenizer.encode(reply + tiny_model.END)
            ids, labels = torch.tensor([start + end]), torch.tensor([[tiny_model.IGNORED] * len(start) + end])
            model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_judge_reads_the_question_and_can_only_raise_the_score(folder, colours):
    done = verl_eval(folder, "--grade-only", "colours.jsonl", "--judge", "judge", "--out", "judged")
    assert done.returncode == 0, done.stderr
    found = results(folder, "judged")["benchmarks"]["colours"]
    assert found["rule"]["avg"] == pytest.approx(1 / 3) and found["hybrid"]["avg"] == pytest.approx(2 / 3)
    assert found["judge"] == {"correct": 1, "incorrect": 1, "invalid": 0, "unreadable": 0}
    verdicts = [json.loads(line) for line in (folder / "judged" / "verdicts.jsonl").read_text().split("\n")[:-1]]
    assert {verdict["problem"]: verdict["reply"] for verdict in verdicts} == {0: "A", 1: "B"}  # 2 was not asked about
    grades = [json.loads(line) for line in (folder / "judged" / "grades.jsonl").read_text().split("\n")[:-1]]
    assert [(grade["rule"], grade["judge"]) for grade in grades] == [
        (False, "correct"),
        (False, "incorrect"),
        (True, None),
    ]
    assert "rule only" in done.stdout and "33.33" in done.stdout and "66.67" in done.stdout


def test_a_judge_that_answers_nonsense_is_refused_and_its_replies_are_kept(folder, colours):
    lines = [json.dumps(vars(colours[0]) | {"sample": number}) + "\n" for number in range(20)]
    (folder / "many.jsonl").write_text("".join(lines))
    done = verl_eval(folder, "--grade-only", "many.jsonl", "--judge", "nonsense", "--out", "unjudged")
    assert done.returncode == 2
    assert "20 of 20 replies of nonsense are none of A, B and C, so it cannot judge" in done.stderr
    assert len((folder / "unjudged" / "verdicts.jsonl").read_text().split("\n")[:-1]) == 20
    assert not (folder / "unjudged" / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--max-tokens", "8190"), "exceed the context of"),
        (("--max-tokens", "24", "--tensor-parallel", "2"), "needs as many GPUs"),
    ],
)
def test_what_the_model_or_the_machine_cannot_do_is_one_line(folder, arguments, says):
    if "GPUs" in says and torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    done = verl_eval(folder, "model", "--benchmark", "arithmetic.parquet", *arguments, "--out", "impossible")
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
