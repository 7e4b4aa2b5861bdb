"""The figures in docs/performance.md and in verl plan are those of the raw measurements."""

import runpy
from pathlib import Path

import pytest

from justrl_recipe.planning import cost

ROOT = Path(__file__).parents[2]
BENCH = runpy.run_path(str(ROOT / "benchmarks" / "performance.py"))


def test_the_document_says_what_the_shipped_file_gains():
    before, after = (BENCH["medians"](f"h200/steps_4096_of_256{name}") for name in ("_every_token", ""))
    gen, step = ([f"{run[key]:.1f}" for run in (before, after)] for key in ("timing_s/gen", "timing_s/step"))
    text = " ".join((ROOT / "docs" / "performance.md").read_text().split())
    assert f"the {gen[0]} s of the step of 256 responses above" in text
    assert f"{gen[1]} s, and the step {step[1]} s instead of {step[0]}" in text


@pytest.mark.parametrize("system", ["h200x1", "h100x8"])
def test_hours_are_planned_at_what_was_measured(system):
    found = cost.measured("justrl_deepseek", system)
    assert found is not None
    assert found.tokens_per_second == pytest.approx(BENCH["estimated"](system), abs=5)


def test_what_was_gained_and_at_what_cost_to_the_gradient():
    """The settings of the systems with GPUs, beside veRL's padded path on the same batch and against float32."""
    runs = {run["name"]: run for run in BENCH["lines"]("h200/engine")}
    before = next(run for name, run in runs.items() if name.startswith("baseline"))
    after = next(run for name, run in runs.items() if name.endswith("the systems' setting"))
    assert before["log_prob_s"] + before["update_s"] > 5 * (after["log_prob_s"] + after["update_s"])
    assert after["gradient_error"] < 1.02 * before["gradient_error"]
    assert after["rollout_probs_diff"] < 1.02 * before["rollout_probs_diff"]
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-6)
