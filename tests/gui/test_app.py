"""The window as a program: how it ends, what becomes of its station, and errors on the way."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from PyQt6.QtCore import QTimer
from PyQt6.QtWidgets import QApplication, QPushButton, QWidget
from pytestqt.qtbot import QtBot

import operando.gui.app as app_module
from operando.gui.app import run
from operando.gui.link import Lost
from operando.gui.window import MainWindow
from operando.instruments.errors import BadInputError
from operando.station.client import Done
from support.hands import click
from support.window import FakeLink, channel, snapshot

URL = "http://127.0.0.1:8250"
TURN = 20
"""Wall ms between what a test does."""

PATIENCE = 5.0
"""Wall s for what a test waits to see."""


class FakeStation:
    """Stands for a `StationProcess` that was started for the window."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def link(link: FakeLink, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot) -> Iterator[FakeLink]:
    monkeypatch.setattr(app_module, "StationLink", lambda url: link)
    yield link
    assert link.closed


@pytest.fixture
def station() -> FakeStation:
    return FakeStation()


def window() -> MainWindow:
    found = [one for one in QApplication.topLevelWidgets() if isinstance(one, MainWindow)]
    shown = [one for one in found if one.isVisible()]
    assert len(shown) == 1
    return shown[0]


def press(name: str) -> None:
    found = window().findChild(QPushButton, name)
    assert found is not None, name
    click(found)


def has_heard() -> None:
    assert window().model.snapshot is not None


class Story:
    """Does one thing after the other while the window runs; what fails comes out at the end.

    An act that finds what it asserts not to be so yet is tried again until PATIENCE ends.
    """

    def __init__(self, *acts: Callable[[], object]) -> None:
        self._acts = [has_heard, *acts]
        self._failed: BaseException | None = None
        self._until = time.monotonic() + PATIENCE
        QTimer.singleShot(TURN, self._next)

    def _next(self) -> None:
        try:
            self._acts[0]()
        except AssertionError as error:
            if time.monotonic() > self._until:
                self._failed = error
        except BaseException as error:
            self._failed = error
        else:
            self._acts.pop(0)
            self._until = time.monotonic() + PATIENCE
        if self._failed is not None:
            self._acts.clear()
            QApplication.exit(99)
        elif self._acts:
            QTimer.singleShot(TURN, self._next)

    def tell(self, station: FakeStation | None = None) -> int:
        """Run the window; all acts must have been done when it closes."""
        code = run(URL, station=station, theme="dark")  # type: ignore[arg-type]
        if self._failed is not None:
            raise self._failed
        assert self._acts == []
        return code


def running() -> object:
    return snapshot([channel("A1"), channel("A2"), channel("A3", "idle")])


def idle() -> object:
    return snapshot([channel("A1", "idle")])


def test_closing_ends_the_link_and_nothing_else(link: FakeLink) -> None:
    link.put(running())
    assert Story(lambda: window().close()).tell() == 0
    assert link.started
    assert not {"stop_all", "shut_down", "abort"} & {name for name, _, _ in link.client.calls}


def test_a_station_of_its_own_without_runs_ends_with_the_window(
    link: FakeLink, station: FakeStation
) -> None:
    link.put(idle())
    assert Story(lambda: window().close()).tell(station) == 0
    assert station.closed == 1


def test_closing_over_runs_asks_in_the_strip_and_stops_nothing(
    link: FakeLink, station: FakeStation, capsys: pytest.CaptureFixture[str]
) -> None:
    link.put(running())

    def look() -> None:
        said = window().notices.texts.get("closing", "")
        assert said.startswith("2 runs are under way on the station that this window started.")
        assert said.endswith("?")
        assert link.client.named("stop_all") == []
        assert station.closed == 0

    Story(lambda: window().close(), look, lambda: press("keep-running")).tell(station)
    assert station.closed == 0
    assert link.client.named("stop_all") == []
    assert f"operando gui --station {URL}" in capsys.readouterr().out


