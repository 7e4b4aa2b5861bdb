"""Reaching the Hugging Face hub, where the data sets are published."""

import contextlib
from collections.abc import Iterator

from justrl_recipe.errors import UserError


@contextlib.contextmanager
def revision(repository: str, instead: str) -> Iterator[str | None]:
    """The newest revision of a data set, for a block that downloads it.

    Raises:
        UserError: no network, or no such data set, here or in the block; it ends with what to do `instead`.
    """
    import httpx
    from huggingface_hub import HfApi

    try:
        yield HfApi().dataset_info(repository).sha
    except (OSError, ValueError, httpx.HTTPError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot download {repository} ({why[:120]}): {instead}") from error
