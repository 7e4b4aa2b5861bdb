"""Reaching the Hugging Face hub, where data sets and models are published."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from justrl_recipe.errors import UserError, first_line


def require_name(model: str) -> None:
    """Refuse what is not the name of a model on the hub, and so was meant as a folder.

    Raises:
        UserError: it has another form than `owner/model`.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise UserError(f"no folder {model}, and not the name of a model on the hub (like deepseek-ai/DeepSeek-R1)")


def cached(model: str, name: str) -> Path | None:
    """A file of a model that the hub's cache holds; None where it does not, or where no model can be called so."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, name)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


@contextlib.contextmanager
def reaching(repository: str, instead: str) -> Iterator[None]:
    """A block that downloads from a repository.

    Raises:
        UserError: no network, or no such repository; it ends with what to do `instead`.
    """
    import httpx

    try:
        yield
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise UserError(f"cannot download {repository} ({first_line(error)[:120]}): {instead}") from error


@contextlib.contextmanager
def revision(repository: str, instead: str) -> Iterator[str | None]:
    """The newest revision of a data set, for a block that downloads it; errors as in `reaching`."""
    from huggingface_hub import HfApi

    with reaching(repository, instead):
        yield HfApi().dataset_info(repository).sha
