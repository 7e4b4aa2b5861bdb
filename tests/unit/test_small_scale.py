"""The raw results of the ablation on SmolLM2 are whole, and its script names what the recipe does."""

import runpy
from pathlib import Path

import pytest

from justrl_recipe.config import ABLATIONS, Request, load, names
from justrl_recipe.report import logs

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "small_scale.py"))


def test_each_arm_was_trained_at_two_seeds_and_evaluated_from_one_model():
    trained = {folder.name for folder in SCRIPT["folders"]("arms", "metrics.jsonl")}
    assert trained == {f"{arm}_{seed}" for arm in SCRIPT["ARMS"] for seed in (1, 2)}
    assert {folder.name for folder in SCRIPT["folders"]("arms", "robust_verifier.json")} == trained | {"before"}


@pytest.mark.parametrize(
    "run",
    [folder / "metrics.jsonl" for kind in ("arms", "repeats") for folder in SCRIPT["folders"](kind, "metrics.jsonl")],
    ids=lambda run: "-".join(run.parts[-3:-1]),
)
def test_a_run_rolled_out_with_its_own_weights(run):
    """Runs at once on one host once shared a socket for weights; another run's would be off by far more."""
    off = logs.read(run)["training/rollout_probs_diff_mean"].values
    assert len(off) == 40 and (off < 0.0025).all()


def test_the_arms_start_from_the_recipes_model_and_are_its_ablations():
    recipe = load(Request("justrl_smollm2")).flat
    assert recipe["actor_rollout_ref.model.path"] == SCRIPT["WARMED_UP"]
    assert recipe["data.val_files"] == SCRIPT["VALIDATION"]
    assert {ablation for arm in SCRIPT["ARMS"].values() for ablation in arm} == set(names(ABLATIONS))
