"""Labels in plots stand where no curve passes, and fit into the room that there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PyQt6.QtCore import QPointF, QRectF
from PyQt6.QtGui import QImage, QPainter
from PyQt6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.models.traces import Trace
from operando.gui.theme import Theme
from operando.gui.widgets import cycle_plot, loop_plot, time_plots
from operando.gui.widgets.cycle_plot import CyclePlot
from operando.gui.widgets.loop_plot import LoopPlot
from operando.gui.widgets.plot_style import Frame, Line, Room, tag
from operando.gui.widgets.time_plots import TimePlot
from operando.station.client import CycleRow, LimitInfo, Loop


@pytest.fixture
def frame(qtbot: QtBot) -> Frame:
    """100 px by 100 px that show 0 ... 100 on either axis, upwards."""
    image = QImage(100, 100, QImage.Format.Format_RGB32)
    painter = QPainter(image)
    made = Frame(QRectF(0.0, 0.0, 100.0, 100.0), painter)
    painter.end()
    return made


def line(
    x: Sequence[float], y: Sequence[float], parts: list[tuple[int, int]] | None = None
) -> Line:
    return Line(np.array(x, dtype=float), np.array(y, dtype=float), "#ffffff", parts)


@pytest.mark.parametrize("ascending", [True, False])
def test_a_place_is_free_where_no_stroke_passes(frame: Frame, ascending: bool) -> None:
    room = Room(frame, [line([0, 100], [0, 100])], ascending=ascending)
    assert room.free(QRectF(5, 5, 30, 15))  # upper left
    assert room.free(QRectF(65, 80, 30, 15))  # lower right
    assert not room.free(QRectF(40, 40, 20, 20))  # on the diagonal, between two points
    assert not room.free(QRectF(70, 5, 30, 15))


def test_where_a_line_is_broken_there_is_room(frame: Frame) -> None:
    x, y = [0.0, 30.0, 70.0, 100.0], [50.0] * 4
    box = QRectF(40, 40, 20, 20)
    assert not Room(frame, [line(x, y)]).free(box)
    assert Room(frame, [line(x, y, [(0, 2), (2, 4)])]).free(box)
    assert not Room(frame, [line(x, y, [(0, 2), (2, 3), (3, 4)])]).free(QRectF(60, 40, 20, 20))


def test_readings_that_are_not_valid_take_no_room(frame: Frame) -> None:
    assert Room(frame, [line([0, 50, 100], [50, np.nan, 50], [(0, 1), (2, 3)])]).free(
        QRectF(40, 40, 20, 20)
    )


def test_labels_keep_off_each_other_and_off_level_lines(frame: Frame) -> None:
    room = Room(frame, [], levels=[90.0])
    assert not room.free(QRectF(0, 5, 10, 10))
    first, second = room.find(30, 10, [50.0]), room.find(30, 10, [50.0])
    assert not first.intersects(second)


def test_when_all_is_full_the_best_place_is_taken(frame: Frame) -> None:
    full = [line([0.0, 100.0], [float(y), float(y)]) for y in range(0, 101, 5)]
    assert Room(frame, full).find(30, 10, [60.0, 20.0]).topLeft().y() == 60.0


Placed = list[tuple[str, QRectF]]


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> Placed:
    """The labels that plots draw, and where, px."""
    found: Placed = []

    def spy(*arguments: object, **options: object) -> QRectF:
        box: QRectF = tag(*arguments, **options)  # type: ignore[arg-type]
        found.append((str(arguments[2]), box))
        return box

    for module in (time_plots, loop_plot, cycle_plot):
        monkeypatch.setattr(module, "tag", spy)
    return found


def shown(qtbot: QtBot, widget: QWidget, width: int, height: int) -> QImage:
    if not widget.isVisible():
        qtbot.addWidget(widget)
    widget.resize(width, height)
    widget.show()
    QApplication.processEvents()
    return widget.grab().toImage()


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a first rise": lambda turn: 3.0 + 0.8 * np.minimum(1.0, 12 * turn),
    "a plateau at the limit": lambda turn: np.minimum(3.6 + 1.8 * turn, 4.25),
    "a fall": lambda turn: 4.25 - 1.2 * turn,
    "cycles": lambda turn: 3.6 + 0.65 * np.sin(12 * turn),
}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_labels_of_limits_do_not_lie_on_the_curve(
    qtbot: QtBot, each_theme: Theme, placed: Placed, shape: str
) -> None:
    plot = TimePlot(each_theme, "voltage")
    time = np.linspace(0.0, 7200.0, 700)
    plot.set_stretch(0.0, 7300.0)
    plot.set_trace(Trace(time, SHAPES[shape](time / 7200.0)))
    plot.set_limits(
        [
            LimitInfo(name=name, when="", action="trip", quantity="voltage", bound=bound)
            for name, bound in (("over_voltage", 4.3), ("under_voltage", 2.2), ("far", 40.0))
        ]
    )
    shown(qtbot, plot, 640, 130)
    plot.fit_values()
    placed.clear()
    shown(qtbot, plot, 640, 130)
    labels = dict(placed)
    assert [text.split()[0] for text in labels] == ["over_voltage", "under_voltage", "far"]
    view = plot.getViewBox()
    (curve,) = plot.curve.lines
    x, y = (
        np.array([getattr(view.mapViewToScene(point), axis)() for point in points(curve)])
        for axis in ("x", "y")
    )
    for text, box in labels.items():
        on = (x >= box.left()) & (x <= box.right()) & (y >= box.top()) & (y <= box.bottom())
        assert not on.any(), text
        assert view.sceneBoundingRect().adjusted(-1, -1, 1, 1).contains(box), text
    boxes = list(labels.values())
    assert not any(a.intersects(b) for n, a in enumerate(boxes) for b in boxes[:n])


def points(curve: Line) -> list[QPointF]:
    return [QPointF(x, y) for x, y in zip(curve.x.tolist(), curve.y.tolist(), strict=True)]


def test_the_key_of_the_loops_does_not_lie_on_a_loop(
    qtbot: QtBot, each_theme: Theme, placed: Placed
) -> None:
    plot = LoopPlot(each_theme)
    charge = np.linspace(0.0, 10.0, 300)
    plot.set_loops([Loop(1, True, charge, 3.0 + 0.8 * (1 - np.exp(-charge)))])
    shown(qtbot, plot, 320, 150)
    text, box = placed[-1]
    assert text == "cycle 1"
    view = plot.getViewBox()
    on = [box.contains(view.mapViewToScene(point)) for point in points(plot.curve.lines[0])]
    assert len(on) == 300
    assert not any(on)


ROWS = [
    CycleRow(cycle=n, charge_capacity=13.0, discharge_capacity=12.8, coulombic_efficiency=0.985)
    for n in (1, 2, 3)
]


@pytest.mark.parametrize("size", [(318, 96), (500, 260)])
def test_the_key_of_the_cycles_is_whole_and_on_no_point(
    qtbot: QtBot, each_theme: Theme, placed: Placed, size: tuple[int, int]
) -> None:
    plot = CyclePlot(each_theme)
    plot.set_cycles(ROWS)
    shown(qtbot, plot, *size)
    placed.clear()
    shown(qtbot, plot, *size)
    area = plot.getViewBox().sceneBoundingRect()
    assert len(placed) >= 3
    for text, box in placed[-3:]:
        assert area.left() <= box.left() < box.right() <= area.right(), text
        assert box.bottom() <= plot.getViewBox().mapViewToScene(points_at(13.0 / 3.6)).y() - 3.0


def points_at(value: float) -> QPointF:
    return QPointF(1.0, value)


@pytest.mark.parametrize(
    ("height", "words"), [(96, ("mAh", "%")), (260, ("Capacity / mAh", "Efficiency / %"))]
)
def test_a_label_that_is_longer_than_its_axis_is_its_unit(
    qtbot: QtBot, each_theme: Theme, height: int, words: tuple[str, str]
) -> None:
    plot = CyclePlot(each_theme)
    plot.set_cycles(ROWS)
    shown(qtbot, plot, 400, 400)
    shown(qtbot, plot, 400, height)
    item = plot.getPlotItem()
    assert (item.getAxis("left").labelText, item.getAxis("right").labelText) == words
    plot.set_theme(each_theme)
    assert item.getAxis("left").labelText == words[0]
