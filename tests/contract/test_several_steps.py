"""The problems and the worked answers of examples/several_steps."""

import random
import re
import runpy
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe.reward_fns import robust_verifier, rule_based

MAKE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "several_steps" / "make.py"))
SUMS = st.integers(0, 2**32).map(lambda seed: next(MAKE["sums"](random.Random(seed))))


@given(SUMS, st.sampled_from(list(MAKE["WAYS"])))
def test_every_equation_of_the_working_holds_and_the_last_gives_the_answer(problem, way):
    lines = MAKE["working"](problem, way).splitlines()
    for line in lines:
        sides = line.split(" = ")
        assert len({eval(re.fullmatch(r"[0-9+ -]+", side)[0]) for side in sides}) == 1, line
    assert lines[-1].endswith(f"= {problem.results[-1]}") and min(problem.results) >= 0


@pytest.mark.parametrize(("ending", "exact", "robust"), [*zip(MAKE["ENDINGS"], (1, -1, -1), (1, 1, -1), strict=True)])
def test_the_verifiers_differ_in_the_form_of_the_answer(ending, exact, robust):
    response = f"7 + 5 = 12\n{ending % 12}"
    assert rule_based.compute_score("several_steps", response, "12")["score"] == exact
    assert robust_verifier.compute_score("several_steps", response, "12")["score"] == robust


def test_what_is_held_out_is_in_no_batch_of_the_warm_up():
    stream = MAKE["sums"](random.Random("problems"))
    held_out = set(islice(stream, 50_000))
    draw = MAKE["examples"](held_out, seed=1)
    prompts = {problem.prompt for problem in held_out}
    batches = [draw(random.Random(0)) for _ in range(20)]
    assert not [prompt for batch in batches for prompt, _ in batch if prompt in prompts]
