"""Voltage against capacity, cycle by cycle: the fingerprint of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PyQt6.QtCore import QEvent, QPointF, QRectF, Qt
from PyQt6.QtGui import QColor, QLinearGradient, QPainter, QPen
from PyQt6.QtWidgets import QFrame

from operando.gui.models.run import chosen_cycles
from operando.gui.models.traces import pieces
from operando.gui.models.units import display, number_text
from operando.gui.theme import Theme
from operando.gui.widgets.plot_style import (
    Axis,
    CurveItem,
    Frame,
    Line,
    PixelItem,
    Room,
    grid,
    tag,
    tag_size,
)
from operando.gui.widgets.style import mix
from operando.station.client import Loop

NEAR = 24.0
"""How near the pointer must be to a point to read it, px."""

RAMP = 48
"""Width of the ramp of colours in the key, px."""


class LoopBox(pg.ViewBox):  # type: ignore[misc]
    """The area of a loop plot: zoomed and moved freely, fitted by a double click."""

    def __init__(self) -> None:
        super().__init__(enableMenu=False, defaultPadding=0.05)
        self.disableAutoRange()
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
            self.fits = True
            self.parent_plot.fit()


class LoopPlot(pg.PlotWidget):  # type: ignore[misc]
    """Charge and discharge of the cycles in a ramp of one colour, the newest in a line twice as
    thick.
    """

    def __init__(self, theme: Theme) -> None:
        self._box = LoopBox()
        self._box.parent_plot = self
        self._left = Axis("left")
        self._bottom = Axis("bottom")
        super().__init__(viewBox=self._box, axisItems={"left": self._left, "bottom": self._bottom})
        self.setObjectName("plot-loops")
        self.setAccessibleName("Voltage against capacity by cycle")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hideButtons()
        self.getPlotItem().setMenuEnabled(False)
        self.getPlotItem().layout.setContentsMargins(0, 2, 12, 0)
        self._theme = theme
        self._loops: Sequence[Loop] = ()
        self._mass: float | None = None
        self._drawn: list[int] = []
        self._cursor: tuple[Loop, float, float] | None = None
        self.curve = CurveItem(0.0)
        self._under = PixelItem(-10.0, self._draw_under)
        self._over = PixelItem(10.0, self._draw_over)
        for item in (self._under, self.curve, self._over):
            self._box.addItem(item, ignoreBounds=True)
        self.scene().sigMouseMoved.connect(self._moved)
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
    def unit(self) -> str:
        """Unit of the capacity axis."""
        return "mAh" if self._mass is None else "mAh/g"

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

    def update_marks(self) -> None:
        """Draw grid, key and readout again."""
        self._under.update()
        self._over.update()

    # ---- below -----------------------------------------------------------------------------

    def _capacity(self, loop: Loop) -> Any:
        capacity = loop.charge / 3.6
        return capacity if self._mass is None else capacity / (1e3 * self._mass)

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
            lines.append(Line(self._capacity(loop), loop.voltage, colour, parts, width))
        self.curve.set_lines(lines)
        for axis in (self._left, self._bottom):
            axis.blank = not lines
            axis.picture = None
        halves = f"{len(self._loops)} half cycle{'s' if len(self._loops) != 1 else ''}"
        self.setAccessibleDescription(halves)
        self.update_marks()

    def _moved(self, at: QPointF) -> None:
        found = None
        if self._box.sceneBoundingRect().contains(at):
            here = self._box.mapSceneToView(at)
            per_x, per_y = self._box.viewPixelSize()
            nearest = NEAR
            for loop in self._loops:
                if loop.cycle not in self._drawn or len(loop.charge) == 0:
                    continue
                x = self._capacity(loop)
                away = np.hypot((x - here.x()) / per_x, (loop.voltage - here.y()) / per_y)
                if not np.isfinite(away).any():
                    continue
                place = int(np.nanargmin(away))
                if away[place] < nearest:
                    nearest = float(away[place])
                    found = (loop, float(x[place]), float(loop.voltage[place]))
        if found != self._cursor:
            self._cursor = found
            self._over.update()

    def leaveEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """The pointer left."""
        super().leaveEvent(event)
        self._cursor = None
        self._over.update()

    def _draw_under(self, painter: QPainter, frame: Frame) -> None:
        x = self._bottom.marks(frame.left, frame.right, frame.area.width())
        y = self._left.marks(frame.bottom, frame.top, frame.area.height())
        grid(painter, frame, self._theme, x, y)

    def _draw_over(self, painter: QPainter, frame: Frame) -> None:
        theme, area = self._theme, frame.area
        if not self._drawn:
            tag(
                painter,
                theme,
                "no half cycle yet",
                theme.muted,
                QPointF(area.left() + 8, area.top() + 6),
            )
            return
        self._draw_key(painter, frame)
        if self._cursor is not None:
            loop, x, y = self._cursor
            painter.setPen(QPen(QColor(theme.surface), 1.0))
            painter.setBrush(QColor(theme.text))
            painter.drawEllipse(QPointF(frame.x(x), frame.y(y)), 3.5, 3.5)
            word = "charge" if loop.charging else "discharge"
            text = (
                f"cycle {loop.cycle} {word}  {number_text(x, 3)} {self.unit}  "
                f"{display('voltage').text(y)}"
            )
            tag(
                painter,
                theme,
                text,
                theme.text,
                QPointF(area.right() - 4, area.top() + 2),
                "right",
                solid=True,
            )

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
