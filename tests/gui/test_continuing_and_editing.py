"""Continuing a killed run, ending a step and changing a limit, at the window."""

from __future__ import annotations

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QApplication, QLabel, QLineEdit, QPushButton, QTabWidget, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.link import Back
from operando.gui.theme import DARK
from operando.gui.window import MainWindow
from operando.station.client import ChannelStatus, Done, LimitInfo, RefusedError, Started
from support.hands import click, key
from support.window import FakeLink, channel, snapshot

NOW = 1_760_000_100.0
KILLED = channel(
    "A1", "killed", output="off", output_at=NOW, died=NOW - 725.0, reason="the program died"
)
RUNNING = channel("A1", "running")
NEVER = 10_000_000
"""ms: the test drains the link itself."""


@pytest.fixture
def window(qtbot: QtBot, answering: FakeLink) -> MainWindow:
    """A window of the usual size."""
    made = MainWindow(answering, DARK, drain_interval_ms=NEVER)
    qtbot.addWidget(made)
    made.resize(1280, 800)
    made.show()
    return made


def arrive(window: MainWindow, link: FakeLink, *channels: ChannelStatus, serial: int = 1) -> None:
    """Let these channels be the station's, and everything be asked and answered."""
    if channels:
        link.put(snapshot(channels, serial=serial), Back())
    for _ in range(3):
        window.drain()
    QApplication.processEvents()


def find(window: QWidget, name: str) -> QPushButton:
    found = window.findChild(QPushButton, name)
    assert found is not None, name
    return found


def text_of(window: QWidget, name: str) -> str:
    """What a widget says, "" when it is hidden."""
    found = window.findChild(QWidget, name)
    assert found is not None, name
    return str(found.text()) if found.isVisible() else ""  # type: ignore[attr-defined]


def test_a_killed_run_says_until_when_it_is_known_and_goes_on_by_a_button(
    window: MainWindow, answering: FakeLink
) -> None:
    answering.client.answers["go_on"] = Started(run="run-A1")
    arrive(window, answering, KILLED, channel("A2", "killed", obstacle="it was moved", died=NOW))
    assert "12 min 5 s ago" in text_of(window, "reason-A1")
    assert find(window, "acknowledge-A1").isVisible()
    assert not find(window, "continue-A2").isVisible()
    assert not find(window, "start-A1").isVisible()
    click(find(window, "continue-A1"))
    arrive(window, answering)
    assert answering.client.named("go_on") == [("A1", "run-A1")]
    window.show_channel("A2")
    arrive(window, answering)
    assert "it was moved" in text_of(window, "page-reason")
    assert not find(window, "page-continue").isVisible()
    window.show_channel("A1")
    arrive(window, answering)
    click(find(window, "page-continue"))
    arrive(window, answering)
    assert answering.client.named("go_on") == [("A1", "run-A1")] * 2


def test_a_refusal_to_go_on_is_told(window: MainWindow, answering: FakeLink) -> None:
    answering.client.answers["go_on"] = RefusedError("the cell has been driven since")
    arrive(window, answering, KILLED)
    click(find(window, "continue-A1"))
    arrive(window, answering)
    assert window.notices.texts == {"command-A1": "Continue A1: the cell has been driven since."}


def test_the_gap_grows_while_nobody_decides(window: MainWindow, answering: FakeLink) -> None:
    arrive(window, answering, KILLED)
    answering.put(snapshot([KILLED], serial=2, now=NOW + 60.0))
    window._shown_second = -1  # a second later
    arrive(window, answering)
    assert "13 min 5 s ago" in text_of(window, "reason-A1")


