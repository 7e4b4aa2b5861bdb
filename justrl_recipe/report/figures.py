"""Panels -> SVG for the page, PNG for papers. The only file that draws."""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from justrl_recipe.files import replacing
from justrl_recipe.report.logs import FloatArray, Series
from justrl_recipe.report.panels import Curve, Panel

STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9.5,
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
    "path.simplify_threshold": 0.5,  # pixels
    "text.parse_math": False,  # a dollar in a label is a dollar
    "svg.hashsalt": "justrl",  # the same metrics give the same bytes
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
WIDTH, HEIGHT, LEGEND_LINE = 4.2, 2.6, 0.17  # inches; a phone shows a panel at about nine tenths of it
LEFT, RIGHT, TOP, BOTTOM = 0.62, 0.12, 0.30, 0.46  # margins of a panel, alike in all: a grid of them is even
LETTER, LONGEST_LABEL = 0.068, 60  # inches of a letter in the legend; letters
FRAME = (0.5, 99.5)  # percentiles of the raw values that a frame shows of a long run, so one spike hides nothing
FRAME_FROM = 200  # values; of fewer it shows all
LEAST_SPAN = 1e-3  # of the value: a frame is no narrower on either side, or it would show rounding
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
IDS = re.compile(r'(\bid="|href="#|url\(#)')


def figure(panels: Sequence[Panel]) -> Figure:
    """Panels side by side under one legend."""
    with matplotlib.rc_context(STYLE):
        made = Figure((WIDTH * len(panels), HEIGHT))
        handles: dict[str, Artist] = {}
        for axes, panel in zip(np.atleast_1d(made.subplots(1, len(panels))), panels, strict=True):
            draw(axes, panel)
            handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
        arrange(made, handles if len(handles) > 1 else {}, len(panels))
        return made


def arrange(made: Figure, handles: Mapping[str, Artist], panels: int) -> None:
    """Give a figure its legend at the top and its margins, in inches whatever its size."""
    widest = max(map(len, handles), default=0) * LETTER + 0.5
    columns = max(1, int((WIDTH * panels - LEFT) / widest))
    width, height = WIDTH * panels, HEIGHT + LEGEND_LINE * -(-len(handles) // columns)
    made.set_size_inches(width, height)
    made.subplots_adjust(LEFT / width, BOTTOM / height, 1 - RIGHT / width, (HEIGHT - TOP) / height)
    made.subplots_adjust(wspace=(LEFT + RIGHT) / (WIDTH - LEFT - RIGHT))
    if handles:
        made.legend(
            list(handles.values()),
            list(handles),
            loc="upper left",
            bbox_to_anchor=(LEFT / width, 1 - 0.03 / height),
            ncols=columns,
            borderaxespad=0,
            borderpad=0,
            handlelength=2.2,
        )


def draw(axes: Axes, panel: Panel) -> None:
    """One panel: the paper's band, the raw values, the averages over them."""
    last = max(curve.series.steps[-1] for curve in panel.curves)
    if panel.band:
        corners = [*panel.band.corners, (max(last, 1), *panel.band.corners[-1][1:])]
        steps, low, high = (np.array(side) for side in zip(*corners, strict=True))
        axes.fill_between(steps, low, high, color="0.87", linewidth=0, zorder=0)
        axes.set_title("grey: paper", loc="right", fontsize=8, color="0.4")
    faint = 0.35 if len(panel.curves) == 1 else 0.2
    for curve in panel.curves:
        draw_points(axes, curve) if curve.points else draw_curve(axes, curve, faint)
        mark_non_finite(axes, curve)
        for step in curve.resumed:
            axes.axvline(step - 0.5, color=curve.colour, linestyle=":", linewidth=0.8, zorder=1)
    axes.set_title(panel.title)
    axes.set_xlabel(shorten(f"step of {panel.run}" if panel.run else "step", LONGEST_LABEL, placeholder=" …"))
    first = min(curve.series.steps[0] for curve in panel.curves)
    margin = max(0.01 * (last - first), 0.5)
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        frame(axes, panel)


def draw_curve(axes: Axes, curve: Curve, faint: float) -> None:
    steps, values = curve.series
    average = smoothed(values, span(len(values)))
    stride = -(-len(steps) // (2 * COLUMNS))  # an average has no peaks to lose
    thin_average = steps[::-stride][::-1], average[::-stride][::-1]
    axes.plot(*thinned(curve.series), color=curve.colour, alpha=faint, linewidth=0.6)
    axes.plot(*thin_average, color=curve.colour, linestyle=curve.style, linewidth=1.6, label=curve.label, zorder=3)


def draw_points(axes: Axes, curve: Curve) -> None:
    size = 3 if len(curve.series.steps) < 50 else 1.5
    steps, values = thinned(curve.series)
    axes.plot(steps, values, "o", ls=curve.style, lw=1.2, ms=size, color=curve.colour, label=curve.label)


def mark_non_finite(axes: Axes, curve: Curve) -> None:
    """Crosses at the bottom where a value is not finite."""
    steps = curve.series.steps[~np.isfinite(curve.series.values)]
    if len(steps):
        shown, at = steps[:: -(-len(steps) // COLUMNS)], axes.get_xaxis_transform()
        bottom = np.full(len(shown), 0.02)
        axes.plot(shown, bottom, "x", color="#D00000", ms=4, transform=at, clip_on=False, label="not finite")


def frame(axes: Axes, panel: Panel) -> None:
    """Limits of the vertical axis: see EXPLANATION; the paper's band stays in sight."""
    parts = [np.array(corner[1:], dtype=float) for corner in panel.band.corners] if panel.band else []
    for curve in panel.curves:
        finite = curve.series.finite
        if curve.points or len(finite) < FRAME_FROM:
            parts.append(finite)
        else:
            average = smoothed(finite, span(len(curve.series.values)))
            parts += [np.array(np.percentile(finite, FRAME)), average]
    shown = np.concatenate(parts)
    if len(shown):
        low, high = shown.min(), shown.max()
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
