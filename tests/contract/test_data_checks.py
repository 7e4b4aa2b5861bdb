"""What `verl validate` finds in a run's data before the start: values as the trainer hands them to the reward."""

import contextlib
import datetime
import decimal
import json
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from data_files import brief, found, rows, validation, write
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from justrl_recipe.cli import app
from justrl_recipe.data import benchmarks, check, parquet, rl_dataset, schema, training
from justrl_recipe.errors import UserError

OWN_REWARD = "reward.custom_reward_function.path=/tmp/my_reward.py"
MODEL = "actor_rollout_ref.model"
NEVER = "ground truth that can never match exactly"
NOT_PLAIN = "ground truth that is not a plain answer"


def reward_model(golds: pyarrow.Array) -> pyarrow.Array:
    return pyarrow.StructArray.from_arrays([golds], ["ground_truth"])


def test_fit_data_has_no_problem(tmp_path):
    assert found(write(tmp_path / "f.parquet", rows(300))) == []


OTHER_TYPES = {
    "integers": pyarrow.array(range(300)),
    "floats": pyarrow.array([4.0] * 300),
    "not a number": pyarrow.array([float("nan")] * 300),
    "booleans": pyarrow.array([True] * 300),
    "bytes": pyarrow.array([b"4"] * 300),
    "decimals": pyarrow.array([decimal.Decimal("1.5")] * 300),
    "dates": pyarrow.array([datetime.date(2020, 1, 1)] * 300),
    "lists": pyarrow.array([["34"]] * 300),
    "integers in a dictionary": pyarrow.array([1, 2, 3] * 100).dictionary_encode(),
    "bytes in a dictionary": pyarrow.array([b"1", b"2"] * 150).dictionary_encode(),
}


@pytest.mark.parametrize("name", OTHER_TYPES)
def test_ground_truths_that_are_no_text_are_an_error(tmp_path, name):
    file = write(tmp_path / "f.parquet", rows(300), reward_model=reward_model(OTHER_TYPES[name]))
    [problem] = found(file)
    assert (problem.check, problem.level, problem.key) == ("data-content", "error", "data.train_files")
    assert f"{NEVER}: 300 of 300 rows" in problem.why and "has to be text" in problem.why
    assert check.check(Path(file), tmp_path, None, 1024).spoiled
    assert found(file, OWN_REWARD) == []  # which may take them


@pytest.mark.parametrize("name", ["integers", "floats", "lists"])
def test_verls_own_scorer_fails_at_ground_truths_that_are_no_text(tmp_path, name):
    entries = rows(300, prompt="Problem {}. Answer: \\boxed{}")
    file = write(tmp_path / "f.parquet", entries, reward_model=reward_model(OTHER_TYPES[name]))
    val = write(tmp_path / "v.parquet", entries)
    [problem] = found(file, "reward.custom_reward_function.path=null", f"data.val_files={val}")
    assert brief([problem]) == [("stock-scorer", "error")] and "300 of 300" in problem.why


@pytest.mark.parametrize("name", ["integers", "bytes", "lists"])
def test_validation_golds_that_are_no_text_are_an_error_too(tmp_path, name):
    """Those of AIME24 go to the robust verifier."""
    entries = [{**row, "data_source": "AIME24"} for row in rows(300)]
    file = write(tmp_path / "v.parquet", entries, reward_model=reward_model(OTHER_TYPES[name]))
    [problem] = found(write(tmp_path / "f.parquet", rows(300)), f"data.val_files={file}")
    assert problem.key == "data.val_files" and NEVER in problem.why and problem.level == "error"


@pytest.mark.parametrize("kind", ["large", "view", "dictionary"])
def test_other_ways_to_hold_text_are_text(tmp_path, kind):
    """As `datasets` gives them to the trainer: str."""
    import datasets

    texts = pyarrow.array([str(i) for i in range(300)])
    kinds = {"large": pyarrow.large_string(), "view": pyarrow.string_view()}
    array = texts.dictionary_encode() if kind == "dictionary" else texts.cast(kinds[kind])
    file = write(tmp_path / "f.parquet", rows(300), reward_model=reward_model(array), data_source=array)
    assert found(file) == []
    loaded = datasets.load_dataset("parquet", data_files=file, cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded[0]["reward_model"]["ground_truth"] == "0"


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("golds", "wrong"),
    [(["1", "2"], 0), ([1, 2], 300), ([1, "a"], 150), ([1.5], 300), (["2020-01-01"], 300), ([True], 300)],
)
def test_json_has_the_types_that_datasets_guesses(tmp_path, suffix, golds, wrong):
    """A date in quotes becomes a date; numbers among texts stay numbers."""
    entries = rows(300, golds)
    text = json.dumps(entries) if suffix == ".json" else "".join(json.dumps(entry) + "\n" for entry in entries)
    (tmp_path / f"f{suffix}").write_text(text)
    problems = found(str(tmp_path / f"f{suffix}"))
    assert [f"{NEVER}: {wrong} of 300 rows" in problem.why for problem in problems] == [True] * (wrong > 0)


