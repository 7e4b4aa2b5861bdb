"""Where a run continues, and what its metrics file then holds."""

import json

import pytest
from saved_checkpoint import save

from justrl_recipe.run import resume
from justrl_recipe.run.folder import RunFolder

TRAINER = {"test_freq": 4, "save_freq": 2, "total_training_steps": 12, "val_before_train": True}


def config(folder: RunFolder) -> dict:
    return {"trainer": {**TRAINER, "resume_mode": "disable", "default_local_dir": str(folder.checkpoints)}}


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
    return found


def steps(folder: RunFolder) -> list[int]:
    return [step for step, _ in folder.steps()]


def test_it_continues_from_the_last_whole_checkpoint_with_the_metrics_up_to_it(folder):
    start = resume.find(config(folder))
    assert (start.step, start.passed_over) == (6, [])
    resume.rewind(folder, start)
    assert steps(folder) == [0, 1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in folder.lost()] == [3]
    trainer = resume.resumed(config(folder), folder, start)["trainer"]
    assert trainer["resume_mode"] == "resume_path"
    assert trainer["resume_from_path"].endswith("checkpoints/global_step_6")
    assert trainer["val_before_train"] is False


def test_the_line_of_a_step_that_was_saved_but_not_logged_comes_from_its_checkpoint(folder):
    whole = folder.metrics.read_text().splitlines(keepends=True)
    folder.metrics.write_text("".join(whole[:6]) + whole[6][:9])  # cut off in step 6
    resume.rewind(folder, resume.find(config(folder)))
    assert steps(folder) == [0, 1, 2, 3, 4, 5, 6]
    assert dict(folder.steps())[6] == {"critic/score/mean": 0.25}  # of saved_checkpoint.save


def test_a_validation_that_was_lost_is_made_up_for(folder):
    save(folder.checkpoints, 8)
    start = resume.find(config(folder))
    resume.rewind(folder, start)
    assert start.step == 8
    assert resume.resumed(config(folder), folder, start)["trainer"]["val_before_train"] is True
    folder.metrics.write_text(folder.metrics.read_text() + line(8, validated=True, trained=False) + "\n")
    assert resume.resumed(config(folder), folder, start)["trainer"]["val_before_train"] is False


def test_without_a_whole_checkpoint_it_starts_from_the_beginning(folder):
    for step in (2, 4, 6):
        (folder.checkpoints / f"global_step_{step}" / "checkpoint.json").unlink()
    start = resume.find(config(folder))
    assert (start.step, start.checkpoint, len(start.passed_over)) == (0, None, 3)
    resume.rewind(folder, start)
    assert steps(folder) == []
    assert resume.resumed(config(folder), folder, start) == config(folder)


def test_a_resume_changes_nothing_when_it_is_done_again(folder):
    start = resume.find(config(folder))
    resume.rewind(folder, start)
    before = folder.metrics.read_text()
    resume.rewind(folder, resume.find(config(folder)))
    assert folder.metrics.read_text() == before
