"""A run's folder, its manifest, and when it has done what was asked."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from composed import load

from justrl_recipe.config import Request
from justrl_recipe.errors import UserError
from justrl_recipe.processes import Stopped, stoppable
from justrl_recipe.run import manifest
from justrl_recipe.run.folder import RunFolder, new_run_folder, placed
from justrl_recipe.run.log import logged, unfinished
from justrl_recipe.run.own_reward import Imported, changed, copy_code, import_reward
from justrl_recipe.run.start import environment


def test_two_runs_that_start_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len({new_run_folder("justrl_tiny", None).path for _ in range(5)}) == 5


@pytest.mark.parametrize("occupied", ["runs", "mine"])
def test_a_run_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch, occupied):
    monkeypatch.chdir(tmp_path)
    (tmp_path / occupied).write_text("a file")
    with pytest.raises(UserError, match=f"cannot make the run folder {occupied}"):
        new_run_folder("justrl_tiny", Path("mine/run") if occupied == "mine" else None)


def test_a_folder_that_holds_something_is_no_run_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        new_run_folder("justrl_tiny", tmp_path)


@pytest.mark.parametrize(("side", "other"), [("run", "verl_hooks"), ("verl_hooks", "run")])
def test_the_two_sides_of_the_process_boundary_do_not_import_each_other(side, other):
    files = list((Path(__file__).parents[2] / "justrl_recipe" / side).glob("*.py"))
    imports = re.compile(rf"^ *(from|import) justrl_recipe(\.| import (.*, )?){other}\b", re.MULTILINE)
    assert files and [file.name for file in files if imports.search(file.read_text())] == []


def read(folder: RunFolder) -> dict:
    return json.loads(folder.manifest.read_text())


@pytest.mark.parametrize(
    ("ending", "status", "error"),
    [
        (None, "running", None),  # the body says `finished`
        (KeyboardInterrupt(), "interrupted", None),
        (Stopped("SIGTERM"), "interrupted", "SIGTERM"),
        (RuntimeError("why"), "failed", "why"),
        (SystemExit(3), "failed", "3"),
    ],
)
def test_a_manifest_says_how_the_run_ended(tmp_path, ending, status, error):
    folder = RunFolder(tmp_path)
    try:
        with manifest.manifest(folder.manifest, {"recipe": "justrl_tiny"}):
            assert read(folder)["status"] == "running" and read(folder)["ended"] is None
            if ending:
                raise ending
    except BaseException as raised:
        assert raised is ending
    found = read(folder)
    assert (found["status"], found["error"]) == (status, error) and found["ended"]


def test_the_reason_of_a_failure_is_raised_even_where_the_disk_is_full(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    with pytest.raises(RuntimeError, match="why"), manifest.manifest(folder.manifest, {}):
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(Path, "write_text", lambda *args, **kwargs: (_ for _ in ()).throw(full))
        raise RuntimeError("why")
    monkeypatch.undo()
    assert read(folder)["status"] == "running"  # the last whole one
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


def ended_process() -> tuple[int, float]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    started = psutil.Process(process.pid).create_time()
    process.communicate()
    return process.pid, started


def test_a_manifest_that_says_running_of_a_process_that_has_ended(tmp_path):
    file = tmp_path / "manifest.json"
    with manifest.manifest(file, {}):
        content = json.loads(file.read_text())
    assert manifest.outcome(content) == "running"  # this process
    pid, started = ended_process()
    assert manifest.outcome({**content, "pid": pid, "pid_started": started}) == "died"
    assert (
        manifest.outcome({**content, "pid_started": started - 1000}) == "died"
    )  # the number went to another process
    assert manifest.outcome({**content, "host": "another", "pid": pid}) == "running"  # not to be seen from here
    assert manifest.outcome({"status": "running"}) == "running"  # of an earlier version
    for status in ("finished", "failed", "incomplete", "interrupted"):
        assert manifest.outcome({**content, "pid": pid, "status": status}) == status


TRAINER = {
    "total_training_steps": 4,
    "total_epochs": 1,
    "save_freq": 4,
    "test_freq": 2,
    "val_only": False,
}
STEP, VALIDATION = {"critic/score/mean": 0.5}, {"val-core/x/acc/mean@1": 0.5}


def run_that_logged(
    folder: Path, *steps: tuple[int, dict], checkpoint: str | None = "global_step_4/actor"
) -> RunFolder:
    run = RunFolder(folder)
    run.metrics.write_text("".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in steps))
    if checkpoint:
        (run.checkpoints / checkpoint).mkdir(parents=True)
        (run.checkpoints / checkpoint / "model_world_size_1_rank_0.pt").touch()
    return run


WHOLE = ((0, VALIDATION), (1, STEP), (2, STEP | VALIDATION), (3, STEP), (4, STEP | VALIDATION))


@pytest.mark.parametrize(
    ("steps", "checkpoint", "trainer", "missing"),
    [
        (WHOLE, "global_step_4/actor", {}, None),
        (WHOLE[:3], "global_step_2/actor", {}, "step 2 of 4: trainer.total_epochs=1"),
        ((), None, {}, "step 0 of 4"),
        (WHOLE, None, {}, "without its last checkpoint"),
        (WHOLE, "global_step_3/actor", {}, "without its last checkpoint"),
        (WHOLE, None, {"save_freq": -1}, None),
        ((*WHOLE[:4], (4, STEP)), "global_step_4/actor", {}, "without the validation of step 4"),
        ((*WHOLE[:4], (4, STEP)), "global_step_4/actor", {"test_freq": -1}, None),
        (WHOLE[:1], None, {"val_only": True}, None),
        ((), None, {"val_only": True}, "without the validation"),
    ],
)
def test_done_is_the_last_step_with_its_checkpoint_and_validation(tmp_path, steps, checkpoint, trainer, missing):
    run = run_that_logged(tmp_path, *steps, checkpoint=checkpoint)
    config = {"trainer": {**TRAINER, **trainer, "default_local_dir": str(run.checkpoints)}}
    found = unfinished(config, run)
    assert found is None if missing is None else missing in (found or "")


def test_a_metrics_line_that_a_full_disk_has_cut_is_no_step(tmp_path):
    run = run_that_logged(tmp_path, *WHOLE)
    with run.metrics.open("a") as lines:
        lines.write('{"step": 5, "data": {"critic/score/mean": 0.')
    run.lost_responses.write_text('{"step": 1, "lost": 2}\n{"step": 2, "lost": 3}\n{"step": 3, "lo')
    assert logged(run) == {"last_step": 4, "lost_responses": 5, "tracker_failures": {}}


@pytest.mark.parametrize(
    ("override", "checkpoints", "loggers"),
    [
        (None, "out/checkpoints", ["console", "file"]),
        ("trainer.default_local_dir=/large/disk", "/large/disk", ["console", "file"]),
        ("trainer.logger=[console]", "out/checkpoints", ["console", "file"]),
        ("trainer.logger=[wandb,file]", "out/checkpoints", ["wandb", "file"]),
        ("trainer.logger=tensorboard", "out/checkpoints", ["tensorboard", "file"]),
        ("trainer.logger=[]", "out/checkpoints", ["file"]),
    ],
)
def test_where_checkpoints_go_and_what_logs_is_what_was_asked(override, checkpoints, loggers):
    composed = load(Request("justrl_tiny", overrides=(override,) if override else ()))
    trainer = placed(composed, Path("out"))["trainer"]
    assert (trainer["default_local_dir"], trainer["logger"]) == (checkpoints, loggers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_in_order(number):
    before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup
    try:
        with pytest.raises(KeyboardInterrupt, match=number.name), stoppable():
            os.kill(os.getpid(), number)
            time.sleep(10)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("from beside import compute_score", None),
        ("import sys\nprint('noise', file=sys.stderr)\ndef compute_score(*args): ...", None),
        ("import not_there_at_all\ndef compute_score(*args): ...", "No module named 'not_there_at_all'"),
        ("def compute_score(*args): ...\nraise ValueError('planted')", "ValueError: planted"),
        ("def other(*args): ...", "defines no compute_score()"),
        ("import os\nos._exit(7)", "ended with exit code 7"),
        ("import os\nos._exit(0)", "ended with exit code 0"),
        ("import atexit\natexit.register(print, '[]')\ndef compute_score(*args): ...", None),
    ],
)
def test_a_reward_is_imported_before_anything_starts(tmp_path, code, says):
    (tmp_path / "beside.py").write_text("def compute_score(*args): ...\n")
    file = tmp_path / "mine.py"
    file.write_text(code + "\n")
    found = import_reward(str(file), "compute_score").error
    assert found is None if says is None else says in (found or "") and "\n" not in (found or "")


def test_rewards_that_are_shipped_are_not_imported_again():
    assert import_reward("pkg://justrl_recipe.reward_fns.justrl", "compute_score") == Imported()
    assert import_reward(None, "compute_score") == Imported()
    assert "no_such_package" in (import_reward("pkg://no_such_package.reward", "compute_score").error or "")


def test_the_code_of_a_reward_is_kept_with_the_run(tmp_path):
    project = tmp_path / "project"
    (project / "parts").mkdir(parents=True)
    (project / "mine.py").write_text("import json, helper, parts.inner\ndef compute_score(*a): ...\n")
    (project / "helper.py").write_text("X = 1\n")
    (project / "unused.py").write_text("X = 1\n")
    (project / "parts" / "inner.py").write_text("X = 1\n")
    imported = import_reward(str(project / "mine.py"), "compute_score")
    assert imported.error is None
    copy_code(imported.files, RunFolder(tmp_path / "run"))
    copied = [str(file.relative_to(tmp_path / "run" / "code")) for file in (tmp_path / "run").rglob("*.py")]
    assert sorted(copied) == ["helper.py", "mine.py", "parts/inner.py"]
    assert (tmp_path / "run" / "code" / "mine.py").read_bytes() == (project / "mine.py").read_bytes()


@pytest.mark.parametrize("joins", [{}, {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_MODE": "token"}])
def test_a_run_that_starts_its_own_cluster_listens_on_loopback(tmp_path, monkeypatch, joins):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    env = environment({"trainer": {"device": "cuda"}}, RunFolder(tmp_path), "/tmp/short", joins)
    assert ("VLLM_API_KEY" in env) is (not joins)
    assert (env.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0") is (not joins)
    assert [env.get(name) for name in ("RAY_ADDRESS", "RAY_AUTH_MODE")] == [*joins.values()] or not joins
    assert joins or "RAY_ADDRESS" not in env


def test_the_next_run_finds_what_torch_and_vllm_have_compiled_unless_the_user_says_where(tmp_path, monkeypatch):
    def caches() -> list[str | None]:
        env = environment({"trainer": {"device": "cuda"}}, RunFolder(tmp_path), "/tmp/short", {})
        return [env.get(name) for name in variables]

    variables = (
        "VLLM_DISABLE_COMPILE_CACHE",
        "TORCHINDUCTOR_CACHE_DIR",
        "TRITON_CACHE_DIR",
        "FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED",
        "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR",
    )
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", "/home/me")
    assert caches() == [
        "0",
        f"{tmp_path}/torchinductor",
        "/home/me/.triton/cache",
        "1",
        f"{tmp_path}/flash_attention_4",
    ]
    mine = ["1", "/mine", "/mine too", "0", "/and mine"]
    for name, value in zip(variables, mine, strict=True):
        monkeypatch.setenv(name, value)
    assert caches() == mine


def test_a_reward_that_is_not_what_the_run_started_with_is_found(tmp_path):
    mine, helper = tmp_path / "mine.py", tmp_path / "lib" / "helper.py"
    helper.parent.mkdir()
    mine.write_text("import lib.helper")
    helper.write_text("A = 1")
    folder = RunFolder(tmp_path / "run")
    assert changed([mine, helper], folder) == []
    copy_code([mine, helper], folder)
    assert changed([mine, helper], folder) == []
    helper.write_text("A = 2")
    assert changed([mine, helper], folder) == [helper]
