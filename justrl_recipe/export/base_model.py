"""The model that a run started from: its name on the hub and its licence, by its own model card."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from justrl_recipe import files, hub

CARD = "README.md"
FENCE = "---"
LICENCE = ("license", "license_name", "license_link")
LONGEST = 200  # characters of an entry


@dataclass(frozen=True)
class BaseModel:
    """What the model card of an export takes from its base.

    Attributes:
        name: on the hub; None where it is not known.
        licence: of `LICENCE`, what the base's card says.
        notes: why something of it is empty, a sentence each.
    """

    name: str | None = None
    licence: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find(path: str | None) -> BaseModel:
    """By the folder or the name on the hub of the model that a run started from.

    Raises:
        Unreadable: its card is not one.
    """
    local = path is not None and Path(path).is_dir()
    file = Path(path or "", CARD) if local else hub.model_card(path) if path else None
    if file is None or not file.is_file():
        return BaseModel(notes=("Licence and base model are left empty: the base model's own card was not found.",))
    entries = front_matter(file)
    licence = {name: value for name in LICENCE if (value := _text(entries.get(name)))}
    if not licence.get("license_link", "https://").startswith("https://"):
        del licence["license_link"]  # a file of the base's repository
    name = _named(entries.get("base_model")) if local else path
    missing = ["the licence"] * ("license" not in licence) + ["the base model's name on the hub"] * (name is None)
    notes = [f"Left empty, since the base model's own card does not name it: {what}." for what in missing]
    return BaseModel(name, licence, tuple(notes))


def front_matter(file: Path) -> dict[str, Any]:
    """The YAML at the head of a model card, empty where there is none.

    Raises:
        Unreadable: it cannot be read, or is not YAML.
    """
    head, _, rest = files.read_text(file).lstrip("\ufeff\n").partition("\n")
    if head.strip() != FENCE:
        return {}
    found = files.parse_yaml(file, f"\n{rest}".partition(f"\n{FENCE}")[0])
    return found if isinstance(found, dict) else {}


def _named(given: Any) -> str | None:
    """The first name on the hub in an entry, which has one or a list of them."""
    names = given if isinstance(given, list) else [given]
    return next((name for name in names if _text(name) and hub.NAME.fullmatch(name)), None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST else None
