"""The report as one HTML page that loads nothing and runs nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from justrl_recipe.report import figures, health, paper
from justrl_recipe.report.logs import Series
from justrl_recipe.report.panels import THROUGHPUT, Panel, headline
from justrl_recipe.report.runs import CLIPPED, Run, without_paths
from justrl_recipe.report.smooth import EXPLANATION
from justrl_recipe.terminal import plain

STYLE_SHEET = Path(__file__).with_name("style.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
DETAILS = ("started", "ended", "system", "ablations", "overrides", "seed", "command", "git_commit", "loss")
KEY_HEADER = ("key", "recipe", "yours")
NOTES = {
    CLIPPED: "veRL logs the share that is as long as the batch's longest; here it is 0 where that is below the limit",
    THROUGHPUT: "veRL logs it per GPU; times nodes and GPUs where a config.yaml says how many",
}


def page(runs: Sequence[Run], panels: Sequence[Panel], drawn: Mapping[str, str], refresh: int | None) -> str:
    """The whole page.

    Args:
        drawn: the panels as <svg> elements, by name.
        refresh: seconds after which a browser loads it again, None for a run that is over.
    """
    first = headline(panels, len(runs) > 1)
    rest = [panel for panel in panels if panel not in first]
    title = f"Training report: {runs[0].label if len(runs) == 1 else f'{len(runs)} runs'}"
    reload = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    body = [
        f"<h1>{text(title)}</h1>",
        overview(runs),
        "<h2>Dynamics</h2>",
        reference(runs),
        figure_grid(first, drawn),
        health_table(runs),
        "<h2>All panels</h2>" + figure_grid(rest, drawn) if rest else "",
        f'<section class="screen"><h2>Details</h2>{"".join(map(details, runs))}</section>',
        f'<h2>How it is drawn</h2><p class="soft">{text(EXPLANATION)} {text(figures.FRAME_EXPLANATION)}</p>',
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{reload}'
        f"<title>{text(title)}</title><style>\n{STYLE_SHEET.read_text()}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def text(value: Any) -> str:
    """Anything of a run as text of the page: escaped, and without what names a machine."""
    return escape(without_paths(plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already, in a box of its own that scrolls; a row of one cell spans the table."""
    head = "".join(f"<th>{title}</th>" for title in header)
    body = "".join(f"<tr>{cells(row, len(header))}</tr>" for row in rows)
    rows_of_it = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table class="{kind}">{rows_of_it}</table></div>'


def cells(row: Sequence[str], columns: int) -> str:
    span = f' colspan="{columns}"' if len(row) == 1 else ""
    return "".join(f"<td{span}>{cell}</td>" for cell in row)


def overview(runs: Sequence[Run]) -> str:
    """What each run is: whether it has ended, its steps, and whether it is JustRL."""
    rows = [[text(run.label), text(run.status or "unknown"), f"{run.last_step:,}", verdict(run)] for run in runs]
    return table(("run", "status", "last step", "is this JustRL?"), rows) + deviations(runs)


def verdict(run: Run) -> str:
    if run.manifest is None:
        return "Unknown: a bare log has no manifest."
    scaled, deviating = len(run.manifest["scaled"]), len(run.manifest["deviations"])
    if run.manifest["is_justrl"]:
        return "<b>Yes</b>: every key that changes what is learned has the recipe's value."
    why = [f"{text(run.manifest['recipe'])} scales {scaled} keys of JustRL"] if scaled else []
    why += (
        [f"{deviating} {'key deviates' if deviating == 1 else 'keys deviate'} from the recipe"] if deviating else []
    )
    return f"<b>No</b>: {', and '.join(why)}."


def deviations(runs: Sequence[Run]) -> str:
    """The keys that deviate, in sight; the scaled ones, which the recipe itself names, are among the details."""
    rows = [[text(run.label), *about] for run in runs for about in key_cells(run, "deviations")]
    return "<h2>Deviations</h2>" + table(("run", *KEY_HEADER), rows) if rows else ""


