"""Where a run continues, what its metrics file then holds, and which changes and failures end it."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from saved_checkpoint import save

from justrl_recipe import processes
from justrl_recipe.cli.options import seconds
from justrl_recipe.errors import UserError
from justrl_recipe.run import log, manifest, resume, start, stop
from justrl_recipe.run.folder import RunFolder, new_run_folder

TRAINER = {"test_freq": 4, "save_freq": 2, "total_training_steps": 12, "val_before_train": True, "nnodes": 1}


def config(folder: RunFolder) -> dict:
    return {
        "actor_rollout_ref": {"actor": {"optim": {"lr": 1e-6}}},
        "trainer": {
            **TRAINER,
            "n_gpus_per_node": 1,
            "default_local_dir": str(folder.checkpoints),
            "logger": ["file"],
        },
    }


def line(step: int, validated: bool = False, trained: bool = True) -> str:
    data = {"critic/score/mean": step / 100} if trained else {}
    return json.dumps({"step": step, "data": data | ({"val-core/x/acc/mean@1": 0.5} if validated else {})})


@pytest.fixture
def folder(tmp_path):
    """A run that ended in its step 7, with checkpoints of steps 2, 4 and 6."""
    found = RunFolder(tmp_path)
    for step in (2, 4, 6):
        save(found.checkpoints, step)
    lines = [line(0, validated=True, trained=False), *(line(step, validated=step == 4) for step in range(1, 8))]
    found.metrics.write_text("".join(f"{one}\n" for one in lines))
    found.lost_responses.write_text("".join(json.dumps({"step": s, "lost": 1}) + "\n" for s in (3, 7)))
    found.log.write_text("the first attempt")
    found.manifest.write_text('{"first_step": 1}')
    OmegaConf.save(config(found), found.config)
    return found


def steps(folder: RunFolder) -> list[int]:
    return [step for step, _ in folder.steps()]


def test_it_continues_from_the_last_whole_checkpoint_with_the_metrics_up_to_it(folder):
    begin = resume.prepare(config(folder), folder)
    assert begin == start.Begin(6, folder.checkpoints / "global_step_6", validate=False)
    assert steps(folder) == [0, 1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in folder.lost()] == [3]
    assert (folder.attempts / "1" / "train.log").read_text() == "the first attempt" and not folder.log.exists()


@pytest.mark.parametrize(
    ("saved", "lost", "kept"), [(True, False, [0, 3, 6, 6]), (True, True, [0, 3, 6]), (False, False, [])]
)
def test_the_kept_responses_of_what_is_trained_again_are_cut_back(folder, saved, lost, kept):
    lines = [{"step": step, "batch": "training", "responses": []} for step in (3, 6, 7)]
    lines += [{"step": step, "batch": "validation", "responses": []} for step in (0, 6)]
    folder.responses.write_text("".join(json.dumps(one) + "\n" for one in lines) + '{"step": 3, "bat')
    if lost:  # the validation of step 6 is not among the metrics
        folder.metrics.write_text("".join(f"{line(step)}\n" for step in range(1, 8)))
    if not saved:
        shutil.rmtree(folder.checkpoints)
    given = config(folder)
    given["trainer"] |= {"test_freq": 6 if lost else 4, "save_freq": 2 if saved else 8}
    OmegaConf.save(given, folder.config)
    assert resume.prepare(given, folder).validate is (lost or not saved)
    assert sorted(json.loads(one)["step"] for one in folder.responses.read_text().splitlines()) == kept


def test_a_run_whose_checkpoints_are_gone_does_not_start_again(folder):
    shutil.rmtree(folder.checkpoints)
    before = {path: path.read_bytes() for path in folder.path.glob("*")}
    with pytest.raises(UserError, match=r"has steps up to 7, and .*checkpoints none of their checkpoints"):
        resume.prepare(config(folder), folder)
    assert {path: path.read_bytes() for path in folder.path.glob("*")} == before


@pytest.mark.parametrize(("save_freq", "first", "last"), [(50, 101, 120), (50, 1, 50), (-1, 1, 99)])
def test_a_run_that_has_saved_nothing_yet_starts_again(folder, save_freq, first, last):
    """Also one that began from another run's checkpoint, and one that is to save more often from now on."""
    shutil.rmtree(folder.checkpoints)
    folder.metrics.write_text("".join(f"{line(step)}\n" for step in range(first, last + 1)))
    before = config(folder)
    before["trainer"]["save_freq"] = save_freq
    OmegaConf.save(before, folder.config)
    assert resume.prepare(config(folder), folder).checkpoint is None


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("original", ["there", "gone", "elsewhere"])
def test_a_run_that_was_moved_copied_or_named_otherwise_has_its_own_checkpoints(folder, tmp_path, saved, original):
    copy = RunFolder(tmp_path / "copy")
    run = RunFolder(tmp_path / "run")
    for target in (run, copy):
        target.path.mkdir()
        target.manifest.write_text("{}")
        content = config(RunFolder(Path("runs/x")) if original == "elsewhere" else run)
        OmegaConf.save(content, target.config)
        if saved:
            save(target.checkpoints, 2)
    if original == "gone":
        shutil.rmtree(run.path)
    found = resume.config_of(copy)
    here = str(copy.checkpoints)
    assert found.flat["trainer.default_local_dir"] == found.raw["trainer.default_local_dir"] == here


