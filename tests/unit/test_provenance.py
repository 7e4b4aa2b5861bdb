"""A manifest names the code of this package, and never a user's repository that it happens to lie in."""

import subprocess
from pathlib import Path

import pytest

from justrl_recipe.run.provenance import git_commit, package_sha256, provenance


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "thesis.tex").write_text("mine")
    git(tmp_path, "add", "thesis.tex")
    git(tmp_path, "commit", "-qm", "Mine")
    return tmp_path


def package(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "recipe.yaml").write_text("n: 8\n")
    return folder


@pytest.mark.parametrize("ignored", [True, False])
def test_an_environment_inside_a_users_repository(repository, ignored):
    installed = package(repository / ".venv" / "lib" / "site-packages" / "justrl_recipe")
    if ignored:
        (repository / ".gitignore").write_text(".venv\n")
    found = provenance(installed)
    assert found["git_commit"] is None and len(found["package_sha256"]) == 64


def test_a_checkout_of_its_own(repository):
    checked_out = package(repository / "justrl_recipe")
    git(repository, "add", "justrl_recipe")
    git(repository, "commit", "-qm", "The package")
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert provenance(checked_out)["git_commit"] == commit and provenance(checked_out)["package_sha256"] is None
    (checked_out / "recipe.yaml").write_text("n: 9\n")
    assert git_commit(checked_out) == f"{commit}-dirty"


def test_no_repository_at_all(tmp_path):
    installed = package(tmp_path / "justrl_recipe")
    found = provenance(installed)
    assert found["git_commit"] is None
    (installed / "recipe.yaml").write_text("n: 9\n")
    assert package_sha256(installed) != found["package_sha256"]


@pytest.mark.parametrize("name", ["recipe.yaml", "reward.py", "answers.json"])
def test_the_hash_of_a_source_tree_covers_its_linked_folders(tmp_path, name):
    source = package(tmp_path / "justrl_recipe")
    (tmp_path / "recipes").mkdir()
    (source / "recipes").symlink_to("../recipes")
    found = {package_sha256(source)}
    for content in ("n: 8", "n: 9"):
        (tmp_path / "recipes" / name).write_text(content)
        found.add(package_sha256(source))
    assert len(found) == 3
    (source / "__pycache__").mkdir()
    (source / "__pycache__" / "made.pyc").write_text("by running it")
    assert package_sha256(source) in found


def test_a_machine_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(package(tmp_path / "justrl_recipe")) is None
