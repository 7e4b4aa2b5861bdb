"""`verl data`: what it writes, what it refuses, what it finds; on small files that the tests make."""

import csv
import json
import re
import subprocess
from codecs import BOM_UTF8
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from command import verl
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from justrl_recipe.data import benchmarks, check, problems, schema, training
from justrl_recipe.errors import UserError

PREFIX = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
SUFFIX = '\n\nRemember to put your answer on its own line after "Answer:".'
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."


def verl_data(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return verl("data", *arguments, cwd=folder)


def published(problem: str, gold: str, row_id: str = "0") -> dict:
    """A row as BytedTsinghua-SIA/DAPO-Math-17k has it."""
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": PREFIX + problem + SUFFIX, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": gold, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": row_id},
    }


def write(file: Path, rows: list[dict]) -> Path:
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text(json.dumps(rows))
    return file


def read(file: Path) -> list[dict]:
    return pyarrow.parquet.read_table(file).to_pylist()


ROWS = [published("What is $1+1$?", "2"), published("求和。", "34"), published("What is $1+1$?", "2", "1")]


@pytest.mark.parametrize("name", ["dapo.parquet", "dapo.json", "dapo.jsonl"])
def test_train_holds_each_problem_once_and_asks_for_a_box(tmp_path, name):
    write(tmp_path / name, ROWS)
    done = verl_data(tmp_path, "train", "--source", name)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "data/train.parquet") == [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": f"{problem}\n\n{INSTRUCTION}", "role": "user"}],
            "ability": "math",
            "reward_model": {"ground_truth": gold, "style": "rule"},
            "extra_info": {"index": f"math_dapo-{number}", "split": "train"},
        }
        for number, (problem, gold) in enumerate([("What is $1+1$?", "2"), ("求和。", "34")])
    ]
    provenance = json.loads((tmp_path / "data/train.provenance.json").read_text())
    assert provenance["source"] == name and provenance["rows_in"] == 3 and provenance["rows_out"] == 2
    assert provenance["dropped"] == {"copies of a problem": 1} and len(provenance["source_sha256"]) == 64
    assert "2 of 3 rows; dropped: 1 copies of a problem" in done.stdout
    assert "verl data benchmarks --out data" in done.stderr  # what makes validation.parquet


def test_plain_columns_are_taken_too_and_what_is_dropped_is_counted(tmp_path):
    rows = [
        {"problem": "a?", "answer": "\\boxed{1}"},
        {"problem": "a?", "answer": "2"},
        {"problem": " ", "answer": "3"},
        {"problem": "b?", "answer": "$ $"},
        {"problem": f"c?\n\n{INSTRUCTION}", "answer": "$\\frac{1}{2}$"},
    ]
    made = training.prepare(write(tmp_path / "a.jsonl", rows), tmp_path / "o.parquet", {}, lambda rows: None)
    assert [row["reward_model"]["ground_truth"] for row in read(tmp_path / "o.parquet")] == ["1", "\\frac{1}{2}"]
    assert made["dropped"] == {
        "empty ground truth": 1,
        "empty problem": 1,
        "same problem with another ground truth": 1,
    }


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXT, st.integers(0, 5).map(str), st.booleans()), min_size=1, max_size=20))
def test_preparing_is_idempotent_and_loses_no_distinct_problem(tmp_path_factory, entries):
    prompts = [PREFIX + problem + SUFFIX if wrapped else problem for problem, _, wrapped in entries]
    wanted = {" ".join(training.problem_of(prompt).split()) for prompt in prompts} - {""}
    assume(wanted)
    folder = tmp_path_factory.mktemp("property")
    rows = [{"problem": prompt, "answer": gold} for prompt, (_, gold, _) in zip(prompts, entries, strict=True)]
    training.prepare(write(folder / "source.parquet", rows), folder / "once.parquet", {}, lambda rows: None)
    training.prepare(folder / "once.parquet", folder / "twice.parquet", {}, lambda rows: None)
    assert (folder / "once.parquet").read_bytes() == (folder / "twice.parquet").read_bytes()
    prepared = [row["prompt"][0]["content"] for row in read(folder / "once.parquet")]
    kept = [" ".join(training.problem_of(prompt).split()) for prompt in prepared]
    assert set(kept) == wanted and len(kept) == len(wanted)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    source = write(tmp_path / "s.parquet", ROWS)
    for out in ("a.parquet", "b.parquet"):
        training.prepare(source, tmp_path / out, {}, lambda rows: None)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    a, b = ((tmp_path / name).read_text() for name in ("a.provenance.json", "b.provenance.json"))
    assert a == b and str(tmp_path) not in a


