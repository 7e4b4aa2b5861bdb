"""The responses that a run keeps: which, how much of each, read back from a file that anything may be in."""

import itertools
import json
import random
from pathlib import Path

import pytest
from command import verl
from hypothesis import given
from hypothesis import strategies as st
from run_folders import two, write_run

from justrl_recipe.report.page import write as write_page
from justrl_recipe.report.runs import load
from justrl_recipe.responses import reading, summary, text
from justrl_recipe.responses.selection import PERIODS, Selection, hash_of


def batches(dataset: int, size: int, steps: int, seed: int = 0):
    """The prompts of each training step, shuffled anew for each epoch."""
    chance, waiting = random.Random(seed), list[int]()
    hashes = [hash_of("math", str(prompt)) for prompt in range(dataset)]
    for step in range(1, steps + 1):
        if len(waiting) < size:
            waiting = chance.sample(range(dataset), dataset)
        batch, waiting = waiting[:size], waiting[size:]
        yield step, {f"{step}-{prompt}": hashes[prompt] for prompt in batch}


def chosen(selection: Selection, all_batches) -> list[tuple[int, str]]:
    """Step and prompt of all that is kept."""
    kept = [(step, uid) for step, batch in all_batches for uid in selection.of_batch(step, batch)]
    return [(step, uid.partition("-")[2]) for step, uid in kept]


@given(st.integers(0, 5), st.integers(1, 400), st.integers(1, 300), st.integers(1, 40), st.integers(0, 3))
def test_what_is_kept_is_bounded(prompts, steps, dataset, size, seed):
    kept = chosen(Selection(prompts, steps), batches(dataset, min(size, dataset), steps, seed))
    assert len(kept) <= prompts * (2 * min(PERIODS, steps) + 1)
    assert prompts or not kept


def test_a_run_of_many_epochs_follows_prompts_through_it_whatever_its_seed():
    """4,380 steps of 64 epochs, as in the full recipe, with a tenth of its prompts."""
    runs = [chosen(Selection(2, 4_380), batches(1_740, 25, 4_380, seed)) for seed in (0, 1)]
    visits = [{prompt: [step for step, one in run if one == prompt] for _, prompt in run} for run in runs]
    followed = sorted(map(str, range(1_740)), key=lambda prompt: hash_of("math", prompt))[:2]
    for one, prompt in itertools.product(visits, followed):
        assert len(one[prompt]) > 40 and min(one[prompt]) < 200 and max(one[prompt]) > 4_200
    assert len(runs[0]) <= 202
    assert {1, 89, 177, 4_380} <= {step for step, _ in runs[0]}


def test_a_short_run_keeps_prompts_of_each_step_the_same_for_the_same_batch():
    kept = chosen(Selection(2, 24), batches(1_121, 16, 24))
    assert {step for step, _ in kept} == set(range(1, 25)) and len(kept) == 48
    assert kept == chosen(Selection(2, 24), batches(1_121, 16, 24))


def test_a_validation_keeps_the_same_prompts_and_not_at_each_step():
    selection = Selection(2, 4_380)
    hashes = {str(prompt): hash_of("AIME24", str(prompt)) for prompt in range(30)}
    kept = []
    for step in range(0, 4_381, 10):
        if selection.keeps_validation(step):
            kept.append((step, tuple(selection.of_validation(hashes))))
            selection.validated = step
    assert len({prompts for _, prompts in kept}) == 1 and len(kept) <= PERIODS + 2
    assert kept[0][0] == 0 and kept[-1][0] == 4_380
    assert not Selection(0, 10).keeps_validation(0)


@given(st.text(max_size=9_000))
def test_a_long_text_keeps_its_ends_and_says_how_much_is_missing(whole):
    shown, left_out = text.kept(whole)
    assert len(shown) <= text.HEAD + text.TAIL + 50
    if left_out:
        assert shown.startswith(whole[: text.HEAD]) and shown.endswith(whole[-text.TAIL :])
        assert f"{left_out:,} characters left out" in shown and left_out == len(whole) - text.HEAD - text.TAIL
    else:
        assert shown == whole


def test_what_is_counted_in_a_text():
    assert text.repeated("a b c d e f g") == 0 and text.repeated("a b c") == 0
    assert text.repeated("wait let me check " * 10) == pytest.approx(1 - 4 / 37)
    assert text.non_english("so x = 2, \u03b1 + \u03b2") == 0 and text.non_english("12 + 3") == 0
    assert text.non_english("因此 ab") == 0.5 and text.non_english("déjà") == 0.5
    assert text.boxes("\\boxed{1} or \\boxed{2}") == 2
    assert text.last_box("so \\boxed{\\frac{1}{2}}.") == (3, 22) and text.last_box("\\boxed{1") == (0, 6)
    assert text.last_box("none") == (0, 0)


