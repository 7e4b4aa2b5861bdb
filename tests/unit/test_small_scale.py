"""The raw results of the ablation on SmolLM2 are whole, and its script names what the recipe does."""

import runpy
from pathlib import Path

from justrl_recipe.config import ABLATIONS, Request, load, names

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "small_scale.py"))


def test_the_arms_start_from_the_recipes_model_and_are_its_ablations():
    recipe = load(Request("justrl_smollm2")).flat
    assert recipe["actor_rollout_ref.model.path"] == SCRIPT["WARMED_UP"]
    assert recipe["data.val_files"] == SCRIPT["VALIDATION"]
    assert {ablation for arm in SCRIPT["ARMS"].values() for ablation in arm} == set(names(ABLATIONS))
