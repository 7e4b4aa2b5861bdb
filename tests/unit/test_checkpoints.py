"""Whole checkpoints: what counts as one, and which are removed."""

import json

import pytest
from saved_checkpoint import save

from justrl_recipe import checkpoints

FILES = ("actor/model_world_size_1_rank_0.pt", "actor/optim_world_size_1_rank_0.pt", "data.pt", "checkpoint.json")


def test_what_was_marked_is_whole(tmp_path):
    checkpoint = save(tmp_path, 3)
    assert checkpoints.flaw(checkpoint) is None
    assert checkpoints.metrics(checkpoint) == {"critic/score/mean": 0.25}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_anywhere_or_missing_is_noticed(tmp_path, name):
    checkpoint = save(tmp_path, 3)
    file = checkpoint / name
    content = file.read_bytes()
    for length in range(0, len(content), 10):
        file.write_bytes(content[:length])
        assert checkpoints.flaw(checkpoint)
    file.unlink()
    assert checkpoints.flaw(checkpoint)


@pytest.mark.parametrize("name", FILES[:3])
def test_a_changed_byte_is_noticed_and_the_file_named(tmp_path, name):
    checkpoint = save(tmp_path, 3)
    file = checkpoint / name
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    assert name in str(checkpoints.flaw(checkpoint))


@pytest.mark.parametrize(
    "marker", ["", "null", "[]", "{}", '{"files": []}', '{"files": {"data.pt": 3}}', '{"files": {}}', "\0", "{"]
)
def test_a_damaged_marker_makes_no_checkpoint_whole(tmp_path, marker):
    checkpoint = save(tmp_path, 3)
    (checkpoint / checkpoints.MARKER).write_text(marker)
    assert checkpoints.flaw(checkpoint)


def test_the_latest_whole_one_is_found_and_the_later_ones_are_named(tmp_path):
    for step in (2, 4, 10):
        save(tmp_path, step)
    save(tmp_path, 12, marked=False)
    (tmp_path / "global_step_10" / "data.pt").write_bytes(b"")
    found, passed_over = checkpoints.latest_whole(tmp_path)
    assert found == tmp_path / "global_step_4"
    assert [line.split(" is ")[0] for line in passed_over] == [
        str(tmp_path / "global_step_12"),
        str(tmp_path / "global_step_10"),
    ]


def test_without_a_whole_one_nothing_is_found(tmp_path):
    assert checkpoints.latest_whole(tmp_path / "nowhere") == (None, [])
    save(tmp_path, 1, marked=False)
    assert checkpoints.latest_whole(tmp_path)[0] is None


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(1, set(), {8}), (2, set(), {6, 8}), (1, {2}, {2, 8}), (2, {8}, {6, 8}), (9, set(), {2, 4, 6, 8})],
)
def test_the_last_ones_and_the_best_are_kept(tmp_path, keep, best, left):
    for step in (2, 4, 6, 8):
        save(tmp_path, step)
    checkpoints.prune(tmp_path, keep, best)
    assert {checkpoints.step_of(path) for path in checkpoints.saved(tmp_path)} == left


def test_one_that_was_cut_off_does_not_count_among_the_last_and_goes(tmp_path):
    save(tmp_path, 2)
    save(tmp_path, 4, marked=False)
    save(tmp_path, 6)
    checkpoints.prune(tmp_path, 2, set())
    assert [checkpoints.step_of(path) for path in checkpoints.saved(tmp_path)] == [6, 2]


def test_a_removal_that_is_interrupted_leaves_no_whole_checkpoint(tmp_path, monkeypatch):
    checkpoint = save(tmp_path, 2)

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.remove(checkpoint)
    assert checkpoints.flaw(checkpoint)


def test_other_folders_are_no_checkpoints(tmp_path):
    (tmp_path / "global_step_x").mkdir()
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    save(tmp_path, 4)
    assert checkpoints.saved(tmp_path) == [tmp_path / "global_step_4"]
    assert json.loads((tmp_path / "global_step_4" / "checkpoint.json").read_text())["step"] == 4
