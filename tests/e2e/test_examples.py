"""Each folder of examples/ runs as it is: the command in its README validates and composes, and one trains."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documents import ROOT, blocks
from typer.testing import CliRunner

from justrl_recipe.cli import app

VERL = Path(sys.executable).with_name("verl")
EXAMPLES = ("own_ablation", "own_recipe", "own_reward", "own_system")
STEPS = 2
SHORT = ("tiny_model.warmup_steps=40", "tiny_data.validation=16", f"trainer.total_training_steps={STEPS}")


def arguments(example: str) -> list[str]:
    """What the README of an example gives `verl run`."""
    [command] = [command for command, _ in blocks(ROOT / "examples" / example / "README.md")[0].steps]
    program, verb, *given = shlex.split(command)
    assert (program, verb) == ("verl", "run")
    return given


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_composes_without_problems(example, monkeypatch):
    monkeypatch.chdir(ROOT)
    checked = CliRunner().invoke(app, ["validate", *arguments(example)])
    assert checked.exit_code == 0, checked.output
    dry = CliRunner().invoke(app, ["run", *arguments(example), "--dry-run"])
    assert dry.exit_code == 0, dry.output
    config = yaml.safe_load(dry.stdout)
    system = example == "own_system"
    assert ("deviation: " in dry.stderr) is not system  # a system changes nothing that is learned
    assert config["machine"]["name"] == ("a workstation" if system else "a laptop")
    assert config["actor_rollout_ref"]["actor"]["clip_ratio_high"] == (0.2 if example == "own_ablation" else 0.28)
    assert config["tiny_model"]["model_type"] == ("llama" if example == "own_recipe" else "qwen2")


@pytest.mark.exhaustive  # test_end_to_end trains with a reward of the user's own
@pytest.mark.xdist_group("training")
def test_the_reward_of_the_example_trains(tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    command = [VERL, "run", *arguments("own_reward"), *SHORT, "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert "reward.custom_reward_function.path" in [deviation["key"] for deviation in manifest["deviations"]]
    code = ROOT / "examples" / "own_reward" / "reward.py"
    assert (tmp_path / "run" / "code" / "reward.py").read_bytes() == code.read_bytes()
    steps = [json.loads(line)["data"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [step for step in steps if "critic/score/mean" in step]
    assert len(trained) == STEPS
    for step in trained:
        assert step["critic/score/mean"] == pytest.approx(2 * step["reward/acc"] - 1)
