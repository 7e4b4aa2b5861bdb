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
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their figures' drawings, which take half a second a page, for tests of what a page says."""
    from justrl_recipe.report import figures, page

    monkeypatch.setattr(figures, "svg", lambda drawn, prefix: "<svg></svg>")
    monkeypatch.setattr(page, "write_pictures", lambda figure, file, pdf: None)
