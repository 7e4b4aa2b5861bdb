"""What `verl eval` does around the engine: tasks, samples, grades, comparisons, folders, the command's refusals."""

import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from command import verl
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.data import benchmarks, schema
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation import comparison, generation, grading, models, responses, results_output, scores
from justrl_recipe.evaluation.evaluation_run import RESPONSES, claim
from justrl_recipe.evaluation.grading import Verdict
from justrl_recipe.evaluation.responses import Response


def verl_eval(where: Path, *arguments: str) -> subprocess.CompletedProcess:
    return verl("eval", *arguments, cwd=where, COLUMNS="60")


def sample(problem: int, number: int, response: str, gold: str = "34", benchmark: str = "AIME24") -> Response:
    return Response(benchmark, problem, number, f"problem {problem}", gold, response, len(response), "stop")


def write_samples(file: Path, found: list[Response]) -> Path:
    file.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found))
    return file


def benchmark_file(path: Path, rows: int, name: str = "AIME24", gold: str = "34") -> Path:
    suffix = schema.EVALUATION_SUFFIX
    schema.write_parquet(path, [schema.row(name, row, "test", f"problem {row}{suffix}", gold) for row in range(rows)])
    return path


# --- tasks


def test_the_nine_take_the_papers_number_of_samples(tmp_path):
    for benchmark in benchmarks.BENCHMARKS:
        benchmark_file(tmp_path / f"{benchmark.name}.parquet", benchmark.rows, benchmark.name)
    found = benchmarks.load([], tmp_path, None, None)
    assert [task.name for task in found] == [benchmark.name for benchmark in benchmarks.BENCHMARKS]
    assert sum(len(task.response_keys()) for task in found) == 12_184
    assert [len(task.response_keys()) for task in benchmarks.load(["aime-24", "MATH500"], tmp_path, 2, 10)] == [
        20,
        20,
    ]


def test_every_sample_has_a_seed_of_its_own_that_only_its_key_and_the_seed_decide():
    keys = [("AIME24", problem, number) for problem in range(30) for number in range(32)]
    assert len({responses.seed_of(key, 0) for key in keys}) == len(keys)
    assert responses.seed_of(keys[5], 0) == 2_538_433_540 != responses.seed_of(keys[5], 1)


# --- samples


def test_the_authors_files_are_read_by_their_names(tmp_path):
    file = tmp_path / "olympiad-bench_t0.7_p0.9_n2-MNT31744.jsonl"
    rows = [
        {"example_id": problem, "prompt": "p", "answer": "\\boxed{204}", "seed": 7, "response": f"{problem}{number}"}
        for number in range(2)
        for problem in range(2)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(responses.read(file))
    assert [one.key for one in found] == [
        ("OlympiadBench", problem, number) for number in (0, 1) for problem in (0, 1)
    ]
    assert {one.gold for one in found} == {"204"}
    assert responses.sampling_settings(file) == {"temperature": 0.7, "top_p": 0.9, "max_tokens": 31_744}
    file.write_text(file.read_text().rpartition('{"example_id"')[0])
    with pytest.raises(UserError, match="1 samples of example_id 1, by its name there are 2"):
        list(responses.read(file))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[:-20], "line 3 is cut or not JSON"),
        (lambda text: text.replace('"gold": "34", ', "", 1), "line 1 is not a sample: missing"),
        (
            lambda text: text.replace('"problem": 1', '"problem": "1"'),
            "line 2 is not a sample: problem is not a whole number",
        ),
        (
            lambda text: text.replace('"response": "a"', '"response": null', 1),
            "line 1 is not a sample: response is not text",
        ),
        (
            lambda text: text.replace('"tokens": 1', '"tokens": "1"', 1),
            "line 1 is not a sample: tokens is not a whole number",
        ),
        (
            lambda text: text.replace('"response": "a"', '"response": "\\ud83d"', 1),
            "line 1 is not a sample: 'utf-8' codec",
        ),
        (lambda text: "[]\n" + text, "line 1 is not a sample"),
        (lambda text: text + "\x00\n", "line 4 is cut or not JSON"),
        (lambda text: "", "is empty"),
    ],
)
def test_a_damaged_samples_file_is_one_line_that_names_the_line(tmp_path, change, says):
    file = write_samples(tmp_path / "samples.jsonl", [sample(problem, 0, "a") for problem in range(3)])
    file.write_text(change(file.read_text()))
    done = verl_eval(tmp_path, "--grade-only", "samples.jsonl")
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "evals").exists()