def make_benchmarks(folder: Path, suffix: str = ".parquet") -> Path:
    folder.mkdir()
    for number, benchmark in enumerate(benchmarks.BENCHMARKS):
        rows: list[dict] = [
            {"problem": f"{benchmark.name} {n}: what is it?\n", "answer": f"${n}$"} for n in range(benchmark.rows)
        ]
        if number % 2:
            rows = [
                {
                    "prompt": [{"role": "user", "content": row["problem"]}],
                    "reward_model": {"ground_truth": f"\\boxed{{{row['answer']}}}"},
                }
                for row in rows
            ]
        write(folder / f"{benchmark.name}{suffix}", rows)
    return folder


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_the_nine_benchmarks_and_the_validation_set(tmp_path, suffix):
    make_benchmarks(tmp_path / "source", suffix)
    done = verl_data(tmp_path, "benchmarks", "--source", "source", "--out", "out")
    assert done.returncode == 0, done.stderr
    counts = {b.name: len(read(tmp_path / "out" / f"{b.name}.parquet")) for b in benchmarks.BENCHMARKS}
    assert list(counts.values()) == [30, 30, 40, 500, 272, 674, 30, 30, 40]
    for name in counts:
        first = read(tmp_path / "out" / f"{name}.parquet")[0]
        assert first["prompt"][0]["content"] == f"{name} 0: what is it? {INSTRUCTION}"
        assert first["reward_model"]["ground_truth"] == "0" and first["data_source"] == name
    validation = read(tmp_path / "out/validation.parquet")
    assert [row["data_source"] for row in validation] == ["AIME24"] * 30 + ["AIME25"] * 30 + ["AMC23"] * 40
    assert all(row["prompt"][0]["content"].endswith(f"what is it?\n\n{INSTRUCTION}") for row in validation)


def test_train_makes_the_validation_set_of_prepared_benchmarks(tmp_path):
    make_benchmarks(tmp_path / "source")
    assert verl_data(tmp_path, "benchmarks", "--source", "source").returncode == 0
    made = (tmp_path / "data/validation.parquet").read_bytes()
    (tmp_path / "data/validation.parquet").unlink()
    write(tmp_path / "d.parquet", ROWS)
    done = verl_data(tmp_path, "train", "--source", "d.parquet")
    assert done.returncode == 0 and done.stderr == ""
    assert (tmp_path / "data/validation.parquet").read_bytes() == made


def numbered(count: int, empty: int = 0, missing: int = 0) -> list[dict]:
    """Rows of the plain schema, one of them with an empty answer or with none."""
    rows = [{"problem": f"{n}?", "answer": "" if n == empty else "1"} for n in range(1, count + 1)]
    if missing:
        del rows[missing - 1]["answer"]
    return rows


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: write(f / "AMC23.parquet", [{"problem": "?", "answer": "1"}] * 83), "AMC23.parquet: 1 problems"),
        (lambda f: write(f / "AMC23.parquet", numbered(83)), "83 problems, AMC23 has 40"),
        (lambda f: write(f / "HMMT25.parquet", [{"q": "?", "a": "1"}]), "unknown schema: columns q, a"),
        (lambda f: (f / "HMMT25.parquet").unlink(), "no file HMMT25.parquet"),
        (lambda f: write(f / "hmmt_25.json", [{"problem": "?", "answer": "1"}]), "several files HMMT25"),
        (lambda f: write(f / "HMMT25.parquet", numbered(30, empty=17)), "row 17: the answer is empty"),
    ],
)  # fmt: skip
def test_a_wrong_benchmark_is_named_and_nothing_is_written(tmp_path, spoil, said):
    spoil(make_benchmarks(tmp_path / "source"))
    done = verl_data(tmp_path, "benchmarks", "--source", "source")
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("\\boxed{204}", "204"),
        ("$\\boxed{\\frac{1}{2}}$", "\\frac{1}{2}"),
        ("\\$32,\\!348", "32,\\!348"),
        ("$69$,$84$", "69,84"),
        (" 7\n", "7"),
        ("\u200b4\u200b2\ufeff", "42"),
        ("\u200e$\u2060", ""),
        ("π\u00ad²", "π²"),
        ("\\boxed{\\boxed{5}}", "5"),
        ("\\boxed{1},\\boxed{2}", "\\boxed{1},\\boxed{2}"),  # neither box holds the whole answer
    ],
)
def test_golds_are_what_a_box_should_hold(text, gold):
    assert schema.normalised_gold(text) == gold


