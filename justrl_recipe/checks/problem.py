"""What a check finds."""

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["error", "warning", "unchecked"]


@dataclass(frozen=True)
class Problem:
    """What a check found.

    Attributes:
        key: the config key or the file that it is about.
        why: what is wrong with it.
        fix: what to do.
        check: the name of the check, which `--skip-check` takes.
        level: an `error` would crash the run, lose data or make it learn something else than was asked; the run
            starts in spite of a `warning`; `unchecked` is what could not be looked at.
    """

    key: str
    why: str
    fix: str
    check: str = ""
    level: Level = "error"

    as_dict = asdict

    def __str__(self) -> str:
        return f"{self.key}: {self.why}: {self.fix}"
