"""Runs -> a folder with the page and its PNGs."""

from collections.abc import Sequence
from pathlib import Path

from justrl_recipe.files import write_text
from justrl_recipe.report import figures, page
from justrl_recipe.report.panels import headline, panels
from justrl_recipe.report.runs import Run

PAGE, PICTURES = "report.html", "report"


def write(runs: Sequence[Run], out: Path, refresh: int | None) -> Path:
    """Write `out`/report.html and `out`/report/*.png, each whole or not at all; return the page.

    Raises:
        UserError: `out` cannot be written.
    """
    found, pictures, elements = panels(runs), out / PICTURES, {}
    for panel in found:
        drawn = figures.figure([panel])
        figures.write_png(drawn, pictures / f"{panel.name}.png")
        elements[panel.name] = figures.svg(drawn, f"p{panel.name}")
    if first := headline(found, len(runs) > 1):
        figures.write_png(figures.figure(first), pictures / f"{'ablation' if len(runs) > 1 else 'dynamics'}.png")
    html = page.page(runs, found, elements, refresh)
    write_text(out / PAGE, html)
    return out / PAGE