def twice(file: Path, name: str) -> None:
    """A parquet file with two columns of one name beside those of the schema."""
    names = ["problem", "answer", name, name] if name != "answer" else ["problem", name, name]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(["1"])] * len(names), names), file)


def truncated(file: Path) -> None:
    write(file, ROWS)
    file.write_bytes(file.read_bytes()[:-200])


def cut_inside(file: Path) -> None:
    """A footer that promises more than the file holds."""
    write(file, [published(f"{n}?" * 50, "1") for n in range(5000)])
    whole = file.read_bytes()
    file.write_bytes(whole[:4] + b"\0" * 2000 + whole[2004:])


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("a.parquet", truncated, "a.parquet is not a whole parquet file"),
        ("a.parquet", cut_inside, "a.parquet is not a whole parquet file"),
        ("a.parquet", lambda file: file.write_bytes(b""), "a.parquet is empty"),
        ("a.parquet", lambda file: file.mkdir(), "a.parquet is a folder"),
        ("a.parquet", lambda file: None, "no file a.parquet"),
        ("a.parquet", lambda file: write(file, [{"x": 1}]), "unknown schema: columns x; expected prompt and reward"),
        ("a.txt", lambda file: file.write_text("x"), "a.txt: convert it to one of .parquet, .csv, .json, .jsonl"),
        ("a.csv", lambda file: file.write_text("x"), "the header has a single cell, 'x': separate cells by commas"),
        ("a.csv", lambda file: file.write_text("question;answer\n1+1?;2\n"), "separate cells by commas"),
        ("a.json", lambda file: file.write_text("[" * 100_000), "is not JSON (an array or a line per row)"),
        ("a.parquet", lambda file: twice(file, "answer"), "a.parquet: two columns are called 'answer': rename one"),
        ("a.parquet", lambda file: twice(file, "id"), "a.parquet: two columns are called 'id': rename one"),
        ("a.csv", lambda file: file.write_text("x,y\n1,2\n"), "unknown schema: columns x, y; expected prompt"),
        ("a.csv", lambda file: file.write_text("\n\n"), "has no rows"),
        ("a.jsonl", lambda file: file.write_text('{"problem": "a\\u0000b", "answer": "1"}'), "has a null character"),
        ("a.json", lambda file: file.write_text("[]"), "has no rows"),
        ("a.json", lambda file: file.write_text('[{"problem": '), "is not JSON"),
        ("a.jsonl", lambda file: file.write_text("[1, 2]"), "row 1 is not a JSON object"),
        ("a.jsonl", lambda file: write(file, numbered(1, empty=1)), "no row has a problem and a ground truth"),
    ],
)  # fmt: skip
def test_a_bad_source_gets_one_line_and_leaves_nothing(tmp_path, name, make, said):
    make(tmp_path / name)
    done = verl_data(tmp_path, "train", "--source", name)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


OWN = [{"Question": f"What is {n} + {n}?\nTake your time, please.", "Solution": str(2 * n)} for n in range(1, 5)]
TRAIN = ["train", "--source"]
CHOSEN = ["--problem", "Question", "--answer", "Solution"]


def as_csv(file: Path, rows: list[dict]) -> Path:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.mark.parametrize(
    "name",
    [
        *("mine.csv", "mine.jsonl", "mine.json", "mine.parquet", "MINE.CSV", "MINE.Parquet"),
        *("bom.csv", "bom.jsonl", "bom.json"),
    ],
)
def test_columns_of_any_name_are_taken_from_any_file(tmp_path, name):
    rows = [{"id": str(n)} | row for n, row in enumerate([*OWN, OWN[0]])]
    if name.lower().endswith(".csv"):  # as a spreadsheet saves it
        as_csv(tmp_path / name, rows)
    else:
        write(tmp_path / name.lower(), rows).rename(tmp_path / name)
    if name.startswith("bom."):
        (tmp_path / name).write_bytes(BOM_UTF8 + (tmp_path / name).read_bytes())
    done = verl_data(tmp_path, *TRAIN, name, *CHOSEN)
    assert done.returncode == 0, done.stderr
    assert "4 of 5 rows; dropped: 1 copies of a problem" in done.stdout
    found = read(tmp_path / "data" / "train.parquet")
    assert [row["reward_model"]["ground_truth"] for row in found] == ["2", "4", "6", "8"]
    assert found[0]["prompt"][0]["content"] == f"{OWN[0]['Question']}\n\n{INSTRUCTION}"
    provenance = json.loads((tmp_path / "data" / "train.provenance.json").read_text())
    assert provenance["columns"] == ["Question", "Solution"]
    assert verl_data(tmp_path, "check", "data/train.parquet").returncode == 0