def test_a_step_is_ended_after_it_was_confirmed(window: MainWindow, answering: FakeLink) -> None:
    arrive(window, answering, RUNNING)
    window.show_channel("A1")
    arrive(window, answering)
    click(find(window, "page-end-step"))
    arrive(window, answering)
    notice = window.notices.notice("end-step-A1")
    assert notice is not None
    assert notice.text().startswith("End step 3 'charge CC' of A1 now?")
    assert notice.buttons[0].hasFocus()  # the harmless one
    click(notice.buttons[0])
    arrive(window, answering)
    assert window.notices.notice("end-step-A1") is None
    assert answering.client.named("end_step") == []
    click(find(window, "page-end-step"))
    click(find(window, "end-step-now-A1"))
    arrive(window, answering)
    assert answering.client.named("end_step") == [("A1", 3)]
    assert window.notices.texts == {}


def test_a_step_can_be_ended_only_where_one_runs(window: MainWindow, answering: FakeLink) -> None:
    arrive(window, answering, RUNNING, channel("A2", "held"), channel("A3", "completed"))
    for name, can in (("A1", True), ("A2", False), ("A3", False)):
        window.show_channel(name)
        arrive(window, answering)
        assert find(window, "page-end-step").isVisible() is can


def open_limits(window: MainWindow, link: FakeLink) -> None:
    """Go to the list of the limits of A1, and choose the first."""
    window.show_channel("A1")
    arrive(window, link)
    page = window.channel_page()
    tabs = page.findChild(QTabWidget, "page-tabs")
    assert tabs is not None
    tabs.setCurrentWidget(page.limits)
    page.limits.table.selectRow(0)
    arrive(window, link)


def test_a_limit_is_changed_and_a_refusal_stands_beside_what_was_typed(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, RUNNING)
    open_limits(window, answering)
    limits = window.channel_page().limits
    assert limits.table.lines() == [("over_voltage", "trip", "voltage > 4.35 V")]
    click(find(window, "limit-edit"))
    assert text_of(window, "limit-old") == "now: voltage > 4.35 V"
    new = limits.findChild(QLineEdit, "limit-new")
    problem = limits.findChild(QLabel, "limit-problem")
    assert new is not None
    assert problem is not None
    assert new.hasFocus()
    why = "limit over_voltage was not changed: 9 V is beyond the cell's range"
    answering.client.answers["change_limit"] = RefusedError(why)
    new.setText("voltage > 9 V")
    key(new, Qt.Key.Key_Return)
    assert not new.isEnabled()  # until it is answered
    arrive(window, answering)
    assert problem.text() == why
    assert (new.text(), new.hasFocus()) == ("voltage > 9 V", True)
    assert window.notices.texts == {}

    answering.client.answers["change_limit"] = Done(ok=True, message="done")
    new.setText("voltage > 4.3 V")
    click(find(window, "limit-change"))
    arrive(window, answering)
    assert answering.client.named("change_limit") == [
        ("A1", "over_voltage", "voltage > 9 V"),
        ("A1", "over_voltage", "voltage > 4.3 V"),
    ]
    assert not new.isVisible()
    over = LimitInfo(name="over_voltage", when="voltage > 4.3 V", action="trip")
    arrive(window, answering, channel("A1", limits=(over,)), serial=2)
    assert limits.table.lines() == [("over_voltage", "trip", "voltage > 4.3 V")]


def test_escape_leaves_a_limit_as_it_is_and_the_page_where_it_is(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, RUNNING)
    open_limits(window, answering)
    click(find(window, "limit-edit"))
    new = window.channel_page().limits.findChild(QLineEdit, "limit-new")
    assert new is not None
    key(new, Qt.Key.Key_Escape)
    assert not new.isVisible()
    assert window.channel_page().isVisible()
    assert window.channel_page().limits.table.hasFocus()
    assert answering.client.named("change_limit") == []


def test_limits_of_a_run_that_is_over_are_read_alone(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, RUNNING)
    open_limits(window, answering)
    click(find(window, "limit-edit"))
    arrive(window, answering, channel("A1", "completed"), serial=2)
    assert not find(window, "limit-change").isVisible()
    assert not find(window, "limit-edit").isEnabled()