def test_a_sample_that_stands_in_two_files_is_refused(tmp_path):
    write_samples(tmp_path / "one.jsonl", [sample(0, 0, "a")])
    write_samples(tmp_path / "two.jsonl", [sample(0, 0, "b")])
    done = verl_eval(tmp_path, "--grade-only", "one.jsonl", "--grade-only", "two.jsonl")
    assert done.returncode == 2 and "sample 1 of AIME24 problem 1 occurs twice" in done.stderr


# --- grading


@given(
    st.lists(
        st.sampled_from(
            ["\\boxed{34}", "\\boxed{34.0} end", "\\boxed{35}", "", "\\boxed{34", "\\boxed{34} \\boxed{1}"]
        ),
        max_size=20,
    ),
    st.sampled_from(["34", "1"]),
)
def test_grading_gives_each_sample_the_verifiers_own_verdict(endings, gold):
    found = [sample(number, 0, "text " * number + ending, gold) for number, ending in enumerate(endings)]
    for verifier, score in grading.VERIFIERS.items():
        for one, graded in zip(found, grading.grade(found, verifier), strict=True):
            direct = score("", one.response, gold)
            assert (graded.pred, graded.correct) == (direct["pred"], direct["acc"])


def test_equal_answers_vote_together():
    responses = ["\\boxed{\\frac{1}{2}}", "\\boxed{\\dfrac12}", "\\boxed{3}", "\\boxed{ 3 }", "none", "\\boxed{}"]
    graded = grading.grade([sample(0, number, text, "7") for number, text in enumerate(responses)], "robust_verifier")
    votes = [one.vote for one in graded]
    assert votes[0] == votes[1] != votes[2] == votes[3] and votes[4:] == [None, None]


def test_the_strict_verifier_wants_the_box_at_the_end_and_letter_by_letter():
    found = [sample(0, 0, "\\boxed{34}" + " " * 100), sample(0, 1, "\\boxed{34.0}"), sample(0, 2, "\\boxed{34}")]
    assert [one.correct for one in grading.grade(found, "rule_based")] == [False, False, True]
    assert [one.correct for one in grading.grade(found, "robust_verifier")] == [True, True, True]


# --- the judge


def test_the_judge_reads_problem_reference_and_what_follows_the_thinking():
    text = grading.judge_prompt(sample(3, 0, "<think>" + "x" * 9_000 + "</think> The answer is 34 {braces}."))
    assert "problem 3" in text and "\n34\n" in text and "The answer is 34 {braces}." in text and "xxx" not in text
    assert len(grading.judge_prompt(sample(3, 0, "y" * 90_000))) < 8_000


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", Verdict.CORRECT),
        (" \\boxed{A}", Verdict.CORRECT),
        ("**B**: it differs", Verdict.INCORRECT),
        ("(C)", Verdict.INVALID),
        ("C.", Verdict.INVALID),
        ("B\nbecause", Verdict.INCORRECT),
        ("As the answer agrees", Verdict.UNREADABLE),
        ("A final answer is missing", Verdict.UNREADABLE),
        ("A correct answer would be 5, the response says 4", Verdict.UNREADABLE),
        ("correct", Verdict.UNREADABLE),
        ("", Verdict.UNREADABLE),
    ],
)
def test_a_verdict_is_the_letter_that_the_reply_starts_with(reply, verdict):
    assert grading.verdict_of(reply) is verdict


# --- results and comparison


def summary(right: dict[int, int], n: int = 8, benchmark: str = "AIME24") -> dict:
    """The results of problems of which so many of n samples are right."""
    found = [
        sample(problem, number, "\\boxed{34}" if number < count else f"\\boxed{{{number}}}", benchmark=benchmark)
        for problem, count in right.items()
        for number in range(n)
    ]
    settings = {"settings": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 31_744}, "model": "ours"}
    about = settings | {"verifier": "robust_verifier"}
    return about | scores.summarise(found, grading.grade(found, "robust_verifier"))