@pytest.mark.parametrize(
    "gold", [" 34", "34\n", "$34$", "\\$34", "4.0", '["34"]', "['a', 'b']", "[34]", "proof", "NaN"]
)
def test_texts_that_no_response_has_in_its_box(tmp_path, gold):
    [problem] = found(write(tmp_path / "f.parquet", rows(300, [gold])))
    assert NOT_PLAIN in problem.why and brief([problem]) == [("data-content", "error")]
    [problem] = found(write(tmp_path / "f.parquet", rows(300, [gold] + ["1"] * 29)))
    assert "10 of 300 rows (3.3%, rows 1, 31, 61, ...)" in problem.why and problem.level == "warning"


@pytest.mark.parametrize("gold", ["34", "-1.5", "[1,2]", "(0, \\infty)", "\\text{none}", "x^2", "1.05", "{1, 2}"])
def test_answers_are_plain(tmp_path, gold):
    assert found(write(tmp_path / "f.parquet", rows(300, [gold]))) == []


def test_the_robust_verifier_takes_what_exact_match_does_not(tmp_path):
    entries = [{**row, "data_source": "AIME24"} for row in rows(8, ["$34$", "\\boxed{5}", " 7", "4.0"])]
    problems = found(
        write(tmp_path / "f.parquet", rows(300)), f"data.val_files={write(tmp_path / 'v.parquet', entries)}"
    )
    assert problems == []


@pytest.mark.parametrize(
    ("wrong", "level"), [(4, "warning"), (144, "warning"), (145, "error"), (1446, "error")]
)  # of 1,446
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"reward_model": {"ground_truth": "x" * 93, "style": "rule"}}, NEVER),
        ({"reward_model": {"ground_truth": "\\frac{1}{", "style": "rule"}}, NEVER),
        ({"reward_model": {"ground_truth": "\\boxed{34}", "style": "rule"}}, NEVER),
        ({"reward_model": {"ground_truth": "", "style": "rule"}}, "empty ground truth"),
        ({"reward_model": {"ground_truth": None, "style": "rule"}}, "empty ground truth"),
        ({"prompt": "What is it?"}, "prompt that does not ask for \\boxed{}"),
        ({"prompt": "Answer: \\boxed{} "}, "prompt that asks for `Answer:`"),
        ({"prompt": []}, "prompt without a message"),
    ],
)
def test_a_few_rows_are_a_warning_and_many_are_an_error(tmp_path, change, name, wrong, level):
    entries = rows(1446)
    for number, entry in enumerate(entries[:wrong]):
        entry |= change
        if isinstance(entry["prompt"], str):
            entry["prompt"] = [{"content": f"{number} {change['prompt']}", "role": "user"}]
    prompts = pyarrow.array([entry["prompt"] for entry in entries], schema.SCHEMA.field("prompt").type)
    file = write(tmp_path / "f.parquet", entries, prompt=prompts)
    [problem] = [problem for problem in found(file) if name in problem.why]
    assert problem.level == level and f"{wrong:,} of 1,446 rows" in problem.why
    report = check.check(Path(file), tmp_path, None, 1024)
    assert report.spoiled == (level == "error")


def test_copies_of_a_problem_are_a_warning(tmp_path):
    problems = found(write(tmp_path / "f.parquet", rows(100) * 3))
    assert brief(problems) == [("data-content", "warning")] and "200 of 300 rows" in problems[0].why


def test_the_last_row_is_looked_at_as_the_first(tmp_path):
    """Beyond any number of rows that are read at once."""
    count = 2 * parquet.BATCH_ROWS + 100
    entries = rows(count)
    entries[-1]["reward_model"]["ground_truth"] = "x" * 93
    [problem] = found(write(tmp_path / "f.parquet", entries))
    assert f"1 of {count:,} rows (0.0%, row {count})" in problem.why


