"""What all plots of the window share: ticks, axes, grid, and items that draw in pixels.

Items draw in pixels because a curve of some thousand points is transformed faster by numpy than
by Qt's paths, and because texts and bands keep their size at every zoom. Curves get no thick
pens and, when they are long, no antialiasing: both cost many times the drawing itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QFontMetricsF, QPainter, QPen
from PyQt6.QtWidgets import QGraphicsItem, QStyleOptionGraphicsItem, QWidget

from operando.gui.models.units import DAY, HOUR, MINUS, MINUTE, time_unit
from operando.gui.theme import SMALL, Theme
from operando.gui.widgets.style import font, mix

Floats = npt.NDArray[np.float64]

LEFT_AXIS = 70
"""Width of left axes, px: the same for all, so that stacked plots are aligned."""

BOTTOM_AXIS = 38
"""Height of bottom axes with their label, px."""

SMOOTH = 5000
"""Points up to which a curve is antialiased."""


_TIME_STEPS = (
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(HOUR * n for n in (1, 2, 3, 6, 12)),
    *(DAY * n for n in (1, 2, 5, 10, 20, 50, 100)),
)


def tick_step(low: float, high: float, most: int) -> float:
    """A round distance of ticks, 1-2-5, so that at most `most` fit from low to high; 0 if none."""
    return _round_step((high - low) / most) if high > low and most > 0 else 0.0


def time_step(start: float, end: float, most: int) -> float:
    """The same for times, s: round in the unit that an axis of this span has."""
    if not end > start or most < 1:
        return 0.0
    least = (end - start) / most
    if least <= 0.5:
        return _round_step(least)
    unit = time_unit(end - start)[1]
    fits = [step for step in _TIME_STEPS if step >= least and (step * 10 / unit) % 1 == 0]
    return fits[0] if fits else _round_step(least / DAY) * DAY


def multiples(low: float, high: float, step: float) -> list[float]:
    """Multiples of a step from low to high; none of step 0."""
    if step <= 0.0:
        return []
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def tick_text(value: float, spacing: float) -> str:
    """A tick's number with the decimals that its spacing needs."""
    decimals = max(0, -math.floor(math.log10(spacing) + 1e-9)) if spacing > 0 else 0
    if abs(spacing * 10**decimals - round(spacing * 10**decimals)) > 1e-6:
        decimals += 1
    text = f"{value:.{decimals}f}"
    if text.startswith("-"):
        return text[1:] if not text.strip("-0.") else MINUS + text[1:]
    return text


def time_text(time: float, span: float, pixels: float) -> str:
    """A time in the unit of an axis that shows `span` s, as exact as its pixels: "12.345 h"."""
    unit, seconds = time_unit(span)
    pixel = span / max(pixels, 1.0) / seconds
    decimals = min(6, max(0, math.ceil(-math.log10(pixel)))) if pixel > 0 else 0
    return f"{tick_text(round(time / seconds, decimals), 10.0**-decimals)} {unit}"


def fit(low: float, high: float, bounds: Sequence[float], least: float) -> tuple[float, float]:
    """Range of an axis for values from low to high, with a margin.

    bounds: of limits: those nearer than a quarter of the span are taken into view, others not,
    so that a limit far away does not squeeze the data. least: shortest span.
    """
    if high - low < least:
        middle = 0.5 * (low + high)
        low, high = middle - 0.5 * least, middle + 0.5 * least
    reach = 0.25 * (high - low)
    near = [bound for bound in bounds if low - reach <= bound <= high + reach]
    bottom, top = min([low, *near]), max([high, *near])
    margin = 0.08 * (top - bottom)
    return bottom - margin, top + margin


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * n for n in (1, 2, 5, 10) if power * n >= least * (1 - 1e-9))