def test_a_csv_of_a_known_schema_needs_no_names(tmp_path):
    as_csv(tmp_path / "mine.csv", [{"question": "1+1?", "answer": "4.0"}, {"question": "1+2?", "answer": " $3$ "}])
    assert verl_data(tmp_path, *TRAIN, "mine.csv").returncode == 0
    found = read(tmp_path / "data" / "train.parquet")
    assert [row["reward_model"]["ground_truth"] for row in found] == ["4.0", "3"]  # text is taken as it stands


HEADER = b"Question,Solution\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", HEADER, "a.csv has no rows"),
        ("a.csv", b"Question,Answer\n1,2\n", "no column 'Solution': there are Question, Answer"),
        ("a.csv", b"Question,Solution,Question\n1,2,3\n", "two columns are called 'Question'"),
        ("a.csv", HEADER + b"1,2\n1,2,3\n", "row 2 has 3 cells, the header has 2"),
        ("a.csv", HEADER + b"1\n", "row 1 has 1 cells, the header has 2"),
        ("a.csv", HEADER + b"1,2\nx\0y,2\n", "null character|line contains NUL"),
        ("a.csv", HEADER + "é,1\n".encode() + "é,1\n".encode("latin-1"), "line 3 is not UTF-8 text"),
        ("a.csv", "Question,Solution\n1,2\n".encode("utf-16"), "line 1 is not UTF-8 text"),
        ("a.csv", HEADER + b'"1,2\n' + b"3,4\n" * 100_000, "more than 131,072 characters: .* close the double quote"),
        ("a.csv", HEADER + b'1"2" 3,"4" 5\n', "is not CSV: line 2"),
        ("a.csv", HEADER + b"," * (17 << 20) + b"\n", "line 2 has more than 16 MB"),
        ("a.csv", HEADER + b'"\n",' * (6 << 20), "a row has more than 16 MB"),
        ("a.csv", HEADER + b"1,2\r3,4\r", "is not CSV: line 2"),
        ("a.csv", HEADER + b",2\n", "no row has a problem and a ground truth"),
        ("a.csv", HEADER + b"1," + b"4" * 1_000_000, "a.csv: line 2: a cell has more than 131,072 characters"),
        ("a.jsonl", b'{"Question": "1", "Solution": true}', "row 1: column Solution has True, not a text: give"),
        ("a.jsonl", b'{"Question": "1", "Solution": 0.5}', "row 1: column Solution has the number 0.5"),
        ("a.jsonl", b'{"Question": ["x", {}], "Solution": "1"}', "row 1: column Question has a list, not a text"),
        ("a.json", b'{"Question": ["x", "y"], "Solution": ["1", "2"]}', "Question has a list, .*: give one row"),
        ("a.jsonl", b'{"Question": "x", "Solution": ["1"]}', "row 1: column Solution has a list, not a text"),
        ("a.jsonl", b'{"Question": {"ground_truth": "x"}, "Solution": "1"}', "column Question has an object, not a"),
        ("a.jsonl", b'{"Question": 17, "Solution": "1"}', "column Question has 17, not a text: .* another column"),
        ("a.json", b'{"data": [{"Question": "x"}]}', "'Question': there are data; --problem and --answer name"),
        ("a.json", b'[{"Question": ' + b"[" * 100_000, "is nested too deep"),
        ("a.jsonl", b'{"Question": "1"}', "no column 'Solution': there are Question"),
        ("a.jsonl", b'{"Question": "1", "Solution": null}', "no row has a problem and a ground truth"),
        ("a.jsonl", b"\xef\xbb\xbf{}", "a.jsonl: no column 'Question': there are none"),
        ("a.parquet", b"PAR1 nothing", "a.parquet is not a whole parquet file"),
    ],
)  # fmt: skip
def test_a_hostile_source_gets_one_line_and_leaves_nothing(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    done = verl_data(tmp_path, *TRAIN, name, *CHOSEN)
    assert done.returncode == 2, done.stdout
    assert re.search(said, done.stderr) and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"Question": "1", "Solution": b"2"}], "row 1: column Solution has b'2'"),
        ([{"Question": 1.5, "Solution": "2"}], "row 1: column Question has 1.5, not a text"),
        ([{"Question": "1", "Answer": "2"}], "no column 'Solution': there are Question, Answer"),
        ([{"Question": "1", "Solution": {"value": "2"}}], "column Solution has no field ground_truth"),
    ],
)
def test_wrong_types_of_a_parquet_file_are_one_line(tmp_path, rows, said):
    write(tmp_path / "a.parquet", rows)
    done = verl_data(tmp_path, *TRAIN, "a.parquet", *CHOSEN)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("given", [["--problem", "x"], CHOSEN, ["--source", "a.csv", "--answer", "x"]])
