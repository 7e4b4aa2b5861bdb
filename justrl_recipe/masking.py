"""Secrets: how they are known, and what stands in their place in all that is written or shown.

Known are: the value of a key that is called like a secret (`WANDB_API_KEY`, `hf_token`, `password`), what an
environment variable gave (`${oc.env:TOKEN}`), the user and password of a URL and the secret parameters of its query,
and texts in the form of well-known tokens. `learn` notes those of a config; from then on `masked` hides them in any
text of this process. The training process gets the true values by its environment (run/start.py).
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO
from urllib.parse import quote

MASK = "***"
HIDDEN = "JUSTRL_HIDDEN"  # the environment variable that gives the training process the true values, as JSON
SHORTEST = 4  # characters of a secret that is also hidden within other text; a shorter one is part of any word
SHORTEST_VARIABLE = 8  # of the value of an environment variable that is not called like a secret

WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
SECRET = {
    *("password", "passwd", "passphrase", "pwd", "pat", "dsn", "secret", "credential", "authorization", "bearer"),
    *("cookie", "apikey"),
}
KEYS = {"api", "access", "secret", "private", "signing", "encryption", "auth", "account", "ssh", "service", "license"}
TOKENS_OF_TEXT = {
    *("bos", "eos", "pad", "unk", "mask", "sep", "cls", "image", "video", "audio", "stop", "special", "think"),
}

INTERPOLATED = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)")
VARIABLE = re.compile(r"\$\{oc\.env:\s*([^,}\s]+)\s*(?:,([^}]*))?\}")
URL_USER = re.compile(r"(?<=://)[^/?#\s'\"@]+(?=@)")
URL_PARAMETER = re.compile(r"([?&;]([\w.-]+)=)([^&#\s'\"]+)")
PARAMETERS = {"key", "sig", "signature", "code", "auth", "token", "pw"}
TOKEN = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{20,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)"
    r"|(?<=\bBearer )[\w.~+/=-]{6,}|(?<=\bBasic )[\w+/=-]{6,}"
)
# A path from the root, or an address; not what follows a word, as in `actor/entropy`, nor the package's `pkg://`.
ABSOLUTE = re.compile(r"(?<![\w.~/:<-])(?:(?!pkg:)[a-z][a-z0-9+]*:/{1,2})?/[^\s/'\",;=]+(?:/[^\s/'\",;=]*)*")
ASSIGNED = re.compile(r"([\w.\-]+)\s*[:=]\s*((?:Bearer |Basic )?[^\s,}\]]+)")

Path = tuple[str | int, ...]
_known: dict[str, str] = {}  # each secret in each of its spellings, and what is shown in its place
_written: dict[Path, str] = {}  # the config's leaves that environment variables give, as they are written


def is_secret_name(name: str) -> bool:
    """Whether a key, a variable or a URL's parameter is called like a secret."""
    words = [word.lower() for word in WORDS.findall(name)]
    if not words:
        return False
    *before, last = words
    if SECRET & {word.removesuffix("s") for word in words} or last in ("pass", "pw"):
        return True
    if last == "token":
        return not before or before[-1] not in TOKENS_OF_TEXT
    return last == "key" and bool(before) and (before[-1] in KEYS or name.isupper())


def learn(raw: Any, resolved: Any) -> None:
    """Note the secrets of a config, from its values as they are written and as they are resolved."""
    for path, value in _leaves(resolved):
        written = at(raw, path)
        variables = INTERPOLATED.findall(written) if isinstance(written, str) else []
        if isinstance(value, bool) or value in (None, ""):
            continue
        for token in TOKEN.findall(value) if isinstance(value, str) else ():
            _note(token, MASK, SHORTEST)  # a log may break the text that shows that it is one
        if variables:
            _written[path] = written
        if _is_secret_path(path) or any(map(is_secret_name, variables)):
            _note(str(value), written if variables else MASK, SHORTEST)
        elif variables:
            _note(str(value), written, SHORTEST_VARIABLE)


