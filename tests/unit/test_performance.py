"""The figures in docs/performance.md and in verl plan are those of the raw measurements."""

import runpy
from pathlib import Path

import pytest

from justrl_recipe.planning import budget

ROOT = Path(__file__).parents[2]
BENCH = runpy.run_path(str(ROOT / "benchmarks" / "performance.py"))


@pytest.mark.parametrize("system", ["h200x1", "h100x8"])
def test_hours_are_planned_at_what_was_measured(system):
    found = budget.measured("justrl_deepseek", system)
    assert found is not None
    assert found.tokens_per_second == pytest.approx(BENCH["estimated"](system), abs=5)