def messages(*roles: str) -> list[dict]:
    return [{"role": role, "content": f"{number} {schema.INSTRUCTION}"} for number, role in enumerate(roles)]


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": messages("system", "user")},
        {"prompt": messages("user", "assistant", "user")},
        {"data_source": None},
        {"extra_info": None},
        {"ability": None},
    ],
)
def test_what_verl_accepts_is_accepted(tmp_path, change):
    entries = rows(300)
    entries[7] |= change
    assert found(write(tmp_path / "f.parquet", entries)) == []


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("prompt", ["1 + 1?"] * 300, "plain text, and veRL needs a list of messages"),
        ("prompt", [["1 + 1?"]] * 300, "veRL needs a list of messages"),
        ("prompt", [[{"role": "user", "text": "?"}]] * 300, "have no content"),
        ("prompt", [[{"content": "?"}]] * 300, "have no role"),
        ("reward_model", ['{"ground_truth": "1"}'] * 300, "reward_model is text (JSON is not decoded)"),
        ("reward_model", [{"answer": "1"}] * 300, "reward_model has no ground_truth"),
        ("reward_model", [{"ground_truth": "1"}] * 299 + [None], "row 300 has no reward_model"),
        ("extra_info", ["{}"] * 300, "extra_info is string"),
    ],
)
@pytest.mark.parametrize("own", [(), (OWN_REWARD,)])
def test_what_verl_would_fail_on(tmp_path, column, values, says, own):
    file = write(tmp_path / "f.parquet", rows(300), **{column: pyarrow.array(values)})
    [problem] = found(file, *own)
    assert says in problem.why and brief([problem]) == [("data-schema", "error")]
    with pytest.raises(UserError, match=r"f\.parquet"):
        check.check(Path(file), tmp_path, None, 1024)


@pytest.mark.parametrize("column", ["prompt", "reward_model", "data_source"])
def test_a_column_that_is_not_there(tmp_path, column):
    entries = rows(300)
    for entry in entries:
        del entry[column]
    [problem] = found(write(tmp_path / "f.parquet", entries))
    assert f"no column {column}" in problem.why and problem.check == "data-schema"


def test_prompts_of_another_column(tmp_path):
    entries = [{**row, "question": row.pop("prompt")} for row in rows(300)]
    entries_val = [{**row, "question": row.pop("prompt")} for row in rows(8)]
    file, val = write(tmp_path / "f.parquet", entries), write(tmp_path / "v.parquet", entries_val)
    assert found(file, "data.prompt_key=question", f"data.val_files={val}") == []


def test_files_that_cannot_be_joined(tmp_path):
    one = write(tmp_path / "a.parquet", rows(300))
    other = write(tmp_path / "b.parquet", [{**row, "ability": 1} for row in rows(300)])
    [problem] = found([one, other])
    assert "cannot join" in problem.why and problem.check == "data-schema"
    alike = write(tmp_path / "c.parquet", rows(300))
    assert found([one, alike]) == []  # each by itself: a copy in another file is not looked for


@pytest.mark.parametrize("name", ["f.csv", "f.txt", "f.PARQUET", "f"])
def test_a_file_that_verl_does_not_read(tmp_path, name):
    (tmp_path / name).write_text("x")
    [problem] = found(str(tmp_path / name))
    assert brief([problem]) == [("data-file", "error")] and ".parquet, .json, .jsonl" in problem.why


# 4b: rows, batches, epochs and steps


@pytest.mark.parametrize(
    ("overrides", "epochs", "steps"),
    [
        (["trainer.total_epochs=1", "trainer.total_training_steps=19"], 2, 18),
        (["trainer.total_epochs=2", "trainer.total_training_steps=100"], 6, 36),
        (["trainer.total_epochs=1", "data.train_max_samples=40"], 3, 2),
        (["trainer.total_epochs=1", "data.train_batch_size=300", "trainer.total_training_steps=2"], 2, 1),
    ],
)
def test_too_few_rows_for_the_steps(tmp_path, overrides, epochs, steps):
    """300 rows give 18 batches of 16 in an epoch; the last 12 rows are no batch."""
    file = write(tmp_path / "f.parquet", rows(300))
    [problem] = found(file, *overrides)
    assert brief([problem]) == [("data-steps", "error")] and f"{steps} steps" in problem.why
    assert f"trainer.total_epochs={epochs}" in problem.fix and f"trainer.total_training_steps={steps}" in problem.fix
    assert found(file, *overrides, f"trainer.total_epochs={epochs}") == []
    assert found(file, *overrides, f"trainer.total_training_steps={steps}") == []


