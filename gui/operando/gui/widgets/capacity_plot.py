"""What the plots of capacities share: how they are set up, their unit, grid, pointer and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import pyqtgraph as pg
from PyQt6.QtCore import QEvent, QPointF, Qt
from PyQt6.QtGui import QPainter
from PyQt6.QtWidgets import QFrame

from operando.gui.theme import Theme
from operando.gui.widgets.plot_style import Axis, Floats, Frame, PixelItem, grid, tag

Charge = TypeVar("Charge", float, Floats)


class CapacityPlot(pg.PlotWidget):  # type: ignore[misc]
    """A plot with a grid below its curves, and above them what the pointer reads.

    box: its area. axes: by side, "left" and "bottom" among them. curves: what is drawn between
    grid and readout. right: room beside the area, px.
    """

    def __init__(
        self,
        theme: Theme,
        box: pg.ViewBox,
        axes: Mapping[str, Axis],
        curves: PixelItem,
        *,
        right: float = 0.0,
    ) -> None:
        super().__init__(viewBox=box, axisItems=dict(axes))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.hideButtons()
        self.getPlotItem().setMenuEnabled(False)
        self.getPlotItem().layout.setContentsMargins(0, 2, right, 0)
        self._theme = theme
        self._box = box
        self._left, self._bottom = axes["left"], axes["bottom"]
        self._mass: float | None = None
        self._layers = PixelItem(-10.0, self._draw_grid), curves, PixelItem(10.0, self._draw_over)
        for item in self._layers:
            box.addItem(item, ignoreBounds=True)
        self.scene().sigMouseMoved.connect(self._moved)

    @property
    def unit(self) -> str:
        """Unit of the capacity axis."""
        return "mAh" if self._mass is None else "mAh/g"

    def update_marks(self) -> None:
        """Draw grid, curves, key and readout again."""
        for item in self._layers:
            item.update()

    def leaveEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """The pointer left."""
        super().leaveEvent(event)
        self._point(None)

    # ---- for the plots themselves ------------------------------------------------------------

    def _point(self, here: QPointF | None) -> None:
        """Read what is at the pointer, in the values of the axes; None: it is elsewhere."""

    def _draw_over(self, painter: QPainter, frame: Frame) -> None:
        """Draw key and readout."""

    def _capacity(self, charge: Charge) -> Charge:
        """A charge, C, in the unit of the axis."""
        return charge / 3.6 if self._mass is None else charge / 3.6 / (1e3 * self._mass)

    def _say_nothing_yet(self, painter: QPainter, frame: Frame, text: str) -> None:
        """Say why the plot is empty."""
        at = QPointF(frame.area.left() + 8, frame.area.top() + 6)
        tag(painter, self._theme, text, self._theme.muted, at)

    def _read_out(self, painter: QPainter, frame: Frame, text: str) -> None:
        """Say what the pointer reads, in the upper right corner."""
        at = QPointF(frame.area.right() - 4, frame.area.top() + 2)
        tag(painter, self._theme, text, self._theme.text, at, "right", solid=True)

    # ---- below -----------------------------------------------------------------------------

    def _moved(self, at: QPointF) -> None:
        inside = self._box.sceneBoundingRect().contains(at)
        self._point(self._box.mapSceneToView(at) if inside else None)

    def _draw_grid(self, painter: QPainter, frame: Frame) -> None:
        x = self._bottom.marks(frame.left, frame.right, frame.area.width())
        y = self._left.marks(frame.bottom, frame.top, frame.area.height())
        grid(painter, frame, self._theme, x, y)
