"""Results as people read them: a table in the terminal, the same in Markdown, and a PNG."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from justrl_recipe import files
from justrl_recipe.evaluation.comparison import AVERAGE, best, published
from justrl_recipe.terminal import Console, one_line

RESULTS = "results.json"
Cells = list[list[str]]


def cells(results: Mapping[str, Any]) -> tuple[list[str], Cells]:
    """Header and rows of the results' table; scores and shares in percent, the length in tokens."""
    hybrid, against, kind = "hybrid" in results["average"], results.get("against"), best(results)
    header = ["benchmark", "responses", "avg@N", *["rule only"] * hybrid, "95% interval", "pass@N", "maj@N"]
    header += ["truncated", "no box", "length", "distinct-4"] + ([against["row"], ""] if against else [])
    rows = []
    for name, about in results["benchmarks"].items():
        score, n = about[kind], about["samples"]
        row = [name, f"{about['problems']:,} x {n}", percent(score["avg"])]
        row += [percent(about["rule"]["avg"])] * hybrid
        row += [between(score["interval"]), percent(score["pass"][str(n)]), percent(score["maj"])]
        row += [percent(about["truncated"]), percent(about["no_box"])]
        row += [f"{about['length']['mean']:,.0f}" if about["length"] else "-", percent(about["distinct_4"])]
        rows.append(row + _theirs(against, name))
    if len(rows) > 1:
        average = results["average"]
        row = [AVERAGE, "", percent(average[kind]["avg"]), *[percent(average["rule"]["avg"])] * hybrid]
        rows.append([*row, between(average[kind]["interval"]), *[""] * 6, *_theirs(against, AVERAGE)])
    return header, rows


def _theirs(against: Mapping[str, Any] | None, name: str) -> list[str]:
    if against is None:
        return []
    compared = against["benchmarks"].get(name)
    return [percent(compared["theirs"]), compared["verdict"]] if compared else ["-", ""]


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def between(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def published_cells() -> tuple[list[str], Cells]:
    """Header and rows of the paper's table."""
    rows = published().values()
    columns = list(next(iter(rows)).scores)
    return ["model", *columns], [[row.name, *(percent(row.scores.get(name)) for name in columns)] for row in rows]


def print_table(header: list[str], rows: Cells) -> None:
    """Print a table; a narrow terminal does not cut it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(header):
        table.add_column(title, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1_000)).maximum)
    console.print(table, soft_wrap=True)


def markdown(header: list[str], rows: Cells) -> str:
    """A table for a README."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *[[one_line(cell) for cell in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write results.json, results.md and results.png, each whole or not at all."""
    files.write_json(folder / RESULTS, results)
    files.write_text(folder / "results.md", markdown(*cells(results)))
    import matplotlib

    # a dollar in a name is a dollar
    with files.replacing(folder / "results.png") as scratch, matplotlib.rc_context({"text.parse_math": False}):
        draw(results, scratch)


def draw(results: Mapping[str, Any], file: Path) -> None:
    """Our scores with their intervals, and the scores that they are compared with, as a PNG."""
    from matplotlib.figure import Figure

    kind = best(results)
    scores = {name: about[kind] for name, about in results["benchmarks"].items()}
    if len(scores) > 1:
        scores[AVERAGE] = results["average"][kind]
    names = [one_line(name) for name in scores]
    places = list(range(len(names), 0, -1))
    below = [max(0, 100 * (score["avg"] - score["interval"][0])) for score in scores.values()]
    above = [max(0, 100 * (score["interval"][1] - score["avg"])) for score in scores.values()]
    figure = Figure(figsize=(7, 1.4 + 0.36 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(
        [100 * score["avg"] for score in scores.values()],
        places,
        xerr=[below, above],
        fmt="o",
        color="#1f5aa6",
        capsize=3,
        label=f"{one_line(results['model'])}, 95%",
    )
    if against := results.get("against"):
        compared = against["benchmarks"]
        theirs = [100 * compared[name]["theirs"] if name in compared else math.nan for name in scores]
        label = one_line(against["row"])
        axes.plot(theirs, places, "D", color="#c8501e", markerfacecolor="none", markersize=8, label=label)
    axes.set_yticks(places, names)
    axes.set_ylim(0.3, len(names) + 0.7)
    axes.set_xlim(-2, 102)
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    figure.savefig(file, dpi=150, format="png")
