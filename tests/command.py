"""The command `verl` as a user types it, run in this process: starting an interpreter takes a second."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from justrl_recipe import cli, masking

VERL = Path(sys.executable).with_name("verl")  # for tests of signals, pipes and what a process leaves


@contextlib.contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def verl(*arguments: str | Path, cwd: Path, stdin: str = "", **env: str) -> CompletedProcess:
    """Run `verl` in `cwd` with these variables added, and return its exit code and what it printed.

    An exception that would end the command in a traceback is raised.
    """
    out, err = io.StringIO(), io.StringIO()
    code: str | int | None = 0
    with (
        mock.patch.multiple(sys, argv=["verl", *map(str, arguments)], path=list(sys.path)),
        mock.patch.multiple(sys, stdin=io.StringIO(stdin), stdout=out, stderr=err),
        mock.patch.dict(os.environ, env),
        mock.patch.multiple(masking, _known={}, _written={}),
        _in(cwd),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    if not isinstance(code, int):
        code = 0 if code is None else 1
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