def key_cells(run: Run, which: str) -> list[list[str]]:
    """Key, the recipe's value and this run's, of the manifest's `deviations` or `scaled`."""
    found = (run.manifest or {}).get(which, [])
    return [[f"<code>{text(one['key'])}</code>", text(one["recipe"]), text(one["yours"])] for one in found]


def health_table(runs: Sequence[Run]) -> str:
    """Every rule with what was seen, the runs below each other."""
    by_rule = zip(*map(health.findings, runs), strict=True)
    lines = [(finding, run) for findings in by_rule for finding, run in zip(findings, runs, strict=True)]
    verdicts = [finding.verdict for finding, _ in lines]
    summary = (
        f"{verdicts.count(health.BAD)} bad, {verdicts.count(health.LOOK)} to look at, of {len(verdicts)} checks."
    )
    rows: list[Sequence[str]] = []
    for rule, group in groupby(lines, key=lambda line: line[0].rule):
        shown = [(text(run.label), text(finding.seen), badge(finding.verdict)) for finding, run in group]
        rows += [[text(rule)], *shown] if len(runs) > 1 else [(text(rule), *shown[0][1:])]
    header = ("run" if len(runs) > 1 else "rule", "seen", "verdict")
    return f"<h2>Health</h2><p>{summary}</p>{table(header, rows, 'health')}"


def badge(verdict: str) -> str:
    return f'<span class="verdict {verdict.replace(" ", "-")}">{verdict}</span>'


def reference(runs: Sequence[Run]) -> str:
    """What the grey bands are, where there are any."""
    if not any(run.full for run in runs):
        return ""
    return f'<p class="soft">Grey bands are the ranges of {text(paper.SOURCE)}.</p>'


def figure_grid(panels: Sequence[Panel], drawn: Mapping[str, str]) -> str:
    made = [figure(panel, drawn[panel.name]) for panel in panels]
    return f'<div class="figures of{len(panels)}">{"".join(made)}</div>'


def figure(panel: Panel, svg: str) -> str:
    """A panel with what it shows as text."""
    band = f"; grey: {panel.band.text}" if panel.band else ""
    note = f"; {NOTES[panel.metric]}" if panel.metric in NOTES else ""
    whose = f"; {panel.run}" if panel.run else ""
    named = svg.replace("<svg ", f'<svg role="img" aria-label="{text(panel.title)}" ', 1)
    caption = f"<figcaption><code>{text(panel.metric)}</code>{text(whose + band + note)}</figcaption>"
    return f"<figure>{named}{caption}</figure>"


def details(run: Run) -> str:
    """What the manifest says, and every metric in numbers."""
    about = run.manifest or {}
    rows = [[key.replace("_", " "), text(about[key])] for key in DETAILS if about.get(key) not in (None, [])]
    rows += [[text(name), text(version)] for name, version in about.get("versions", {}).items()]
    manifest = folded("manifest", table(("", ""), rows)) if rows else ""
    keys = key_cells(run, "scaled")
    scaled = folded("keys that the recipe scales", table(KEY_HEADER, keys)) if keys else ""
    metrics = folded(f"{len(run.metrics)} metrics in numbers", metric_table(run))
    return f"<h3>{text(run.label)}</h3>{manifest}{scaled}{metrics}"


def folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def metric_table(run: Run) -> str:
    header = ("metric", "first", "last", "min", "max", "logged", "not finite")
    rows = [
        [f"<code>{text(name)}</code>", *map(escape, numbers(series))] for name, series in sorted(run.metrics.items())
    ]
    return table(header, rows, "numbers")


def numbers(series: Series) -> list[str]:
    """First, last, smallest and largest value, how many there are, and how many of them are not finite."""
    values, finite = series.values, series.finite
    low, high = (finite.min(), finite.max()) if len(finite) else (np.nan, np.nan)
    return [f"{value:.4g}" for value in (values[0], values[-1], low, high)] + [
        f"{len(values):,}",
        f"{len(values) - len(finite):,}",
    ]
