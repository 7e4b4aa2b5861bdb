"""A user's own recipe, system and ablation files, as Hydra composes them.

Each is copied under a name of its own: one that is called like a shipped file extends it, and never replaces it.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from justrl_recipe import files
from justrl_recipe.errors import UserError
from justrl_recipe.processes import scratch_folder
from justrl_recipe.search_path import RECIPES, shipped

OWN = "justrl_own_file"  # how a user's file is called while it is composed
GLOBAL = re.compile(r"^\s*#\s*@package\s+_global_\b", re.MULTILINE)  # Hydra's package header
OTHER_PACKAGE = re.compile(r"^\s*#\s*@package\s+(?!_global_\b)\S", re.MULTILINE)


@dataclass(frozen=True)
class Composable:
    """What Hydra composes.

    Attributes:
        folder: the folder of the recipe.
        name: the recipe's name in it.
        overrides: what names the system and the ablations.
        originals: the user's files by what Hydra calls them, the recipe's by "", for error messages.
    """

    folder: Path
    name: str
    overrides: list[str]
    originals: dict[str, Path]


@dataclass(frozen=True)
class Made:
    """A system file that is not on disk, since it is made for this machine."""

    name: str
    text: str


@contextmanager
def composable(
    recipe: Path, system: str | Path | Made | None, ablations: Sequence[str | Path]
) -> Iterator[Composable]:
    """A recipe with a system and ablations, shipped ones by name, where Hydra composes them.

    A system or an ablation is made to speak of the whole config, whether or not it begins with `# @package _global_`.

    Raises:
        UserError: a file cannot be read, or is ambiguous (`_refuse_ambiguous`).
    """
    own = [part for part in (system, *ablations) if isinstance(part, Path)]
    if not shipped(recipe):
        _refuse_ambiguous(recipe, own)
    with scratch_folder() as scratch:
        originals = {"": recipe}

        def called(part: str | Path | Made, group: str, name: str) -> str:
            if isinstance(part, str):
                return part
            text = part.text if isinstance(part, Made) else _read_part(part)
            if not OTHER_PACKAGE.search(text):
                text = "# @package _global_\n" + GLOBAL.sub("#", text)
            Path(scratch, group).mkdir(exist_ok=True)
            Path(scratch, group, f"{name}.yaml").write_text(text, encoding="utf-8")
            originals[f"{group}/{name}"] = Path(part.name) if isinstance(part, Made) else part
            return name

        overrides = [] if system is None else [f"system={called(system, 'system', OWN)}"]
        names = [called(part, "ablations", f"{OWN}_{number}") for number, part in enumerate(ablations)]
        overrides += [f"+ablations=[{','.join(names)}]"] if names else []
        if shipped(recipe) and not own and not isinstance(system, Made):
            yield Composable(RECIPES, recipe.stem, overrides, originals)
        else:
            Path(scratch, f"{OWN}.yaml").write_text(_read(recipe), encoding="utf-8")
            beside = f"file://{recipe.parent}".replace("\\", "\\\\").replace("'", "\\'")
            yield Composable(Path(scratch), OWN, [f"hydra.searchpath=['{beside}']", *overrides], originals)


def _refuse_ambiguous(recipe: Path, parts: Sequence[Path]) -> None:
    """Refuse a user's file that extends a name which is both a shipped file and another file beside the recipe.

    Hydra would take the shipped one silently. Copies that do not differ, as in a clone of this repository, and
    the recipe's own name, which stands for the shipped file, are not ambiguous.

    Raises:
        UserError: there are two such files, or one that is extended cannot be read.
    """
    waiting, seen = [recipe, *parts], {recipe}
    while waiting:
        file = waiting.pop()
        for name in _extended(file):
            beside, packaged = recipe.parent / f"{name}.yaml", RECIPES / f"{name}.yaml"
            if beside in seen or not os.path.lexists(beside):
                continue
            if packaged.is_file() and packaged.read_text() != _read(beside):
                raise UserError(f"{file.name} extends {name!r}, a shipped file, and {beside} is another: rename it")
            seen.add(beside)
            waiting.append(beside)


def _extended(file: Path) -> Iterator[str]:
    """The configs in a file's defaults list, by their paths without `.yaml`; nothing where Hydra will refuse it.

    Raises:
        UserError: the file cannot be read, or would not fit into memory.
    """
    try:
        content = yaml.load(_read(file), Loader=files.YAML_LOADER)
    except (yaml.YAMLError, ValueError, TypeError):
        return
    entries = content.get("defaults") if isinstance(content, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, str):
            yield entry.split("@")[0].lstrip("/")
        elif isinstance(entry, dict):
            for group, options in entry.items():
                group = str(group).split(" ")[-1].split("@")[0].lstrip("/")
                for option in options if isinstance(options, list) else [options]:
                    yield f"{group}/{option}"


def _read_part(path: Path) -> str:
    """As `_read`, of a system or an ablation, which Hydra would accept without a key, or blame the recipe for."""
    text = _read(path)
    with suppress(yaml.YAMLError, ValueError, TypeError):  # Hydra refuses these
        content = yaml.load(text, Loader=files.YAML_LOADER)
        if not isinstance(content, dict) or content in ({}, {"defaults": []}, {"defaults": ["_self_"]}):
            raise UserError(f"{path.name} has no keys: add some, or copy a file to start from (verl cp)")
    return text


def _read(path: Path) -> str:
    """The text of a YAML file of the user's that Hydra can read in little time and memory; raises UserError."""
    text = files.read_text(path, files.YAML_BYTES)
    files.require_small_yaml(path, text)
    return text
