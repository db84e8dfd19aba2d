"""The plots of a run: aligned, in round numbers, with limits and gaps, true under the pointer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PyQt6.QtCore import QEvent, QPoint, QPointF, Qt
from PyQt6.QtGui import QColor, QImage, QWheelEvent
from PyQt6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from operando.gui.models.run import chosen_cycles, cycle_text
from operando.gui.models.traces import ALL
from operando.gui.theme import DARK, LIGHT, Theme
from operando.gui.widgets.cycle_plot import CyclePlot
from operando.gui.widgets.loop_plot import LoopPlot
from operando.gui.widgets.plot_style import (
    fit,
    multiples,
    tick_step,
    tick_text,
    time_step,
    time_text,
)
from operando.gui.widgets.steps_table import JournalTable, StepsTable
from operando.gui.widgets.time_plots import TimePlots
from operando.station.client import Curve, CycleRow, JournalLine, LimitInfo, Loop, StepInfo
from support.window import FakeLink, rows

RUN = "run-A1"
SPAN = 3600.0


def answer(run: str, quantities: Any, **options: Any) -> dict[str, Curve]:
    """An hour at a reading every ten seconds."""
    time = np.arange(0.0, SPAN + 1.0, 10.0)
    turn = time / SPAN
    curves = {
        "voltage": 3.5 + 0.6 * turn,
        "current": np.full_like(time, 1.5e-3),
        "pressure": 8e6 + 5e5 * turn,
        "charge": 5.4 * turn,
    }
    return {name: Curve(time, curves[name], True) for name in quantities}


@pytest.fixture
def plots(qtbot: QtBot, link: FakeLink, theme: Theme) -> TimePlots:
    """An hour of voltage, current and pressure, on the screen."""
    link.client.answers["curves"] = answer
    made = TimePlots(link, theme)
    qtbot.addWidget(made)
    made.resize(700, 600)
    made.show()
    made.show_run(RUN, ("voltage", "current", "pressure"), live=False)
    settle(link)
    return made


def settle(link: FakeLink) -> None:
    for _ in range(3):
        QApplication.processEvents()
        link.drain()
        QApplication.processEvents()


def colours(image: QImage, colour: str, *, within: int = 12) -> int:
    """How many pixels have about this colour."""
    width, height = image.width(), image.height()
    raw = image.convertToFormat(QImage.Format.Format_RGB32).constBits()
    assert raw is not None
    pixels = np.frombuffer(bytes(raw.asarray(width * height * 4)), dtype=np.uint8).reshape(-1, 4)
    wanted = QColor(colour)
    away = np.abs(pixels[:, :3].astype(int) - [wanted.blue(), wanted.green(), wanted.red()])
    return int((away.max(axis=1) <= within).sum())


def picture_of(widget: Any) -> QImage:
    QApplication.processEvents()
    image: QImage = widget.grab().toImage()
    return image


# Numbers on axes


def test_ticks_are_round_and_few() -> None:
    assert multiples(2.4, 4.4, tick_step(2.4, 4.4, 5)) == [2.5, 3.0, 3.5, 4.0]
    assert multiples(0.0, 1.0, 0.0) == []


@pytest.mark.parametrize(
    ("span", "step"),
    [(60.0, 10.0), (600.0, 120.0), (7000.0, 1800.0), (40 * 3600.0, 6 * 3600.0), (864000.0, 172800)],
)
def test_ticks_of_time_are_round_in_the_unit_of_its_span(span: float, step: float) -> None:
    assert time_step(0.0, span, 7) == step


def test_a_tick_has_the_decimals_that_its_spacing_needs() -> None:
    assert [tick_text(value, 0.5) for value in (-0.5, 0.0, 2.5)] == ["−0.5", "0.0", "2.5"]
    assert tick_text(12.0, 6.0) == "12"
    assert tick_text(3.25, 0.25) == "3.25"
    assert tick_text(-0.0, 1.0) == "0"


def test_a_time_is_as_exact_as_its_pixels() -> None:
    assert time_text(9000.0, 40 * 3600.0, 600.0) == "2.50 h"
    assert time_text(1.23456, 2.0, 1000.0) == "1.235 s"


def test_a_limit_near_the_data_is_in_view_and_one_far_away_squeezes_nothing() -> None:
    low, high = fit(3.0, 4.2, [4.3, 9.0], 0.01)
    assert low < 3.0
    assert 4.3 < high < 4.5


def test_a_flat_line_gets_an_axis_with_a_span() -> None:
    low, high = fit(0.0, 0.0, [], 0.02)
    assert high - low >= 0.02


# Stacked plots


def test_stacked_plots_are_aligned_and_the_last_alone_shows_the_time(plots: TimePlots) -> None:
    areas = [plot.getViewBox().sceneBoundingRect() for plot in plots.plots.values()]
    assert {round(area.left(), 3) for area in areas} == {round(areas[0].left(), 3)}
    assert {round(area.width(), 3) for area in areas} == {round(areas[0].width(), 3)}
    assert max(area.height() for area in areas) - min(area.height() for area in areas) <= 2.0
    shown = [plot.getPlotItem().getAxis("bottom").isVisible() for plot in plots.plots.values()]
    assert shown == [False, False, True]
    axis = plots.plots["pressure"].getPlotItem().getAxis("bottom")
    assert axis.labelText == "Time since start / min"


def test_all_plots_show_the_same_stretch(plots: TimePlots) -> None:
    plots.choose(600.0, 1200.0)
    ranges = [plot.getViewBox().viewRange()[0] for plot in plots.plots.values()]
    assert ranges == [[600.0, 1200.0]] * 3


def test_curves_are_drawn_in_the_unit_of_their_axis(plots: TimePlots) -> None:
    line = plots.plots["pressure"].curve.lines[0]
    assert line.y[0] == pytest.approx(8.0)
    assert plots.plots["current"].curve.lines[0].y[0] == pytest.approx(1.5)


def test_a_limit_in_view_is_a_line_and_one_far_away_a_label(plots: TimePlots, theme: Theme) -> None:
    plot = plots.plots["voltage"]
    before = colours(picture_of(plot), theme.limit)
    far = LimitInfo(name="far", when="", action="trip", quantity="voltage", bound=40.0)
    plots.set_limits([far])
    labelled = colours(picture_of(plot), theme.limit)
    assert plot.getViewBox().viewRange()[1][1] < 5.0
    near = LimitInfo(name="near", when="", action="trip", quantity="voltage", bound=4.2)
    plots.set_limits([far, near])
    lined = colours(picture_of(plot), theme.limit)
    assert before == 0
    assert labelled > 10
    assert lined > labelled + 150
    assert plot.limits == [("far", 40.0), ("near", 4.2)]


def test_a_limit_of_a_magnitude_is_drawn_at_both_signs(plots: TimePlots) -> None:
    limit = LimitInfo(
        name="over", when="", action="trip", quantity="current", bound=2e-3, magnitude=True
    )
    plots.set_limits([limit])
    drawn = plots.plots["current"].limits
    assert [name for name, _ in drawn] == ["over", "over"]
    assert [bound for _, bound in drawn] == pytest.approx([2.0, -2.0])
    assert plots.plots["voltage"].limits == []


def test_a_gap_is_shaded_and_no_line_crosses_it(plots: TimePlots, theme: Theme) -> None:
    plot = plots.plots["voltage"]
    assert colours(picture_of(plot), theme.gap, within=3) == 0
    plots.set_gaps([(1200.0, 2400.0)])
    line = plot.curve.lines[0]
    assert line.parts is not None
    assert len(line.parts) == 1
    # Readings within what is called a gap would be drawn; those on both sides are not joined.
    assert colours(picture_of(plot), theme.gap, within=3) > 5000


def test_readings_on_both_sides_of_a_gap_are_not_joined(
    qtbot: QtBot, link: FakeLink, theme: Theme
) -> None:
    time = np.concatenate((np.arange(0.0, 1000.0, 10.0), np.arange(3000.0, 3600.0, 10.0)))
    link.client.answers["curves"] = {"voltage": Curve(time, np.full_like(time, 3.7), True)}
    plots = TimePlots(link, theme)
    qtbot.addWidget(plots)
    plots.resize(700, 300)
    plots.show()
    plots.show_run(RUN, ("voltage",), live=False)
    settle(link)

    def lit_between() -> int:
        middle = picture_of(plots).copy(300, 40, 150, 150)
        # Smooth, so the line may be shared by two rows of pixels.
        return colours(middle, theme.voltage, within=105)

    assert lit_between() > 100
    plots.set_gaps([(990.0, 3000.0)])
    assert plots.plots["voltage"].curve.lines[0].parts == [(0, 100), (100, 160)]
    assert lit_between() == 0


def test_the_pointer_reads_stored_values_of_all_plots_at_one_time(plots: TimePlots) -> None:
    found = plots.point_at(1003.0)
    stored = answer(RUN, plots.plots)
    for name, (time, value) in found.items():
        place = int(np.flatnonzero(stored[name].time == time)[0])
        assert value == stored[name].value[place]
        assert time == 1000.0
    assert set(found) == {"voltage", "current", "pressure"}
    assert plots.point_at(np.nan) == {}
    assert all(plot.cursor_at is None for plot in plots.plots.values())


def test_a_pointer_over_one_plot_moves_the_cursor_of_all(plots: TimePlots, qtbot: QtBot) -> None:
    plot = plots.plots["voltage"]
    area = plot.getViewBox().sceneBoundingRect()
    plot.scene().sigMouseMoved.emit(QPointF(area.center()))
    cursors = [each.cursor_at for each in plots.plots.values()]
    assert all(cursor is not None and cursor[1] == 1800.0 for cursor in cursors)


def test_the_wheel_zooms_about_the_pointer_and_asks_for_that_stretch(
    plots: TimePlots, link: FakeLink
) -> None:
    plot = plots.plots["voltage"]
    before = plots.viewport.end - plots.viewport.start
    wheel(plot, plot.getViewBox().sceneBoundingRect().center(), 120)
    assert plots.viewport.end - plots.viewport.start == pytest.approx(0.8 * before)
    assert plots.viewport.span is None
    middle = 0.5 * (plots.viewport.start + plots.viewport.end)
    assert middle == pytest.approx(0.5 * SPAN, abs=10.0)


def wheel(plot: Any, at: QPointF, notches: int) -> None:
    place = QPointF(plot.mapFromScene(at))
    event = QWheelEvent(
        place,
        QPointF(plot.mapToGlobal(place.toPoint())),
        QPoint(),
        QPoint(0, notches),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(plot.viewport(), event)


def test_the_wheel_over_the_value_axis_zooms_values_until_somebody_follows(
    plots: TimePlots, link: FakeLink
) -> None:
    plot = plots.plots["voltage"]
    low, high = plot.getViewBox().viewRange()[1]
    area = plot.getViewBox().sceneBoundingRect()
    wheel(plot, QPointF(area.left() - 20, area.center().y()), 120)
    near = plot.getViewBox().viewRange()[1]
    assert near[1] - near[0] == pytest.approx(0.8 * (high - low))
    plots.redraw()
    assert plot.getViewBox().viewRange()[1] == near
    plots.follow(ALL)
    assert plot.getViewBox().viewRange()[1][1] - plot.getViewBox().viewRange()[1][0] > 0.9 * (
        high - low
    )


def test_keys_move_and_zoom(plots: TimePlots, qtbot: Any, link: FakeLink) -> None:
    press = qtbot.keyClick
    plots.choose(1000.0, 2000.0)
    press(plots, Qt.Key.Key_Right)
    assert plots.viewport.start == pytest.approx(1100.0)
    press(plots, Qt.Key.Key_Plus)
    assert plots.viewport.end - plots.viewport.start == pytest.approx(800.0)
    press(plots, Qt.Key.Key_Home)
    assert plots.viewport.span == ALL


def test_new_rows_are_drawn_once_however_many_messages_come(
    plots: TimePlots, link: FakeLink, qtbot: QtBot
) -> None:
    plots.set_live(True)
    plots.apply_rows(rows(RUN, voltage=([3610.0], [4.1])))
    settle(link)
    drawn: list[int] = []
    plots.drawn.connect(lambda: drawn.append(1))
    for number in range(5):
        plots.apply_rows(rows(RUN, voltage=([3620.0 + number], [4.1])))
    settle(link)
    assert drawn == [1]
    assert plots.plots["voltage"].curve.lines[0].x[-1] == 3624.0
    assert plots.viewport.end > 3624.0


def test_a_hidden_stack_draws_nothing_and_catches_up(plots: TimePlots, link: FakeLink) -> None:
    plots.hide()
    drawn: list[int] = []
    plots.drawn.connect(lambda: drawn.append(1))
    plots.apply_rows(rows(RUN, voltage=([3610.0], [4.1])))
    settle(link)
    assert drawn == []
    plots.show()
    settle(link)
    assert drawn


# Loops and cycles


def half(cycle: int, charging: bool) -> Loop:
    charge = np.linspace(0.0, 10.0 - 0.1 * cycle, 50)
    turn = charge / 10.0
    return Loop(cycle, charging, charge, 3.6 + 0.6 * turn if charging else 4.1 - 0.9 * turn)


@pytest.fixture
def loops(qtbot: QtBot, each_theme: Theme) -> LoopPlot:
    made = LoopPlot(each_theme)
    qtbot.addWidget(made)
    made.resize(500, 300)
    made.show()
    return made


def test_the_newest_cycle_is_drawn_thick_in_the_last_colour(
    loops: LoopPlot, each_theme: Theme
) -> None:
    loops.set_loops([half(cycle, up) for cycle in (1, 2, 3) for up in (True, False)])
    assert [line.width for line in loops.curve.lines] == [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    assert loops.curve.lines[0].colour == each_theme.cycles[0]
    assert loops.curve.lines[-1].colour == each_theme.cycles[1]
    assert colours(picture_of(loops), each_theme.cycles[1], within=40) > 200


def test_every_point_of_a_loop_is_drawn_as_it_came(loops: LoopPlot) -> None:
    loop = half(1, True)
    loops.set_loops([loop])
    assert loops.curve.lines[0].x.tolist() == (loop.charge / 3.6).tolist()
    assert loops.curve.lines[0].y is loop.voltage


def test_capacity_per_gram_is_capacity_over_active_mass(loops: LoopPlot) -> None:
    loops.set_loops([half(1, True)])
    loops.set_mass(1.696e-5)
    assert loops.unit == "mAh/g"
    assert loops.curve.lines[0].x[-1] == pytest.approx(9.9 / 3.6 / 0.01696)


def test_of_many_cycles_the_first_the_newest_and_some_between_are_drawn() -> None:
    chosen = chosen_cycles(range(1, 501))
    assert len(chosen) <= 40
    assert chosen[0] == 1
    assert chosen[-5:] == [496, 497, 498, 499, 500]
    assert chosen_cycles([3, 1, 2, 2]) == [1, 2, 3]


CYCLES = (
    CycleRow(cycle=1, charge_capacity=13.7, discharge_capacity=12.1, coulombic_efficiency=0.883),
    CycleRow(cycle=2, charge_capacity=12.2, discharge_capacity=12.1, coulombic_efficiency=0.992),
    CycleRow(
        cycle=3,
        charge_capacity=2.0,
        discharge_capacity=0.5,
        coulombic_efficiency=0.25,
        flags=("incomplete",),
    ),
)


@pytest.mark.parametrize("kind", [LoopPlot, CyclePlot])
def test_the_pointer_is_answered_with_a_readout_until_it_leaves(
    qtbot: QtBot, each_theme: Theme, kind: type[LoopPlot | CyclePlot]
) -> None:
    plot = kind(each_theme)
    qtbot.addWidget(plot)
    plot.resize(500, 300)
    plot.show()
    if isinstance(plot, LoopPlot):
        plot.set_loops([half(1, True)])
        line = plot.curve.lines[0]
        point = QPointF(line.x[25], line.y[25])
    else:
        plot.set_cycles(CYCLES)
        point = QPointF(2.0, plot._box.viewRect().center().y())
    QApplication.processEvents()  # the plot has its size
    calm = picture_of(plot)
    plot.scene().sigMouseMoved.emit(plot._box.mapViewToScene(point))
    assert picture_of(plot) != calm
    plot.scene().sigMouseMoved.emit(QPointF(-10.0, -10.0))
    assert picture_of(plot) == calm
    plot.scene().sigMouseMoved.emit(plot._box.mapViewToScene(point))
    plot.leaveEvent(QEvent(QEvent.Type.Leave))
    assert picture_of(plot) == calm


def test_a_cycle_that_is_not_whole_does_not_squeeze_the_others(
    qtbot: QtBot, each_theme: Theme
) -> None:
    plot = CyclePlot(each_theme)
    qtbot.addWidget(plot)
    plot.resize(500, 260)
    plot.set_cycles(CYCLES)
    plot.show()
    low, high = plot.getViewBox().viewRange()[1]
    assert low > 12.1 / 3.6 - 0.2
    assert high > 13.7 / 3.6
    bottom, top = plot.getPlotItem().getAxis("right").range
    assert 80.0 < bottom < 88.3
    assert 99.2 < top < 110.0
    assert colours(picture_of(plot), each_theme.charge, within=40) > 50


def test_a_cycle_is_said_in_words() -> None:
    assert cycle_text(CYCLES[1]) == "cycle 2  charge 3.389 mAh  discharge 3.361 mAh  CE 99.20 %"
    assert cycle_text(CYCLES[2]).endswith("(incomplete)")
    assert "CE" not in cycle_text(CYCLES[2])


# Tables


def step(index: int, **changes: Any) -> StepInfo:
    fields: dict[str, Any] = {
        "index": index,
        "cycle": 1,
        "label": "charge",
        "kind": "ConstantCurrent",
        "setpoint": "1.57 mA",
        "start": 100.0 * index,
        "end": 100.0 * index + 90.0,
        "reason": "condition",
        "condition": "voltage >= 4.25 V",
        "duration": 90.0,
        "charge": 3.6,
    }
    return StepInfo(**(fields | changes))


def test_steps_say_what_was_asked_and_what_ended_them(qtbot: QtBot, theme: Theme) -> None:
    table = StepsTable(theme)
    qtbot.addWidget(table)
    running = {"end": None, "reason": None, "condition": None, "duration": None, "charge": None}
    table.show_steps([step(1), step(2, **running)], now=260.0, live=True)
    assert table.lines() == [
        (
            "1",
            "1",
            "charge",
            "1.57 mA",
            "1 min 30 s",
            "1.000 mAh",
            "voltage >= 4.25 V",
            "1 min 40 s",
        ),
        ("2", "1", "charge", "1.57 mA", "1 min", "—", "running", "3 min 20 s"),
    ]
    assert table.inks() == [None, theme.active]


def test_a_step_without_an_outcome_in_a_run_that_is_over_is_marked(
    qtbot: QtBot, theme: Theme
) -> None:
    table = StepsTable(theme)
    qtbot.addWidget(table)
    table.show_steps([step(1, end=None, reason=None, condition=None)], now=None, live=False)
    assert table.lines()[0][6] == "no outcome"
    assert table.inks() == [theme.notice]


def line(seq: int, kind: str, text: str) -> JournalLine:
    return JournalLine(seq=seq, time=60.0 * seq, unix_time=None, kind=kind, text=text)


@pytest.mark.parametrize("theme_", [DARK, LIGHT], ids=["dark", "light"])
def test_limits_and_gaps_are_marked_in_the_journal(qtbot: QtBot, theme_: Theme) -> None:
    table = JournalTable(theme_)
    qtbot.addWidget(table)
    table.show_journal(
        [
            line(1, "step started", "step 1"),
            line(2, "limit", "limit over_voltage acted (trip): voltage > 4.3 V"),
            line(3, "limit", "limit warm acted (warn): temperature > 40 degC"),
            line(4, "gap", "nothing was observed for 10 s"),
            line(5, "safe", "NOT VERIFIED SAFE: no reply"),
            line(6, "run ended", "run completed"),
        ]
    )
    assert table.inks() == [None, theme_.bad, theme_.notice, theme_.notice, theme_.bad, theme_.good]
    assert table.lines()[3][:2] == ("4 min", "gap")


def test_the_newest_row_comes_into_view_unless_somebody_reads_above(
    qtbot: QtBot, theme: Theme
) -> None:
    table = JournalTable(theme)
    qtbot.addWidget(table)
    table.resize(400, 150)
    table.show()
    lines = [line(n, "note", f"entry {n}") for n in range(1, 61)]
    table.show_journal(lines[:50])
    QApplication.processEvents()
    bar = table.verticalScrollBar()
    assert bar is not None
    assert bar.value() == bar.maximum() > 0
    bar.setValue(0)
    table.show_journal(lines)
    QApplication.processEvents()
    assert bar.value() == 0
