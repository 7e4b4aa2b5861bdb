"""Panels -> SVG for the page, PNG for slides, PDF for papers. The only file that draws."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, shorten
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from justrl_recipe.files import replacing
from justrl_recipe.report.arms import spread
from justrl_recipe.report.logs import FloatArray, Series
from justrl_recipe.report.panels import Panel

STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # where it stands anyway: finding the place takes a fifth of the time
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.01,
    "grid.color": "0.9",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,  # TrueType, as publishers ask; matplotlib's default is Type 3
    "path.simplify_threshold": 0.5,  # pixels
    "text.parse_math": False,  # a dollar in a label is a dollar
    "svg.hashsalt": "justrl",  # the same metrics give the same bytes
}
PAPER = {"font.sans-serif": ["STIXGeneral", "DejaVu Sans"]}  # Times, as most papers; half the time of DejaVu to embed
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
WIDTH, HEIGHT, LEGEND_LINE = 4.2, 2.6, 0.17  # inches; a phone shows a panel at about nine tenths of it
COLUMN, COLUMN_HEIGHT = 3.25, 2.2  # inches of a panel in a paper: one column of two
LEFT, RIGHT, TOP, BOTTOM = 0.62, 0.12, 0.30, 0.46  # margins of a panel, alike in all: a grid of them is even
LETTER, HANDLE, LONGEST_LABEL = 0.06, 0.55, 60  # inches of a letter and of a handle in the legend; letters
FRAME = (0.5, 99.5)  # percentiles of the raw values that a frame shows of a long run, so one spike hides nothing
FRAME_FROM = 200  # values; of fewer it shows all
LEAST_SPAN = 1e-3  # of the value: a frame is no narrower on either side, or it would show rounding
BAND = "band: "  # how its label begins
MARKS, FEW_POINTS = 6, 50  # markers on a line; points that have one each
SPAN_SHARE, SHORTEST_SPAN = 50, 5
COLUMNS = 240  # a panel is about this many pixels wide on a phone
EXPLANATION = (
    f"Bold lines are exponential moving averages: a value weighs 1 - 2/(span + 1) of the next one, and the span is "
    f"a {SPAN_SHARE}th of the logged steps, at least {SHORTEST_SPAN}. Only past steps count, so a bold line lags by "
    "about half its span. Values that are not finite have no weight. The faint lines are the raw values; of more "
    f"than {2 * COLUMNS}, the smallest and the largest of each of {COLUMNS} equal stretches are drawn, so no peak is "
    f"lost. Validation is never smoothed. A frame shows every bold line whole and, of {FRAME_FROM} raw values or "
    f"more, at least the middle {FRAME[1] - FRAME[0]:g}%: a faint line that leaves it goes on beyond. A dotted "
    "vertical line is where a run was resumed."
)
EXPLANATION_OF_SPREAD = (
    "Where an arm has several seeds, each run is smoothed alone and drawn as a thin line; the bold line is the mean "
    "over seeds of these lines, the band what the legend says. Mean and band are drawn only at steps that every run "
    "of the arm has logged: they end where the first run ends, while the thin lines go on. Runs of one arm with the "
    "same seed count as one, their mean."
)
IDS = re.compile(r'(\bid="|href="#|url\(#)')


def figure(panels: Sequence[Panel]) -> Figure:
    """Panels side by side under one legend."""
    with matplotlib.rc_context(STYLE):
        made = Figure((WIDTH * len(panels), HEIGHT))
        for axes, panel in zip(np.atleast_1d(made.subplots(1, len(panels))), panels, strict=True):
            draw(axes, panel)
        arrange(made, WIDTH, HEIGHT)
        return made


def arrange(made: Figure, width: float, height: float) -> None:
    """Give a figure its legend at the top and its margins; a panel is `width` x `height` inches."""
    handles: dict[str, Artist] = {}
    for axes in made.axes:
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    handles = dict(sorted(handles.items(), key=lambda item: item[0].startswith(BAND))) if len(handles) > 1 else {}
    across = width * len(made.axes)
    labels = [fill(label, int((across - LEFT - HANDLE) / LETTER)) for label in handles]
    columns = legend_columns(labels, across - LEFT)
    high = height + LEGEND_LINE * -(-sum(label.count("\n") + 1 for label in labels) // columns)
    made.set_size_inches(across, high)
    made.subplots_adjust(LEFT / across, BOTTOM / high, 1 - RIGHT / across, (height - TOP) / high)
    made.subplots_adjust(wspace=(LEFT + RIGHT) / (width - LEFT - RIGHT))
    for legend in list(made.legends):
        legend.remove()
    if handles:
        made.legend(
            list(handles.values()),
            labels,
            loc="upper left",
            bbox_to_anchor=(LEFT / across, 1 - 0.03 / high),
            ncols=columns,
            borderaxespad=0,
            borderpad=0,
            handlelength=2.2,
        )


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of a legend are at most `width` inches wide, filled as matplotlib does."""

    def needed(columns: int) -> float:
        parts = np.array_split([LETTER * len(label) + HANDLE for label in labels], columns)
        return sum(max(part) for part in parts)

    return next((count for count in range(len(labels), 1, -1) if needed(count) <= width), 1)


