"""Monotone interpolation of tabulated material curves.

Written out here because the simulators start without scipy; `tests/science/test_cell_numerics.py`
compares it with `scipy.interpolate.PchipInterpolator`.
"""

import itertools
from bisect import bisect_right
from collections.abc import Sequence


class MonotoneCurve:
    """Piecewise cubic through given points: C1, no overshoot between them, straight outside.

    Slopes after Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5 (1984) 300 (the PCHIP rule).
    A curve is called for its value; `slope` gives its derivative.
    """

    __slots__ = ("_cubics", "_knots")

    def __init__(
        self,
        abscissae: Sequence[float],
        ordinates: Sequence[float],
        *,
        slope_below: float | None = None,
        slope_above: float | None = None,
    ) -> None:
        """Take at least three points with strictly rising abscissae.

        slope_below, slope_above: slope of the straight continuation outside the points, in
            ordinate per abscissa; None continues with the end slope of the curve.
        """
        if len(abscissae) != len(ordinates) or len(abscissae) < 3:
            raise ValueError("a curve needs at least three points, as many ordinates as abscissae")
        if any(b <= a for a, b in itertools.pairwise(abscissae)):
            raise ValueError("the abscissae of a curve must rise strictly")
        x, y = [float(v) for v in abscissae], [float(v) for v in ordinates]
        slopes = _slopes(x, y)
        below = slopes[0] if slope_below is None else slope_below
        above = slopes[-1] if slope_above is None else slope_above
        # One cubic (origin, c0, c1, c2, c3) for each gap, one straight line beyond each end:
        # bisect_right over the knots is the index of the right one.
        cubics = [(x[0], y[0], below, 0.0, 0.0)]
        for i in range(len(x) - 1):
            h = x[i + 1] - x[i]
            secant = (y[i + 1] - y[i]) / h
            cubics.append(
                (
                    x[i],
                    y[i],
                    slopes[i],
                    (3.0 * secant - 2.0 * slopes[i] - slopes[i + 1]) / h,
                    (slopes[i] + slopes[i + 1] - 2.0 * secant) / (h * h),
                )
            )
        cubics.append((x[-1], y[-1], above, 0.0, 0.0))
        self._knots = x
        self._cubics = cubics

    def __call__(self, abscissa: float) -> float:
        """Return the ordinate at an abscissa."""
        origin, c0, c1, c2, c3 = self._cubics[bisect_right(self._knots, abscissa)]
        d = abscissa - origin
        return c0 + d * (c1 + d * (c2 + d * c3))

    def slope(self, abscissa: float) -> float:
        """Return the derivative at an abscissa, in ordinate per abscissa."""
        origin, _, c1, c2, c3 = self._cubics[bisect_right(self._knots, abscissa)]
        d = abscissa - origin
        return c1 + d * (2.0 * c2 + 3.0 * d * c3)


def _slopes(x: list[float], y: list[float]) -> list[float]:
    """Return the PCHIP slopes at the points."""
    widths = [b - a for a, b in itertools.pairwise(x)]
    secants = [(b - a) / h for a, b, h in zip(y, y[1:], widths, strict=False)]
    slopes = [_end_slope(widths[0], widths[1], secants[0], secants[1])]
    for i in range(1, len(x) - 1):
        left, right = secants[i - 1], secants[i]
        if left * right <= 0.0:
            slopes.append(0.0)
            continue
        w1 = 2.0 * widths[i] + widths[i - 1]
        w2 = widths[i] + 2.0 * widths[i - 1]
        slopes.append((w1 + w2) / (w1 / left + w2 / right))
    slopes.append(_end_slope(widths[-1], widths[-2], secants[-1], secants[-2]))
    return slopes


def _end_slope(h0: float, h1: float, secant0: float, secant1: float) -> float:
    """Return the one-sided three-point slope at an end, limited so that the shape is kept."""
    slope = ((2.0 * h0 + h1) * secant0 - h0 * secant1) / (h0 + h1)
    if slope * secant0 <= 0.0:
        return 0.0
    if secant0 * secant1 <= 0.0 and abs(slope) > 3.0 * abs(secant0):
        return 3.0 * secant0
    return slope
