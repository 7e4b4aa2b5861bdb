"""Files: read in bounded time and memory, written whole or not at all.

Files that others have made may be huge, pipes or devices, or hold anything: what reads here reads a regular file, or
raises `Unreadable`.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from justrl_recipe.errors import UserError

MEGABYTE = 1 << 20
TEXT_BYTES = 8 * MEGABYTE  # of a file that is read at once; as JSON it may take 30 times its size in memory
YAML_BYTES = MEGABYTE
LINE_BYTES = 16 * MEGABYTE  # of a line of a file that is read line by line
LOCK = ".lock"
YAML_NODES = 100_000  # with every alias in place
MOST_DEEP = 100  # levels, so that what is read can also be written
# An integer that takes long to read, cannot be printed, or overflows.
YAML_NUMBER = re.compile(r"[-+]?(?:0x[\da-fA-F_]{65,}|[\d_:.]{65,})")
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(UserError):
    """A file that cannot be read, or is not what it should be."""


def open_bytes(file: Path) -> BinaryIO:
    """Open a regular file; a pipe or a device, which might give no data or never end, is refused.

    Raises:
        Unreadable: it is not a regular file, or cannot be opened.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        raise Unreadable(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        what = "a folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "not a regular file"
        os.close(descriptor)
        raise Unreadable(f"cannot read {file}: it is {what}")
    return os.fdopen(descriptor, "rb")


def require_content(file: Path) -> None:
    """Check that a file named by the user is there and not empty.

    Raises:
        UserError: it is not there, a folder, empty, or cannot be opened.
    """
    if os.path.isdir(file):  # Path.is_dir raises at a name that no file can have
        raise UserError(f"{file} is a folder: give a file")
    if not os.path.lexists(file):
        raise UserError(f"no file {file}")
    with open_bytes(file) as opened:
        if not os.fstat(opened.fileno()).st_size:
            raise UserError(f"{file} is empty")


def read_bytes(file: Path, limit: int = TEXT_BYTES) -> bytes:
    """All bytes of a file of at most `limit` bytes; raises `Unreadable`."""
    try:
        with open_bytes(file) as opened:
            content = opened.read(limit + 1)
    except OSError as error:
        raise Unreadable(f"cannot read {file}: {error.strerror}") from error
    if len(content) > limit:
        raise Unreadable(f"cannot read {file}: it has more than {limit // MEGABYTE} MB")
    return content


def read_text(file: Path, limit: int = TEXT_BYTES) -> str:
    """The text of a UTF-8 file of at most `limit` bytes; raises `Unreadable`."""
    try:
        return read_bytes(file, limit).decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"cannot read {file}: it is not UTF-8 text") from error


def read_json(file: Path) -> Any:
    """What a JSON file holds; raises `Unreadable`."""
    text = read_text(file)
    try:
        found = parse_json(text)
    except ValueError as error:
        raise Unreadable(f"{file} is not JSON: {_said(error)}") from error
    level = [found]
    for _ in range(MOST_DEEP):
        level = [child for node in level for child in _children(node)]
    if level:
        raise Unreadable(f"{file}: nested deeper than {MOST_DEEP} levels")
    return found


def _said(error: Exception) -> str:
    return " ".join(str(error).split())


