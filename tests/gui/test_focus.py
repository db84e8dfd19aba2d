"""Where the keys go when a button disappears: to what replaced it, and never to a stop button."""

from __future__ import annotations

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.link import Back
from operando.gui.theme import DARK
from operando.gui.window import MainWindow
from operando.station.client import State
from support.hands import key
from support.window import FakeLink, channel, snapshot

NEVER = 10_000_000

CHANGES: list[tuple[State, str, State, str]] = [
    ("running", "pause", "paused", "resume"),
    ("paused", "resume", "running", "pause"),
    ("tripped", "acknowledge", "completed", "start"),
    ("running", "pause", "tripped", ""),
    ("running", "pause", "completed", ""),
    ("running", "stop", "aborted", ""),
    ("idle", "start", "preparing", ""),
]
"""State before, button with the focus, state after, button that has it then; "" the card."""


@pytest.fixture
def window(qtbot: QtBot, answering: FakeLink) -> MainWindow:
    made = MainWindow(answering, DARK, drain_interval_ms=NEVER)
    qtbot.addWidget(made)
    made.resize(1280, 800)
    made.show()
    return made


def arrive(window: MainWindow, link: FakeLink, state: State, serial: int) -> None:
    others = [channel("A2", "running"), channel("A3", "idle")]
    link.put(snapshot([channel("A1", state), *others], serial=serial), Back())
    window.drain()
    QApplication.processEvents()


def focused(window: MainWindow) -> str:
    found = window.focusWidget()
    return found.objectName() if found is not None else ""


def press(window: QWidget, name: str) -> QPushButton:
    found = window.findChild(QPushButton, name)
    assert found is not None, name
    return found


@pytest.mark.parametrize(("before", "button", "after", "heir"), CHANGES)
def test_on_a_card_the_focus_stays_with_the_channel(
    window: MainWindow, answering: FakeLink, before: State, button: str, after: State, heir: str
) -> None:
    arrive(window, answering, before, 1)
    press(window, f"{button}-A1").setFocus()
    assert focused(window) == f"{button}-A1"
    arrive(window, answering, after, 2)
    assert focused(window) == (f"{heir}-A1" if heir else "card-A1")


@pytest.mark.parametrize(("before", "button", "after", "heir"), CHANGES)
def test_on_a_page_the_focus_goes_to_no_other_command(
    window: MainWindow, answering: FakeLink, before: State, button: str, after: State, heir: str
) -> None:
    arrive(window, answering, before, 1)
    window.show_channel("A1")
    QApplication.processEvents()
    press(window, f"page-{button}").setFocus()
    arrive(window, answering, after, 2)
    assert focused(window) == (f"page-{heir}" if heir else "page-head")


def test_space_twice_pauses_and_resumes_and_stops_nothing(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, "running", 1)
    press(window, "pause-A1").setFocus()
    for serial, state in ((2, "paused"), (3, "running")):
        there = window.focusWidget()
        assert there is not None
        key(there, Qt.Key.Key_Space)
        window.drain()
        arrive(window, answering, "paused" if state == "paused" else "running", serial)
    told = [name for name, _, _ in answering.client.calls if name in answering.client.COMMANDS]
    assert told == ["pause", "resume"]


def test_who_comes_back_from_a_page_is_on_its_card(window: MainWindow, answering: FakeLink) -> None:
    arrive(window, answering, "running", 1)
    window.show_channel("A1")
    window.show_grid()
    assert focused(window) == "card-A1"


def test_a_notice_that_goes_gives_its_focus_to_no_button(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, "running", 1)
    window.notices.say("note", "notice", "something")
    dismiss = window.notices.findChild(QWidget, "dismiss-note")
    assert dismiss is not None
    dismiss.setFocus()
    assert focused(window) == "dismiss-note"
    window.notices.clear("note")
    assert not isinstance(window.focusWidget(), QPushButton)


def test_closing_over_runs_asks_and_its_harmless_answer_has_the_focus(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, "running", 1)
    window.owns_station = True
    assert not window.close()
    assert window.notices.texts["closing"].endswith("?")
    assert focused(window) == "keep-running"
    window.owns_station = False