class Axis(pg.AxisItem):  # type: ignore[misc]
    """An axis with few round ticks. time: its values are s, shown in the unit of the span.

    integers: ticks at whole numbers alone. blank: no ticks, there is nothing to measure. An
    upright label that is longer than its axis is shortened to the unit: "Voltage / V" to "V".
    """

    _words: tuple[str, dict[str, str]] | None = None

    def __init__(self, side: Literal["left", "right", "bottom"], *, time: bool = False) -> None:
        super().__init__(side, maxTickLength=0)
        self._time = time
        self.integers = False
        self.blank = False
        self.enableAutoSIPrefix(False)
        self.setStyle(tickLength=0, tickTextOffset=6, autoExpandTextSpace=False)
        self.setTickFont(font(SMALL, tabular=True))
        if side == "bottom":
            self.setHeight(BOTTOM_AXIS)
        else:
            self.setWidth(LEFT_AXIS)

    def step(self, low: float, high: float, length: float) -> float:
        """Distance of its ticks, 0 for none. length: px."""
        if self.blank:
            return 0.0
        if self._time:
            return time_step(low, high, max(2, int(length / 72)))
        across = self.orientation == "bottom"
        found = tick_step(low, high, max(2, int(length / (56 if across else 21))))
        return max(1.0, found) if self.integers else found

    def marks(self, low: float, high: float, length: float) -> list[float]:
        """Where ticks and lines of the grid stand. length: px."""
        return multiples(low, high, self.step(low, high, length))

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[Any]:  # noqa: N802, N803
        """One level of ticks; see pyqtgraph."""
        step, margin = self.step(minVal, maxVal, size), 0.0
        if self.orientation != "bottom" and size > 0:
            # A number at the very end of its axis would be cut in half.
            margin = 6.0 * (maxVal - minVal) / size
        return [(step, multiples(minVal + margin, maxVal - margin, step))]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:  # noqa: N802
        """Their texts; see pyqtgraph."""
        unit = time_unit(self.range[1] - self.range[0])[1] if self._time else 1.0
        return [tick_text(value / unit, spacing / unit) for value in values]

    def name(self, text: str, theme: Theme, colour: str | None = None) -> None:
        """Label the axis and colour it."""
        style = {"color": colour or theme.muted, "font-size": f"{SMALL}px"}
        self.label.setFont(font(SMALL))
        self._words = text, style
        self._label()
        self.setPen(pg.mkPen(theme.line))
        self.setTextPen(pg.mkPen(theme.muted))

    def resizeEvent(self, event: Any = None) -> None:  # noqa: N802 - Qt's name
        """The label fits into the new size."""
        self._label(anew=False)
        super().resizeEvent(event)

    def _label(self, *, anew: bool = True) -> None:
        if self._words is None:
            return
        text, style = self._words
        if self.orientation != "bottom" and self.size().height() > 0:
            wide = QFontMetricsF(font(SMALL)).horizontalAdvance(text)
            text = text if wide <= self.size().height() else text.rpartition(" / ")[2]
        if anew or text != self.labelText:
            self.setLabel(text, **style)


class Frame:
    """Where an item draws: its view in pixels. area: the view's rectangle, px."""

    def __init__(self, view: QRectF, painter: QPainter) -> None:
        transform = painter.transform()
        self.area = transform.mapRect(view)
        self.left, self.right = view.left(), view.right()
        self.bottom, self.top = view.top(), view.bottom()
        self.across = self.area.width() / max(view.width(), 1e-300)
        self.up = self.area.height() / max(view.height(), 1e-300)

    def x(self, value: float) -> float:
        """Pixel of a value across."""
        return self.area.left() + (value - self.left) * self.across

    def y(self, value: float) -> float:
        """Pixel of a value upwards."""
        return self.area.bottom() - (value - self.bottom) * self.up


class PixelItem(pg.GraphicsObject):  # type: ignore[misc]
    """An item of a view that fills it and draws in pixels. draw: the drawing."""

    def __init__(self, depth: float, draw: Callable[[QPainter, Frame], None] | None = None) -> None:
        super().__init__()
        self.setZValue(depth)
        self._draw = draw
        self.setFlag(QGraphicsItem.GraphicsItemFlag.ItemHasNoContents, False)

    def boundingRect(self) -> QRectF:  # noqa: N802 - Qt's name
        """The whole view."""
        view = self.getViewBox()
        return QRectF() if view is None else QRectF(view.viewRect())

    def viewTransformChanged(self) -> None:  # noqa: N802 - pyqtgraph's name
        """The view moved."""
        self.prepareGeometryChange()

    def paint(
        self,
        painter: QPainter | None,
        option: QStyleOptionGraphicsItem | None,
        widget: QWidget | None = None,
    ) -> None:
        """Draw in pixels; see Qt."""
        if painter is None:
            return
        frame = Frame(self.boundingRect(), painter)
        painter.save()
        painter.resetTransform()
        self.draw(painter, frame)
        painter.restore()

    def draw(self, painter: QPainter, frame: Frame) -> None:
        """Draw; the painter counts pixels."""
        if self._draw is not None:
            self._draw(painter, frame)


