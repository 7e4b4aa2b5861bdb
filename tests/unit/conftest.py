"""What keeps tests/unit quick."""

from collections.abc import Iterator
from unittest import mock

import composed
import pytest

from justrl_recipe import config


@pytest.fixture(autouse=True, scope="module")
def recipes_are_composed_once() -> Iterator[None]:
    """For `verl` in process as well (command.py)."""
    with mock.patch.object(config, "_compose", composed.compose):
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
