"""The package as it is installed: wheel and editable."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml

from justrl_recipe.cli.run import placed
from justrl_recipe.config import ABLATIONS, RECIPES, SYSTEMS, Request, load, names

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_puts_one_name_into_site_packages_and_holds_every_file(wheel):
    files = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in files if ".dist-info" not in name} == {"justrl_recipe"}
    tracked = subprocess.run(
        ["git", "ls-files", "justrl_recipe", "recipes", "ablations", "reward_fns"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    inside = {name if name.startswith("justrl_recipe/") else f"justrl_recipe/{name}" for name in tracked}
    links = {"justrl_recipe/recipes", "justrl_recipe/ablations", "justrl_recipe/reward_fns"}
    assert inside - links <= set(files)
    for folder, place in ((RECIPES, "recipes"), (SYSTEMS, "recipes/system"), (ABLATIONS, "ablations")):
        assert {f"justrl_recipe/{place}/{name}.yaml" for name in names(folder)} <= set(files)


@pytest.fixture(scope="module")
def packed(tmp_path_factory, wheel) -> Path:
    """What `requirements/offline pack` makes, with the package's own wheel alone, and a file that is not listed."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "wheels").mkdir()
    shutil.copy(wheel, folder / "wheels")
    (folder / "wheels/unlisted-1-py3-none-any.whl").touch()
    (folder / "python").write_text(f"Python {platform.python_version()}\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "requirements.txt").write_text(f"./wheels/{wheel.name} --hash=sha256:{digest}\n")
    return folder


def offline(*arguments: str | Path) -> subprocess.CompletedProcess:
    command = [ROOT / "requirements" / "offline", *arguments]
    env = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


@pytest.fixture(scope="module")
def empty_venv(tmp_path_factory, packed) -> Path:
    """A venv with the wheel in it; the dependencies come from the environment that runs the tests."""
    path = tmp_path_factory.mktemp("offline") / "venv"
    installed = offline("install", packed, path)
    assert installed.returncode == 0 and str(path) in installed.stdout, installed.stderr
    site = next(path.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return path


def test_wheels_of_another_python_are_not_installed(packed, tmp_path):
    other = shutil.copytree(packed, tmp_path / "other")
    (other / "python").write_text("Python 3.9.1\n")
    refused = offline("install", other, tmp_path / "venv")
    assert refused.returncode == 2 and "packed with Python 3.9" in refused.stderr
    assert not (tmp_path / "venv").exists()
    assert offline("install", other).returncode == 2


def altered(folder: Path, wheel: str) -> None:
    with zipfile.ZipFile(folder / "wheels" / wheel, "a") as archive:
        archive.writestr("justrl_recipe/more.py", "")


def unhashed(folder: Path, wheel: str) -> None:
    (folder / "requirements.txt").write_text(f"./wheels/{wheel}\n")


def missing(folder: Path, wheel: str) -> None:
    (folder / "wheels" / wheel).unlink()


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (altered, "Expected sha256"),
        pytest.param(unhashed, "Hashes are required", marks=pytest.mark.exhaustive),
        pytest.param(missing, "No such file", marks=pytest.mark.exhaustive),
    ],
)
def test_wheels_that_are_not_as_packed_are_not_installed(packed, wheel, tamper, said, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "folder")
    tamper(folder, wheel.name)
    refused = offline("install", folder, tmp_path / "venv")
    assert refused.returncode and said in refused.stderr and wheel.name in refused.stderr
    assert not (tmp_path / "venv/bin/verl").exists()


def test_nothing_is_packed_into_a_folder_that_exists(packed):
    refused = offline("pack", packed)
    assert refused.returncode == 2 and "exists: remove it" in refused.stderr


@pytest.mark.parametrize("command", ["verl", "justrl"])
def test_an_installed_wheel_lists_and_dry_runs_from_any_folder(empty_venv, command, tmp_path):
    verl = empty_venv / "bin" / command
    code = "import justrl_recipe; print(justrl_recipe.__file__)"
    place = subprocess.run(
        [empty_venv / "bin/python", "-c", code], capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert str(empty_venv) in place
    listed = subprocess.run([verl, "ls"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert "justrl_deepseek" in listed.stdout
    dry = subprocess.run([verl, "run", "justrl_deepseek", "--dry-run"], capture_output=True, text=True, cwd=tmp_path)
    assert yaml.safe_load(dry.stdout) == placed(load(Request("justrl_deepseek")), Path("runs/justrl_deepseek-TIME"))


def test_the_editable_install_finds_the_same_recipes_from_any_folder(tmp_path):
    verl = Path(sys.executable).with_name("verl")
    dry = subprocess.run([verl, "run", "justrl_nemotron", "--dry-run"], capture_output=True, text=True, cwd=tmp_path)
    assert yaml.safe_load(dry.stdout) == placed(load(Request("justrl_nemotron")), Path("runs/justrl_nemotron-TIME"))
