"""Stacked plots of a run against time, with one time axis, one cursor and one viewport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from PyQt6.QtCore import QEvent, QPointF, QRectF, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QColor, QKeyEvent, QPainter, QPen, QResizeEvent, QShowEvent
from PyQt6.QtWidgets import QFrame, QGraphicsView, QSizePolicy, QWidget

from operando.gui.models.traces import (
    ALL,
    OF_THE_POTENTIOSTAT,
    Link,
    Stretch,
    Trace,
    Traces,
    Viewport,
    pieces,
)
from operando.gui.models.units import Display, display, number_text, time_unit
from operando.gui.theme import Theme
from operando.gui.widgets.plot_style import (
    BOTTOM_AXIS,
    LEFT_AXIS,
    Axis,
    CurveItem,
    Frame,
    Line,
    PixelItem,
    Room,
    fit,
    grid,
    name_stretch,
    pause_ground,
    tag,
    tag_size,
    time_text,
)
from operando.gui.widgets.style import mix
from operando.station.client import LimitInfo, Rows

ZOOM = 0.8
"""What a notch of the wheel leaves of the stretch."""

APART = 6
"""Space between plots, px."""

LABEL = 18
"""Height that the label of a limit takes, px."""


class Box(pg.ViewBox):  # type: ignore[misc]
    """The area of a time plot. It never moves by itself: it says what somebody wants to see."""

    chosen = pyqtSignal(float, float)
    scaled = pyqtSignal(float, float)
    reset = pyqtSignal()

    def __init__(self) -> None:
        super().__init__(enableMenu=False, defaultPadding=0.0)
        self.disableAutoRange()

    def wheelEvent(self, event: Any, axis: int | None = None) -> None:  # noqa: N802 - Qt's name
        """Zoom about the pointer: time, or the values when the pointer is on their axis."""
        event.accept()
        factor = ZOOM ** (event.delta() / 120.0)
        at = self.mapSceneToView(event.scenePos())
        if axis == 1:
            self.scaled.emit(factor, at.y())
            return
        start, end = self.viewRange()[0]
        middle = at.x() if start <= at.x() <= end else 0.5 * (start + end)
        self.chosen.emit(middle + (start - middle) * factor, middle + (end - middle) * factor)

    def mouseDragEvent(self, event: Any, axis: int | None = None) -> None:  # noqa: N802
        """Move along the time axis."""
        event.accept()
        if axis == 1:
            return
        start, end = self.viewRange()[0]
        moved = (event.pos().x() - event.lastPos().x()) / max(self.width(), 1.0) * (end - start)
        self.chosen.emit(start - moved, end - moved)

    def mouseClickEvent(self, event: Any) -> None:  # noqa: N802 - pyqtgraph's name
        """A double click fits the values again."""
        if event.double():
            event.accept()
            self.reset.emit()


class TimePlot(pg.PlotWidget):  # type: ignore[misc]
    """One quantity against time. Values are drawn in the unit that `units.display` gives.

    chosen: somebody wants to see this stretch, s. hovered: the pointer is at this time, s; NaN
    when it left.
    """

    chosen = pyqtSignal(float, float)
    hovered = pyqtSignal(float)

    def __init__(self, theme: Theme, quantity: str) -> None:
        self._box = Box()
        self._left = Axis("left")
        self._bottom = Axis("bottom", time=True)
        super().__init__(viewBox=self._box, axisItems={"left": self._left, "bottom": self._bottom})
        self.quantity = quantity
        self.shown: Display = display(quantity)
        self.setObjectName(f"plot-{quantity}")
        self.setAccessibleName(f"{self.shown.label} against time")
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hideButtons()
        # The scene would have it painted twice for each change of curve and range together.
        self.setViewportUpdateMode(QGraphicsView.ViewportUpdateMode.NoViewportUpdate)
        plot = self.getPlotItem()
        plot.layout.setContentsMargins(0, 2, 12, 0)
        self.getPlotItem().setMenuEnabled(False)
        self._theme = theme
        self._gaps: Sequence[Stretch] = ()
        self._pauses: Sequence[Stretch] = ()
        self._limits: list[tuple[str, float, bool]] = []
        self._held = False
        self._trace = Trace()
        self.cursor_at: tuple[float, float, float] | None = None
        self.curve = CurveItem(0.0)
        self._under = PixelItem(-10.0, self._draw_under)
        self._over = PixelItem(10.0, self._draw_over)
        for item in (self._under, self.curve, self._over):
            self._box.addItem(item, ignoreBounds=True)
        self._box.chosen.connect(self.chosen)
        self._box.scaled.connect(self._scale)
        self._box.reset.connect(self.fit_values)
        self.scene().sigMouseMoved.connect(self._moved)
        self.set_bottom(False)
        self.set_theme(theme)

    def copy(self, theme: Theme) -> TimePlot:
        """Another plot that shows the same, without a cursor."""
        made = TimePlot(theme, self.quantity)
        made._gaps, made._pauses = self._gaps, self._pauses
        made._limits, made._held = self._limits, True
        made.set_bottom(self._bottom.isVisible())
        made.set_stretch(*self._box.viewRange()[0])
        made._box.setYRange(*self._box.viewRange()[1], padding=0.0)
        made.set_trace(self._trace)
        return made

    # What is shown

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        self.setBackground(theme.surface)
        self._left.name(self.shown.axis, theme, theme.quantity(self.quantity))
        self._bottom.name(self._bottom.labelText or "", theme)
        self._set_line()
        self.update_marks()

    def set_bottom(self, shown: bool) -> None:
        """Show the time axis or not."""
        self.getPlotItem().showAxis("bottom", shown)
        self.set_stretch(*self._box.viewRange()[0])

    def set_stretch(self, start: float, end: float) -> None:
        """Look at this stretch, s."""
        self._box.setXRange(start, end, padding=0.0)
        label = f"Time since start / {time_unit(end - start)[0]}"
        if self._bottom.isVisible() and self._bottom.labelText != label:
            self._bottom.name(label, self._theme)
        self.update_marks()

    def set_gaps(self, gaps: Sequence[Stretch]) -> None:
        """Shade these; no line crosses them."""
        self._gaps = tuple(gaps)
        self.set_trace(self._trace)

    def set_pauses(self, pauses: Sequence[Stretch]) -> None:
        """Shade these; what the potentiostat measures is cut at both ends, the rest goes on."""
        self._pauses = tuple(pauses)
        self.set_trace(self._trace)

    def set_limits(self, limits: Sequence[LimitInfo]) -> None:
        """Draw the limits of this quantity."""
        self._limits = []
        for limit in limits:
            if limit.quantity != self.quantity or limit.bound is None:
                continue
            signs = (1.0, -1.0) if limit.magnitude else (1.0,)
            self._limits += [
                (limit.name, self.shown.shown(sign * limit.bound), limit.above) for sign in signs
            ]
        self.set_trace(self._trace)

    @property
    def limits(self) -> list[tuple[str, float]]:
        """Names and bounds of the limits, in the unit of the axis."""
        return [(name, bound) for name, bound, _ in self._limits]

    def set_trace(self, trace: Trace) -> None:
        """Draw these readings."""
        self._trace = trace
        self._set_line()
        if not self._held:
            self._fit()
        self.update_marks()

    def set_cursor(self, time: float | None) -> tuple[float, float] | None:
        """Mark the stored reading nearest to a time, s; returns its time and SI value."""
        found = None if time is None else self._trace.nearest(time)
        before = self.cursor_at
        self.cursor_at = None if found is None or time is None else (time, *found)
        if self.cursor_at != before:
            self.update_marks()
        return found

    def fit_values(self) -> None:
        """Let the values choose their axis again."""
        self._held = False
        self._fit(exactly=True)
        self.update_marks()

    def update_marks(self) -> None:
        """Have it painted again: once, however often this is said before."""
        self.viewport().update()

    # ---- below -----------------------------------------------------------------------------

    def _set_line(self) -> None:
        time, value = self._trace.time, self._trace.value
        if self.shown.factor != 1.0 or self.shown.offset:
            value = value * self.shown.factor + self.shown.offset
        pauses = self._pauses if self.quantity in OF_THE_POTENTIOSTAT else ()
        parts = pieces(time, value, self._gaps, pauses)
        self.curve.set_lines([Line(time, value, self._theme.quantity(self.quantity), parts)])

    def _fit(self, *, exactly: bool = False) -> None:
        (start, end), (low, high) = self._box.viewRange()
        line = self.curve.lines[0]
        first, last = np.searchsorted(line.x, (start, end))
        value = line.y[first : last + 1] if last > first else line.y[max(first - 1, 0) : last + 1]
        valid = value[np.isfinite(value)]
        if len(valid) == 0:
            return
        least = 20.0 * 10.0**-self.shown.decimals
        lowest, highest = float(valid.min()), float(valid.max())
        bottom, top = fit(lowest, highest, [bound for _, bound in self.limits], least)
        top = max(top, self._room_for_label(bottom, top))
        inside = low <= lowest - 0.02 * (high - low) and highest + 0.02 * (high - low) <= high
        near = [bound for _, bound in self.limits if bottom <= bound <= top]
        inside &= all(low <= bound <= high for bound in near)
        inside &= self._room_for_label(low, high) <= high + 1e-9 * (high - low)
        # It moves only when it must: an axis that always moves cannot be read.
        if exactly or not inside or top - bottom < 0.7 * (high - low):
            self._box.setYRange(bottom, top, padding=0.0)

    def _room_for_label(self, low: float, high: float) -> float:
        """Where an axis from low must end for the label of the uppermost limit to stand above it.

        A cell is held near its upper limit for hours: below it there is no place.
        """
        uppers = [bound for _, bound, above in self._limits if above and low <= bound <= high]
        if not uppers:
            return high
        height = self.height() - (BOTTOM_AXIS if self._bottom.isVisible() else 0)
        share = min(0.3, (LABEL + 3.0) / max(height, 1.0))
        return float((max(uppers) - share * low) / (1.0 - share))

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Room for labels is counted in pixels."""
        super().resizeEvent(event)
        # A graphics view is resized while it is made.
        if hasattr(self, "cursor_at") and self.curve.lines and not self._held:
            self._fit()

    def _scale(self, factor: float, at: float) -> None:
        low, high = self._box.viewRange()[1]
        self._held = True
        self._box.setYRange(at + (low - at) * factor, at + (high - at) * factor, padding=0.0)
        self.update_marks()

    def _moved(self, at: QPointF) -> None:
        inside = self._box.sceneBoundingRect().contains(at)
        self.hovered.emit(self._box.mapSceneToView(at).x() if inside else np.nan)

    def leaveEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """The pointer left."""
        super().leaveEvent(event)
        self.hovered.emit(np.nan)

    def _stretches(self, frame: Frame) -> list[tuple[float, float, str, str, str]]:
        """Those in view: left and right, px, what they are called, their ground and ink."""
        theme, area = self._theme, frame.area
        found = []
        for stretches, text, ground, ink in (
            (self._pauses, "paused", pause_ground(theme), theme.muted),
            (self._gaps, "not observed", theme.gap, theme.notice),
        ):
            for start, end in stretches:
                if end >= frame.left and start <= frame.right:
                    left, right = max(frame.x(start), area.left()), min(frame.x(end), area.right())
                    found.append((left, right, text, ground, ink))
        return found

    def _draw_under(self, painter: QPainter, frame: Frame) -> None:
        theme, area = self._theme, frame.area
        for left, right, _, ground, ink in self._stretches(frame):
            box = QRectF(left, area.top(), max(right - left, 2.0), area.height())
            # One that is as narrow as a line of the grid must not be taken for one.
            painter.fillRect(box, QColor(ground if box.width() > 4 else mix(ink, ground, 0.4)))
        marks = self._bottom.marks(frame.left, frame.right, area.width())
        values = self._left.marks(frame.bottom, frame.top, area.height())
        grid(painter, frame, theme, marks, values)

    def _draw_over(self, painter: QPainter, frame: Frame) -> None:
        inside = [bound for _, bound in self.limits if frame.bottom <= bound <= frame.top]
        room = Room(frame, self.curve.lines, levels=inside)
        self._draw_limits(painter, frame, room)
        for left, right, text, _, ink in self._stretches(frame):
            name_stretch(painter, self._theme, frame.area, room, (left, right), text, ink)
        if self.cursor_at is not None:
            self._draw_cursor(painter, frame, *self.cursor_at)

    def _draw_limits(self, painter: QPainter, frame: Frame, room: Room) -> None:
        theme, area = self._theme, frame.area
        for name, bound, _ in self._limits:
            text = f"{name} {bound_text(bound, self.shown)}"
            if frame.bottom <= bound <= frame.top:
                at = round(frame.y(bound))
                painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
                painter.setPen(QPen(QColor(theme.limit), 1.0, Qt.PenStyle.DashLine))
                painter.drawLine(QPointF(area.left(), at), QPointF(area.right(), at))
                above, below = at - tag_size(text)[1] - 2, at + 3.0
                tops = [above, below] if above > area.top() else [below]
            else:
                up = bound > frame.top
                text += " ↑" if up else " ↓"
                ends = area.top() + 2.0, area.bottom() - tag_size(text)[1] - 2.0
                tops = [*np.arange(*ends, 8.0).tolist(), ends[1]]
                tops = tops if up else [sum(ends) - top for top in tops]
            tag(painter, theme, text, theme.limit, room.find(*tag_size(text), tops).topLeft())

    def _draw_cursor(
        self, painter: QPainter, frame: Frame, time: float, at: float, value: float
    ) -> None:
        theme, area = self._theme, frame.area
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(QPen(QColor(theme.faint), 1.0))
        x = round(frame.x(time))
        painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, True)
        painter.setPen(QPen(QColor(theme.surface), 1.0))
        painter.setBrush(QColor(theme.quantity(self.quantity)))
        painter.drawEllipse(QPointF(frame.x(at), frame.y(self.shown.shown(value))), 3.5, 3.5)
        when = time_text(at, frame.right - frame.left, area.width())
        text = f"{self.shown.text(value)}  at {when}"
        tag(
            painter,
            theme,
            text,
            theme.quantity(self.quantity),
            QPointF(area.right() - 4, area.top() + 2),
            "right",
            solid=True,
        )


