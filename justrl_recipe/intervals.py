"""What few values say of their mean, for reports and evaluations: intervals by Student's t, several tests at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special  # scipy.stats takes a second to import

FloatArray = NDArray[np.float64]
CONFIDENCE = 0.95


def standard_error(values: FloatArray) -> FloatArray:
    """Of the mean over the first axis, [n, ...] -> [...]; n >= 2."""
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def half_width(values: FloatArray) -> FloatArray:
    """Half of the 95% interval of the mean over the first axis by Student's t, [n, ...] -> [...]; n >= 2."""
    return special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * standard_error(values)


def p_value(values: FloatArray) -> float:
    """Of the two-sided t-test that the mean of [n] values is 0; they must not all be equal."""
    return float(2 * special.stdtr(len(values) - 1, -abs(values.mean() / standard_error(values))))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected for their number by Holm's step-down method (1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    return corrected.tolist()
