"""Runs -> a folder with the page and its PNGs."""

import json
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from justrl_recipe.files import write_text
from justrl_recipe.metrics import THROUGHPUT
from justrl_recipe.report import figures
from justrl_recipe.report.health import ERROR, WARNING, findings
from justrl_recipe.report.logs import Series
from justrl_recipe.report.panels import PAPER, headline, panels
from justrl_recipe.report.responses import safe, sections
from justrl_recipe.report.runs import CLIPPED, Run
from justrl_recipe.terminal import plain

PAGE, PICTURES = "report.html", "report"
TEMPLATES = Path(__file__).parent
DETAILS = ("started", "ended", "system", "ablations", "overrides", "seed", "command", "git_commit", "loss")
NOTES = {
    CLIPPED: "veRL logs the share that is as long as the batch's longest; here it is 0 where that is below the limit",
    THROUGHPUT: "veRL logs it per GPU; times nodes and GPUs where a config.yaml says how many",
}
# A path from the root, or an address; not what follows a word, as in `actor/entropy`, nor the package's `pkg://`.
ABSOLUTE = re.compile(r"(?<![\w.~/:<-])(?:(?!pkg:)[a-z][a-z0-9+]*:/{1,2})?/[^\s/'\",;=]+(?:/[^\s/'\",;=]*)*")


def write(runs: Sequence[Run], out: Path, refresh: int | None) -> Path:
    """Write `out`/report.html and `out`/report/*.png, each whole or not at all; return the page.

    Args:
        refresh: seconds after which a browser loads the page again, None for runs that have ended.

    Raises:
        UserError: `out` cannot be written.
    """
    found, drawn = panels(runs), {}
    first = headline(found, len(runs) > 1)
    for panel in found:
        figure = figures.figure([panel])
        figures.write_png(figure, out / PICTURES / f"{panel.name}.png")
        drawn[panel.name] = Markup(figures.svg(figure, f"p{panel.name}"))
    if first:
        name = "ablation" if len(runs) > 1 else "dynamics"
        figures.write_png(figures.figure(first), out / PICTURES / f"{name}.png")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, finalize=clean, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.get_template("page.html.j2").render(
        title=f"Training report: {runs[0].label if len(runs) == 1 else f'{len(runs)} runs'}",
        style=Markup((TEMPLATES / "style.css").read_text() + (TEMPLATES / "responses.css").read_text()),
        responses=sections(runs),
        safe=safe,
        refresh=refresh,
        runs=runs,
        several=len(runs) > 1,
        deviating=[run for run in runs if run.manifest and run.manifest["deviations"]],
        full=any(run.full for run in runs),
        paper=PAPER,
        first=first,
        rest=[panel for panel in found if panel not in first],
        drawn=drawn,
        notes=NOTES,
        detail_keys=DETAILS,
        numbers=numbers,
        explanation=figures.EXPLANATION,
        **health(runs),
    )
    write_text(out / PAGE, html)
    return out / PAGE


def clean(value: Any) -> str:
    """A value as text of the page, without what names a machine; jinja2 escapes it, unless it is Markup."""
    if isinstance(value, Markup):
        return value
    return without_paths(plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


def without_paths(text: str) -> str:
    """A text with the folders of absolute paths and of addresses left out: they name a machine."""
    return ABSOLUTE.sub(lambda match: f"…/{match[0].rstrip('/').rpartition('/')[2]}", text)


def health(runs: Sequence[Run]) -> dict[str, Any]:
    """Every rule with its findings, the runs below each other, and how many are a warning or an error."""
    by_rule = zip(*map(findings, runs), strict=True)
    lines = [(run, finding) for found in by_rule for run, finding in zip(runs, found, strict=True)]
    verdicts = [finding.verdict for _, finding in lines]
    errors, warnings = verdicts.count(ERROR), verdicts.count(WARNING)
    return {
        "health": [(rule, list(group)) for rule, group in groupby(lines, key=lambda line: line[1].rule)],
        "health_summary": f"Errors: {errors}, warnings: {warnings}, of {len(verdicts)} checks.",
    }


def numbers(series: Series) -> list[str]:
    """First, last, smallest and largest value, how many there are, and how many of them are not finite."""
    values, finite = series.values, series.finite
    low, high = (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan)
    counts = len(values), len(values) - len(finite)
    return [f"{value:.4g}" for value in (values[0], values[-1], low, high)] + [f"{count:,}" for count in counts]
