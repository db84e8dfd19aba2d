"""A small trend of one quantity: a polyline without axes, broken where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PyQt6.QtCore import QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QPolygonF
from PyQt6.QtWidgets import QSizePolicy, QWidget

from operando.gui.models.traces import Stretch, pieces
from operando.gui.theme import SMALL, SPACE, Theme
from operando.gui.widgets.plot_style import pause_ground
from operando.gui.widgets.style import font, mix

Floats = npt.NDArray[np.float64]

MOST = 1600
"""Points above which the run's bins are asked for again instead of appending more."""

NOTHING = "no readings yet"


class Trend(QWidget):
    """Voltage of a run since its beginning, with its lowest and highest value in words.

    Gaps and pauses are shaded and, where there is room, named; no line crosses them.
    text_of: how a value is written, "4.20 V".
    """

    def __init__(self, theme: Theme, quantity: str, text_of: Callable[[float], str]) -> None:
        super().__init__()
        self._theme = theme
        self._quantity = quantity
        self._text_of = text_of
        self._time: Floats = np.empty(0)
        self._value: Floats = np.empty(0)
        self._gaps: tuple[Stretch, ...] = ()
        self._pauses: tuple[Stretch, ...] = ()
        self._reached = -np.inf
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
        self._time, self._value = np.empty(0), np.empty(0)
        self._gaps, self._pauses = (), ()
        self._reached = self._drawn_until = -np.inf
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

    def set_gaps(self, gaps: Sequence[Stretch], pauses: Sequence[Stretch] = ()) -> None:
        """Draw no line across these, s. The end of a pause that goes on is infinity."""
        if (tuple(gaps), tuple(pauses)) != (self._gaps, self._pauses):
            self._gaps, self._pauses = tuple(gaps), tuple(pauses)
            self.update()

    def reach(self, time: float) -> None:
        """The run has come to this time, s, though nothing may have been measured until then."""
        self._reached = max(self._reached, time)
        self._update_if_longer()

    def append(self, time: Sequence[float], value: Sequence[float | None]) -> None:
        """Add newly committed points. time: s, ascending. value: SI, None where not valid."""
        times = np.array(time, dtype=float)
        values = np.array([np.nan if one is None else one for one in value], dtype=float)
        new = times > self.until
        if not new.any():
            return
        self._time = np.concatenate((self._time, times[new]))
        self._value = np.concatenate((self._value, values[new]))
        self._update_if_longer()

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
        first, across = float(self._time[0]), self._across()
        up = area.height() / max(high - low, 1e-3)
        for start, stop in pieces(self._time, self._value, self._gaps, self._pauses):
            x = area.left() + (self._time[start:stop] - first) * across
            y = area.bottom() - (self._value[start:stop] - low) * up
            x, y = _thin(x, y)
            found.append(QPolygonF(list(map(QPointF, x.tolist(), y.tolist()))))
        return found

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the polyline and its two ends."""
        self._drawn_until = self._end
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
        self._shade(painter)
        painter.setPen(QPen(QColor(theme.grid), 1.0))
        bottom = round(area.bottom()) + 3.5
        painter.drawLine(QPointF(area.left(), bottom), QPointF(area.right(), bottom))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        tone = theme.quantity(self._quantity)
        ink = mix(theme.faint, theme.surface, 0.7) if self._dim else tone
        painter.setPen(QPen(QColor(ink), 1.25))
        for polygon in polygons:
            if polygon.count() == 1:
                painter.drawEllipse(polygon.at(0), 0.6, 0.6)
            else:
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

    @property
    def _end(self) -> float:
        """Where the time axis ends, s."""
        ends = (end for _, end in self._pauses if np.isfinite(end))
        return max(self.until, self._reached, *ends)

    def _across(self) -> float:
        """Pixels a second."""
        return self._area().width() / max(self._end - float(self._time[0]), 1e-9)

    def _update_if_longer(self) -> None:
        """Draw again only when it would look different: the end moved by half a pixel or more."""
        if not len(self._time):
            return
        span = self._end - float(self._time[0])
        if (self._end - self._drawn_until) * max(1, self.width()) > 0.5 * span:
            self.update()

    def _shade(self, painter: QPainter) -> None:
        theme, area = self._theme, self._area()
        painter.setFont(self._small)
        first, across = float(self._time[0]), self._across()
        for stretches, text, ground, ink in (
            (self._pauses, "paused", pause_ground(theme), theme.muted),
            (self._gaps, "not observed", theme.gap, theme.notice),
        ):
            for start, end in stretches:
                left, right = (
                    area.left() + (min(max(time, first), self._end) - first) * across
                    for time in (start, end)
                )
                box = QRectF(left, area.top(), max(right - left, 1.0), area.height())
                painter.fillRect(box, QColor(ground))
                if box.width() > self._metrics.horizontalAdvance(text) + SPACE:
                    painter.setPen(QColor(ink))
                    painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)

    def _area(self) -> QRectF:
        words = self._metrics.horizontalAdvance(self._text_of(-8.88)) + SPACE
        return QRectF(1.0, 4.0, max(8.0, self.width() - words - 2.0), max(4.0, self.height() - 9.0))


def _thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The lowest and the highest of each pixel column as they followed each other, and the end.

    Of a column beside an empty one its last or first as well: from there a line is seen to go.
    """
    columns = np.floor(x).astype(np.int64)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    if 2 * len(starts) >= len(x):
        return x, y
    ends = np.append(starts[1:], len(x))
    by_value = np.lexsort((y, columns))
    apart = ends[:-1][np.diff(columns[starts]) > 1]
    parts = by_value[starts], by_value[ends - 1], apart - 1, apart, [len(x) - 1]
    kept = np.unique(np.concatenate(parts))
    return x[kept], y[kept]
