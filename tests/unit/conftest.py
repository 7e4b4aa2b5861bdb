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