def _children(node: Any) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deep, or holds an integer of too many digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; raises `Unreadable`."""
    found = read_json(file)
    if not isinstance(found, dict):
        raise Unreadable(f"{file} is not a JSON object")
    return found


def read_yaml(file: Path) -> Any:
    """What a YAML file holds; raises `Unreadable`."""
    return parse_yaml(file, read_text(file, YAML_BYTES))


def parse_yaml(file: Path, text: str) -> Any:
    """What a YAML text from a file holds; raises `Unreadable`."""
    require_small_yaml(file, text)
    try:
        return yaml.load(text, Loader=YAML_LOADER)
    # An alias that contains itself, a mapping as a key, and values such as 2026-99-99.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise Unreadable(f"{file} is not YAML: {_said(error)}") from error


def require_small_yaml(file: Path, text: str) -> None:
    """Check that a YAML text stays small when every alias is replaced by what it stands for.

    Raises:
        Unreadable: it does not, is nested too deep, has an alias within what it stands for, or is not YAML.
    """
    sizes: dict[str, int] = {}  # nodes under each anchor
    stack: list[tuple[str | None, int]] = []  # what is open: its anchor, and the nodes before it
    count = 0
    try:
        for event in yaml.parse(text, Loader=YAML_LOADER):
            before = count
            match event:
                case yaml.AliasEvent():
                    if event.anchor in [anchor for anchor, _ in stack]:
                        raise Unreadable(f"{file}: *{event.anchor} stands within &{event.anchor}")
                    count += sizes.get(str(event.anchor), 1)
                case yaml.CollectionStartEvent():
                    count += 1
                    stack.append((event.anchor, before))
                case yaml.CollectionEndEvent():
                    anchor, before = stack.pop()
                    sizes[anchor or ""] = count - before
                case yaml.ScalarEvent():
                    count += 1
                    sizes[event.anchor or ""] = 1
                    if event.implicit[0] and YAML_NUMBER.fullmatch(event.value):
                        raise Unreadable(f"{file}: a number of too many digits: {event.value[:20]}...")
            if count > YAML_NODES:
                raise Unreadable(f"{file}: more than {YAML_NODES:,} values, with its aliases replaced")
            if len(stack) > MOST_DEEP:
                raise Unreadable(f"{file}: nested deeper than {MOST_DEEP} levels")
    except yaml.YAMLError as error:
        raise Unreadable(f"{file} is not YAML: {_said(error)}") from error


def lines(file: Path, limit: int = LINE_BYTES) -> Iterator[bytes]:
    """The lines of a file, each with its end; the last one may have none.

    Raises:
        Unreadable: it cannot be read, or a line has more than `limit` bytes.
    """
    number = 0
    try:
        with open_bytes(file) as opened:
            while line := opened.readline(limit + 1):
                number += 1
                if len(line) > limit:
                    raise Unreadable(f"{file}: line {number} has more than {limit // MEGABYTE} MB")
                yield line
    except OSError as error:
        raise Unreadable(f"cannot read {file}: {error.strerror}") from error


def json_lines(file: Path) -> Iterator[tuple[int, Any]]:
    """The value of each line of a JSON-lines file with the line's number, from 1; empty lines and a byte-order mark
    are left out.

    Raises:
        Unreadable: it cannot be read, or a line is too long, cut or not JSON; it names the line.
    """
    for number, line in enumerate(lines(file), 1):
        line = line.removeprefix(BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        try:
            value = parse_json(line.decode())
        except UnicodeDecodeError as error:
            raise Unreadable(f"{file}: line {number} is not UTF-8 text") from error
        except ValueError as error:
            raise Unreadable(f"{file}: line {number} is cut or not JSON: fix it or remove it") from error
        yield number, value


def require_regular(folder: Path) -> None:
    """Check that whatever is in a folder can be read to its end, for a library that opens files by itself.

    Raises:
        Unreadable: something in it is neither a regular file, nor a folder, nor a link to one.
    """
    for entry in os.scandir(folder):
        if os.path.exists(entry) and not entry.is_file() and not entry.is_dir():
            raise Unreadable(f"cannot read {entry.path}: it is not a regular file")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process while the block runs; the lock ends with the process, however that ends.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    try:
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder} is in use by another process: wait for it, or choose another --out") from error
        yield


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A scratch file beside `path` that takes its place when the block ends well. Otherwise it goes away, with the
    folders that were made for it.

    Raises:
        UserError: the folder cannot be made or written, or is full.
    """
    scratch = path.with_name(f".{path.name}.partial")
    made = [folder for folder in path.parents if not os.path.exists(folder)]  # the innermost first
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        with scratch.open("rb") as written:
            os.fsync(written.fileno())  # else a power cut can leave an empty file under the new name
        os.replace(scratch, path)
        made = []
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write {path}: {error.filename} is no folder: choose another") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            scratch.unlink()
        for folder in made:
            with contextlib.suppress(OSError):  # not there, or another process has written into it
                folder.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file; raises `UserError` as `replacing` does."""
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file; raises `UserError` as `replacing` does."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()  # hashlib.file_digest is not in Python 3.10
    with open_bytes(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
