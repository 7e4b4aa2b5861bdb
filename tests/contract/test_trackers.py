"""Each tracker that is installed, by veRL's own Tracking: what it keeps of a run that was resumed once.

docs/trackers.md has the table that these tests fill. What is not installed is skipped by name.
"""

import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from justrl_recipe.report import logs

MANIFEST = {
    "recipe": "justrl_tiny",
    "origin": "justrl_tiny",
    "is_justrl": False,
    "deviations": [
        {"key": "actor.optim.lr", "recipe": 0.28, "yours": 0.3125},
        {"key": "reward.path", "recipe": "pkg://reward", "yours": "/planted/folder/mine,x.py"},
    ],
    "seed": 7,
    "host": "planted-host",
    "command": "verl run --address planted-host:6379",
}
CONFIG = {
    "trainer": {"api_key": "planted-key", "wandb_proxy": None},
    "model": {"path": "/planted/folder/model"},
    "note": "hf_planted00000000000000000000",
}
ATTEMPT = """
    import json, sys
    from justrl_recipe.verl_hooks import patches
    patches.guard_trackers({("trainer", "api_key"): "***"})
    from verl.utils.tracking import Tracking, ValidationGenerationsLogger
    tracker, config, first = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    tracking = Tracking("justrl", "justrl_tiny", ["console", tracker], config)
    for step in (first, first + 1):
        tracking.log({"critic/score/mean": step / 10, "val-core/arithmetic/acc/mean@1": 0.5}, step)
    ValidationGenerationsLogger("justrl", "justrl_tiny").log(["console", tracker], [["1 + 1?", "2", 1.0]], first + 1)
    tracking.finish()
"""
NAME = "justrl_tiny-20260101-120000"  # of the run folder


def attempt(
    run: Path, tracker: str, first: int, before: str = "", config: Any = CONFIG, **env: str
) -> subprocess.CompletedProcess:
    """One attempt of a run, of two steps; `before` is run in its process."""
    home = run.parent / "home"
    home.mkdir(exist_ok=True)
    variables = {"WANDB_MODE": "offline", "SWANLAB_MODE": "offline", "HOME": str(home), "HF_HUB_OFFLINE": "1"}
    variables |= {"VERL_FILE_LOGGER_PATH": str(run / "metrics.jsonl"), **env}
    command = [sys.executable, "-c", before + textwrap.dedent(ATTEMPT), tracker, json.dumps(config), str(first)]
    return subprocess.run(
        command, cwd=home, env={**os.environ, **variables}, capture_output=True, text=True, timeout=200
    )


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    return folder


# What a tracker has kept: its runs, each as the texts that must be in it, and the steps of the reward.

Kept = tuple[int, str, list[int]]  # number of runs, all that is known of the first as text, its steps


def tensorboard(run: Path) -> Kept:
    metrics = logs.read(run / "tensorboard")
    steps = [int(step) for step in metrics["critic/score/mean"].steps]
    texts = b"".join(file.read_bytes() for file in (run / "tensorboard").iterdir())
    return 1, f"{run.name} {texts.decode(errors='replace')}", steps


def wandb(run: Path) -> Kept:
    return kept_in(sorted((run / "wandb").glob("offline-run-*")))


def swanlab(run: Path) -> Kept:
    return kept_in(sorted((run / "swanlog").glob("run-*")))


def kept_in(folders: list[Path]) -> Kept:
    """What the folders of the attempts hold, each `...-ID`, of a format that no public reader reads."""
    content = b"".join(file.read_bytes() for folder in folders for file in folder.rglob("*") if file.is_file())
    steps = [step for step in range(1, 5) if json.dumps(step / 10).encode() in content]
    return len({folder.name.rpartition("-")[2] for folder in folders}), content.decode(errors="replace"), steps


def mlflow(run: Path) -> Kept:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run}/mlflow.db")
    experiment = client.get_experiment_by_name("justrl")
    runs = client.search_runs([experiment.experiment_id])
    steps = [metric.step for metric in client.get_metric_history(runs[0].info.run_id, "critic/score/mean")]
    artifacts = [file.path for file in client.list_artifacts(runs[0].info.run_id)]
    assert artifacts == ["val_step2.json", "val_step4.json"]
    return len(runs), str([runs[0].info.run_name, runs[0].data.params, runs[0].data.tags]), steps


