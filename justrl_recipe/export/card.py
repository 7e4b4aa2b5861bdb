"""The model card of an export: what a run's manifest, its curves and its evaluation say, as a README.md."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from justrl_recipe.data.schema import INSTRUCTION, TRAINING_SUFFIX
from justrl_recipe.evaluation import results_output
from justrl_recipe.evaluation.models import Model
from justrl_recipe.evaluation.sampling import Sampling
from justrl_recipe.export.base_model import BaseModel
from justrl_recipe.masking import masked, without_paths
from justrl_recipe.metrics import VALIDATION
from justrl_recipe.report import figures
from justrl_recipe.report.arms import arms
from justrl_recipe.report.panels import headline, panels
from justrl_recipe.report.runs import Run
from justrl_recipe.terminal import one_line

CURVES = "curves.png"
TEMPLATE = "card.md.j2"
MARKDOWN = re.compile(r"([\\`*\[\]<>|])")  # within a word, an underscore is one
DETAILS = ("recipe", "ablations", "seed", "started", "ended", "versions", "git_commit", "package_sha256", "loss")


@dataclass(frozen=True)
class About:
    """What a card is made from.

    Attributes:
        name: of the model: its folder's or its repository's.
        evaluation: results of `verl eval`, None without.
        hashes: `bytes` and `sha256` of each file, by its name.
    """

    name: str
    model: Model
    run: Run
    step: int
    base: BaseModel
    evaluation: Mapping[str, Any] | None
    sampling: Sampling
    hashes: Mapping[str, Mapping[str, Any]]


def render(about: About, adapter: bool) -> str:
    """The card as Markdown; what comes from files is text in it, without secrets and without absolute paths."""
    manifest = about.run.manifest or {}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), finalize=clean, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE).render(
        about=about,
        adapter=adapter,
        lora=(about.model.run or {}).get("lora"),
        front=Markup(front_matter(about, adapter)),
        name=Markup(json.dumps(about.name)),
        message=Markup(json.dumps(message(about), ensure_ascii=False)),
        table=Markup(evaluation_table(about.evaluation)) if about.evaluation else None,
        manifest=manifest,
        steps=(about.model.run or {}).get("steps"),
        details={key: manifest[key] for key in DETAILS if manifest.get(key)},
        data=data_hashes(manifest),
        curves=CURVES,
        instruction=INSTRUCTION,
        measured=measured(about.run, about.step),
    )


def clean(value: Any) -> str:
    """A value as text of the card, without what names a machine and without Markdown, unless it is Markup."""
    if isinstance(value, Markup):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return MARKDOWN.sub(r"\\\1", without_paths(masked(one_line(text))))


def front_matter(about: About, adapter: bool) -> str:
    """The card's metadata, by which the hub finds and shows a model."""
    entries: dict[str, Any] = {
        **about.base.licence,
        **({"base_model": about.base.name} if about.base.name else {}),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["justrl", "grpo", "verl"],
    }
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)


def message(about: About) -> list[dict[str, str]]:
    """The conversation of the card's example, as the training's prompts are."""
    return about.model.template.messages("What is 27 + 6?" + TRAINING_SUFFIX)


def evaluation_table(results: Mapping[str, Any]) -> str:
    header, rows = results_output.cells(results)
    return results_output.markdown([clean(cell) for cell in header], [[clean(cell) for cell in row] for row in rows])


def data_hashes(manifest: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Key, name and SHA-256 of each data file; a manifest of an earlier version does not have them."""
    data = manifest.get("data")
    found = data.items() if isinstance(data, dict) else ()
    entries = [(str(key), file) for key, listed in found if isinstance(listed, list) for file in listed]
    return [
        (key, Path(str(file.get("path"))).name, str(file.get("sha256")))
        for key, file in entries
        if isinstance(file, dict)
    ]


def measured(run: Run, step: int) -> list[tuple[str, float, float]]:
    """What the curves show: a title, the first value, and the latest value at the exported step."""
    found = panels(arms([run]))
    shown = [panel for panel in found if VALIDATION.match(panel.metric)]
    lines = []
    for panel in [*shown, *(panel for panel in headline(found, False) if panel not in shown)]:
        steps, values = panel.curves[0].runs[0]
        if (until := values[steps <= step]).size:
            lines.append((panel.title, float(until[0]), float(until[-1])))
    return lines


def draw(run: Run, folder: Path) -> None:
    """Write the curves of the run as the report draws them."""
    if shown := headline(panels(arms([run])), False):
        figures.write_png(figures.figure(shown), folder / CURVES)