def test_columns_are_named_together_and_of_a_file(tmp_path, given):
    done = verl_data(tmp_path, "train", *given)
    assert done.returncode == 2 and "--problem and --answer go together, and with --source" in done.stderr


def test_one_column_for_both_is_refused(tmp_path):
    as_csv(tmp_path / "a.csv", OWN)
    done = verl_data(tmp_path, *TRAIN, "a.csv", "--problem", "Solution", "--answer", "Solution")
    assert done.returncode == 2 and "name the same column 'Solution'" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("out", ["taken", "taken/below", "new/below"])
def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path, out):
    as_csv(tmp_path / "a.csv", OWN)
    (tmp_path / "taken").write_text("mine")
    given = [*TRAIN, "a.csv", *CHOSEN, "--out", out]
    if out == "new/below":  # a folder that is made is removed with its parents where the source is refused
        given = [*TRAIN, "a.csv", "--problem", "Question", "--answer", "none", "--out", out]
    done = verl_data(tmp_path, *given)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert (
        "taken" not in out or f"cannot write {out}/train.parquet: {out} is no folder: choose another" in done.stderr
    )
    assert (tmp_path / "taken").read_text() == "mine" and {file.name for file in tmp_path.iterdir()} == {
        "a.csv",
        "taken",
    }


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet"])
@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_value_is_dropped_and_counted_in_any_file(tmp_path, name, missing):
    rows = [*OWN, {"Question": missing, "Solution": "1"}, {"Question": "Why?", "Solution": missing}]
    (as_csv if name == "a.csv" else write)(tmp_path / name, rows)
    columns = ("Question", "Solution")
    made = training.prepare(tmp_path / name, tmp_path / "o.parquet", {}, lambda rows: None, columns)
    assert made["rows_out"] == 4 and made["dropped"] == {"empty ground truth": 1, "empty problem": 1}


def test_a_missing_key_is_a_missing_value(tmp_path):
    write(tmp_path / "a.jsonl", numbered(20, missing=17))
    made = training.prepare(tmp_path / "a.jsonl", tmp_path / "o.parquet", {}, lambda rows: None)
    assert made["rows_out"] == 19 and made["dropped"] == {"empty ground truth": 1}


def test_no_network_is_one_line(tmp_path):
    for command in (("train",), ("benchmarks",)):
        done = verl_data(tmp_path, *command)
        assert done.returncode == 2 and "give --source" in done.stderr
        assert "Traceback" not in done.stderr and not (tmp_path / "data").exists()


GOOD = schema.row("math_dapo", 0, "train", f"What is it?\n\n{INSTRUCTION}", "2")


