"""The word problems: right, disjoint, and what veRL and its supervised trainer read."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.config import Request, load
from justrl_recipe.data.check import check
from justrl_recipe.reward_fns import justrl, robust_verifier

SCRIPT = Path(__file__).parents[2] / "examples" / "smollm2" / "make_data.py"
word_problems = SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@given(st.sampled_from(word_problems.STORIES), st.data())
def test_the_worked_answer_is_right(story, data):
    numbers = {letter: data.draw(st.integers(*bounds)) for letter, bounds in story.ranges.items()}
    lines = word_problems.working(story.steps, numbers)
    if lines is None:
        return
    result = None
    for line in lines:
        left, right = line.split(" = ")
        assert eval(left.replace("/", "//")) == int(right) > 0 and eval(left) == int(right)
        assert result is None or left.startswith(f"{result} ")
        result = int(right)
    assert story.steps.count(" ") // 2 == len(lines)
    assert set(story.ranges) == {letter for letter in "abc" if f"{{{letter}}}" in story.text}


@given(st.integers(1, 200), st.sampled_from("+-*/"), st.integers(1, 60))
def test_calculating_in_parts_keeps_the_result(left, sign, right):
    result = word_problems.OPERATIONS[sign](left, right)
    if (sign == "/" and left % right) or result < 1:
        return
    terms = word_problems.in_parts(f"{left} {sign} {right} = {result}").split(" = ")
    assert {eval(term) for term in terms} == {result}
    assert len(terms) == (4 if sign != "/" and right > 10 and right % 10 else 2)


def test_the_sets_share_no_story_with_the_same_numbers():
    sets = word_problems.make_problems(3)
    assert {name: len(problems) for name, problems in sets.items()} == word_problems.SIZES
    people_and_things = re.compile("|".join(word_problems.NAMES + word_problems.THINGS))
    told = [people_and_things.sub("_", problem.question) for problems in sets.values() for problem in problems]
    assert len(set(told)) == len(told)
    assert len({problem.answer for problem in sets["validation"]}) > 60


def test_the_same_seed_makes_the_same_problems():
    assert word_problems.make_problems(1) == word_problems.make_problems(1) != word_problems.make_problems(2)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    made = subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, timeout=60)
    assert made.returncode == 0 and "data/words/train.parquet: 4,096 rows" in made.stdout, made.stderr
    return folder / "data" / "words"


def test_the_training_set_passes_the_check_of_data(written):
    assert not check(written / "train.parquet", written, None, 1024).spoiled


def test_in_validation_every_arm_is_scored_alike(written):
    """The recipe's reward takes the letter alone in training; the arms' validation curves are to be comparable."""
    [source] = pyarrow.parquet.read_table(written / "validation.parquet")["data_source"].unique().to_pylist()
    answer = r"\boxed{65 \text{ stickers}}"
    given = load(Request("justrl_smollm2")).values["reward"]["custom_reward_function"]["reward_kwargs"]
    assert justrl.compute_score(source, answer, "65", **given) == robust_verifier.compute_score(source, answer, "65")
    assert justrl.compute_score(source, answer, "65", **given)["acc"]
    assert not justrl.compute_score(word_problems.SOURCES["train"], answer, "65", **given)["acc"]


def test_the_taught_answers_are_right_and_half_of_them_in_a_form_that_the_recipe_rewards(written):
    taught = pyarrow.parquet.read_table(written / "warmup.parquet").to_pylist()
    plain = parts = 0
    for row in taught:
        [user, assistant] = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        answer = assistant["content"]
        gold = re.findall(r"= (\d+)\n[^\n]*\\boxed", answer)[0]
        assert robust_verifier.compute_score(word_problems.SOURCES["train"], answer, gold)["acc"], answer
        plain += justrl.compute_score(word_problems.SOURCES["train"], answer, gold)["score"] == 1.0
        parts += any(line.count(" = ") > 1 for line in answer.splitlines())
    assert 0.45 < plain / len(taught) < 0.55
    assert 0.3 < parts / len(taught) < 0.55
    assert len({re.sub(r"\d+", "1", row["messages"][1]["content"]) for row in taught}) > 1000  # ways to put it
