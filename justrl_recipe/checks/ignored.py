"""Keys that veRL does not read on the recipe's path: `unused_keys.yaml`, read."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("unused_keys.yaml")


@dataclass(frozen=True)
class Unused:
    """A key without effect.

    Attributes:
        key: a dotted key, or `section.*` for all of a section.
        fix: what to do instead.
        beside: the values of other keys beside which it has no effect, all of them.
        unless: the values of other keys beside which it has one, any of them.
    """

    key: str
    fix: str
    beside: Mapping[str, Any] = field(default_factory=dict)
    unless: Mapping[str, Any] = field(default_factory=dict)

    def names(self, key: str) -> bool:
        return key == self.key or (self.key.endswith(".*") and key.startswith(self.key[:-1]))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the key has no effect beside these values."""
        every = all(_among(values.get(other), wanted) for other, wanted in self.beside.items())
        return every and not any(_among(values.get(other), wanted) for other, wanted in self.unless.items())

    @property
    def because(self) -> str:
        """The end of a sentence that says when it has no effect."""
        clauses = [f" {word} {_text(values)}" for word, values in self._conditions() if values]
        return "".join(clauses) or " in veRL 0.9.1"

    def _conditions(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        return ("while", self.beside), ("unless", self.unless)


def _among(value: Any, wanted: Any) -> bool:
    """Whether a value, or one of a list's, is the wanted one or one of them."""
    several = wanted if isinstance(wanted, list) else [wanted]
    return any(item in several for item in (value if isinstance(value, list) else [value]))


def _text(values: Mapping[str, Any]) -> str:
    return " or ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()
    )


@functools.cache
def table() -> tuple[Unused, ...]:
    content = yaml.safe_load(TABLE.read_text())
    nothing = "remove it: veRL has no such setting on this path"
    always = [Unused(key, fix or nothing) for key, fix in content["always"].items()]
    conditional = [
        Unused(key, entry["fix"] or nothing, entry.get("while", {}), entry.get("unless", {}))
        for entry in content["conditional"]
        for key in entry["keys"]
    ]
    return (*always, *conditional)