def prepared(folder: Path, **changes) -> Path:
    """A file of one good row and one changed."""
    changed = schema.row("math_dapo", 1, "train", f"What is that?\n\n{INSTRUCTION}", "3")
    changed["prompt"][0]["content"] = changes.get("prompt", changed["prompt"][0]["content"])
    changed["reward_model"]["ground_truth"] = changes.get("gold", "3")
    schema.write_parquet(folder / "f.parquet", [GOOD, changed])
    return folder / "f.parquet"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"gold": " "}, "empty ground truth"),
        ({"gold": "1}"}, "ground truth that can never match exactly"),
        ({"gold": "x" * 93}, "ground truth that can never match exactly"),
        ({"prompt": "What is that?"}, "prompt that does not ask for \\boxed{}"),
        ({"prompt": f"{PREFIX}What is that? {INSTRUCTION}"}, "prompt that asks for `Answer:`"),
    ],
)
def test_check_finds_what_would_spoil_a_run(tmp_path, changes, name):
    prepared(tmp_path, **changes)
    done = verl_data(tmp_path, "check", "f.parquet", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["spoiled"] is True
    found = {finding["name"]: finding for finding in report["findings"]}
    assert found[name]["count"] == 1 and found[name]["rows"] == [2]
    assert name in verl_data(tmp_path, "check", "f.parquet").stdout


def test_check_warns_of_a_copy(tmp_path):
    prepared(tmp_path, prompt=f"What  is it? {INSTRUCTION}")
    done = verl_data(tmp_path, "check", "f.parquet", "--json")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    finding = found["problem that stands in the file already"]
    assert (finding["count"], finding["rows"], finding["spoils"]) == (1, [2], False) and done.returncode == 0


def test_check_passes_what_is_good_and_says_what_it_did_not_ask(tmp_path):
    done = verl_data(tmp_path, "check", str(prepared(tmp_path)))
    assert done.returncode == 0 and "not checked: give --tokenizer" in done.stdout
    assert "not checked: no benchmarks in" in done.stdout


def test_check_notes_golds_that_are_no_mathematics(tmp_path):
    report = check.check(prepared(tmp_path, gold="\\frac{1}{"), tmp_path, None, 1024)
    assert {f.name: f.count for f in report.findings}["ground truth that is not mathematics to the verifier"] == 1
    report = check.check(prepared(tmp_path, gold="\\frac{1}{x}"), tmp_path, None, 1024)
    assert {f.name: f.count for f in report.findings}["ground truth that is not mathematics to the verifier"] == 0


def test_check_finds_problems_of_a_benchmark(tmp_path):
    words = "Let a and b be two positive integers such that their sum is twelve and their product is greatest"
    source = make_benchmarks(tmp_path / "source")
    rows = [{"problem": f"{words}. Find a-b. {n}", "answer": "1"} for n in range(30)]
    write(source / "HMMT25.parquet", rows)
    benchmarks.prepare(tmp_path / "b", source)
    same = prepared(tmp_path, prompt=f"{words.upper()}: find $a - b$... 0\n\n{INSTRUCTION}")
    report = check.check(same, tmp_path / "b", None, 1024)
    assert [f.count for f in report.findings[-2:]] == [1, 0] and report.spoiled
    near = prepared(tmp_path, prompt=f"Hello! {words}; what is the value of a?\n\n{INSTRUCTION}")
    report = check.check(near, tmp_path / "b", None, 1024)
    assert [f.count for f in report.findings[-2:]] == [0, 1] and report.spoiled


def test_check_refuses_what_is_no_prepared_file(tmp_path):
    write(tmp_path / "f.parquet", [{"problem": "?", "answer": "1"}])
    done = verl_data(tmp_path, "check", "f.parquet")
    assert done.returncode == 2 and "no column prompt" in done.stderr
    with pytest.raises(UserError, match="has no rows"):
        schema.write_parquet(tmp_path / "e.parquet", [])
        check.check(tmp_path / "e.parquet", tmp_path, None, 1024)


def test_run_refuses_data_that_its_reward_cannot_work_with(tmp_path):
    write(tmp_path / "train.parquet", ROWS)
    schema.write_parquet(tmp_path / "val.parquet", [GOOD])
    files = ("data.train_files=train.parquet", "data.val_files=val.parquet")
    done = verl("run", "justrl_deepseek", *files, cwd=tmp_path)
    assert done.returncode == 2 and "verl data check train.parquet" in done.stderr
    assert not (tmp_path / "runs").exists()
    missing = verl("run", "justrl_deepseek", cwd=tmp_path)
    assert missing.returncode == 2 and "`verl data train --out data`" in missing.stderr


def test_a_file_larger_than_a_batch_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(problems, "BATCH_ROWS", 7)
    for name in ("a.parquet", "a.jsonl"):
        rows = [{"problem": f"{n % 30}?", "answer": str(n % 30)} for n in range(100)]
        made = training.prepare(write(tmp_path / name, rows), tmp_path / "o.parquet", {}, lambda rows: None)
        assert made["rows_in"] == 100 and made["rows_out"] == 30
        assert made["dropped"] == {"copies of a problem": 70}