@given(st.text(max_size=200))
def test_shares_are_shares(whole):
    assert 0 <= text.repeated(whole) <= 1 and 0 <= text.non_english(whole) <= 1


RESPONSE = {
    "text": "so \\boxed{34}",
    "left_out": 0,
    "tokens": 9,
    "cut": False,
    "reward": 1.0,
    "acc": 1.0,
    "reason": "exact match",
    "entropy": 0.5,
    "boxes": 1,
    "repeated": 0.0,
    "non_english": 0.0,
}
GROUP = {
    "step": 1,
    "batch": "training",
    "data_source": "math",
    "prompt": "What is 30 + 4?",
    "ground_truth": "34",
    "responses": [
        RESPONSE,
        RESPONSE | {"text": "so 35", "acc": 0.0, "reward": -1.0, "reason": "no box", "cut": True},
    ],
}


def write(folder: Path, *lines: object) -> Path:
    folder.mkdir(exist_ok=True)
    whole = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "responses.jsonl").write_text("".join(f"{line}\n" for line in whole))
    return folder


def test_a_line_is_read_as_it_was_written():
    group = reading.parse(json.dumps(GROUP).encode())
    assert (group.step, group.batch, group.prompt, group.right) == (1, "training", "What is 30 + 4?", 1)
    assert [response.verdict for response in group.responses] == ["right", "wrong"]
    assert group.responses[0]._asdict() == RESPONSE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@given(st.sampled_from([*GROUP, *RESPONSE]), JSON)
def test_a_value_of_any_type_is_read_or_refused(name, value):
    changed = GROUP | {name: value} if name in GROUP else GROUP | {"responses": [RESPONSE | {name: value}]}
    try:
        group = reading.parse(json.dumps(changed).encode())
    except ValueError:
        return
    assert len(json.dumps(group._asdict(), default=str)) < 10_000
    summary.counts([group])


def test_broken_lines_are_counted_and_one_that_is_being_written_is_not(tmp_path):
    file = write(tmp_path, GROUP, "{", "[]", json.dumps(GROUP)[:-5]) / "responses.jsonl"
    assert [group is None for group in reading.read(file)] == [False, True, True, True]
    with file.open("a") as growing:
        growing.write('{"step": 2, "batch"')
    assert sum(group is None for group in reading.read(file)) == 3


def test_a_summary_counts_each_step_and_finds_a_prompt_again(tmp_path):
    later = GROUP | {"step": 5, "responses": [RESPONSE | {"text": "thus it is 34 \\boxed{34}"}]}
    file = write(tmp_path, GROUP | {"batch": "validation"}, later, GROUP) / "responses.jsonl"
    found = summary.Summary.of(reading.read(file))
    assert found.ordered == [(1, "training"), (1, "validation"), (5, "training")]
    [(_, visits)] = found.prompts.items()
    assert sorted(group.step for group in visits) == [1, 1, 5]
    at = summary.counts(found.moments[1, "training"])
    assert (at.responses, at.right, at.reward, at.cut, at.boxes) == (2, 1, 0.0, 0.5, 1.0)
    openings = {one.text: (one.early, one.late) for one in found.phrases(found.openings)}
    assert openings == {"so \\boxed{#}": (0.5, 0.0), "so #": (0.5, 0.0), "thus it is # \\boxed{#}": (0.0, 1.0)}


# --- verl responses


def test_the_latest_responses_are_printed_with_why(tmp_path):
    run = write(tmp_path / "run", GROUP, GROUP | {"step": 3})
    done = verl("responses", run, cwd=tmp_path)
    assert done.returncode == 0 and "step 3, training, math" in done.stdout and "step 1," not in done.stdout
    assert "right (exact match), reward +1, 9 tokens, entropy 0.50\n    so \\boxed{34}\n" in done.stdout
    assert "wrong (no box), reward -1, 9 tokens, entropy 0.50, cut off\n    so 35\n" in done.stdout
    assert "What is 30 + 4?" in done.stdout and "ground truth: 34" in done.stdout
    assert "2 responses selected; steps kept: 1, 3" in done.stderr