def test_a_judge_gives_its_votes_to_the_right_answer():
    """Two are right by the rule, three by the judge, and four agree on something wrong."""
    texts = ["\\boxed{34}"] * 2 + ["thirty-four", "\\boxed{XXXIV}", "\\boxed{34 or so}"] + ["\\boxed{5}"] * 4
    found = [sample(0, number, text) for number, text in enumerate(texts)]
    verdicts = {one.key: Verdict.CORRECT if one.sample < 5 else Verdict.INCORRECT for one in found[2:]}
    made = scores.summarise(found, grading.grade(found, "robust_verifier"), verdicts)["benchmarks"]["AIME24"]
    assert (made["rule"]["maj"], made["hybrid"]["maj"]) == (0, 1)
    assert made["hybrid"]["avg"] == pytest.approx(5 / 9) and made["judge"]["incorrect"] == 4


def test_problems_of_different_numbers_of_samples_weigh_the_same():
    found = [sample(0, 0, "\\boxed{34}"), *(sample(1, number, "\\boxed{1}") for number in range(3))]
    made = scores.summarise(found, grading.grade(found, "rule_based"))["benchmarks"]["AIME24"]
    assert made["rule"]["avg"] == 0.5 and made["samples"] == 1 and list(made["rule"]["pass"]) == ["1"]


def test_the_average_weighs_benchmarks_alike_and_they_come_in_the_papers_order():
    found = [sample(problem, 0, "\\boxed{34}", benchmark="CMIMC25") for problem in range(9)]
    found += [sample(0, 0, "no", benchmark="AIME24"), sample(0, 0, "no", benchmark="my own")]
    made = scores.summarise(found, grading.grade(found, "rule_based"))
    assert list(made["benchmarks"]) == ["AIME24", "CMIMC25", "my own"]
    assert made["average"]["rule"]["avg"] == pytest.approx(1 / 3)


def test_the_published_rows_are_the_papers():
    rows = comparison.published()
    assert rows["JustRL-DeepSeek-1.5B"].scores["AIME24"] == pytest.approx(0.526)
    assert rows["JustRL-Nemotron-1.5B"].scores[comparison.AVERAGE] == pytest.approx(0.6432)
    for row in rows.values():
        nine = [score for name, score in row.scores.items() if name != comparison.AVERAGE]
        if comparison.AVERAGE in row.scores:
            assert sum(nine) / 9 == pytest.approx(row.scores[comparison.AVERAGE], abs=3e-4), row.name
    assert "HMMT25" not in rows["BroRL"].scores


def row(score: float, problems: int = 30, n: int = 8) -> comparison.Row:
    return comparison.Row("theirs", {"AIME24": score}, {"AIME24": (problems, n)}, PAPERS, "rule", None)


def test_the_verdict_says_where_ours_is():
    found = summary({problem: 4 if problem % 2 else 6 for problem in range(30)})
    low, high = found["benchmarks"]["AIME24"]["rule"]["interval"]
    for theirs, verdict in ((low - 0.001, "above"), ((low + high) / 2, "inside"), (high + 0.001, "below")):
        assert comparison.compare(found, row(theirs))["AIME24"]["verdict"] == verdict


def test_golden_is_as_strict_as_sampling_allows_and_not_as_lax_as_the_interval():
    """Half of the problems always right, half never: no sampling noise, but a wide interval over problems."""
    found = summary({problem: 8 * (problem % 2) for problem in range(30)})
    assert comparison.compare(found, row(0.40))["AIME24"]["verdict"] == "inside"
    assert comparison.golden(found, row(0.40))["reproduces"] is False
    assert comparison.golden(found, row(0.50))["reproduces"] is True


def test_golden_accepts_what_two_evaluations_of_one_model_differ_by():
    found = summary(dict.fromkeys(range(30), 4))
    error = found["benchmarks"]["AIME24"]["rule"]["sampling_error"]
    assert comparison.golden(found, row(0.5 + 2.5 * error))["reproduces"] is True
    assert comparison.golden(found, row(0.5 + 3.0 * error))["reproduces"] is False


PAPERS = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 31_744}


