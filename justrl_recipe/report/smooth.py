"""Smoothing, and thinning for drawing."""

from itertools import accumulate

import numpy as np

from justrl_recipe.report.logs import FloatArray, Series

SPAN_SHARE, SHORTEST_SPAN = 50, 5
COLUMNS = 240  # a panel is about this many pixels wide on a phone
EXPLANATION = (
    f"Bold lines are exponential moving averages: a value weighs 1 - 2/(span + 1) of the next one, and the span is "
    f"a {SPAN_SHARE}th of the logged steps, at least {SHORTEST_SPAN}. Only past steps count, so a bold line lags by "
    "about half its span. Values that are not finite have no weight. The faint lines are the raw values; of more "
    f"than {2 * COLUMNS}, the smallest and the largest of each of {COLUMNS} equal stretches are drawn, so no peak is "
    "lost. Validation is never smoothed."
)


def span(count: int) -> int:
    """The span of the average over a series of `count` values."""
    return max(SHORTEST_SPAN, round(count / SPAN_SHARE))


def smoothed(values: FloatArray, span: int) -> FloatArray:
    """The exponential moving average with weights that sum to 1 from the first value on.

    Constants stay what they are and no average leaves the range of the values. NaN and infinities count nothing;
    before the first finite value the average is NaN.

    Args:
        values: [n].
        span: in values, more than 1; a value weighs 1 - 2/(span + 1) of the next one.

    Returns: [n].
    """
    decay = 1 - 2 / (span + 1)
    finite = np.isfinite(values)
    total = np.fromiter(accumulate(np.where(finite, values, 0.0), lambda sum, value: decay * sum + value), float)
    weight = np.fromiter(accumulate(finite.astype(float), lambda sum, one: decay * sum + one), float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / weight


def thinned(series: Series) -> Series:
    """At most 2 x COLUMNS points, the smallest and the largest value of every stretch; a gap stays a gap."""
    steps, values = series.steps, np.where(np.isfinite(series.values), series.values, np.nan)
    if len(values) <= 2 * COLUMNS:
        return Series(steps, values)
    starts = np.linspace(0, len(values), COLUMNS, endpoint=False).astype(int)
    both = np.column_stack((np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)))
    return Series(np.repeat(steps[starts], 2), both.ravel())


def thinned_average(series: Series) -> Series:
    """At most 2 x COLUMNS points of what has no peaks to lose, the last among them."""
    stride = -(-len(series.steps) // (2 * COLUMNS))
    return Series(series.steps[::-stride][::-1], series.values[::-stride][::-1])