def trackio(run: Path) -> Kept:
    with sqlite3.connect(run / "trackio" / "justrl.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
        configs = database.execute("SELECT run_name, config FROM configs").fetchall()
    steps = [step for _, step, metrics in rows if "critic/score/mean" in json.loads(metrics)]
    return len({name for name, *_ in rows}), str(configs), sorted(steps)


TRACKERS: dict[str, Callable[[Path], Kept]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
    "swanlab": swanlab,
    "trackio": trackio,
}


@pytest.mark.parametrize("tracker", TRACKERS)
def test_it_has_the_run_with_its_manifest_under_one_id(run, tracker):
    if importlib.util.find_spec(tracker) is None:
        pytest.skip(f"{tracker} is not installed")
    for first in (1, 3):
        done = attempt(run, tracker, first)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not (run / "tracker_failures.jsonl").exists(), (run / "tracker_failures.jsonl").read_text()
    runs, text, steps = TRACKERS[tracker](run)
    assert (runs, steps) == (1, [1, 2, 3, 4])
    assert NAME in text, "the run's name"
    assert "justrl_tiny" in text and "seed" in text, "the manifest"
    assert "0.3125" in text and "mine" in text, "the deviations"
    written = [file for file in run.parent.rglob("*") if file.is_file() and file != run / "manifest.json"]
    assert not [file for file in written if b"planted" in file.read_bytes()], "no key, path or host"
    outside = [file for file in written if run not in file.parents]
    assert not [file for file in outside if b"critic/score" in file.read_bytes()], "all of it in the run folder"


# --- a tracker that fails, with a stand-in for the package


STAND_IN = """
import sys, time, types
def fail(*given, **named):
    {what}
def fine(*given, **named):
    pass
wandb = types.ModuleType("wandb")
wandb.init = wandb.log = wandb.finish = fine
wandb.run = None
wandb.Table = fail
setattr(wandb, "{where}", fail)
sys.modules["wandb"] = wandb
from justrl_recipe.verl_hooks import trackers
trackers.SECONDS = 1.0
"""
FAILURES = {
    "no network": ("raise ConnectionError('planted-server is gone')", "ConnectionError: planted-server is gone"),
    "no login": ("raise SystemExit('no API key: run wandb login')", "SystemExit: no API key: run wandb login"),
    "import": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "prompt": ("time.sleep(4)", "no answer in 1 seconds"),
}


@pytest.mark.parametrize(
    ("kind", "where"),
    [("import", "init"), ("no login", "init"), ("prompt", "init"), ("no network", "log"), ("prompt", "finish")],
)
def test_one_that_fails_is_recorded_once_and_the_run_goes_on(run, kind, where):
    what, says = FAILURES[kind]
    done = attempt(run, "wandb", 1, STAND_IN.format(what=what, where=where))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("step:") == 2, "the console has both steps"
    [line] = (run / "tracker_failures.jsonl").read_text().splitlines()
    assert json.loads(line) == {"tracker": "wandb", "error": says}
    assert done.stderr.count("tracker wandb failed, the run continues") == 1


def test_failures_of_mlflow_that_verl_hides_are_recorded(run):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    before = "import mlflow\ndef fail(**given): raise ConnectionError('gone')\nmlflow.log_metrics = fail\n"
    done = attempt(run, "mlflow", 1, before)
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = (run / "tracker_failures.jsonl").read_text().splitlines()
    assert json.loads(line)["error"] == "mlflow.log_metrics failed (attempt 3/3): gone"


def test_the_users_own_variables_stay_and_the_proxy_of_wandb_is_used_and_not_sent(run):
    shown = (
        "lambda **given: print('at', *map(os.environ.get, ('WANDB_RUN_ID', 'WANDB_HTTPS_PROXY')), given['config'])"
    )
    before = STAND_IN.format(what="pass", where="nothing") + f"import os\nwandb.init = {shown}\n"
    config = {**CONFIG, "trainer": {"wandb_proxy": "http://me:planted-word@proxy:3128"}}
    done = attempt(run, "wandb", 1, before, config, WANDB_RUN_ID="mine")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("at ")]
    assert line.startswith("at mine http://me:planted-word@proxy:3128 {") and line.count("planted") == 1
    assert json.loads((run / "trackers.json").read_text())["run"] == "mine"  # for a resume without the variable