def test_the_rows_of_several_files_add_up(tmp_path):
    files = [write(tmp_path / f"{name}.parquet", rows(100)) for name in "abc"]
    one_epoch = ["trainer.total_epochs=1", "trainer.total_training_steps=18"]
    assert found(files, *one_epoch) == []
    assert brief(found(files[:2], *one_epoch)) == [("data-steps", "error")]
    assert found(files, "data.train_batch_size=300", "trainer.total_training_steps=1") == []
    assert brief(found(files, "data.train_batch_size=301")) == [("data-rows", "error")]


def test_max_samples_can_leave_too_few_rows(tmp_path):
    [problem] = found(write(tmp_path / "f.parquet", rows(300)), "data.train_max_samples=15")
    assert problem.check == "data-rows" and "15 rows (data.train_max_samples=15)" in problem.why


def run_validate(train: str, *overrides: str) -> tuple[int, str]:
    val = validation(Path(train).parent)
    files = [f"data.train_files={train}", f"data.val_files={val}", "trainer.save_freq=-1", *overrides]
    done = CliRunner().invoke(app, ["validate", "justrl_deepseek", *files])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("golds", "overrides", "says"),
    [
        (range(300), [], NEVER),
        (None, ["trainer.total_epochs=1", "trainer.total_training_steps=2"], "total_training_steps=2"),
    ],
)
def test_validate_refuses_before_the_start(tmp_path, golds, overrides, says):
    changed = {} if golds is None else {"reward_model": reward_model(pyarrow.array(golds))}
    code, output = run_validate(write(tmp_path / "f.parquet", rows(300), **changed), *overrides)
    assert code == 1 and says in output
    assert run_validate(write(tmp_path / "f.parquet", rows(300))) == (0, "no problems\n")


# Speed


def test_17_000_rows_take_two_seconds(tmp_path):
    file = Path(
        write(tmp_path / "f.parquet", rows(17_000, prompt="Problem {}. " + "and so on, " * 40 + schema.INSTRUCTION))
    )
    findings = [*check.of_prompts(), *check.of_ground_truths(check.rule_based.compute_score), *check.of_boxes()]
    start = time.process_time()
    report = check.ask(file, [*findings, check.repeated()])
    assert report.rows == 17_000 and time.process_time() - start < 2


# `verl data train`: one line for whatever a source holds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4, "4"),
        (4.0, "4"),
        (-2.0, "-2"),
        (True, None),
        (0.5, None),
        (1e300, None),
        (float("nan"), None),
        (float("inf"), None),
        (b"4", None),
        (decimal.Decimal("4.00"), "4"),
        (decimal.Decimal("0.1"), None),
        (["1", "2"], None),
        ([1, 2], None),
    ],
)
def test_train_writes_whole_numbers_as_integers_and_refuses_what_is_no_text(tmp_path, value, text):
    entries = [{"problem": f"{i}?", "answer": value} for i in range(3)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(entries), tmp_path / "s.parquet")
    if text is None:
        with pytest.raises(UserError, match="row 1: column answer has"):
            training.prepare(tmp_path / "s.parquet", tmp_path / "o.parquet", {}, lambda rows: None)
        return
    training.prepare(tmp_path / "s.parquet", tmp_path / "o.parquet", {}, lambda rows: None)
    golds = [
        row["reward_model"]["ground_truth"] for row in pyarrow.parquet.read_table(tmp_path / "o.parquet").to_pylist()
    ]
    assert golds == [text] * 3


