"""What others wrote does not control the terminal that it is printed to."""

import io
import json
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from typer.testing import CliRunner

from justrl_recipe.cli import app, main
from justrl_recipe.data import schema
from justrl_recipe.evaluation import results_output
from justrl_recipe.run.folder import RunFolder
from justrl_recipe.run.log import errors
from justrl_recipe.run.progress import Progress
from justrl_recipe.terminal import Console, one_line, plain, say, warn

SEQUENCES = {
    "colour": "\x1b[31m",
    "24-bit colour": "\x1b[38:2::1:2:3m",
    "clear": "\x1b[2J",
    "alternate screen": "\x1b[?1049h",
    "device attributes": "\x1b[>0;276;0c",
    "title": "\x1b]0;title\x07",
    "clipboard": "\x1b]52;c;aGk=\x1b\\",
    "link": "\x1b]8;;https://example.org\x07",
    "DCS": "\x1bP1$r0m\x1b\\",
    "APC": "\x1b_G\x1b\\",
    "reset": "\x1bc",
    "character set": "\x1b(0",
    "8-bit CSI": "\x9b2J",
    "8-bit OSC": "\x9d0;title\x9c",
    "carriage return": "\r",
    "backspaces": "\b\b\b",
    "bell": "\x07",
    "delete": "\x7f",
    "next line": "\x85",
    "line separator": "\u2028",
    "override": "\u202e",
    "isolate": "\u2067",
    "mark": "\u200f",
    "two in one": "\x1b\x1b[31m",
}
# What is left of a sequence that is never closed is text, and what opens it is gone.
OPEN = ["\x1b", "\x1b[", "\x1b]0;", "\x9b", "\x9d", "\x1bP", "\x1b["]
TRICKS = "".join(SEQUENCES.values()) + "".join(OPEN)


def controls(text: str) -> list[str]:
    """The characters of a text, newlines and tabs aside, that a terminal does not just show."""
    marks = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return [
        c for c in text if c not in "\n\t" and (unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in marks)
    ]


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_leaves_nothing(name):
    assert plain(f"a{SEQUENCES[name]}b") == "ab"


@given(st.text(st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x9d[]P;\\\x07m2J\u202e\ud800"))))
def test_nothing_that_controls_is_left_and_what_is_text_stays(text):
    left = plain(text)
    assert not controls(left) and plain(left) == left
    shown = "".join(c for c in text if not controls(c))
    assert plain(shown) == shown and "\n" not in one_line(text)


@pytest.mark.parametrize("piece", [*OPEN, "\x1b]x", "\x1b[0;", "\x1b ", "\x1b[0 "])
def test_it_takes_linear_time(piece):
    started = time.process_time()
    plain(piece * 300_000 + "0" * 300_000 + " " * 300_000)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("name", [f"no\nsuch{TRICKS}\udcff", "x" * 5_000, f"{'a/' * 2_000}x.yaml"])
def test_an_error_is_one_line_of_bounded_length(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, "argv", ["verl", "validate", name])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and not controls(said) and len(said) < 3_000


def test_lines_stay_lines(capsys):
    say("one\nstill one", "two \x1b[2J\udcff")
    warn("three\rstill\nthree")
    caught = capsys.readouterr()
    assert caught.out == "one still one\ntwo \ufffd\n" and caught.err == "threestill three\n"


@pytest.mark.parametrize("name", ["[/]", "[red]x[/red]", "[link=x]", ":smile:", f"a{TRICKS}b"])
def test_a_console_prints_markup_as_it_stands(name):
    table = Table()
    table.add_column(name)
    table.add_row(name)
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    console.print(name)
    printed = console.file.getvalue()
    assert printed.count(plain(name)) == 3 and not controls(printed)


@pytest.mark.parametrize("name", ["[/]", "$\\frac$", "a|b", "\x1b[2J\u202ex\x9b2J"])
def test_a_benchmark_of_any_name_is_reported(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    sample = {"benchmark": name, "problem": 0, "sample": 0, "prompt": "p", "gold": "1", "response": "\\boxed{1}"}
    (tmp_path / "s.jsonl").write_text(json.dumps(sample) + "\n")
    done = CliRunner().invoke(app, ["eval", "--grade-only", "s.jsonl", "--out", "out"], catch_exceptions=False)
    assert done.exit_code == 0 and plain(name) in done.output and not controls(done.output)
    assert not controls((tmp_path / "out" / "results.md").read_text())
    assert (tmp_path / "out" / "results.png").stat().st_size


def test_a_published_row_of_any_name_is_printed(capsys):
    results_output.print_table(["model", "[/]"], [[f"[/]{TRICKS}", "1"]])
    printed = capsys.readouterr().out
    assert "[/]" in printed and not controls(printed)


def test_a_log_is_shown_without_control_sequences(tmp_path, capsys):
    """Also the metrics, whose names a data source is in."""

    class Ended:
        def poll(self) -> int:
            return 0

    folder = RunFolder(tmp_path)
    config = {"trainer": {"total_training_steps": 2, "nnodes": 1, "n_gpus_per_node": 1}}
    progress = Progress(folder, config, verbose=True)
    folder.log.write_bytes(f"a response [/] {TRICKS}\n".encode() + b"\x9b2J\n")
    metrics = {"critic/score/mean": 0.5, f"val-core/[/]{TRICKS}/acc/mean@4": 0.5}
    folder.metrics.write_text(json.dumps({"step": 1, "data": metrics}) + "\n")
    folder.lost_responses.write_text(
        json.dumps({"lost": 1, "responses": 2, "batch": f"[/]{TRICKS}", "step": 1}) + "\n"
    )
    list(progress.follow(Ended()))  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert printed.count("[/]") == 3 and "a response" in printed and not controls(printed)


def test_the_reason_of_a_failure_has_none(tmp_path):
    (tmp_path / "train.log").write_text(f"(Worker pid=1) {SEQUENCES['title']}ValueError: a{TRICKS}\n")
    [error] = errors(tmp_path / "train.log")
    assert error.startswith("ValueError: a") and not controls(error)


def test_data_of_any_source_is_checked(tmp_path):
    rows = [{**schema.row("x", 0, "train", "p", TRICKS), "data_source": f"[/]{TRICKS}"}]
    schema.write_parquet(tmp_path / "f.parquet", rows)
    for options in ([], ["--json"]):
        done = CliRunner().invoke(
            app, ["data", "check", str(tmp_path / "f.parquet"), *options], catch_exceptions=False
        )
        assert done.exit_code == 1 and not controls(done.output)