@pytest.mark.parametrize(
    ("settings", "sizes", "theirs", "says"),
    [
        (PAPERS, {"AIME24": (1, 8)}, row(0.5), "theirs has 30 x 8 responses, this 1 x 8"),
        (PAPERS, {"AIME24": (30, 4)}, row(0.5), "theirs has 30 x 8 responses, this 30 x 4"),
        (PAPERS, {"AIME24": (30, 1)}, row(0.5, n=1), "one sample a problem"),
        (PAPERS, {"arithmetic": (30, 8)}, row(0.5), "theirs has none of these benchmarks: arithmetic"),
        (PAPERS, {"AMC23": (40, 32)}, comparison.published()["BroRL"], "give --judge"),
        (PAPERS | {"top_p": 1.0}, {"AIME24": (30, 8)}, row(0.5), "evaluated with top_p 0.9, this with 1.0"),
        ({}, {"AIME24": (30, 8)}, row(0.5), "evaluated with temperature 0.7, this with None"),
    ],
)
def test_golden_refuses_what_cannot_be_compared(settings, sizes, theirs, says):
    comparison.require_comparable(
        row(0.5), PAPERS, {"AIME24": (30, 8), "arithmetic": (5, 1)}, "robust_verifier", False
    )
    with pytest.raises(UserError, match=re.escape(says)):
        comparison.require_comparable(theirs, settings, sizes, "robust_verifier", False)


