"""Runs -> a folder with the page and its figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from justrl_recipe.files import write_text
from justrl_recipe.masking import without_paths
from justrl_recipe.metrics import THROUGHPUT
from justrl_recipe.report import accuracy, figures, tables
from justrl_recipe.report.arms import Group, shared_recipe, single
from justrl_recipe.report.arms import arms as arms_of
from justrl_recipe.report.logs import Series
from justrl_recipe.report.panels import PAPER, headline, panels, runs_of
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


def write(runs: Sequence[Run], out: Path, refresh: int | None, by_arm: bool | None = None) -> Path:
    """Write `out`/report.html and its figures in `out`/report, each whole or not at all.

    Args:
        refresh: seconds after which a browser loads the page again, None for runs that have ended. Until then the
            figures are PNGs alone: the fonts of a PDF take longer than everything else of it.
        by_arm: whether the runs of an arm are one curve and one column of the health table; None: where an arm has
            several seeds.

    Returns:
        The page.

    Raises:
        UserError: `out` cannot be written.
    """
    arms = arms_of(runs)
    if by_arm is None:
        by_arm = any(arm.several_seeds for arm in arms)
    groups = arms if by_arm else single(arms)
    found, drawn = panels(groups), {}
    first = headline(found, len(runs) > 1)
    for panel in found:
        figure = figures.figure([panel])
        drawn[panel.name] = Markup(figures.svg(figure, f"p{panel.name}"))
        write_pictures(figure, out / PICTURES / panel.name, refresh is None)
    if first:
        name = "ablation" if len(runs) > 1 else "dynamics"
        write_pictures(figures.figure(first), out / PICTURES / name, refresh is None)
    accuracies = accuracy.tables(arms) if len(runs) > 1 else []
    rules, health_summary = tables.health(groups)
    deviating, deviations = tables.deviations(arms)
    html = ENVIRONMENT.get_template("page.html.j2").render(
        title=f"Training report: {title(arms)}",
        style=Markup((TEMPLATES / "style.css").read_text() + (TEMPLATES / "responses.css").read_text()),
        responses=sections(runs),
        safe=safe,
        refresh=refresh,
        is_justrl=tables.is_justrl,
        single=single,
        shown=accuracy.shown,
        arms=arms,
        groups=groups,
        runs=runs_of(arms),
        several=len(runs) > 1,
        status_line=tables.status_line(runs),
        short_means=tables.short_means(groups),
        spread=any(panel.spread for panel in found),
        full=any(run.full for run in runs),
        paper=PAPER,
        first=first,
        rest=[panel for panel in found if panel not in first],
        drawn=drawn,
        notes=NOTES,
        accuracies=accuracies,
        in_words=accuracy.in_words(accuracies, arms),
        explanation_of_accuracy=accuracy.EXPLANATION,
        rules=rules,
        health_summary=health_summary,
        deviating=deviating,
        deviations=deviations,
        detail_keys=DETAILS,
        numbers=numbers,
        explanation=figures.EXPLANATION,
        explanation_of_spread=figures.EXPLANATION_OF_SPREAD,
    )
    write_text(out / PAGE, html)
    return out / PAGE


def title(arms: Sequence[Group]) -> str:
    """The only run, or how many there are: `justrl_tiny, 8 runs in 4 arms`."""
    runs = runs_of(arms)
    if len(runs) == 1:
        return runs[0].label
    count = f"{len(runs)} runs" + (f" in {len(arms)} arms" if 1 < len(arms) < len(runs) else "")
    recipe = shared_recipe(runs)
    return f"{recipe}, {count}" if recipe else count


def write_pictures(figure: Figure, file: Path, pdf: bool) -> None:
    """A figure as `file`.png, and as `file`.pdf where it is final."""
    figures.write_png(figure, file.with_name(f"{file.name}.png"))
    if pdf:
        figures.write_pdf(figure, file.with_name(f"{file.name}.pdf"))


def clean(value: Any) -> str:
    """A value as text of the page, without what names a machine; jinja2 escapes it, unless it is Markup."""
    if isinstance(value, Markup):
        return value
    return without_paths(plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, finalize=clean, trim_blocks=True, lstrip_blocks=True
)


def numbers(series: Series) -> list[str]:
    """First, last, smallest and largest value, how many there are, and how many of them are not finite."""
    values, finite = series.values, series.finite
    low, high = (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan)
    counts = len(values), len(values) - len(finite)
    return [f"{value:.4g}" for value in (values[0], values[-1], low, high)] + [f"{count:,}" for count in counts]
