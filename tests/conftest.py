"""Settings for every test, and what keeps tests/unit quick."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import composed
import pytest
from hypothesis import settings

from justrl_recipe.quick_imports import quick_imports

if TYPE_CHECKING:
    from trainings import Watched

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: no test uses the network
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tests run side by side, and waiting threads spin
settings.register_profile("shared machine", deadline=None)  # a slow example is no failure
settings.load_profile("shared machine")

UNIT = Path(__file__).with_name("unit")
SLOW = {"ray", "torch", "verl", "vllm"}  # which take seconds to import: tests/contract and tests/e2e have these tests


LONGEST_ID = 100  # characters


def pytest_make_parametrize_id(val: object) -> str | None:
    """Shorten ids: pytest sends them between processes, and takes seconds for one of megabytes."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_ID:
        return f"{val[:LONGEST_ID]!r} and more"
    return None


def slow_imports() -> set[str]:
    return SLOW & sys.modules.keys()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import all test modules, and with them torch, veRL and vLLM."""
    with quick_imports():
        return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a pytest with which pytest-xdist does not group tests, as 9.2 with 3.8: trainings would run at once."""
    if session.config.getoption("loadgroup", False):  # in a worker of `--dist loadgroup`
        grouped = [item.nodeid for item in session.items if item.get_closest_marker("xdist_group")]
        if not all("@" in nodeid for nodeid in grouped):
            raise pytest.UsageError("pytest-xdist does not group the tests: use the versions of requirements/cpu.txt")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    before = slow_imports()
    report = yield
    if UNIT in collector.path.parents and (new := slow_imports() - before):
        report.outcome, report.longrepr = "failed", f"a unit test imports {', '.join(new)}"  # type: ignore[attr-defined]
    return report


@pytest.fixture(autouse=True)
def unit_tests_import_nothing_slow(request: pytest.FixtureRequest) -> Iterator[None]:
    before = slow_imports()
    yield
    if UNIT in request.path.parents and (new := slow_imports() - before):
        pytest.fail(f"a unit test imports {', '.join(new)}")


@pytest.fixture(autouse=True, scope="module")
def configs_of_unit_tests_are_quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Also those of `verl` in process (command.py)."""
    with composed.quick() if UNIT in request.path.parents else contextlib.nullcontext():
        yield


@pytest.fixture
def page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without PNGs and PDFs, for which each figure is drawn again."""
    from justrl_recipe.report import page

    monkeypatch.setattr(page, "write_pictures", lambda figure, file, pdf: None)


@pytest.fixture
def undrawn(page_alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports whose figures are empty, for tests of what a page says: drawing them takes most of its time."""
    from justrl_recipe.report import figures

    monkeypatch.setattr(figures, "svg", lambda drawn, prefix: "<svg></svg>")


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A working folder of trainings, in which the tiny model is made once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def trained(folder: Path) -> "Watched":
    """The paper's second arm, trained without any interruption."""
    from trainings import train_second_arm

    return train_second_arm(folder)
