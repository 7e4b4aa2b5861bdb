"""`verl export` before it converts anything: which checkpoint, what is refused, and what the model card says."""

import json
import shutil
from pathlib import Path

import pytest
import saved_checkpoint
import yaml
from command import verl
from run_folders import write_run

from justrl_recipe import hub
from justrl_recipe.checkpoints import MARKER
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.models import Model, Template
from justrl_recipe.evaluation.sampling import PAPER
from justrl_recipe.export import base_model, card, evaluations
from justrl_recipe.export.choice import choose
from justrl_recipe.report import runs

ACCURACIES = {0: 0.9, 10: 0.4, 20: 0.6, 30: 0.6, 40: 0.5}


@pytest.fixture
def saved(tmp_path) -> Path:
    """Whole checkpoints of steps 10 to 40, and one of step 50 that was cut off."""
    for step in (10, 20, 30, 40):
        saved_checkpoint.save(tmp_path, step)
    saved_checkpoint.save(tmp_path, 50, marked=False)
    return tmp_path


def damage(saved: Path, step: int) -> None:
    (saved / f"global_step_{step}" / "data.pt").write_bytes(b"other data, oth.")


@pytest.mark.parametrize(
    ("asked", "damaged", "step", "says"),
    [
        ("last", None, 40, "global_step_50 is passed over: it was not saved to its end"),
        ("last", 40, 30, "data.pt has"),
        ("20", None, 20, ""),
        ("best", None, 30, "validation was best at step 0 (0.900), of which there is no whole checkpoint"),
        ("best", 30, 20, "step 20 (0.600) is used"),
    ],
)
def test_the_checkpoint_that_was_asked_for_is_whole(saved, capsys, asked, damaged, step, says):
    if damaged:
        damage(saved, damaged)
    assert choose(saved, asked, ACCURACIES).name == f"global_step_{step}"
    assert says in capsys.readouterr().err


def test_nothing_is_said_where_the_best_step_has_a_checkpoint(saved, capsys):
    assert choose(saved, "best", {10: 0.4, 20: 0.6, 40: 0.5}).name == "global_step_20"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("asked", "accuracies", "says"),
    [
        ("50", ACCURACIES, "global_step_50 cannot be exported: it was not saved to its end"),
        ("25", ACCURACIES, "no checkpoint of step 25 in .*: it has 10, 20, 30, 40, 50"),
        ("best", {}, "no whole checkpoint of a step with a validation"),
        ("best", {25: 0.5}, "no whole checkpoint of a step with a validation"),
        ("first", ACCURACIES, "--step first: give the number of a step, best or last"),
        ("-1", ACCURACIES, "give the number of a step"),
    ],
)
def test_a_step_that_cannot_be_exported_is_refused(saved, asked, accuracies, says):
    with pytest.raises(UserError, match=says):
        choose(saved, asked, accuracies)


# --- refused before anything is written


@pytest.fixture
def run(tmp_path) -> Path:
    folder = write_run(tmp_path / "run")
    saved_checkpoint.save(folder / "checkpoints", 40)
    return folder


def occupied(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "mine").touch()


def unmarked(folder: Path) -> None:
    (folder / "run" / "checkpoints" / "global_step_40" / MARKER).unlink()


