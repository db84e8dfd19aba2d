"""A small trend of one quantity: a polyline without axes, broken where nothing was observed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from operando.gui.theme import SMALL, SPACE, Theme
from operando.gui.widgets.style import font, mix

Floats = npt.NDArray[np.float64]

MOST = 1600
"""Points above which the run's bins are asked for again instead of appending more."""

NOTHING = "no readings yet"


def pieces(
    time: Floats, value: Floats, gaps: Sequence[tuple[float, float]]
) -> list[tuple[Floats, Floats]]:
    """The stretches to draw: cut at every value that is not a number and across every gap.

    time: s, ascending. value: same length. gaps: start and end, s.
    """
    if not len(time):
        return []
    bounds = {0, len(time)}
    broken = np.flatnonzero(~np.isfinite(value))
    bounds.update(int(index) for index in broken)
    bounds.update(int(index) + 1 for index in broken)
    for start, end in gaps:
        middle = 0.5 * (start + end)
        bounds.add(int(np.searchsorted(time, middle)))
    cuts = sorted(bounds)
    return [
        (time[first:last], value[first:last])
        for first, last in pairwise(cuts)
        if last > first and np.isfinite(value[first])
    ]


class Trend(QWidget):
    """Voltage of a run since its beginning, with its lowest and highest value in words.

    text_of: how a value is written, "4.20 V".
    """

    def __init__(self, theme: Theme, quantity: str, text_of: Callable[[float], str]) -> None:
        super().__init__()
        self._theme = theme
        self._quantity = quantity
        self._text_of = text_of
        self._time: Floats = np.empty(0)
        self._value: Floats = np.empty(0)
        self._gaps: tuple[tuple[float, float], ...] = ()
        self._drawn_until = -np.inf
        self._dim = False
        self._small = font(SMALL, tabular=True)
        self._metrics = QFontMetricsF(self._small)
        self.setMinimumHeight(4 * SPACE)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def __len__(self) -> int:
        return len(self._time)

    @property
    def full(self) -> bool:
        """Whether it holds more points than it can show."""
        return len(self._time) > MOST

    @property
    def until(self) -> float:
        """Time of its last point, s; minus infinity when it has none."""
        return float(self._time[-1]) if len(self._time) else -np.inf

    def clear(self) -> None:
        """Show nothing."""
        if len(self._time):
            self._time, self._value, self._gaps = np.empty(0), np.empty(0), ()
            self._drawn_until = -np.inf
            self.update()

    def set_curve(self, time: Floats, value: Floats) -> None:
        """Replace what is there, but for points that arrived after the curve was made.

        time: s, ascending. value: SI, NaN where not valid.
        """
        later = self._time > (time[-1] if len(time) else -np.inf)
        self._time = np.concatenate((time, self._time[later]))
        self._value = np.concatenate((value, self._value[later]))
        self._drawn_until = -np.inf
        self.update()

    def set_gaps(self, gaps: Sequence[tuple[float, float]]) -> None:
        """Draw no line across these. gaps: start and end, s."""
        if tuple(gaps) != self._gaps:
            self._gaps = tuple(gaps)
            self.update()

    def append(self, time: Sequence[float], value: Sequence[float | None]) -> None:
        """Add newly committed points. time: s, ascending. value: SI, None where not valid."""
        times = np.array(time, dtype=float)
        values = np.array([np.nan if one is None else one for one in value], dtype=float)
        new = times > self.until
        if not new.any():
            return
        self._time = np.concatenate((self._time, times[new]))
        self._value = np.concatenate((self._value, values[new]))
        # Drawn again only when it would look different: the end moved by half a pixel or more.
        span = self.until - float(self._time[0])
        if (self.until - self._drawn_until) * max(1, self.width()) > 0.5 * span:
            self.update()

    def set_dim(self, dim: bool) -> None:
        """Draw the last known in grey."""
        if dim != self._dim:
            self._dim = dim
            self.update()

    def set_theme(self, theme: Theme) -> None:
        """Draw in another appearance."""
        self._theme = theme
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """A strip."""
        return QSize(30 * SPACE, 6 * SPACE)

    def polygons(self) -> list[QPolygonF]:
        """What is drawn, in pixels; at most two points a pixel and piece."""
        found: list[QPolygonF] = []
        finite = self._value[np.isfinite(self._value)]
        if len(finite) < 2:
            return found
        area = self._area()
        low, high = float(finite.min()), float(finite.max())
        first, last = float(self._time[0]), float(self._time[-1])
        across = area.width() / max(last - first, 1e-9)
        up = area.height() / max(high - low, 1e-3)
        for time, value in pieces(self._time, self._value, self._gaps):
            x = area.left() + (time - first) * across
            y = area.bottom() - (value - low) * up
            x, y = _thin(x, y)
            found.append(QPolygonF(list(map(QPointF, x.tolist(), y.tolist()))))
        return found

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the polyline and its two ends."""
        self._drawn_until = self.until
        painter = QPainter(self)
        theme = self._theme
        area = self._area()
        polygons = self.polygons()
        painter.setFont(self._small)
        if not polygons:
            painter.setPen(QColor(theme.faint))
            painter.drawText(QRectF(self.rect()), int(Qt.AlignmentFlag.AlignCenter), NOTHING)
            painter.end()
            return
        painter.setPen(QPen(QColor(theme.grid), 1.0))
        bottom = round(area.bottom()) + 3.5
        painter.drawLine(QPointF(area.left(), bottom), QPointF(area.right(), bottom))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        tone = theme.quantity(self._quantity)
        ink = mix(theme.faint, theme.surface, 0.7) if self._dim else tone
        painter.setPen(QPen(QColor(ink), 1.25))
        for polygon in polygons:
            painter.drawPolyline(polygon)
        if not self._dim:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tone))
            painter.drawEllipse(polygons[-1].at(polygons[-1].count() - 1), 2.5, 2.5)
        finite = self._value[np.isfinite(self._value)]
        painter.setPen(QColor(theme.faint))
        beside = QRectF(area.right() + SPACE, 0.0, self.width(), self._metrics.height())
        painter.drawText(beside, self._text_of(float(finite.max())))
        beside.moveBottom(float(self.height()))
        painter.drawText(beside, self._text_of(float(finite.min())))
        painter.end()

    def _area(self) -> QRectF:
        words = self._metrics.horizontalAdvance(self._text_of(-8.88)) + SPACE
        return QRectF(1.0, 4.0, max(8.0, self.width() - words - 2.0), max(4.0, self.height() - 9.0))


def _thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The lowest and highest of each pixel column, and the end."""
    columns = np.floor(x).astype(np.int64)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    if 2 * len(starts) >= len(x):
        return x, y
    low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    # Down and up in turn, so that the strokes of neighbouring columns meet.
    turned = np.arange(len(starts)) % 2 == 1
    both = np.where(turned[:, np.newaxis], np.stack((high, low), 1), np.stack((low, high), 1))
    across = np.repeat(x[starts], 2)
    return np.append(across, x[-1]), np.append(both.ravel(), y[-1])
