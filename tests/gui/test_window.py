"""The window as a whole: pages, commands, notices, the loss of the station, keys, closing."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from PyQt6.QtCore import QPoint, QRect, Qt
from PyQt6.QtGui import QImage
from PyQt6.QtWidgets import QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from operando.gui.link import Back, Lost
from operando.gui.theme import DARK, LIGHT, Theme
from operando.gui.window import MainWindow
from operando.station.client import (
    Done,
    JournalLine,
    RefusedError,
    RunDetail,
    StationLostError,
)
from support.hands import click, key
from support.window import FakeLink, channel, mixed, rows, run_summary, snapshot

Make = Callable[..., MainWindow]

RUNNING = run_summary(state="running")

NEVER = 10_000_000
"""ms: the test drains the link itself."""


@pytest.fixture
def make(qtbot: QtBot, answering: FakeLink) -> Make:
    def make(theme: Theme | None = DARK, *channels: object, **options: bool) -> MainWindow:
        window = MainWindow(answering, theme, drain_interval_ms=NEVER, **options)
        qtbot.addWidget(window, before_close_func=allow_closing)
        window.resize(1280, 800)
        window.show()
        return window

    return make


def allow_closing(window: MainWindow) -> None:
    window.owns_station = False


@pytest.fixture
def window(make: Make, answering: FakeLink) -> MainWindow:
    """A window on a station with sixteen channels in many states."""
    made = make()
    arrive(made, answering, snapshot(mixed(16)), Back())
    return made


def arrive(window: MainWindow, link: FakeLink, *messages: object) -> None:
    """Messages arrive and are shown, and so are the answers to what is asked about them."""
    link.put(*messages)
    for _ in range(3):
        window.drain()
    QApplication.processEvents()


def press(window: QWidget, name: str) -> QPushButton:
    found = window.findChild(QPushButton, name)
    assert found is not None, name
    return found


def is_whole(window: MainWindow, widget: QWidget) -> bool:
    """Whether all of a widget can be seen."""
    seen = widget.visibleRegion().boundingRect()
    within = QRect(widget.mapTo(window, QPoint(0, 0)), widget.size())
    return widget.isVisible() and seen == widget.rect() and window.rect().contains(within)


# Header and pages


def test_the_header_says_which_station_this_is(window: MainWindow) -> None:
    assert window.header.bench.text() == "simulated-lab"
    assert window.header.connection.text() == "● Connected"
    assert window.header.simulated.text() == "SIMULATED ×60"
    assert window.windowTitle() == "simulated-lab – operando"


@pytest.mark.parametrize("go", ["show_grid", "show_records", "channel", "record", "start"])
@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080), (960, 640)])
def test_stop_all_and_the_simulated_mark_are_in_sight_on_every_page(
    window: MainWindow, answering: FakeLink, go: str, size: tuple[int, int]
) -> None:
    ways: dict[str, Callable[[], None]] = {
        "show_grid": window.show_grid,
        "show_records": window.show_records,
        "channel": lambda: window.show_channel("A1"),
        "record": lambda: window.show_record("run-of-old"),
        "start": lambda: window.open_start("A4"),
    }
    window.resize(*size)
    ways[go]()
    arrive(window, answering)
    assert (window.width(), window.height()) == size
    assert is_whole(window, press(window, "stop-all"))
    assert press(window, "stop-all").isEnabled()
    assert is_whole(window, window.header.simulated)


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)])
def test_the_stop_button_of_a_running_channel_is_in_sight_on_card_and_page(
    make: Make, answering: FakeLink, size: tuple[int, int]
) -> None:
    window = make()
    window.resize(*size)
    arrive(window, answering, snapshot(mixed(4)))
    for name in ("A1", "A3"):
        stop = press(window, f"stop-{name}")
        assert stop.isEnabled()
        assert is_whole(window, stop)
    window.show_channel("A1")
    arrive(window, answering)
    page = window.channel_page()
    stops = [one for one in page.findChildren(QPushButton) if one.text().startswith("Stop")]
    assert any(one.isEnabled() and is_whole(window, one) for one in stops)


def test_the_mark_is_not_there_when_the_station_measures(make: Make, answering: FakeLink) -> None:
    window = make()
    arrive(window, answering, snapshot(simulated=False, speed=1.0))
    assert not window.header.simulated.isVisible()


def test_a_click_on_a_card_opens_its_page_and_escape_goes_back(
    window: MainWindow, answering: FakeLink
) -> None:
    click(window.grid.cards["A1"], QPoint(60, 100))
    assert window.stack.currentWidget() is window.channel_page()
    key(window, Qt.Key.Key_Escape)
    assert window.stack.currentWidget() is window.grid


def test_a_record_opens_from_the_table_and_escape_leads_back_there(
    window: MainWindow, answering: FakeLink
) -> None:
    window.show_records()
    arrive(window, answering)
    answering.client.answers["runs"] = [run_summary("run-of-old")]
    window.records.refresh()
    arrive(window, answering)
    key(window.records.table, Qt.Key.Key_Return)
    assert window.stack.currentWidget() is window.channel_page()
    key(window, Qt.Key.Key_Escape)
    assert window.stack.currentWidget() is window.records


def test_keys_lead_to_channels_and_pages(window: MainWindow, answering: FakeLink) -> None:
    control = Qt.KeyboardModifier.ControlModifier
    key(window, Qt.Key.Key_2, control)
    assert window.stack.currentWidget() is window.channel_page()
    key(window, Qt.Key.Key_R, control)
    assert window.stack.currentWidget() is window.records
    key(window, Qt.Key.Key_G, control)
    assert window.stack.currentWidget() is window.grid


def test_records_are_read_again_when_a_run_ends(window: MainWindow, answering: FakeLink) -> None:
    window.show_records()
    arrive(window, answering)
    before = len(answering.client.named("runs"))
    arrive(window, answering, snapshot(mixed(16), serial=2))
    assert len(answering.client.named("runs")) == before
    ended = [channel("A1", "completed"), *mixed(16)[1:]]
    arrive(window, answering, snapshot(ended, serial=3))
    assert len(answering.client.named("runs")) == before + 1


# What is followed


def test_the_window_follows_what_is_in_sight(window: MainWindow, answering: FakeLink) -> None:
    under_way = ["run-A1", "run-A3", "run-A5", "run-A6", "run-A8", "run-B2", "run-B6", "run-B8"]
    assert answering.followed[-1] == under_way
    window.show_channel("A3")
    assert answering.followed[-1] == ["run-A3"]
    window.show_records()
    assert answering.followed[-1] == []
    window.show_grid()
    assert answering.followed[-1] == under_way


def test_a_card_has_the_trend_of_its_run_and_new_rows_continue_it(
    window: MainWindow, answering: FakeLink
) -> None:
    trend = window.grid.cards["A1"].trend
    assert len(trend) == 200
    assert len(window.grid.cards["A4"].trend) == 0
    arrive(window, answering, rows("run-A1", voltage=([5001.0, 5002.0], [3.7, 3.71])))
    assert (len(trend), trend.until) == (202, 5002.0)
    assert window.grid.cards["A3"].trend.until == 5000.0


def test_a_pause_comes_to_the_trend_of_its_card_when_the_journal_tells_it(
    make: Make, answering: FakeLink
) -> None:
    window = make()
    arrive(window, answering, snapshot([channel("A1", "running")]), Back())
    trend = window.grid.cards["A1"].trend
    assert len(trend.polygons()) == 1
    arrive(window, answering, snapshot([channel("A1", "paused")], serial=2))
    # The journal may tell it a moment later.
    line = JournalLine(seq=1, time=2500.0, unix_time=None, kind="paused", text="paused: operator")
    answering.client.answers["run"] = RunDetail(summary=RUNNING, journal=(line,))
    arrive(window, answering, snapshot([channel("A1", "paused", elapsed=5026.0)], serial=3))
    assert len(trend.polygons()) == 2
    asked = len(answering.client.named("run"))
    arrive(window, answering, snapshot([channel("A1", "paused", elapsed=5027.0)], serial=4))
    assert len(answering.client.named("run")) == asked


def test_after_a_loss_the_trends_are_asked_for_again(
    window: MainWindow, answering: FakeLink
) -> None:
    before = len(answering.client.named("curves"))
    arrive(window, answering, Lost("it went away", time.monotonic()))
    assert len(answering.client.named("curves")) == before
    arrive(window, answering, snapshot(mixed(16), serial=2), Back())
    with_rows = sum(status.rows > 0 for status in mixed(16))
    assert len(answering.client.named("curves")) == before + with_rows


# Commands


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("pause-A1", ("pause", ("A1",))),
        ("stop-A1", ("abort", ("A1",))),
        ("resume-A5", ("resume", ("A5",))),
        ("acknowledge-A2", ("acknowledge", ("A2", "run-A2"))),
        ("stop-all", ("stop_all", ())),
    ],
)
def test_a_button_gives_its_command_to_the_station(
    window: MainWindow, answering: FakeLink, name: str, call: tuple[str, tuple[str, ...]]
) -> None:
    click(press(window, name))
    window.drain()
    assert answering.client.named(call[0]) == [call[1]]
    assert window.notices.texts == {}


def test_stopping_is_said_at_once_and_until_the_station_answers(
    window: MainWindow, answering: FakeLink
) -> None:
    answering.hold = True
    click(press(window, "stop-A1"))
    assert press(window, "stop-A1").text() == "Stopping…"
    arrive(window, answering, snapshot(mixed(16), serial=2))
    assert press(window, "stop-A1").text() == "Stopping…"
    answering.hold = False
    arrive(window, answering)
    assert press(window, "stop-A1").text() == "Stop"


def test_stop_all_marks_every_run_and_can_be_pressed_again(
    window: MainWindow, answering: FakeLink
) -> None:
    answering.hold = True
    key(
        window,
        Qt.Key.Key_S,
        Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier,
    )
    assert "STOPPING" in press(window, "stop-all").text()
    assert press(window, "stop-all").isEnabled()
    assert press(window, "stop-A3").text() == "Stopping…"
    assert press(window, "stop-A4").text() == "Stop"
    click(press(window, "stop-all"))
    answering.hold = False
    arrive(window, answering)
    assert answering.client.named("stop_all") == [(), ()]
    assert "STOP ALL" in press(window, "stop-all").text()


def test_a_stop_that_was_not_verified_is_said_and_stays(
    window: MainWindow, answering: FakeLink
) -> None:
    answering.client.answers["abort"] = Done(ok=False, message="smu1 was not read back off")
    click(press(window, "stop-A1"))
    arrive(window, answering, snapshot(mixed(16), serial=2))
    assert window.notices.texts == {"command-A1": "Stop A1: smu1 was not read back off"}
    click(window.notices.findChild(QWidget, "dismiss-command-A1") or window)
    assert window.notices.texts == {}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RefusedError("A1 is not running"), "Pause A1: A1 is not running."),
        (StationLostError("no answer within 5 s"), "Pause A1: no answer within 5 s."),
    ],
)
def test_a_refusal_is_a_notice(
    window: MainWindow, answering: FakeLink, error: Exception, said: str
) -> None:
    answering.client.answers["pause"] = error
    click(press(window, "pause-A1"))
    window.drain()
    assert window.notices.texts == {"command-A1": said}


def test_a_stop_without_an_answer_says_that_nothing_is_known(
    window: MainWindow, answering: FakeLink
) -> None:
    answering.client.answers["stop_all"] = StationLostError("no answer within 60 s")
    click(press(window, "stop-all"))
    window.drain()
    (said,) = window.notices.texts.values()
    assert said == (
        "Stop all channels: no answer within 60 s. Whether it was carried out is not known."
    )


# What is wrong


def test_a_lost_station_is_a_state_and_the_last_values_stay(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, Lost("no sign of life for 1.5 s", time.monotonic() - 12.0))
    assert window.header.connection.text() == "✕ Lost since 12 s"
    assert "no sign of life for 1.5 s" in window.notices.texts["connection"]
    card = window.grid.cards["A1"]
    assert card.view is not None
    assert (card.view.voltage, card.view.stale) == ("3.8421 V", True)
    arrive(window, answering, snapshot(mixed(16), serial=2), Back())
    assert window.header.connection.text() == "● Connected"
    assert window.notices.texts == {}
    assert not card.view.stale


def test_a_station_that_never_answered_is_said_to_be_sought(
    make: Make, answering: FakeLink
) -> None:
    window = make()
    window.drain()
    assert window.header.connection.text() == "◌ Connecting…"
    arrive(window, answering, Lost("nothing listens there", time.monotonic()))
    assert window.header.connection.text().startswith("✕ Lost since")
    assert not window.grid.cards


def test_an_alarm_of_the_station_stays_until_it_is_over(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, snapshot(mixed(16), serial=2, alarm="glovebox: 12 ppm of oxygen"))
    assert window.notices.texts == {"alarm": "glovebox: 12 ppm of oxygen"}
    assert window.notices.findChild(QWidget, "dismiss-alarm") is None
    arrive(window, answering, snapshot(mixed(16), serial=3))
    assert window.notices.texts == {}


def test_the_worst_notices_are_in_sight_and_the_others_are_counted(window: MainWindow) -> None:
    for number in range(4):
        window.notices.say(f"note-{number}", "notice", f"note {number}")
    window.notices.say("worst", "bad", "the worst")
    assert list(window.notices.texts.values()) == [
        "the worst",
        "note 3",
        "note 2",
        "note 1",
        "note 0",
    ]
    first, last = window.notices.notice("worst"), window.notices.notice("note-0")
    assert first is not None
    assert last is not None
    assert first.isVisible()
    assert not last.isVisible()


def test_another_start_of_the_station_brings_its_own_channels(
    window: MainWindow, answering: FakeLink
) -> None:
    arrive(window, answering, snapshot([channel("Z9")], instance="second", serial=1), Back())
    assert list(window.grid.cards) == ["Z9"]
    assert window.grid.summary_text() == "1 running"


# Appearance and what is remembered


def test_the_appearance_changes_and_is_remembered(make: Make, answering: FakeLink) -> None:
    window = make()
    arrive(window, answering, snapshot(mixed(4)))
    window.show_channel("A1")
    click(window.header.appearance)
    assert window.theme is LIGHT
    corner = window.grab().toImage().pixelColor(window.width() // 3, 4)
    assert corner.name() == LIGHT.surface
    assert make(None).theme is LIGHT


def test_size_is_remembered(make: Make) -> None:
    # No larger than this: a window is made to fit its screen, and this one has a small one.
    first = make()
    first.resize(960, 700)
    first.close()
    second = MainWindow(first.link, DARK, drain_interval_ms=NEVER)
    try:
        assert (second.width(), second.height()) == (960, 700)
    finally:
        second.close()
        second.deleteLater()


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)])
def test_every_page_is_drawn_in_both_appearances(
    make: Make, answering: FakeLink, each_theme: Theme, size: tuple[int, int]
) -> None:
    window = make(each_theme)
    window.resize(*size)
    arrive(window, answering, snapshot(mixed(16)))
    seen: list[QImage] = []
    for go in (window.show_grid, window.show_records, lambda: window.show_channel("A1")):
        go()
        arrive(window, answering)
        picture = window.grab().toImage()
        assert (picture.width(), picture.height()) == size
        colours = {
            picture.pixelColor(x, y).name() for x in range(0, size[0], 7) for y in range(0, 800, 7)
        }
        assert len(colours) > 10
        assert each_theme.background in colours
        assert picture not in seen
        seen.append(picture)


# Starting


def test_start_opens_the_panel_beside_the_grid_and_escape_closes_it(
    window: MainWindow, answering: FakeLink
) -> None:
    click(press(window, "start-A4"))
    arrive(window, answering)
    assert window.side.isVisible()
    assert window.side.width() >= 380
    assert is_whole(window, press(window, "stop-all"))
    key(window, Qt.Key.Key_Escape)
    assert not window.side.isVisible()
    assert window.stack.currentWidget() is window.grid


def test_a_start_that_is_refused_after_the_panel_closed_is_a_notice(
    window: MainWindow, answering: FakeLink
) -> None:
    window.open_start("A4")
    window.start_panel().refused.emit("A4", "the cell is missing")
    assert window.notices.texts == {"command-A4": "Start A4: the cell is missing"}
    window.start_panel().started.emit("A4", "run-A4")
    assert window.notices.texts == {}