def bound_text(bound: float, shown: Display) -> str:
    """A bound as its line is labelled, in the unit of the axis: "4.30 V"."""
    number = number_text(bound, shown.decimals)
    while number[-1:] == "0" and len(number.partition(".")[2]) > 2:
        number = number[:-1]
    return f"{number} {shown.unit}".strip()


class TimePlots(QWidget):
    """The stack: plots of the quantities that a run has, over one stretch of time.

    moved: the stretch or what is followed has changed. drawn: other readings were drawn.
    key: of the questions to the station.
    """

    moved = pyqtSignal()
    drawn = pyqtSignal()
    _woken = pyqtSignal()

    def __init__(self, link: Link, theme: Theme, *, key: str = "page-curves") -> None:
        super().__init__()
        self.setObjectName("time-plots")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(
            "Plots against time; arrows move, plus and minus zoom, Home shows all"
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._theme = theme
        self._live = False
        self._gaps: Sequence[Stretch] = ()
        self._pauses: Sequence[Stretch] = ()
        self._limits: Sequence[LimitInfo] = ()
        self.plots: dict[str, TimePlot] = {}
        self.viewport = Viewport()
        self.traces = Traces(link, key=key, wake=self._woken.emit, changed=self._taken)
        # Emitted in the thread of the link, it is answered in that of the window.
        self._woken.connect(self._take)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self.redraw)

    # What is shown

    def show_run(self, run: str | None, quantities: Sequence[str], *, live: bool) -> None:
        """Show another run, from its beginning to its newest reading."""
        self.traces.show(run, ())
        self._live = live
        self._gaps, self._pauses, self._limits = (), (), ()
        self.viewport.follow(ALL)
        for plot in self.plots.values():
            plot.hide()
            plot.deleteLater()
        self.plots = {}
        self.want(quantities)
        self.moved.emit()

    def want(self, quantities: Sequence[str]) -> None:
        """Show plots of these quantities, from top to bottom."""
        if tuple(quantities) == tuple(self.plots):
            return
        old, self.plots = self.plots, {}
        for quantity in quantities:
            plot = old.pop(quantity, None)
            if plot is None:
                plot = TimePlot(self._theme, quantity)
                plot.setParent(self)
                plot.chosen.connect(self.choose)
                plot.hovered.connect(self.point_at)
                plot.set_gaps(self._gaps)
                plot.set_pauses(self._pauses)
                plot.set_limits(self._limits)
                plot.set_stretch(self.viewport.start, self.viewport.end)
                plot.show()
            self.plots[quantity] = plot
        for plot in old.values():
            plot.hide()
            plot.deleteLater()
        last = tuple(self.plots)[-1:]
        for quantity, plot in self.plots.items():
            plot.set_bottom(quantity in last)
        self._arrange()
        self.traces.want(tuple(self.plots))
        self._look()

    def set_live(self, live: bool) -> None:
        """Whether readings will come."""
        if live != self._live:
            self._live = live
            self.traces.refresh()
            self._soon.start()

    def set_gaps(self, gaps: Sequence[Stretch]) -> None:
        """Times that were not observed, s."""
        if tuple(gaps) != tuple(self._gaps):
            self._gaps = tuple(gaps)
            for plot in self.plots.values():
                plot.set_gaps(self._gaps)

    def set_pauses(self, pauses: Sequence[Stretch]) -> None:
        """Times in which the run was paused, s; infinity for the end of one that goes on."""
        if tuple(pauses) != tuple(self._pauses):
            self._pauses = tuple(pauses)
            for plot in self.plots.values():
                plot.set_pauses(self._pauses)

    def set_limits(self, limits: Sequence[LimitInfo]) -> None:
        """Limits of the run."""
        if tuple(limits) != tuple(self._limits):
            self._limits = tuple(limits)
            for plot in self.plots.values():
                plot.set_limits(self._limits)

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._theme = theme
        for plot in self.plots.values():
            plot.set_theme(theme)

    # What happens

    def apply_rows(self, rows: Rows) -> None:
        """Take newly committed rows; drawn once, however many messages come at a time."""
        if self.traces.apply(rows) or self.traces.last > self.viewport.end:
            self._soon.start()

    def refresh(self) -> None:
        """Ask for everything in view again."""
        self.traces.refresh()

    def follow(self, span: float) -> None:
        """Follow the newest `span` seconds, or `ALL`."""
        self.viewport.follow(span)
        for plot in self.plots.values():
            plot.fit_values()
        self.redraw()
        self._look()
        self.moved.emit()

    def choose(self, start: float, end: float) -> None:
        """Look at this stretch, s: what is there is drawn at once, exact bins when they come."""
        self.viewport.choose(start, end)
        self._show_stretch()
        self.moved.emit()

    def point_at(self, time: float) -> dict[str, tuple[float, float]]:
        """Put the cursor at a time, s, NaN for nowhere; returns the readings by quantity."""
        at = None if np.isnan(time) else time
        found = {name: plot.set_cursor(at) for name, plot in self.plots.items()}
        return {name: reading for name, reading in found.items() if reading is not None}

    def redraw(self) -> None:
        """Draw what is there."""
        self._soon.stop()
        if not self.isVisible():
            return
        if self.viewport.advance(self.traces.first, self.traces.last, live=self._live):
            self._show_stretch()
        for quantity, plot in self.plots.items():
            plot.set_trace(self.traces.trace(quantity))
        self.drawn.emit()

    # ---- below -----------------------------------------------------------------------------

    def _take(self) -> None:
        self.traces.take()

    def _taken(self) -> None:
        self.redraw()

    def _show_stretch(self) -> None:
        for plot in self.plots.values():
            plot.set_stretch(self.viewport.start, self.viewport.end)
        self._look()

    def _look(self) -> None:
        start, end = self.viewport.wanted
        self.traces.look(start, end, max(self.width() - LEFT_AXIS - 12, 100))

    def _arrange(self) -> None:
        if not self.plots:
            return
        count = len(self.plots)
        each = (self.height() - BOTTOM_AXIS - APART * (count - 1)) / count
        top = 0.0
        for place, plot in enumerate(self.plots.values()):
            high = each + (BOTTOM_AXIS if place == count - 1 else 0)
            plot.setGeometry(0, round(top), self.width(), round(top + high) - round(top))
            top += each + APART

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """As many bins as there are pixels."""
        super().resizeEvent(event)
        self._arrange()
        self._look()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Nothing was taken while it was hidden."""
        super().showEvent(event)
        if self.traces.run is not None:
            self.traces.refresh()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        """Arrows move, plus and minus zoom, Home shows all."""
        if event is None:
            return
        start, end = self.viewport.start, self.viewport.end
        step, middle = 0.1 * (end - start), 0.5 * (start + end)
        match event.key():
            case Qt.Key.Key_Left:
                self.choose(start - step, end - step)
            case Qt.Key.Key_Right:
                self.choose(start + step, end + step)
            case Qt.Key.Key_Plus | Qt.Key.Key_Equal:
                self.choose(middle + (start - middle) * ZOOM, middle + (end - middle) * ZOOM)
            case Qt.Key.Key_Minus:
                self.choose(middle + (start - middle) / ZOOM, middle + (end - middle) / ZOOM)
            case Qt.Key.Key_Home:
                self.follow(ALL)
            case _:
                super().keyPressEvent(event)
