"""Capacity and coulombic efficiency by cycle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QPainter, QPen, QPolygonF, QResizeEvent

from operando.gui.models.run import cycle_text, is_whole
from operando.gui.theme import Theme
from operando.gui.widgets.capacity_plot import CapacityPlot
from operando.gui.widgets.plot_style import BOTTOM_AXIS, Axis, Frame, PixelItem, tag, tag_size
from operando.station.client import CycleRow

RIGHT_AXIS = 58
"""Width of the axis of the efficiency, px."""

LEAST_EFFICIENCY = 0.5
"""Shortest span of the axis of the efficiency, %."""

KEY = 24.0
"""Height that is kept free for the key above the points, px."""

KEYS = (
    ("○ charge", "● discharge", "◆ efficiency"),
    ("○ charge", "● discharge", "◆ CE"),
    ("○ ch.", "● disch.", "◆ CE"),
)
"""What the marks are called: the first words that fit are used."""


class CycleBox(pg.ViewBox):  # type: ignore[misc]
    """The area of the plot; it always shows all cycles."""

    def __init__(self) -> None:
        super().__init__(enableMenu=False, enableMouse=False, defaultPadding=0.0)
        self.disableAutoRange()


class CyclePlot(CapacityPlot):
    """Charge (open circles) and discharge (filled) on the left axis, efficiency (diamonds) on the
    right one, in %. A cycle that is not whole is drawn faint and its efficiency not at all.
    """

    def __init__(self, theme: Theme) -> None:
        self._right = Axis("right")
        self._right.setWidth(RIGHT_AXIS)
        axes = {"left": Axis("left"), "right": self._right, "bottom": Axis("bottom")}
        super().__init__(theme, CycleBox(), axes, PixelItem(0.0, self._draw_points))
        self._bottom.integers = True
        # Its range is that of the efficiency and not that of the view.
        self._right.unlinkFromView()
        self.getPlotItem().showAxis("right")
        self.setObjectName("plot-cycles")
        self.setAccessibleName("Capacity and coulombic efficiency by cycle")
        self._rows: Sequence[CycleRow] = ()
        self._efficiency = (99.0, 101.0)
        self._cursor: CycleRow | None = None
        self.set_theme(theme)
        self.set_cycles(())

    def copy(self, theme: Theme) -> CyclePlot:
        """Another plot that shows the same, without a cursor."""
        made = CyclePlot(theme)
        made._mass = self._mass
        made.set_theme(theme)
        made.set_cycles(self._rows)
        return made

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.setBackground(theme.surface)
        self._left.name(f"Capacity / {self.unit}", theme, theme.charge)
        self._right.name("Efficiency / %", theme, theme.muted)
        self._bottom.name("Cycle", theme)
        self.update_marks()

    def set_mass(self, mass: float | None) -> None:
        """Show specific capacities. mass: of active material, kg; None for capacities."""
        if mass != self._mass:
            self._mass = mass
            self._left.name(f"Capacity / {self.unit}", self._theme, self._theme.charge)
            self.set_cycles(self._rows)

    def set_cycles(self, rows: Sequence[CycleRow]) -> None:
        """Show these cycles."""
        self._rows = rows
        self._cursor = None
        numbers = [row.cycle for row in rows]
        first, last = (min(numbers), max(numbers)) if numbers else (1, 5)
        last = max(last, first + 4)
        self._box.setXRange(first - 0.5, last + 0.5, padding=0.0)
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Keep room for the key, however low the plot is."""
        super().resizeEvent(event)
        # A graphics view is resized while it is made.
        if hasattr(self, "_rows"):
            self._fit()

    def _fit(self) -> None:
        rows = self._rows
        capacities = [
            self._capacity(value)
            for row in rows
            if is_whole(row) or len(rows) == 1
            for value in (row.charge_capacity, row.discharge_capacity)
            if value is not None
        ] or [
            self._capacity(value)
            for row in rows
            for value in (row.charge_capacity, row.discharge_capacity)
            if value is not None
        ]
        low, high = (min(capacities), max(capacities)) if capacities else (0.0, 1.0)
        # From zero unless the cycles differ by little: a fade of 1 % shall be seen.
        if high - low > 0.4 * high or len(capacities) < 3:
            low = 0.0
        span = max(high - low, 0.02 * high, 1e-9)
        share = min(0.5, KEY / max(self.height() - BOTTOM_AXIS, 1.0))
        head = max(0.36, 1.08 * share / (1.0 - share))
        self._box.setYRange(low - 0.08 * span, high + head * span, padding=0.0)
        shares = [
            100.0 * row.coulombic_efficiency
            for row in rows
            if is_whole(row) and row.coulombic_efficiency
        ]
        bottom, top = (min(shares), max(shares)) if shares else (99.0, 100.0)
        wide = max(top - bottom, LEAST_EFFICIENCY)
        middle = 0.5 * (top + bottom)
        head = max(0.44, 1.12 * share / (1.0 - share))
        self._efficiency = middle - 0.62 * wide, middle + (0.5 + head) * wide
        self._right.setRange(*self._efficiency)
        for axis, filled in ((self._left, rows), (self._bottom, rows), (self._right, shares)):
            axis.blank = not filled
            axis.picture = None
        self.update_marks()

    # ---- below -----------------------------------------------------------------------------

    def _point(self, here: QPointF | None) -> None:
        found = None
        if here is not None:
            x = here.x()
            found = min(self._rows, key=lambda row: abs(row.cycle - x), default=None)
        if found != self._cursor:
            self._cursor = found
            self.update_marks()

    def _draw_points(self, painter: QPainter, frame: Frame) -> None:
        theme = self._theme
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        each = frame.area.width() / max(frame.right - frame.left, 1.0)
        radius = min(3.5, max(1.5, 0.3 * each))
        low, high = self._efficiency
        trail: list[QPointF] = []
        for row in self._rows:
            x, whole = frame.x(row.cycle), is_whole(row)
            ink = QColor(theme.charge)
            ink.setAlpha(255 if whole else 110)
            for value, filled in ((row.charge_capacity, False), (row.discharge_capacity, True)):
                if value is None:
                    continue
                painter.setPen(QPen(ink, 1.4))
                painter.setBrush(ink if filled else QColor(theme.surface))
                painter.drawEllipse(QPointF(x, frame.y(self._capacity(value))), radius, radius)
            if whole and row.coulombic_efficiency is not None:
                share = (100.0 * row.coulombic_efficiency - low) / (high - low)
                trail.append(QPointF(x, frame.area.bottom() - share * frame.area.height()))
        ink = QColor(theme.muted)
        painter.setPen(QPen(ink, 1.0))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(trail))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(ink)
        for at in trail:
            painter.drawPolygon(_diamond(at, radius + 1.0))

    def _draw_over(self, painter: QPainter, frame: Frame) -> None:
        theme, area = self._theme, frame.area
        if not self._rows:
            self._say_nothing_yet(painter, frame, "no cycle yet")
            return
        if self._cursor is not None:
            x = round(frame.x(self._cursor.cycle))
            painter.setPen(QPen(QColor(theme.faint), 1.0))
            painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
            self._read_out(painter, frame, cycle_text(self._cursor))
            return
        box = QRectF(area.left() + 2, 0, 0, 0)
        fits = (k for k in KEYS if sum(tag_size(text)[0] + 4 for text in k) <= area.width() - 2)
        words = next(fits, KEYS[-1])
        for text, ink in zip(words, (theme.charge, theme.charge, theme.muted), strict=True):
            box = tag(painter, theme, text, ink, QPointF(box.right() + 4, area.top() + 2))


def _diamond(at: QPointF, radius: float) -> QPolygonF:
    angles = (0.0, 0.5 * math.pi, math.pi, 1.5 * math.pi)
    return QPolygonF(
        [QPointF(at.x() + radius * np.cos(a), at.y() + radius * np.sin(a)) for a in angles]
    )