@pytest.mark.parametrize(
    ("options", "there", "missing"),
    [
        (["--step", "1"], "step 1,", "step 3,"),
        (["--wrong"], "so 35", "so \\boxed"),
        (["--cut"], "so 35", "so \\boxed"),
        (["--wrong", "--cut", "--step", "3"], "step 3,", "so \\boxed"),
    ],
)
def test_responses_are_selected(tmp_path, options, there, missing):
    right = GROUP | {"step": 5, "responses": [RESPONSE]}
    run = write(tmp_path / "run", GROUP, GROUP | {"step": 3}, right)
    done = verl("responses", run, *options, cwd=tmp_path)
    assert done.returncode == 0 and there in done.stdout and missing not in done.stdout


def test_what_is_printed_is_bounded_and_does_not_control_the_terminal(tmp_path):
    hostile = RESPONSE | {
        "text": "\x1b]0;x\x07[bold]\x1b[2J\u202eabc\x00" + "x" * 100_000,
        "reason": "\x1b[2Jno\nbox",
    }
    run = write(tmp_path / "run", *[GROUP | {"prompt": f"\x1b[2J{n}", "responses": [hostile] * 9} for n in range(9)])
    done = verl("responses", run, cwd=tmp_path)
    assert done.returncode == 0 and "81 responses selected, 40 of which are printed" in done.stderr
    assert not set("\x1b\x07\x00\u202e") & set(done.stdout) and "[bold]" in done.stdout
    assert len(done.stdout) < 41 * (reading.LONGEST + 500)


@pytest.mark.parametrize(
    "make", [lambda run: run.mkdir(), lambda run: None, lambda run: write(run), lambda run: write(run, "{")]
)
def test_a_run_without_responses_is_refused_in_a_line(tmp_path, make):
    make(tmp_path / "run")
    done = verl("responses", "run", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and "responses" in done.stderr.splitlines()[-1]


def test_a_step_that_was_not_kept_names_those_that_were(tmp_path):
    done = verl("responses", write(tmp_path / "run", GROUP, GROUP | {"step": 9}), "--step", "8", cwd=tmp_path)
    assert done.returncode == 2 and "has no responses of step 8: give another, such as 1, 9" in done.stderr


# --- verl report


def page_of(tmp_path: Path, *lines: object) -> str:
    run = write_run(tmp_path / "run", two())
    if lines:
        write(run, *lines)
    return write_page([load(run)], run, refresh=3).read_text()  # without PDFs, which take longer than the page


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_responses_has_no_section(tmp_path):
    assert "Responses</h2>" not in page_of(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_the_page_marks_the_box_links_the_steps_and_says_what_is_broken(tmp_path):
    page = page_of(tmp_path, GROUP, GROUP | {"step": 3}, "{")
    assert page.count("so <mark>\\boxed{34}</mark>") == 2 and '<b class="cut">cut off</b>' in page
    assert '<a href="#r0-training-3-0">' in page and 'id="r0-training-3-0"' in page
    assert "1 line is not readable" in page and "The same prompt over the steps" in page


@pytest.mark.usefixtures("undrawn")
def test_a_long_response_is_folded_and_its_box_marked_across_the_fold(tmp_path):
    folded = "a" * 240 + "\\boxed{" + "b" * 1_000 + "}" + "c" * 420
    page = page_of(tmp_path, GROUP | {"responses": [RESPONSE | {"text": folded}]})
    assert "more characters</summary>" in page and page.count("<mark>") == 3
    assert text_of_the_card(page) == folded


def text_of_the_card(page: str) -> str:
    """What stands in the first card, without markup and the line that folds it."""
    inner = page.partition('<div class="text">')[2].partition("</div>")[0]
    for tag in ("<mark>", "</mark>", "<details>", "</details>"):
        inner = inner.replace(tag, "")
    before, _, rest = inner.partition("<summary>")
    return before + rest.partition("</summary>")[2]


@pytest.mark.usefixtures("undrawn")
def test_a_page_of_very_many_responses_shows_few_and_says_so(tmp_path):
    many = [GROUP | {"step": step, "responses": [RESPONSE | {"text": "<'&" * 800}] * 16} for step in range(1, 200)]
    page = page_of(tmp_path, *many)
    assert len(page) < 8 << 20 and "of these 199; the others are in responses.jsonl" in page


@pytest.mark.usefixtures("undrawn")
def test_the_responses_of_several_runs_are_folded_and_linked_apart(tmp_path):
    for seed in (1, 2):
        write(write_run(tmp_path / str(seed), two(), seed=seed), GROUP)
    assert verl("report", "1", "2", "--out", "both", cwd=tmp_path).returncode == 0
    page = (tmp_path / "both" / "report.html").read_text()
    for number, seed in enumerate((1, 2)):
        assert f"<details><summary>justrl_deepseek seed {seed}</summary>" in page
        assert f'id="r{number}-training-1-0"' in page
