"""The tables of README.md and docs/ are computed from the raw results; upgrading_verl.md lists patches and tests."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UPGRADING = (ROOT / "docs" / "upgrading_verl.md").read_text()


def test_make_docs_changes_nothing(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # as for a script
    docs = runpy.run_path(str(ROOT / "benchmarks" / "docs.py"))
    assert docs["main"](check=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize("file", ["justrl_recipe/verl_hooks/patches.py", "justrl_recipe/cpu/patches.py"])
def test_each_patch_is_listed_for_an_upgrade(file):
    patches = re.findall(r"^def ([a-z]\w*)", (ROOT / file).read_text(), re.MULTILINE)
    assert patches and [name for name in patches if f"`{name}`" not in UPGRADING] == []


def test_the_tests_that_an_upgrade_needs_exist():
    """`::test_name` stands for one in the file that its line names before it."""
    file, missing = "", []
    for named, name in re.findall(r"`(tests/\w+/\w+\.py)?(?:::(\w+))?`", UPGRADING):
        file = named or file
        if f"def {name}" not in (ROOT / file).read_text():
            missing.append((file, name))
    assert file and missing == []