def draw(axes: Axes, panel: Panel) -> None:
    """One panel: the paper's band, the single values or runs, the averages over them."""
    all_steps = [series.steps for curve in panel.curves for series in curve.runs]
    first, last = min(steps[0] for steps in all_steps), max(steps[-1] for steps in all_steps)
    if panel.band:
        corners = [*panel.band.corners, (max(last, 1), *panel.band.corners[-1][1:])]
        steps, low, high = (np.array(side) for side in zip(*corners, strict=True))
        axes.fill_between(steps, low, high, color="0.87", linewidth=0, zorder=0)
        axes.set_title("grey: paper", loc="right", fontsize=8, color="0.4")
    shown = []
    for number, curve in enumerate(panel.curves):
        shown += (draw_spread if len(curve.runs) > 1 else draw_run)(axes, panel, number)
        for series in curve.runs:
            mark_non_finite(axes, series)
        for step in curve.resumed:
            axes.axvline(step - 0.5, color=curve.look.colour, linestyle=":", linewidth=0.8, zorder=1)
    if panel.spread:
        axes.fill([], [], color="#b8c4d6", linewidth=0, label=f"{BAND}{panel.spread}")
    axes.set_title(panel.title)
    axes.set_xlabel(shorten(f"step of {panel.group}" if panel.group else "step", LONGEST_LABEL, placeholder=" …"))
    margin = max(0.01 * (last - first), 0.5)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        frame(axes, panel, shown)


def draw_run(axes: Axes, panel: Panel, number: int) -> list[FloatArray]:
    """A single run: raw values and their average, without the former beside means; what a frame must show."""
    curve = panel.curves[number]
    [series] = curve.runs
    if curve.points:
        draw_bold(axes, panel, number, *thinned(series))
        return [series.finite]
    average = smoothed(series.values, span(len(series.values)))
    if not panel.spread:
        faint = 0.35 if len(panel.curves) == 1 else 0.2
        axes.plot(*thinned(series), color=curve.look.colour, alpha=faint, linewidth=0.6)
    draw_bold(axes, panel, number, *strided(series.steps, average))
    if len(series.finite) < FRAME_FROM:
        return [series.finite]
    return [np.array(np.percentile(series.finite, FRAME)), average[np.isfinite(average)]]


def draw_spread(axes: Axes, panel: Panel, number: int) -> list[FloatArray]:
    """Several runs, the mean over their seeds and its band; what a frame must show."""
    curve = panel.curves[number]
    colour, runs = curve.look.colour, curve.runs
    if not curve.points:
        common_span = span(max(len(series.values) for series in runs))
        runs = [Series(series.steps, smoothed(series.values, common_span)) for series in runs]
    for series in runs:
        few = curve.points and len(series.steps) <= FEW_POINTS
        axes.plot(*strided(*series), color=colour, alpha=0.5, lw=0.6, marker="." if few else "", ms=2)
    steps, mean, low, high = strided(*spread(runs, curve.seeds, panel.spread))
    axes.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0, zorder=2)
    draw_bold(axes, panel, number, steps, mean)
    return [values[np.isfinite(values)] for values in (low, high, *(series.values for series in runs))]


