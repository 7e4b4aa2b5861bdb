"""The command as a user types it."""

from pathlib import Path

import pytest
import yaml
from command import verl

from justrl_recipe.cli.run import placed
from justrl_recipe.config import RECIPES, Request, load
from justrl_recipe.data import schema


def test_dry_run_prints_the_resolved_config_and_nothing_else(tmp_path):
    result = verl("run", "justrl_tiny", "--dry-run", "actor_rollout_ref.actor.optim.lr=1e-3", cwd=tmp_path)
    assert result.returncode == 0
    assert yaml.safe_load(result.stdout)["actor_rollout_ref"]["actor"]["optim"]["lr"] == 1e-3
    assert "deviation: actor_rollout_ref.actor.optim.lr: recipe 0.00015, yours 0.001" in result.stderr
    assert list(tmp_path.iterdir()) == []
    plain = verl("run", "recipes/justrl_tiny.yaml", "--dry-run", cwd=tmp_path)
    assert yaml.safe_load(plain.stdout) == placed(load(Request("justrl_tiny")), Path("runs/justrl_tiny-TIME"))
    assert "deviation" not in plain.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "justrl_tinny"], "justrl_tiny"),
        (["run", "justrl_tiny", "--ablation", "overlong_penaltys"], "overlong_penalty"),
        (["run", "justrl_tiny", "--system", "gpus"], "no system 'gpus'"),
        (["run", "justrl_tiny", "data.train_batch_sizes=4"], "data.train_batch_size"),
        (["run", "justrl_tiny", "data.train_batch_size=many"], "whole number"),
        (["run", "justrl_tiny", "oops"], "KEY=VALUE"),
        (["run", "justrl_deepseek"], "data/train.parquet"),
        (["run", "justrl_deepseek", "reward_model.reward_manager=dapo"], "legacy"),
        (["cat", "justrl_deepseak"], "justrl_deepseek"),
        (["cp", "justrl_tiny", "there/mine.yaml"], "there/mine.yaml"),
        (["cp", "justrl_tiny", "mine.txt"], ".yaml"),
    ],
)
def test_a_mistake_is_a_line_and_exit_code_2(arguments, says, tmp_path):
    result = verl(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    error = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert says in error[0] and (len(error) == 1 or arguments == ["run", "justrl_deepseek"])  # which lacks more
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_says_what_would_run_code(tmp_path):
    result = verl(
        "run", "justrl_deepseek", "--dry-run", "actor_rollout_ref.model.trust_remote_code=true", cwd=tmp_path
    )
    [line] = [line for line in result.stderr.splitlines() if line.startswith("runs code: ")]
    assert result.returncode == 0 and "trust_remote_code=true" in line


def test_ls_names_everything_and_cat_shows_it(tmp_path):
    listed = verl("ls", cwd=tmp_path).stdout
    for name in ("justrl_deepseek", "justrl_nemotron", "justrl_tiny", "overlong_penalty", "h200x1"):
        assert f"  {name}" in listed
    assert verl("cat", "justrl_tiny", cwd=tmp_path).stdout == (RECIPES / "justrl_tiny.yaml").read_text()


def test_cp_makes_a_recipe_that_runs_and_overwrites_nothing(tmp_path):
    assert verl("cp", "justrl_deepseek", "mine.yaml", cwd=tmp_path).returncode == 0
    dry = verl("run", "mine.yaml", "--dry-run", cwd=tmp_path)
    assert yaml.safe_load(dry.stdout) == placed(load(Request("justrl_deepseek")), Path("runs/mine-TIME"))
    again = verl("cp", "justrl_tiny", "mine.yaml", cwd=tmp_path)
    assert again.returncode == 2 and "exists" in again.stderr
    assert (tmp_path / "mine.yaml").read_text() == (RECIPES / "justrl_deepseek.yaml").read_text()


def test_a_run_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "result").write_text("precious")
    for name in ("train", "validation"):
        rows = [schema.row("s", i, "train", f"{i}?" + schema.TRAINING_SUFFIX, "1") for i in range(256)]
        schema.write_parquet(tmp_path / f"{name}.parquet", rows)
    data = ["data.train_files=train.parquet", "data.val_files=validation.parquet", "trainer.save_freq=-1"]
    skipped = ("--skip-check", "accelerators")
    result = verl("run", "justrl_deepseek", "--out", "full", *skipped, *data, cwd=tmp_path)
    assert result.returncode == 2 and "not empty" in result.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["result"]