def full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (occupied, (), "out is not empty: give a new folder"),
        (lambda folder: (folder / "out").touch(), (), "out is a file"),
        (lambda folder: (folder / "out").symlink_to(folder / "run"), (), "out is a link: give a new folder"),
        (unmarked, (), "holds no whole checkpoint"),
        (
            lambda folder: (folder / "run" / "manifest.json").unlink(),
            (),
            "is not the folder of a run with checkpoints",
        ),
        (lambda folder: shutil.rmtree(folder / "run" / "checkpoints"), (), "is not the folder of a run"),
        (lambda folder: shutil.rmtree(folder / "run"), (), "no such file or folder: run"),
        (lambda folder: None, ("--adapter",), "run trained no LoRA adapter"),
        (lambda folder: None, ("--push", "no-owner"), "no-owner is not the name of a repository"),
        (lambda folder: None, ("--push", ""), "is not the name of a repository"),
    ],
)
def test_what_cannot_be_exported_is_a_line(tmp_path, run, change, options, says):
    change(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = verl("export", "run", "out", *options, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("error:") == 1, done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_the_current_folder_is_not_replaced(tmp_path, run):
    here = tmp_path / "here"
    here.mkdir()
    done = verl("export", str(run), ".", cwd=here)
    assert done.returncode == 2 and "the current folder, which cannot be replaced" in done.stderr and here.is_dir()


def test_a_disk_that_is_too_small_is_found_before_the_conversion(tmp_path, run, monkeypatch):
    full(tmp_path, monkeypatch)
    done = verl("export", "run", "out", cwd=tmp_path)
    assert done.returncode == 2 and "and 0.0 MB are free for out: free some" in done.stderr


# --- the base model's card

LICENSED = {"license": "other", "license_name": "mine", "license_link": "https://host/licence"}


@pytest.mark.parametrize(
    ("text", "name", "licence", "empty"),
    [
        ("---\nlicense: mit\nbase_model: owner/base\n---\n# Text\n", "owner/base", {"license": "mit"}, 0),
        ("\ufeff---\nlicense: mit\nbase_model:\n- owner/a\n- b\n---\n", "owner/a", {"license": "mit"}, 0),
        (f"---\n{yaml.safe_dump(LICENSED)}---\n", None, LICENSED, 1),
        ("---\nlicense: mit\nlicense_link: LICENSE\n---\n", None, {"license": "mit"}, 1),
        ("---\nlicense: [mit]\nbase_model: /home/me/model\n---\n", None, {}, 2),
        ("---\n---\n", None, {}, 2),
        ("# No front matter\n---\nlicense: mit\n---\n", None, {}, 2),
        (None, None, {}, 1),
    ],
)
def test_licence_and_base_come_from_the_bases_own_card(tmp_path, text, name, licence, empty):
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    found = base_model.find(str(tmp_path))
    assert (found.name, found.licence, len(found.notes)) == (name, licence, empty)


def test_a_base_on_the_hub_is_named_and_its_card_is_read(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: owner/grandparent\n---\n")
    monkeypatch.setattr(hub, "model_card", lambda name: tmp_path / "README.md" if name == "owner/base" else None)
    assert base_model.find("owner/base") == base_model.BaseModel("owner/base", {"license": "apache-2.0"})
    assert base_model.find("owner/other").name is None and base_model.find(None).notes


# --- the model card


RESULTS = {
    "model": "m",
    "fingerprint": "f",
    "settings": {"temperature": 0.6, "top_p": 0.95, "max_tokens": 100},
    "verifier": "robust_verifier",
    "average": {"rule": {"avg": 0.5, "interval": [0.4, 0.6]}},
    "benchmarks": {
        "AIME24": {
            "rule": {"avg": 0.5, "interval": [0.4, 0.6], "pass": {"4": 0.7}, "maj": 0.5},
            "problems": 30,
            "samples": 4,
            "truncated": 0.1,
            "no_box": 0.0,
            "length": {"mean": 12.0},
            "distinct_4": 0.9,
        }
    },
}
HOSTILE = {
    "recipe": "/home/secret/mine.yaml",
    "is_justrl": False,
    "deviations": [
        {"key": "data.<b>", "recipe": "/mnt/secret/x.parquet", "yours": ["s3://bucket/secret/y", "a|b\n# no heading"]}
    ],
    "command": "verl run /home/secret/mine.yaml --address secret-host:6379",
    "data": {"data.train_files": [{"path": "/mnt/secret/train.parquet", "sha256": "0" * 64}]},
    "versions": {"verl": "hf_" + "s" * 30},
}


def rendered(folder: Path, **changes) -> str:
    found = runs.load(folder)
    about = {
        "name": "mine",
        "model": Model(folder, "m", run={"steps": 40}),
        "run": found,
        "step": 30,
        "base": base_model.BaseModel("owner/base", {"license": "mit"}),
        "evaluation": None,
        "sampling": PAPER,
        "hashes": {"model.safetensors": {"bytes": 1234, "sha256": "a" * 64}},
    }
    return card.render(card.About(**{**about, **changes}), adapter=False)


def test_the_card_says_what_the_model_is(tmp_path):
    text = rendered(write_run(tmp_path / "run", deviations=[{"key": "seed", "recipe": 0, "yours": 1}]))
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "mit",
        "base_model": "owner/base",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["justrl", "grpo", "verl"],
    }
    assert "# mine" in body and "| model.safetensors | 1,234 |" in body and "a" * 64 in body
    assert "Step 30 of 40." in body and "| seed | 0 | 1 |" in body and "is_justrl: true" in body
    assert "| AIME24 accuracy (avg@32) | 0.3 | 0.32 |" in body, "the first validation, and the last one by step 30"
    assert "Not evaluated by `verl eval`" in body and "temperature 0.7, top-p 0.9, no top-k" in body


def test_the_card_has_the_evaluation_with_its_intervals(tmp_path):
    text = rendered(write_run(tmp_path / "run"), evaluation=RESULTS)
    assert "| AIME24 | 30 x 4 | 50.00 | 40.0 to 60.0 |" in text and "verifier robust_verifier" in text


def test_the_card_asks_as_the_training_did(tmp_path):
    template = Template(None, {"enable_thinking": False}, 'Be "brief".')
    text = rendered(write_run(tmp_path / "run"), model=Model(tmp_path, "m", template))
    [line] = [line for line in text.splitlines() if line.startswith("messages = ")]
    assert json.loads(line.removeprefix("messages = ")) == template.messages(
        "What is 27 + 6?\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert '{"enable_thinking": false}' in text


def test_what_comes_from_a_run_stays_text_and_names_no_machine(tmp_path):
    text = rendered(write_run(tmp_path / "run", **HOSTILE))
    assert "secret" not in text and "sssss" not in text and str(tmp_path) not in text
    assert "…/mine.yaml" in text and "train.parquet" in text and r"data.\<b\>" in text
    assert not [line for line in text.splitlines() if line.startswith("# no")] and r"a\|b" in text


# --- which evaluation


def test_only_an_evaluation_of_the_same_weights_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Model(tmp_path / "model", "m")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    for name, fingerprint in (("a", "other"), ("b", model.fingerprint())):
        (tmp_path / "evals" / name).mkdir(parents=True)
        (tmp_path / "evals" / name / "results.json").write_text(json.dumps(RESULTS | {"fingerprint": fingerprint}))
    (tmp_path / "evals" / "c").mkdir()
    (tmp_path / "evals" / "c" / "results.json").write_text("{}")
    found = evaluations.find(model, None)
    assert found and found["fingerprint"] == model.fingerprint() and evaluations.sampling(found).max_tokens == 100
    assert evaluations.find(model, tmp_path / "evals" / "b") == found
    with pytest.raises(UserError, match="is of other weights"):
        evaluations.find(model, tmp_path / "evals" / "a")
    with pytest.raises(UserError, match="is not a results"):
        evaluations.find(model, tmp_path / "evals" / "c")
