"""The Hugging Face hub, where data sets and models are published: reached, and written to."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from justrl_recipe.errors import UserError, first_line

NAME = re.compile(r"[\w.-]+/[\w.-]+")


def require_name(model: str) -> None:
    """Refuse what is not the name of a model on the hub, and so was meant as a folder.

    Raises:
        UserError: it has another form than `owner/model`.
    """
    if not NAME.fullmatch(model):
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


def model_card(model: str) -> Path | None:
    """The README.md of a model, by the hub's cache or a download; None where there is none, or no network."""
    from huggingface_hub import hf_hub_download

    if found := cached(model, "README.md"):
        return found
    try:
        require_name(model)
        with reaching(model, ""):
            return Path(hf_hub_download(model, "README.md"))
    except UserError:
        return None


def require_login(repository: str) -> None:
    """Check that this user is logged in to the hub, before work is done whose result goes there.

    Raises:
        UserError: it is not so, the hub cannot be reached, or no repository can be called so.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError

    if not NAME.fullmatch(repository):
        raise UserError(f"{repository} is not the name of a repository on the hub: give OWNER/NAME")
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError as error:
        raise UserError(
            f"not logged in to the hub, where {repository} is: run `hf auth login`, or set HF_TOKEN"
        ) from error
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise UserError(
            f"cannot push to {repository} ({first_line(error)[:120]}): check `hf auth whoami` and the network"
        ) from error


def upload(folder: Path, repository: str) -> str:
    """Upload a model folder to a repository, which is made as a private one where there is none; its address.

    Raises:
        UserError: the hub refuses it or cannot be reached; it names the command that tries again.
    """
    import httpx
    from huggingface_hub import HfApi

    try:
        address = HfApi().create_repo(repository, private=True, exist_ok=True)
        HfApi().upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload model")
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        why = f"{folder} is complete, and was not uploaded to {repository} ({first_line(error)[:120]})"
        raise UserError(f"{why}: try again by `hf upload {repository} {folder}`") from error
    return str(address)


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
