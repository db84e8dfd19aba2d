"""What all plots of the window share: ticks, axes, grid, and items that draw in pixels.

Items draw in pixels because a curve of some thousand points is transformed faster by numpy than
by Qt's paths, and because texts and bands keep their size at every zoom. Curves get no thick
pens and, when they are long, no antialiasing: both cost many times the drawing itself.
"""

from __future__ import annotations

import math
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
from operando.gui.widgets.style import font

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

    integers: ticks at whole numbers alone. blank: no ticks, there is nothing to measure.
    """

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
        self.setLabel(text, **style)
        self.setPen(pg.mkPen(theme.line))
        self.setTextPen(pg.mkPen(theme.muted))


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
    metrics = QFontMetricsF(painter.font())
    width, height = metrics.horizontalAdvance(text) + 8, metrics.height() + 2
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