@dataclass(slots=True)
class Line:
    """Points to draw. parts: index ranges to connect, None for all. x, y: as the axes count."""

    x: Floats
    y: Floats
    colour: str
    parts: Sequence[tuple[int, int]] | None = None
    width: float = 1.0
    dashed: bool = False


class CurveItem(PixelItem):
    """Lines through points. Every point is drawn as it is given; nothing is decimated here."""

    def __init__(self, depth: float = 0.0) -> None:
        super().__init__(depth)
        self.lines: list[Line] = []
        self.width_factor = 1.0

    def set_lines(self, lines: list[Line]) -> None:
        """Draw these instead."""
        self.lines = lines
        self.update()

    def draw(self, painter: QPainter, frame: Frame) -> None:
        """Draw the lines."""
        smooth = sum(len(line.x) for line in self.lines) <= SMOOTH * max(1, len(self.lines))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, smooth or self.width_factor != 1.0)
        for line in self.lines:
            if len(line.x) == 0:
                continue
            pen = QPen(QColor(line.colour), line.width * self.width_factor)
            if line.dashed:
                pen.setStyle(Qt.PenStyle.DashLine)
            painter.setPen(pen)
            polygon = pg.functions.create_qpolygonf(len(line.x))
            points = pg.functions.ndarray_from_qpolygonf(polygon)
            # Beyond some thousand pixels outside it makes no difference where a point lies, but
            # Qt's clipping counts in fixed point.
            with np.errstate(invalid="ignore"):
                np.clip(
                    frame.area.left() + (line.x - frame.left) * frame.across,
                    -1e5,
                    1e5,
                    out=points[:, 0],
                )
                np.clip(
                    frame.area.bottom() - (line.y - frame.bottom) * frame.up,
                    -1e5,
                    1e5,
                    out=points[:, 1],
                )
            if line.parts is None or line.parts == [(0, len(line.x))]:
                painter.drawPolyline(polygon)
                continue
            for start, stop in line.parts:
                if stop - start == 1:
                    painter.drawEllipse(polygon.at(start), 1.0, 1.0)
                else:
                    painter.drawPolyline(polygon.mid(start, stop - start))


