"""The lock files: everything that is installed has a version and a hash, and no index is named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted(set(ROOT.glob("requirements/*.txt")) - {ROOT / "requirements/overrides.txt"})
# A name, one version, perhaps a marker, and hashes: neither an option nor an address.
LOCKED = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[\w.+!-]+( ; [^-]+)?( --hash=sha256:[0-9a-f]{64})+")
ACTION = re.compile(r"^\s*(?:- )?uses:\s*(\S+)", re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_has_a_version_and_a_hash_and_no_index(lock):
    requirements = re.sub(r" \\\n +", " ", lock.read_text()).splitlines()
    assert requirements
    assert [line for line in requirements if not LOCKED.fullmatch(line)] == []


def test_every_lock_is_made_by_make_lock_and_audited():
    made = re.findall(r"-o requirements/(\S+)\.txt", (ROOT / "Makefile").read_text())
    audited = re.search(r"lock: \[(.*)\]", (ROOT / ".github/workflows/audit.yml").read_text())
    assert audited is not None
    assert sorted(made) == sorted(audited[1].split(", ")) == [lock.stem for lock in LOCKS]


def test_actions_are_pinned_by_commit():
    workflows = [file.read_text() for file in ROOT.glob(".github/workflows/*.y*ml")]
    actions = [action for text in workflows for action in ACTION.findall(text)]
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []
