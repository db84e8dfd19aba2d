"""What the start panel says of limits, of slips, and of texts that come from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest
from PyQt6.QtWidgets import QLabel, QLineEdit, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.theme import Theme
from operando.gui.widgets.plan_view import SheetView, sheet_summary
from operando.gui.widgets.style import Line
from operando.protocols.sheet import on_board_line
from operando.station.client import SheetRow, Started
from support.start_desk import Desk, lab
from support.window import FakeLink


@pytest.fixture
def desk(link: FakeLink, theme: Theme, qtbot: QtBot) -> Iterator[Desk]:
    made = Desk(link, theme, qtbot)
    yield made
    made.panel.hide()


def test_an_edited_default_shows_the_text_that_the_station_reads(desk: Desk) -> None:
    desk.find(QPushButton, "default-over_current-edit").click()
    assert desk.find(QLineEdit, "limit-0-when").text() == "abs(current) > 1.89 mA"
    desk.answer()
    assert desk.start.isEnabled()


def test_a_looser_limit_leaves_the_default_in_sight_and_in_the_sheet(desk: Desk) -> None:
    desk.find(QPushButton, "add-limit").click()
    desk.write("limit-0-name", "w")
    desk.write("limit-0-when", "voltage > 4.5 V")
    desk.answer()
    assert desk.find(QLineEdit, "default-over_voltage-when").text() == "voltage > 4.3 V"
    assert {row.name for row in desk.panel.form.outcome.sheet} >= {"w", "over_voltage (default)"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("window-upper", "42.5 V", "write voltage_range ="),
        ("cycles", "100000000", "hardly meant"),
        ("cycles", "two", '"two" is not a whole number'),
        ("charge_rate", "1000C", "beyond its 1.05 A"),
        ("charge_rate", "0.5", 'such as "C/10"'),
        ("window", "2.5", 'lower: "2.5" has no unit'),
    ],
)
def test_a_slip_is_marked_at_its_field_in_words(
    desk: Desk, name: str, text: str, said: str
) -> None:
    line = desk.write(f"field-{name}", text)
    desk.answer()
    assert said in desk.said(f"problem-{name.removesuffix('-upper')}")
    assert line.property("invalid")
    assert desk.said("start-reason") == ""
    assert not desk.start.isEnabled()


def test_plan_and_limits_stand_in_a_line_above_the_button(desk: Desk) -> None:
    said = "4 steps · off outside 2.2 V to 4.3 V, above 1.89 mA"
    assert desk.find(Line, "start-summary").text() == said
    desk.write("field-charge_rate", "half")
    assert desk.find(QWidget, "start-summary").isHidden()


def test_texts_of_another_channel_are_announced_with_what_they_change(desk: Desk) -> None:
    assert desk.find(QWidget, "start-origin").isHidden()
    desk.link.client.answers["start"] = Started(run="run-7")
    desk.write("field-charge_rate", "1C")
    desk.find(QPushButton, "add-limit").click()
    desk.write("limit-0-name", "too_high")
    desk.write("limit-0-when", "voltage > 3.9 V")
    desk.answer()
    desk.start.click()
    desk.link.drain()
    desk.panel.open_for(lab()[2])
    desk.answer()
    assert desk.said("origin") == "As last started on A1 · 2 changes"
    assert desk.said("origin-changes") == ("Charge rate 1C\nlimit too_high: voltage > 3.9 V, trip")
    desk.write("field-cycles", "2")
    assert desk.said("origin") == "As last started on A1, then edited · 3 changes"
    desk.find(QPushButton, "origin-defaults").click()
    assert desk.find(QWidget, "start-origin").isHidden()
    assert desk.find(QLineEdit, "field-charge_rate").text() == "C/2"
    assert desk.panel.form.request().limits == {}


def test_steps_on_board_stand_in_the_sheet_and_are_no_limit(qtbot: QtBot) -> None:
    limit = SheetRow(
        name="squeeze", when="pressure > 12 MPa", action="trip", layers=("runner",), latency=2.0,
        without_host="NOTHING",
    )  # fmt: skip
    row = on_board_line("neware1", 4, 7800.0, watchdog_time=5.0)
    steps = SheetRow(**asdict(row))
    assert sheet_summary((limit, steps)) == ("1 limit, all lost if the computer dies", "notice")
    view = SheetView()
    qtbot.addWidget(view)
    view.show_sheet((steps,))
    said = [one.text() for one in view.findChildren(QLabel)]
    assert said == [
        "steps on board of neware1", "on board", "what", row.when,
        "if its link is lost", row.without_link, "if the computer dies", row.without_host,
    ]  # fmt: skip