@pytest.mark.parametrize(
    "content",
    [
        b'{"problem": "a", "answer": ' + b"9" * 5000 + b"}",
        b'{"problem": "a", "answer": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"problem": "a", "answer": "\\ud800"}',
        b'{"problem": "\\udfff", "answer": "1"}',
        b'{"problem": "a", "answer": NaN}',
        b'{"problem": "a", "answer": -Infinity}',
        b'{"problem": "a", "answer": 1e999}',
        '{"problem": "\xe4", "answer": "1"}'.encode("latin-1"),
        '{"problem": "a", "answer": "1"}'.encode("utf-16"),
        b'{"problem": "a", "answer": {"ground_truth": {}}}',
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_json_that_is_no_data_gets_one_line(tmp_path, content, array):
    name = "s.json" if array else "s.jsonl"
    (tmp_path / name).write_bytes(b"[" + content + b"]" if array else content + b"\n")
    with pytest.raises(UserError, match=name) as caught:
        training.prepare(tmp_path / name, tmp_path / "o.parquet", {}, lambda rows: None)
    assert len(str(caught.value).splitlines()) == 1 and not (tmp_path / "o.parquet").exists()


def test_a_prompt_of_white_space_and_a_gold_of_boxes_take_no_time(tmp_path):
    entries = [{"problem": "a" + " " * 1_000_000 + "b", "answer": "\\boxed{" * 100_000 + "}" * 100_000}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(entries), tmp_path / "s.parquet")
    start = time.process_time()
    training.prepare(tmp_path / "s.parquet", tmp_path / "o.parquet", {}, lambda rows: None)
    assert time.process_time() - start < 5


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["prompt", "reward_model", "data_source", "problem", "answer", "extra_info"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": SCALARS, "content": SCALARS}), max_size=2)
CELLS = st.one_of(SCALARS, MESSAGES, st.fixed_dictionaries({"ground_truth": JSON}), JSON)


def must_read_or_refuse(file: Path) -> None:
    for reading in (
        lambda: training.prepare(file, file.with_name("o.parquet"), {}, lambda rows: None),
        lambda: check.check(file, file.parent / "none", None, 1024),
    ):
        try:
            reading()
        except UserError as error:
            assert len(str(error).splitlines()) == 1


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(NAMES, CELLS), min_size=1, max_size=4))
def test_any_columns_are_read_or_refused(tmp_path_factory, entries):
    file = tmp_path_factory.mktemp("any") / "f.parquet"
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(entries), file)
    except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
        return  # no parquet file holds it
    must_read_or_refuse(file)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(NAMES, JSON), min_size=1, max_size=4), st.sampled_from([".json", ".jsonl"]))
@example([{"prompt": {"0": {}, "\0": None}}], ".json")
def test_any_json_is_read_or_refused(tmp_path_factory, entries, suffix):
    file = tmp_path_factory.mktemp("any") / f"f{suffix}"
    file.write_text(json.dumps(entries) if suffix == ".json" else "".join(json.dumps(e) + "\n" for e in entries))
    must_read_or_refuse(file)


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    import tempfile

    entries = rows(30)
    with tempfile.TemporaryDirectory() as folder:
        return {
            ".parquet": Path(write(Path(folder) / "f.parquet", entries)).read_bytes(),
            ".jsonl": "".join(json.dumps(entry) + "\n" for entry in entries).encode(),
            ".json": json.dumps(entries).encode(),
        }


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([".parquet", ".jsonl", ".json"]),
    st.floats(0, 1),
    st.binary(max_size=8),
    st.sampled_from(["cut", "overwrite", "insert", "recode"]),
)
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, whole, suffix, where, damage, how):
    content = whole[suffix]
    place = int(where * len(content))
    if how == "recode" and suffix != ".parquet":
        content = content.decode().encode("utf-16")
    content = {
        "cut": content[:place],
        "overwrite": content[:place] + damage + content[place + len(damage) :],
        "insert": content[:place] + damage + content[place:],
        "recode": content,
    }[how]
    file = tmp_path_factory.mktemp("damaged") / f"f{suffix}"
    file.write_bytes(content)
    must_read_or_refuse(file)


def test_an_array_of_too_many_rows_is_refused_and_lines_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(rl_dataset, "ARRAY_ROWS", 20)
    entries = rows(21)
    array, lines = tmp_path / "f.json", tmp_path / "f.jsonl"
    array.write_text(json.dumps(entries))
    lines.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with pytest.raises(UserError, match="more than 20 rows: give JSON lines or parquet"):
        list(rl_dataset.read(array))
    assert sum(batch.rows for batch in rl_dataset.read(lines)) == 21
    array.write_text(json.dumps(entries[:20]))
    assert sum(batch.rows for batch in rl_dataset.read(array)) == 20


def test_answers_of_several_parts_are_joined_in_a_published_benchmark(monkeypatch):
    import datasets

    rows = [{"question": f"{n}?", "final_answer": ["1", "$2$"]} for n in range(674)]
    monkeypatch.setattr(benchmarks.hub, "revision", lambda *names: contextlib.nullcontext("r"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: datasets.Dataset.from_list(rows))
    pairs, origin = benchmarks.download(benchmarks.by_name("OlympiadBench"))
    assert pairs[673] == ("673?", "1, 2") and origin["revision"] == "r"