def test_stop_all_and_end_ends_the_station_after_the_outputs_were_read_back(
    link: FakeLink, station: FakeStation
) -> None:
    link.put(running())

    def ask() -> None:
        window().close()
        link.hold = True
        press("stop-and-end")

    def answer() -> None:
        assert window().isVisible()
        link.hold = False

    Story(ask, answer).tell(station)
    assert link.client.named("stop_all") == [()]
    assert station.closed == 1


def test_a_stop_that_fails_keeps_window_and_station(link: FakeLink, station: FakeStation) -> None:
    link.put(running())
    link.client.answers["stop_all"] = Done(ok=False, message="A1 was not read back off")

    def look() -> None:
        assert window().notices.texts.get("command-all-channels") == (
            "Stop all channels: A1 was not read back off"
        )
        assert station.closed == 0
        press("keep-running")

    Story(lambda: window().close(), lambda: press("stop-and-end"), lambda: None, look).tell(station)
    assert station.closed == 0


def test_closing_without_sight_of_the_station_asks_too(
    link: FakeLink, station: FakeStation
) -> None:
    link.put(idle(), Lost("no sign of life", 0.0))

    def look() -> None:
        assert "not known" in window().notices.texts.get("closing", "")
        press("keep-running")

    Story(lambda: window().close(), look).tell(station)
    assert station.closed == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_window_and_leaves_runs_alone(
    link: FakeLink, station: FakeStation, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    link.put(running())
    assert Story(lambda: os.kill(os.getpid(), number)).tell(station) == 0
    assert station.closed == 0
    assert link.client.named("stop_all") == []
    assert signal.getsignal(number) is before


def test_an_unexpected_error_is_shown_and_written_and_the_window_goes_on(
    link: FakeLink, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.excepthook
    link.put(idle())

    def fail() -> None:
        QTimer.singleShot(0, broken)

    def broken() -> None:
        raise ZeroDivisionError("three by nothing")

    def look() -> None:
        said = window().notices.texts.get("error", "")
        assert "ZeroDivisionError: three by nothing" in said
        assert "Runs are not touched" in said
        window().close()

    Story(fail, look).tell()
    assert "ZeroDivisionError: three by nothing" in capsys.readouterr().err
    assert sys.excepthook is before


def test_an_error_in_a_thread_is_shown_too(
    link: FakeLink, capsys: pytest.CaptureFixture[str]
) -> None:
    link.put(idle())

    def broken() -> None:
        raise ValueError("in a thread")

    def fail() -> None:
        thread = threading.Thread(target=broken)
        thread.start()
        thread.join()

    def look() -> None:
        assert "in a thread" in window().notices.texts.get("error", "")
        window().close()

    Story(fail, look).tell()
    assert "ValueError: in a thread" in capsys.readouterr().err


def test_an_error_that_comes_back_at_every_turn_is_written_once(
    link: FakeLink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    link.put(idle())

    calls = 0

    def broken(limit: int = 200) -> list[object]:
        nonlocal calls
        calls += 1
        raise KeyError("every time")

    def break_it() -> None:
        monkeypatch.setattr(link, "drain", broken)

    def look() -> None:
        assert calls > 3
        window().close()

    Story(break_it, look).tell()
    assert capsys.readouterr().err.count("Traceback") == 1


def test_another_theme_is_refused_and_the_station_does_not_stay_behind(
    station: FakeStation,
) -> None:
    with pytest.raises(BadInputError, match="it can be dark or light"):
        run(URL, station=station, theme="pink")  # type: ignore[arg-type]
    assert station.closed == 1


def test_no_dialog_was_opened(link: FakeLink, station: FakeStation) -> None:
    link.put(running())

    def look() -> None:
        assert QApplication.activeModalWidget() is None
        assert QApplication.activePopupWidget() is None
        others = [one for one in QApplication.topLevelWidgets() if one.isVisible()]
        assert [type(one) for one in others] == [MainWindow]
        assert isinstance(others[0], QWidget)
        press("keep-running")

    Story(lambda: window().close(), look).tell(station)