def test_checkpoints_that_are_kept_elsewhere_stay_there(folder, tmp_path):
    shutil.rmtree(folder.checkpoints)
    (tmp_path / "large").mkdir()
    for name in ("checkpoints", "mine"):
        content = config(folder)
        content["trainer"]["default_local_dir"] = str(tmp_path / "large" / name)
        OmegaConf.save(content, folder.config)
        assert resume.config_of(folder).flat["trainer.default_local_dir"] == str(tmp_path / "large" / name)


@pytest.mark.parametrize("cut", range(0, 50, 10))
def test_the_line_of_a_step_that_was_saved_but_not_logged_comes_from_its_checkpoint(folder, cut):
    lines = folder.metrics.read_text().splitlines(keepends=True)
    folder.metrics.write_text("".join(lines[:6]) + lines[6][:cut])  # in step 6
    resume.prepare(config(folder), folder)
    assert steps(folder) == [0, 1, 2, 3, 4, 5, 6]
    assert dict(folder.steps())[6] == {"critic/score/mean": 0.25}  # of saved_checkpoint.save


@pytest.mark.parametrize("text", ["", "6", "999", "none"])
def test_verls_own_note_of_its_latest_checkpoint_does_not_matter(folder, text):
    (folder.checkpoints / "latest_checkpointed_iteration.txt").write_text(text)
    assert resume.prepare(config(folder), folder).step == 6


def test_a_validation_that_was_lost_is_made_up_for(folder):
    save(folder.checkpoints, 8)
    assert resume.prepare(config(folder), folder) == start.Begin(8, folder.checkpoints / "global_step_8", True)
    folder.metrics.write_text(folder.metrics.read_text() + line(8, validated=True, trained=False) + "\n")
    assert resume.prepare(config(folder), folder).validate is False


def test_a_damaged_checkpoint_is_passed_over_by_name(folder, capsys):
    (folder.checkpoints / "global_step_6" / "data.pt").write_bytes(b"")
    assert resume.prepare(config(folder), folder).step == 4
    assert steps(folder) == [0, 1, 2, 3, 4]
    assert "global_step_6 is passed over: data.pt has 0 of 17 bytes" in capsys.readouterr().err


def test_without_a_whole_checkpoint_it_starts_from_the_beginning(folder):
    for step in (2, 4, 6):
        (folder.checkpoints / f"global_step_{step}" / "checkpoint.json").unlink()
    assert resume.prepare(config(folder), folder).checkpoint is None
    assert steps(folder) == []


def test_a_run_whose_last_validation_was_made_up_for_is_finished(folder):
    given = config(folder)
    given["trainer"] |= {"total_training_steps": 6, "test_freq": 6, "total_epochs": 1}
    assert resume.prepare(given, folder).validate
    assert log.unfinished(given, folder) == "it ended without the validation of step 6"
    folder.metrics.write_text(folder.metrics.read_text() + line(6, validated=True, trained=False) + "\n")
    assert log.unfinished(given, folder) is None


def test_what_is_cut_back_is_kept_with_its_attempt(folder):
    before = folder.metrics.read_text()
    resume.prepare(config(folder), folder)
    assert (folder.attempts / "1" / "metrics.jsonl").read_text() == before != folder.metrics.read_text()


def test_another_number_of_gpus_is_said(folder, capsys):
    given = config(folder)
    given["trainer"]["n_gpus_per_node"] = 8
    assert resume.prepare(given, folder).step == 6
    assert "global_step_6 was saved with world size 1: resuming with world size 8" in capsys.readouterr().err


def test_a_run_of_the_version_without_markers_does_not_start_again(folder):
    for checkpoint in folder.checkpoints.iterdir():
        (checkpoint / "checkpoint.json").unlink()
    folder.manifest.write_text('{"status": "failed"}')
    before = folder.metrics.read_text()
    with pytest.raises(UserError, match=r"trainer\.resume_from_path=.*/global_step_6"):
        resume.prepare(config(folder), folder)
    assert folder.metrics.read_text() == before and folder.log.is_file()


def test_a_resume_changes_nothing_when_it_is_done_again(folder):
    begin, before = resume.prepare(config(folder), folder), folder.metrics.read_text()
    assert resume.prepare(config(folder), folder) == begin
    assert folder.metrics.read_text() == before


@pytest.mark.parametrize(
    ("section", "key", "value", "refused"),
    [
        ("actor", "lr", 2e-6, True),
        ("trainer", "test_freq", 2, False),
        ("trainer", "logger", ["file", "wandb"], False),
        ("trainer", "total_training_steps", 20, False),
        ("trainer", "critic_warmup", 3, True),
    ],
)
def test_a_changed_value_that_is_learned_with_is_refused(folder, section, key, value, refused):
    now = config(folder)
    target = now["actor_rollout_ref"]["actor"]["optim"] if section == "actor" else now["trainer"]
    target[key] = value
    assert [d.key.rpartition(".")[2] for d in resume.changes(folder, now)] == ([key] if refused else [])


