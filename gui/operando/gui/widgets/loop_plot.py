"""Voltage against capacity, cycle by cycle: the fingerprint of a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PyQt6.QtCore import QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QLinearGradient, QPainter, QPen

from operando.gui.models.run import chosen_cycles
from operando.gui.models.traces import pieces
from operando.gui.models.units import display, number_text
from operando.gui.theme import Theme
from operando.gui.widgets.capacity_plot import CapacityPlot
from operando.gui.widgets.plot_style import Axis, CurveItem, Frame, Line, Room, tag, tag_size
from operando.gui.widgets.style import mix
from operando.station.client import Loop

NEAR = 24.0
"""How near the pointer must be to a point to read it, px."""

RAMP = 48
"""Width of the ramp of colours in the key, px."""


class LoopBox(pg.ViewBox):  # type: ignore[misc]
    """The area of a loop plot: zoomed and moved freely, fitted by a double click.

    fit: brings everything into view. `fits`: whether it is to stay so.
    """

    def __init__(self, fit: Callable[[], None]) -> None:
        super().__init__(enableMenu=False, defaultPadding=0.05)
        self.disableAutoRange()
        self._fit = fit
        self.fits = True

    def wheelEvent(self, event: Any, axis: int | None = None) -> None:  # noqa: N802 - Qt's name
        """Zoom."""
        self.fits = False
        super().wheelEvent(event, axis)

    def mouseDragEvent(self, event: Any, axis: int | None = None) -> None:  # noqa: N802
        """Move."""
        self.fits = False
        super().mouseDragEvent(event, axis)

    def mouseClickEvent(self, event: Any) -> None:  # noqa: N802 - pyqtgraph's name
        """A double click fits."""
        if event.double():
            event.accept()
            self._fit()


class LoopPlot(CapacityPlot):
    """Charge and discharge of the cycles in a ramp of one colour, the newest in a line twice as
    thick.
    """

    def __init__(self, theme: Theme) -> None:
        self.curve = CurveItem(0.0)
        axes = {"left": Axis("left"), "bottom": Axis("bottom")}
        super().__init__(theme, LoopBox(self.fit), axes, self.curve, right=12.0)
        self.setObjectName("plot-loops")
        self.setAccessibleName("Voltage against capacity by cycle")
        self._loops: Sequence[Loop] = ()
        self._drawn: list[int] = []
        self._cursor: tuple[Loop, float, float] | None = None
        self.set_theme(theme)

    def copy(self, theme: Theme) -> LoopPlot:
        """Another plot that shows the same, without a cursor."""
        made = LoopPlot(theme)
        made.set_mass(self._mass)
        made.set_loops(self._loops)
        if not self._box.fits:
            x, y = self._box.viewRange()
            made._box.setRange(xRange=x, yRange=y, padding=0.0)
        return made

    @property
    def drawn(self) -> list[int]:
        """Cycles that are drawn, ascending."""
        return self._drawn

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.setBackground(theme.surface)
        self._left.name("Voltage / V", theme)
        self._bottom.name(f"Capacity / {self.unit}", theme)
        self._set_lines()

    def set_loops(self, loops: Sequence[Loop]) -> None:
        """Show these half cycles."""
        self._loops = loops
        self._cursor = None
        self._set_lines()
        if self._box.fits:
            self.fit()

    def set_mass(self, mass: float | None) -> None:
        """Show specific capacities. mass: of active material, kg; None for capacities."""
        if mass != self._mass:
            self._mass = mass
            self._bottom.name(f"Capacity / {self.unit}", self._theme)
            self.set_loops(self._loops)
            self.fit()

    def fit(self) -> None:
        """Bring everything into view."""
        self._box.fits = True
        lines = self.curve.lines
        if not lines:
            return
        x = np.concatenate([line.x for line in lines])
        y = np.concatenate([line.y for line in lines])
        if not np.isfinite(y).any():
            return
        right = max(float(np.nanmax(x)), 1e-6)
        low, high = float(np.nanmin(y)), float(np.nanmax(y))
        margin = 0.08 * max(high - low, 0.02)
        self._box.setRange(
            xRange=(-0.02 * right, 1.04 * right), yRange=(low - margin, high + margin), padding=0.0
        )
        self.update_marks()

    # ---- below -----------------------------------------------------------------------------

    def _set_lines(self) -> None:
        self._drawn = chosen_cycles([loop.cycle for loop in self._loops])
        first, last = (self._drawn[0], self._drawn[-1]) if self._drawn else (0, 0)
        chosen = set(self._drawn)
        lines = []
        for loop in self._loops:
            if loop.cycle not in chosen:
                continue
            share = (loop.cycle - first) / (last - first) if last > first else 1.0
            begin, end = self._theme.cycles
            parts = pieces(np.arange(len(loop.voltage), dtype=np.float64), loop.voltage)
            width = 2.0 if loop.cycle == last else 1.0
            colour = mix(end, begin, share)
            lines.append(Line(self._capacity(loop.charge), loop.voltage, colour, parts, width))
        self.curve.set_lines(lines)
        for axis in (self._left, self._bottom):
            axis.blank = not lines
            axis.picture = None
        halves = f"{len(self._loops)} half cycle{'s' if len(self._loops) != 1 else ''}"
        self.setAccessibleDescription(halves)
        self.update_marks()

    def _point(self, here: QPointF | None) -> None:
        found = None
        if here is not None:
            per_x, per_y = self._box.viewPixelSize()
            nearest = NEAR
            for loop in self._loops:
                if loop.cycle not in self._drawn or len(loop.charge) == 0:
                    continue
                x = self._capacity(loop.charge)
                away = np.hypot((x - here.x()) / per_x, (loop.voltage - here.y()) / per_y)
                if not np.isfinite(away).any():
                    continue
                place = int(np.nanargmin(away))
                if away[place] < nearest:
                    nearest = float(away[place])
                    found = (loop, float(x[place]), float(loop.voltage[place]))
        if found != self._cursor:
            self._cursor = found
            self.update_marks()

    def _draw_over(self, painter: QPainter, frame: Frame) -> None:
        theme = self._theme
        if not self._drawn:
            self._say_nothing_yet(painter, frame, "no half cycle yet")
            return
        self._draw_key(painter, frame)
        if self._cursor is not None:
            loop, x, y = self._cursor
            painter.setPen(QPen(QColor(theme.surface), 1.0))
            painter.setBrush(QColor(theme.text))
            painter.drawEllipse(QPointF(frame.x(x), frame.y(y)), 3.5, 3.5)
            word = "charge" if loop.charging else "discharge"
            at = f"{number_text(x, 3)} {self.unit}  {display('voltage').text(y)}"
            self._read_out(painter, frame, f"cycle {loop.cycle} {word}  {at}")

    def _draw_key(self, painter: QPainter, frame: Frame) -> None:
        """Which colour is which cycle, in a corner where no loop passes."""
        theme, drawn, area = self._theme, self._drawn, frame.area
        count = len({loop.cycle for loop in self._loops})
        some = "" if len(drawn) == count else f"  ({len(drawn)} of {count} drawn)"
        first, rest = f"cycle {drawn[0]}", f"{drawn[-1]}{some}"
        ramp = len(drawn) > 1
        wide, high = tag_size(first)
        whole = wide + (2 + RAMP + 2 + tag_size(rest)[0] if ramp else 0)
        room = Room(frame, self.curve.lines, ascending=False)
        # The upper right corner is that of the readout under the pointer.
        x, y = area.left() + 6, area.bottom() - high - 4
        right = area.right() - whole - 6
        middle, top = 0.5 * (x + right), area.top() + 4
        corners = (right, y), (x, y), (x, top), (middle, y), (middle, top), (right, top)
        free = (at for at in corners if room.free(QRectF(*at, whole, high)))
        x, y = next(free, corners[0])
        ink = theme.muted if ramp else mix(theme.cycles[1], theme.text, 0.7)
        box = tag(painter, theme, first, ink, QPointF(x, y))
        if not ramp:
            return
        bar = QRectF(box.right() + 2, box.center().y() - 3, RAMP, 6)
        colours = QLinearGradient(bar.left(), 0, bar.right(), 0)
        colours.setColorAt(0.0, QColor(theme.cycles[0]))
        colours.setColorAt(1.0, QColor(theme.cycles[1]))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colours)
        painter.drawRoundedRect(bar, 2, 2)
        tag(painter, theme, rest, theme.muted, QPointF(bar.right() + 2, y))