def learn_overrides(overrides: Sequence[str]) -> None:
    """Note the secrets in overrides as they were typed, for messages on those that cannot be read."""
    for override in overrides:
        key, _, value = override.partition("=")
        if is_secret_name(key.rpartition(".")[2]) and "${" not in value:
            _note(value.strip("'\""), MASK, SHORTEST)
        for name, part in ASSIGNED.findall(value):
            if is_secret_name(name) and "${" not in part:
                _note(part.strip("'\""), MASK, SHORTEST)


def masked(text: str) -> str:
    """`text` with every known secret hidden."""
    for secret in sorted(_known, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, _known[secret])
    text = URL_USER.sub(MASK, text) if "://" in text else text
    text = URL_PARAMETER.sub(_parameter, text) if "=" in text else text
    return TOKEN.sub(MASK, text)


def shown(path: Path, value: Any) -> Any:
    """What is written in place of a config's leaf: the leaf itself, unless it is a secret or has one in it."""
    if path in _written:
        return masked(_written[path])
    if _is_secret_path(path) and not isinstance(value, bool) and value not in (None, ""):
        return MASK
    return masked(value) if isinstance(value, str) else value


def masked_config(values: Any) -> tuple[Any, list[tuple[Path, Any]]]:
    """A config's values with its secrets hidden, and path and true value of each leaf that was changed."""
    hidden = [(path, value) for path, value in _leaves(values) if shown(path, value) != value]
    return _mapped(values, shown), hidden


def masked_tree(values: Any) -> Any:
    """Nested plain data with every known secret in its texts hidden."""
    return _mapped(values, lambda path, value: masked(value) if isinstance(value, str) else value)


def for_others(values: Any) -> Any:
    """Nested plain data with known secrets and absolute paths hidden in its texts, for what leaves the machine."""
    return _mapped(values, lambda _, value: without_paths(masked(value)) if isinstance(value, str) else value)


def replaced(values: Any, by_path: Mapping[Path, Any]) -> Any:
    """Nested plain data with other values at these paths."""
    return _mapped(values, lambda path, value: by_path.get(path, value))


def from_environment(values: Any) -> Any:
    """A written config with what environment variables give; a variable that is not set stays as it is written."""

    def given(found: re.Match[str]) -> str:
        return os.environ.get(found[1], found[0] if found[2] is None else found[2].strip())

    return _mapped(values, lambda _, value: VARIABLE.sub(given, value) if isinstance(value, str) else value)


def without_paths(text: str) -> str:
    """A text with the folders of absolute paths and of addresses left out: they name a machine."""
    return ABSOLUTE.sub(lambda match: f"…/{match[0].rstrip('/').rpartition('/')[2]}", text)


class MaskedStream:
    """A text stream that hides secrets in whatever is written to it, and names itself where that fails."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            self.stream.write(masked(text))
        except OSError as error:  # which has no file name, where a device is full
            error.filename = self.stream.name
            raise
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _note(secret: str, shown: str, shortest: int) -> None:
    for part in {secret, *secret.split()}:  # a log may break a text at its spaces
        if len(part) >= (shortest if part == secret else SHORTEST_VARIABLE) and part != MASK:
            for spelling in {part, repr(part)[1:-1], json.dumps(part)[1:-1], quote(part, safe="")}:
                _known[spelling] = shown


def _parameter(found: re.Match[str]) -> str:
    return found[1] + MASK if found[2].lower() in PARAMETERS or is_secret_name(found[2]) else found[0]


def _is_secret_path(path: Path) -> bool:
    return any(is_secret_name(part) for part in path if isinstance(part, str))


def _mapped(node: Any, change: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    if isinstance(node, Mapping):
        return {key: _mapped(value, change, (*path, str(key))) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_mapped(value, change, (*path, number)) for number, value in enumerate(node)]
    return change(path, node)


def _leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _leaves(value, (*path, number))
    else:
        yield path, node


def at(node: Any, path: Path) -> Any:
    """What nested plain data have at a path: None where they have nothing, a text that stands for a whole section."""
    for part in path:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
        if isinstance(node, str):
            return node
    return node
