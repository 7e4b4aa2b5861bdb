"""Imports of large packages without Python's garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Collect no garbage while the block imports, and leave what there is then out of every later collection.

    Modules live as long as their process: a collection looks at all of them, while they are imported and when the
    process ends, and finds nothing.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
