"""The fields of veRL's config dataclasses, read from its source: importing them costs ten seconds and torch.

veRL's YAML files name a class per section (`_target_`), and some of its fields stand in no YAML file.
"""

import ast
import functools
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path


@functools.cache
def _classes(package: str) -> dict[str, ast.ClassDef]:
    """Every class of the modules in a package's folder, by name."""
    top, _, rest = package.partition(".")
    spec = find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return {}
    place = Path(spec.submodule_search_locations[0], *rest.split("."))
    files = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return {
        node.name: node
        for file in files
        if file.is_file()
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
    }


@functools.cache
def fields(target: str) -> Mapping[str, str]:
    """The fields of the class that `target` names, with their annotations; none for an unknown one."""
    package, _, name = target.rpartition(".")
    if not package:
        return {}
    classes = _classes(package)
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        node = classes.get(waiting.pop())
        if node is None:
            continue
        of_class = {
            item.target.id: ast.unparse(item.annotation)
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        found = of_class | found
        waiting.extend(base.id for base in node.bases if isinstance(base, ast.Name))
    return found
