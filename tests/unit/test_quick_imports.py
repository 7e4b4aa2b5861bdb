"""Imports without the garbage collector, which is on again whatever they raise."""

import gc

import pytest

from justrl_recipe.quick_imports import quick_imports


def test_nothing_is_collected_within_and_what_was_made_is_left_alone_after():
    with pytest.raises(ImportError), quick_imports():
        assert not gc.isenabled()
        made = [[]]
        raise ImportError
    assert gc.isenabled() and not any(found is made for found in gc.get_objects())
