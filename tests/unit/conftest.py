"""What keeps tests/unit quick."""

from collections.abc import Iterator

import composed
import pytest


@pytest.fixture(autouse=True, scope="module")
def configs_are_quick() -> Iterator[None]:
    """Also those of `verl` in process (command.py)."""
    with composed.quick():
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