def test_golden_compares_scores_of_one_kind_only():
    sizes, paper = {"AMC23": (40, 32)}, comparison.published()
    comparison.require_comparable(paper["JustRL-DeepSeek-1.5B"], PAPERS, sizes, "robust_verifier", True)
    for theirs, verifier, asked, says in (
        (paper["BroRL"], "robust_verifier", True, "BroRL has none of these benchmarks: AMC23"),
        (paper["JustRL-DeepSeek-1.5B"], "rule_based", True, "this by rule_based"),
        (row(0.5), "robust_verifier", True, "evaluated without a judge, this with one"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            comparison.require_comparable(theirs, PAPERS, sizes, verifier, asked)


def test_a_results_file_is_a_row_to_compare_with(tmp_path):
    found = summary(dict.fromkeys(range(30), 4))
    (tmp_path / "results.json").write_text(json.dumps(found))
    theirs = comparison.find(str(tmp_path / "results.json"))
    assert theirs.name == "ours" and theirs.sizes == {"AIME24": (30, 8)}
    assert comparison.golden(found, theirs)["reproduces"] is True
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"is not a results\.json"):
        comparison.find(str(tmp_path / "results.json"))
    with pytest.raises(UserError, match=r"did you mean 'JustRL-DeepSeek-1\.5B'"):
        comparison.find("JustRL-Deepseek")


# --- the folder


ABOUT = {"model": "m", "settings": {"seed": 0}, "benchmarks": {"AIME24": "digest"}}


def test_a_folder_takes_more_benchmarks_but_no_other_evaluation(tmp_path):
    place = tmp_path / "out"
    with claim(place, ABOUT | {"settings": {"seed": 7}}):
        pass  # an evaluation that got nowhere holds no claim
    with claim(place, ABOUT):
        (place / RESPONSES).write_text("{}\n")
    with claim(place, ABOUT | {"benchmarks": {"AMC23": "other"}}):
        pass
    assert json.loads((place / "evaluation.json").read_text())["benchmarks"] == {"AIME24": "digest", "AMC23": "other"}
    before = (place / "evaluation.json").read_bytes()
    for change, says in (
        ({"settings": {"seed": 1}}, r'settings \{"seed": 0\}, now \{"seed": 1\}'),
        ({"model": "n"}, "model"),
        ({"benchmarks": {"AIME24": "changed"}}, "other problems of AIME24"),
    ):
        with pytest.raises(UserError, match=says), claim(place, ABOUT | change):
            pytest.fail("the folder was handed over")
    assert (place / "evaluation.json").read_bytes() == before


def test_a_folder_serves_one_evaluation_at_a_time(tmp_path):
    place, refused = tmp_path, []

    def other() -> None:
        try:
            with claim(place, ABOUT):
                pass
        except UserError as error:
            refused.append(str(error))

    with claim(place, ABOUT):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert refused and "in use by another process" in refused[0]


@given(st.lists(st.text(max_size=30), max_size=5), st.integers(0, 400))
def test_a_cut_file_keeps_its_whole_lines(tmp_path_factory, texts, cut):
    file = tmp_path_factory.mktemp("cut") / "samples.jsonl"
    with responses.appending(file) as append:
        for text in texts:
            append({"text": text})
    whole = file.read_bytes()
    file.write_bytes(whole[:cut])
    responses.keep_whole_lines(file)
    assert file.read_bytes() == whole[: whole[:cut].rfind(b"\n") + 1]
    with responses.appending(file) as append:
        append({"text": "new"})
    assert [json.loads(line)["text"] for line in file.read_text().split("\n")[:-1]][-1] == "new"


# --- the engines

STUB = """
import sys
from multiprocessing.connection import Connection
from justrl_recipe.evaluation.generation import Generated
connection = Connection(int(sys.argv[1]))
workload = connection.recv()
ending = workload.prompts[0].text
if ending == "refuse":
    connection.send("this model cannot")
for index, (prompt, seed) in enumerate(workload.requests if ending == "answer" else []):
    connection.send(index + 1)
    connection.send(Generated(index, f"{workload.prompts[prompt].name} {seed}", 1, "stop"))
if ending == "fail":
    raise RuntimeError("out of memory")
connection.send(None)
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """An engine without vLLM, on a machine with two GPUs."""
    (tmp_path / "stub_engine.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    monkeypatch.setattr(generation, "ENGINE", "stub_engine")
    monkeypatch.setattr(generation, "visible_gpus", lambda: ["0", "1"])

    def generate(ending: str, requests: int) -> dict[int, str]:
        model = models.Model(tmp_path, "m")
        prompts = [generation.Prompt(str(number), ending) for number in range(3)]
        wanted = [(number % 3, 10 * number) for number in range(requests)]
        workload = generation.Workload(model, prompts, wanted, generation.Sampling(1.0, 1.0, 8))
        return {found.index: found.text for found in generation.generate(workload, "generating", tmp_path)}

    return generate


@pytest.mark.parametrize("requests", [0, 1, 2, 5])
def test_every_request_is_answered_once_whatever_engine_has_it(stub, requests, capsys):
    assert stub("answer", requests) == {number: f"{number % 3} {10 * number}" for number in range(requests)}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == requests and all(f"/{requests}  " in line for line in lines)


def test_an_engine_that_refuses_or_fails_ends_the_evaluation_with_its_reason(stub):
    with pytest.raises(UserError, match="this model cannot"):
        stub("refuse", 5)
    with pytest.raises(generation.EngineFailed, match=r"RuntimeError: out of memory \(whole log: .*\.log\)"):
        stub("fail", 5)


# --- the command


def test_grades_files_that_somebody_else_made(tmp_path):
    file = tmp_path / "AIME24_t0.7_p0.9_n2-MNT31744.jsonl"
    rows = [
        {"example_id": problem, "prompt": "p", "answer": "34", "seed": 7, "response": text}
        for problem in range(30)
        for text in ("\\boxed{34}", "\\boxed{35}")
    ]
    file.write_text("".join(json.dumps(entry) + "\n" for entry in rows))
    done = verl_eval(tmp_path, "--grade-only", file.name, "--against", "JustRL-DeepSeek-1.5B", "--out", "out")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["benchmarks"]["AIME24"]["rule"] == {
        "avg": 0.5,
        "interval": pytest.approx([0.4421, 0.5579], abs=1e-4),
        "sampling_error": pytest.approx(0.5 / 30**0.5),
        "pass": {"1": 0.5, "2": 1.0},
        "maj": 0.5,
    }
    assert found["benchmarks"]["AIME24"]["length"] is None and found["benchmarks"]["AIME24"]["truncated"] is None
    assert "52.60" in done.stdout and found["against"]["benchmarks"]["AIME24"]["verdict"] == "inside"
    golden = verl_eval(tmp_path, "--grade-only", file.name, "--golden", "--against", "JustRL-DeepSeek-1.5B")
    assert golden.returncode == 2 and "was evaluated with a judge, this without: give --judge" in golden.stderr


def test_the_paper_is_printed_whole_on_a_narrow_terminal(tmp_path):
    done = verl_eval(tmp_path, "--list-published")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 9
    justrl = lines[5].split()
    assert justrl == [
        "JustRL-DeepSeek-1.5B",
        "52.60",
        "38.75",
        "91.02",
        "91.65",
        "51.47",
        "67.99",
        "21.98",
        "52.71",
        "25.63",
        "54.87",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give either a MODEL or --grade-only FILE"),
        (("--grade-only", "x.jsonl", "--golden"), "--golden needs --against NAME"),
        (("--grade-only", "x.jsonl", "--limit", "5"), "--limit is for what is generated"),
        (("model", "--benchmark", "bare.parquet"), "bare.parquet: row 1: the prompt does not ask for \\boxed{}"),
        (("model", "--benchmark", "boxed.parquet"), "boxed.parquet: row 1: the answer is in \\boxed{}"),
        (("model", "--grade-only", "x.jsonl"), "give either a MODEL or --grade-only FILE"),
        (("nowhere",), "no folder nowhere, and not the name of a model on the hub"),
        (("some/model",), "cannot download some/model"),
        (("file",), "file is a file: give the model's folder"),
        (("empty",), "empty is not a model folder (no config.json), a run folder or a veRL checkpoint"),
        (("run",), "holds no checkpoint"),
        (("bare",), "no weights"),
        (("mute",), "no tokenizer"),
        (("model",), "no data/AIME24.parquet: `verl data benchmarks --out data` makes it"),
        (("model", "--benchmark", "aime23"), "no benchmark 'aime23': give a .parquet file, or one of AIME24"),
        (("model", "--benchmark", "no.parquet"), "no file no.parquet"),
        (("model", "--benchmark", "goldless.parquet"), "goldless.parquet: row 1: the answer is empty"),
        (("model", "--benchmark", "p.parquet", "--benchmark", "p.parquet"), "p is given twice"),
        (("model", "--verifier", "vibes"), "unknown verifier 'vibes'"),
        (("model", "--golden"), "no published row 'model'"),
        (("model", "--against", "missing.json"), "cannot read missing.json"),
        (("--grade-only", "missing.jsonl"), "no file missing.jsonl"),
        (("model", "--benchmark", "p.parquet", "--judge", "mute"), "no tokenizer"),
        (("model", "--benchmark", "p.parquet", "--out", "file/x"), "cannot write file/x"),
        (("model", "--n", "0"), "Invalid value for '--n'"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing_behind(tmp_path, arguments, says):
    (tmp_path / "file").write_text("")
    for name in ("empty", "run/checkpoints", "bare", "mute", "model"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("bare", "mute", "model"):
        (tmp_path / name / "config.json").write_text("{}")
    for name in ("mute", "model"):
        (tmp_path / name / "model.safetensors").write_text("")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    benchmark_file(tmp_path / "p.parquet", 2)
    benchmark_file(tmp_path / "goldless.parquet", 2, gold="$ $")
    benchmark_file(tmp_path / "boxed.parquet", 2, gold="\\boxed{204}")
    schema.write_parquet(tmp_path / "bare.parquet", [schema.row("bare", 0, "test", "What is 1 + 1?", "2")])
    before = sorted(tmp_path.rglob("*"))
    done = verl_eval(tmp_path, *arguments)
    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_that_was_saved_as_a_model_needs_no_merging(tmp_path):
    saved = tmp_path / "run" / "checkpoints" / "global_step_2" / "actor" / "huggingface"
    saved.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (saved / name).write_text("{}")
    found = models.find(str(tmp_path / "run"))
    assert (found.folder, found.name) == (saved, "run-global_step_2")
    assert models.find(str(saved)) == found
    warmed_up = saved.parent.rename(tmp_path / "global_step_100")  # as the supervised trainer has it
    assert models.find(str(warmed_up / "huggingface")).name == "global_step_100"


def test_a_checkpoint_is_another_one_when_its_weights_change(tmp_path):
    for name, content in (("config.json", "{}"), ("model.safetensors", "a"), ("tokenizer.json", "{}")):
        (tmp_path / name).write_text(content)
    found = models.find(str(tmp_path))
    before = found.fingerprint()
    assert models.find(str(tmp_path)).fingerprint() == before
    (tmp_path / "model.safetensors").write_text("b")
    assert found.fingerprint() != before


def test_markdown_holds_what_the_terminal_shows():
    found = summary(dict.fromkeys(range(30), 4))
    found["against"] = {"row": "theirs", "benchmarks": comparison.compare(found, row(0.9))}
    header, lines = results_output.cells(found)
    assert all(len(line) == len(header) for line in lines)
    text = results_output.markdown(header, lines)
    assert "| AIME24 | 30 x 8 | 50.00 |" in text and text.rstrip().endswith("| 90.00 | below |")