def draw_bold(axes: Axes, panel: Panel, number: int, steps: FloatArray, values: FloatArray) -> None:
    """The line of a curve, with its label; with a marker at each of a few points, else at places of its own."""
    curve = panel.curves[number]
    look: dict[str, Any] = {"color": curve.look.colour, "linestyle": curve.look.style, "label": curve.label}
    if curve.points or len(panel.curves) > 1:
        every = 1 if curve.points and len(steps) <= FEW_POINTS else max(1, len(steps) // MARKS)
        look |= {"marker": curve.look.marker or ("o" if curve.points else ""), "markersize": 4}
        look["markevery"] = (every * number // len(panel.curves), every)
    axes.plot(steps, values, linewidth=1.5, zorder=3, **look)


def mark_non_finite(axes: Axes, series: Series) -> None:
    """Crosses at the bottom where a value is not finite."""
    steps = series.steps[~np.isfinite(series.values)]
    if len(steps):
        shown, at = steps[:: -(-len(steps) // COLUMNS)], axes.get_xaxis_transform()
        bottom = np.full(len(shown), 0.02)
        axes.plot(shown, bottom, "x", color="#D00000", ms=4, transform=at, clip_on=False, label="not finite")


def frame(axes: Axes, panel: Panel, shown: list[FloatArray]) -> None:
    """Limits of the vertical axis: see EXPLANATION; the paper's band stays in sight."""
    corners = [np.array(corner[1:], dtype=float) for corner in panel.band.corners] if panel.band else []
    values = np.concatenate([*corners, *shown])
    if len(values):
        low, high = values.min(), values.max()
        margin = max(0.06 * (high - low), LEAST_SPAN * abs(high)) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}" if high >= 1_000 else "{x:.6g}"))


def span(count: int) -> int:
    """The span of the average over a series of `count` values."""
    return max(SHORTEST_SPAN, round(count / SPAN_SHARE))


def smoothed(values: FloatArray, span: int) -> FloatArray:
    """The exponential moving average of [n] values, with weights that sum to 1 from the first finite value on.

    A value weighs 1 - 2/(span + 1) of the next one, NaN and infinities nothing.
    """
    finite = pd.Series(np.where(np.isfinite(values), values, np.nan))
    return finite.ewm(span=span).mean().to_numpy()


def strided(*columns: FloatArray) -> tuple[FloatArray, ...]:
    """At most COLUMNS of the entries of each, the last one among them; for averages, which have no peaks."""
    stride = max(1, -(-len(columns[0]) // COLUMNS))
    return tuple(column[::-stride][::-1] for column in columns)


def thinned(series: Series) -> Series:
    """At most 2 x COLUMNS points, the smallest and the largest value of every stretch; a gap stays a gap."""
    steps, values = series.steps, np.where(np.isfinite(series.values), series.values, np.nan)
    if len(values) <= 2 * COLUMNS:
        return Series(steps, values)
    starts = np.linspace(0, len(values), COLUMNS, endpoint=False).astype(int)
    both = np.column_stack((np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)))
    return Series(np.repeat(steps[starts], 2), both.ravel())


def svg(drawn: Figure, prefix: str) -> str:
    """A figure as an <svg> element for a page that holds several: `prefix` keeps their ids apart."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        drawn.savefig(file, format="svg", metadata=NO_METADATA, transparent=True)
    text = file.getvalue()
    element = re.sub(r"<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    return IDS.sub(rf"\g<1>{prefix}-", element)


def write_png(drawn: Figure, file: Path) -> None:
    """A figure as a PNG, whole or not at all."""
    with matplotlib.rc_context(STYLE), replacing(file) as scratch:
        drawn.savefig(scratch, format="png", dpi=150)


def write_pdf(drawn: Figure, file: Path) -> None:
    """A figure as a PDF with its fonts, whole or not at all; it is left a column of a paper wide for each panel."""
    with matplotlib.rc_context(STYLE | PAPER), replacing(file) as scratch:
        arrange(drawn, COLUMN, COLUMN_HEIGHT)
        drawn.savefig(scratch, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
