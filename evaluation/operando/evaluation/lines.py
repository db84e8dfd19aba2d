"""Straight lines through a few points, with their errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from operando.evaluation.circuits import Floats


@dataclass(frozen=True, slots=True)
class Line:
    """y = intercept + slope x by least squares.

    slope_error: standard error, NaN with fewer than three points. largest: largest distance of a
    point from the line.
    """

    slope: float
    intercept: float
    slope_error: float
    largest: float


def fit_line(x: Floats, y: Floats) -> Line:
    """The line through two points or more. Raises ValueError with fewer different ones."""
    if len(x) < 2 or np.ptp(x) == 0.0:
        raise ValueError("a line needs two different points")
    deviation = x - x.mean()
    square = float(np.sum(deviation**2))
    slope = float(np.sum(deviation * y)) / square
    intercept = float(y.mean() - slope * x.mean())
    left = y - intercept - slope * x
    error = math.sqrt(float(np.sum(left**2)) / (len(x) - 2) / square) if len(x) > 2 else math.nan
    return Line(slope, intercept, error, float(np.max(np.abs(left))))