def grid(
    painter: QPainter, frame: Frame, theme: Theme, x: Sequence[float], y: Sequence[float]
) -> None:
    """Thin lines at marks of both axes."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
    painter.setPen(QPen(QColor(theme.grid), 1.0))
    area = frame.area
    for value in x:
        at = round(frame.x(value))
        painter.drawLine(QPointF(at, area.top()), QPointF(at, area.bottom()))
    for value in y:
        at = round(frame.y(value))
        painter.drawLine(QPointF(area.left(), at), QPointF(area.right(), at))


class Room:
    """Where a frame has room for labels: not on its lines, and not on labels that stand already.

    lines: as the item draws them. ascending: whether their x ascends, which is faster. levels:
    values of level lines that labels keep off too.
    """

    def __init__(
        self,
        frame: Frame,
        lines: Sequence[Line],
        *,
        ascending: bool = True,
        levels: Sequence[float] = (),
    ) -> None:
        self._frame = frame
        self._lines = lines
        self._ascending = ascending
        self._levels = [frame.y(level) for level in levels]
        self._taken: list[QRectF] = []

    def free(self, box: QRectF) -> bool:
        """Whether nothing lies in a box, px."""
        if any(box.intersects(other) for other in self._taken):
            return False
        if any(box.top() <= level <= box.bottom() for level in self._levels):
            return False
        frame = self._frame
        left, right = (frame.left + (x - frame.area.left()) / frame.across for x in
                       (box.left() - 2, box.right() + 2))  # fmt: skip
        low, high = (frame.bottom + (frame.area.bottom() - y) / frame.up for y in
                     (box.bottom() + 2, box.top() - 2))  # fmt: skip
        return not any(self._passes(line, left, right, low, high) for line in self._lines)

    def take(self, box: QRectF) -> QRectF:
        """Keep other labels off a box, px; returns it."""
        self._taken.append(box)
        return box

    def find(self, width: float, height: float, tops: Sequence[float]) -> QRectF:
        """Take a free box of this size, px: at the left, at the right, or between.

        tops: where it may begin from above, the best first. The first place of all if none is free.
        """
        area = self._frame.area
        left, right = area.left() + 4.0, max(area.left() + 4.0, area.right() - 4.0 - width)
        for x in (left, right, *np.arange(left + 24.0, right, 24.0).tolist()):
            for top in tops:
                if self.free(box := QRectF(x, top, width, height)):
                    return self.take(box)
        return self.take(QRectF(left, tops[0], width, height))

    def _passes(self, line: Line, left: float, right: float, low: float, high: float) -> bool:
        """Whether a line passes through a box in the values of the axes."""
        first, stop = 0, len(line.x)
        if self._ascending:
            first = max(0, int(np.searchsorted(line.x, left)) - 1)
            stop = min(stop, int(np.searchsorted(line.x, right, side="right")) + 1)
        parts = [(0, len(line.x))] if line.parts is None else line.parts
        begin = max(0, bisect_right(parts, first, key=lambda part: part[0]) - 1)
        end = bisect_left(parts, stop, key=lambda part: part[0])
        return any(
            _crosses(line.x[a:b], line.y[a:b], left, right, low, high)
            for a, b in ((max(a, first), min(b, stop)) for a, b in parts[begin:end])
            if b > a
        )


def _crosses(x: Floats, y: Floats, left: float, right: float, low: float, high: float) -> bool:
    """Whether a polyline passes through a box."""
    if len(x) == 1:
        return bool(left <= x[0] <= right and low <= y[0] <= high)
    near = (np.minimum(x[1:], x[:-1]) <= right) & (np.maximum(x[1:], x[:-1]) >= left)
    near &= (np.minimum(y[1:], y[:-1]) <= high) & (np.maximum(y[1:], y[:-1]) >= low)
    at = np.flatnonzero(near)
    if len(at) == 0:
        return False
    across, up = x[at + 1] - x[at], y[at + 1] - y[at]
    if not across.all():
        return True
    # Of each stroke the part between left and right.
    one, two = (np.clip((edge - x[at]) / across, 0.0, 1.0) for edge in (left, right))
    one, two = y[at] + one * up, y[at] + two * up
    return bool(np.any((np.minimum(one, two) <= high) & (np.maximum(one, two) >= low)))


def tag_size(text: str) -> tuple[float, float]:
    """Width and height of a `tag`, px."""
    metrics = QFontMetricsF(font(SMALL, tabular=True))
    return metrics.horizontalAdvance(text) + 8, metrics.height() + 2


def tag(
    painter: QPainter,
    theme: Theme,
    text: str,
    ink: str,
    at: QPointF,
    align: Literal["left", "right"] = "left",
    *,
    solid: bool = False,
) -> QRectF:
    """Text with a little ground behind it, so that it is read over curves. at: its upper corner.

    solid: hides what is below, as a readout under the pointer may. Returns the rectangle, px.
    """
    painter.setFont(font(SMALL, tabular=True))
    width, height = tag_size(text)
    left = at.x() if align == "left" else at.x() - width
    box = QRectF(left, at.y(), width, height)
    ground = QColor(theme.surface)
    ground.setAlpha(235 if solid else 110)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(ground)
    painter.drawRoundedRect(box, 3, 3)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QColor(ink))
    painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), text)
    return box


def pause_ground(theme: Theme) -> str:
    """Colour of the ground of a time in which a run was paused."""
    return mix(theme.idle, theme.surface, 0.18)


def name_stretch(
    painter: QPainter,
    theme: Theme,
    area: QRectF,
    room: Room,
    edges: tuple[float, float],
    text: str,
    ink: str,
) -> None:
    """Say what a shaded stretch is: in it, or upright beside it if it is narrow. edges: px.

    Where there is no room, since many stretches are near to each other, it is not said.
    """
    wide, high = tag_size(text)
    left, right = edges
    upright = right - left < wide + 8
    if not upright:
        lefts = [0.5 * (left + right - wide)]
    else:
        lefts = [max(right, left + 2.0) + 2.0, left - 2.0 - high]
        lefts = [min(max(x, area.left()), area.right() - high) for x in lefts]
    size = (high, wide) if upright else (wide, high)
    for x in lefts:
        for y in np.arange(area.bottom() - size[1] - 3.0, area.top() + 3.0, -8.0).tolist():
            box = QRectF(x, y, *size)
            if room.free(box):
                room.take(box)
                painter.save()
                painter.translate(round(box.left()), round(box.bottom() if upright else box.top()))
                painter.rotate(-90.0 if upright else 0.0)
                tag(painter, theme, text, ink, QPointF(0.0, 0.0))
                painter.restore()
                return
