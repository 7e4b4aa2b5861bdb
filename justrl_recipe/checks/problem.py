"""What a check finds."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from justrl_recipe.config import leaves


@dataclass(frozen=True)
class Problem:
    """Something that would spoil a run: the key or file that it is about, why, and how to mend it."""

    key: str
    why: str
    mend: str

    as_dict = asdict

    def __str__(self) -> str:
        return f"{self.key}: {self.why}: {self.mend}"


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values by dotted key."""
    return dict(leaves(values))