def test_a_folder_with_a_run_asks_for_resume(folder):
    folder.manifest.write_text("{}")
    with pytest.raises(UserError, match="add --resume to continue it"):
        new_run_folder("justrl_tiny", folder.path)


def test_what_a_command_leaves_that_is_killed_at_once_is_no_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.code.mkdir(parents=True)
    folder.config.touch()
    with pytest.raises(UserError, match="is not empty"):
        new_run_folder("justrl_tiny", folder.path)
    folder.lock.touch()
    assert new_run_folder("justrl_tiny", folder.path) == folder
    (folder.path / "notes.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        new_run_folder("justrl_tiny", folder.path)


def test_a_run_that_is_refused_as_it_starts_leaves_the_files_of_others(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.code.mkdir(parents=True)
    notes, link = folder.path / "notes.txt", folder.path / "link"
    for file in (folder.lock, folder.config, folder.manifest, folder.log, folder.code / "reward.py", notes):
        file.touch()
    link.symlink_to(tmp_path)
    folder.remove()
    assert set(folder.path.iterdir()) == {notes, link} and tmp_path.is_dir()
    for file in (notes, link):
        file.unlink()
    folder.remove()
    assert not folder.path.exists()


class Attempts:
    """Stands for `start.run`: each attempt logs steps up to the next of `ends`, and fails."""

    def __init__(self, folder: RunFolder, ends: list[int]):
        self.folder, self.ends = folder, ends
        self.begun: list[int] = []

    def run(self, config, folder, about, options, begin, meanwhile):
        self.begun.append(begin.step)
        meanwhile()
        end = self.ends.pop(0)
        with self.folder.metrics.open("a") as lines:
            lines.writelines(line(step) + "\n" for step in range(begin.step + 1, end + 1))
        if end < TRAINER["total_training_steps"]:
            raise start.TrainingFailed("it broke")


@pytest.mark.parametrize(
    ("ends", "restarts", "begun", "fails"),
    [
        ([7, 9, 12], 5, [0, 6, 6], False),
        ([7, 9, 12], 1, [0, 6], True),
        ([7, 7, 12], 5, [0, 6], True),  # the same step twice in a row
        ([7, 8, 7, 12], 5, [0, 6, 6, 6], False),
    ],
)
def test_restarts(folder, monkeypatch, ends, restarts, begun, fails):
    attempts = Attempts(folder, ends)
    waited, checked = [], []
    monkeypatch.setattr(resume.start, "run", attempts.run)
    monkeypatch.setattr(resume.time, "sleep", waited.append)
    folder.metrics.write_text("")
    arguments = (config(folder), folder, {}, start.Options(), start.Begin(), restarts, lambda: checked.append("once"))
    if fails:
        with pytest.raises(start.TrainingFailed):
            resume.train(*arguments)
    else:
        resume.train(*arguments)
    assert attempts.begun == begun and checked == ["once"]
    assert waited == [10.0 * 2**number for number in range(len(begun) - 1)]


def test_the_manifest_lists_the_attempts(folder):
    folder.manifest.unlink()
    with pytest.raises(KeyError), manifest.manifest(folder.manifest, {"recipe": "r", "first_step": 1}) as content:
        content["last_step"] = 7
        raise KeyError("lost")
    with manifest.manifest(folder.manifest, {"recipe": "r", "first_step": 7}) as content:
        content |= {"last_step": 12, "status": manifest.FINISHED}
    written = json.loads(folder.manifest.read_text())
    assert (written["status"], written["recipe"], written["first_step"]) == ("finished", "r", 7)
    [first] = written["attempts"]
    assert (first["status"], first["first_step"], first["last_step"], first["error"]) == ("failed", 1, 7, "'lost'")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_asks_for_a_stop_and_the_second_ends_at_once(folder, number):
    with pytest.raises(processes.Stopped), stop.on_request(folder, None) as request:
        assert not request.made() and not folder.stop.exists()
        os.kill(os.getpid(), number)
        assert request.made() and folder.stop.exists()
        os.kill(os.getpid(), number)


def test_a_stop_after_a_time_and_none_of_an_earlier_attempt(folder):
    folder.stop.touch()
    with stop.on_request(folder, time.monotonic() + 0.05) as request:
        assert not request.made()
        time.sleep(0.06)
        assert request.made() and request.by == "--stop-after"
        os.kill(os.getpid(), signal.SIGUSR1)  # as Slurm may send then: no second request
        assert request.by == "SIGUSR1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("23h50m", 85800), ("90m", 5400), ("45s", 45), ("120", 120), ("2d", 172800), (None, None)],
)
def test_times(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "1.5h", "-5m", "5m3h", "h"])
def test_what_is_not_a_time(text):
    with pytest.raises(UserError, match="not a time"):
        seconds(text)
