"""What the window says and does when its station is gone, and how it finds the one that follows."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from operando.gui.link import FOREIGN, Back, Lost, StationLink, never_sent, plain
from operando.gui.theme import DARK
from operando.gui.window import MainWindow
from operando.station.client import (
    Done,
    RefusedError,
    Snapshot,
    StationClient,
    StationLostError,
    StationNote,
    announced,
)
from support.stand_in import ScriptedClient, StandIn
from support.window import FakeLink, channel, mixed, snapshot

NEVER = 10_000_000

JARGON = ("Errno", "close frame", "http", "validation error", "socket")


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of this test alone."""
    monkeypatch.setenv("OPERANDO_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def silent() -> Iterator[str]:
    """URL at which somebody takes connections and closes them."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close_all() -> None:
            while True:
                try:
                    there, _ = server.accept()
                except OSError:
                    return
                there.recv(65536)
                there.close()

        thread = threading.Thread(target=close_all)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def error_of(client: StationClient) -> Exception:
    with pytest.raises(StationLostError) as caught:
        client.abort("A1")
    client.close()
    return caught.value


# Words


@pytest.mark.sockets
def test_a_refused_connection_was_not_delivered(free_port: int) -> None:
    error = error_of(StationClient(f"http://127.0.0.1:{free_port}", "token"))
    assert never_sent(error)
    assert plain(error) == "no station answers there"


@pytest.mark.sockets
def test_without_a_note_nothing_was_delivered(notes: Path, free_port: int) -> None:
    error = error_of(StationClient(f"http://127.0.0.1:{free_port}"))
    assert never_sent(error)


@pytest.mark.sockets
def test_of_a_connection_that_broke_nobody_knows_what_was_delivered(silent: str) -> None:
    error = error_of(StationClient(silent, "token"))
    assert not never_sent(error)
    assert plain(error) == "the connection to the station broke off"


@pytest.mark.sockets
@pytest.mark.parametrize("there", [True, False])
def test_a_stream_that_does_not_open_is_told_without_jargon(
    there: bool, silent: str, free_port: int
) -> None:
    url = silent if there else f"http://127.0.0.1:{free_port}"
    with StationClient(url, "token") as client, pytest.raises(StationLostError) as caught:
        client.stream()
    assert not any(word in plain(caught.value) for word in JARGON)


def test_what_is_not_understood_is_another_version() -> None:
    with pytest.raises(ValueError, match="Snapshot") as caught:
        Snapshot.model_validate_json('{"type": "snapshot", "news": 1}')
    assert plain(caught.value) == FOREIGN
    refused = RefusedError("A1 has a run under way")
    assert plain(refused) == "A1 has a run under way"


@pytest.fixture
def window(qtbot: QtBot, answering: FakeLink) -> MainWindow:
    made = MainWindow(answering, DARK, drain_interval_ms=NEVER)
    qtbot.addWidget(made)
    made.resize(1280, 800)
    made.show()
    arrive(made, answering, snapshot(mixed(4)), Back())
    return made


def arrive(window: MainWindow, link: FakeLink, *messages: Any) -> None:
    link.put(*messages)
    window.drain()
    window.drain()


def test_a_stop_that_reached_nobody_says_so_and_what_to_do(
    window: MainWindow, answering: FakeLink
) -> None:
    gone = StationLostError("no answer")
    gone.__cause__ = ConnectionRefusedError(111, "Connection refused")
    answering.client.answers["abort"] = gone
    window.commands.stop("A1")
    window.drain()
    assert window.notices.texts["command-A1"] == (
        "Stop A1: not delivered: no station answers. Use the instrument's own output switch."
    )


def test_a_lost_station_is_told_with_the_command_that_starts_it_again(
    window: MainWindow, answering: FakeLink
) -> None:
    answering.bench = "/data/my bench.toml"
    arrive(window, answering, Lost("no station answers there", time.monotonic()))
    said = window.notices.texts["connection"]
    assert "operando station --bench '/data/my bench.toml' --simulate --speed 60" in said
    measured = [one.model_copy(update={"simulated": False}) for one in mixed(4)]
    arrive(window, answering, snapshot(measured, serial=2, simulated=False, speed=1.0), Back())
    arrive(window, answering, Lost("no station answers there", time.monotonic()))
    assert window.notices.texts["connection"].endswith("--bench '/data/my bench.toml'")


def test_a_lost_state_is_shown_as_last_seen_alone(window: MainWindow, answering: FakeLink) -> None:
    arrive(window, answering, Lost("it broke off", time.monotonic()))
    assert window.grid.cards["A1"].view is not None
    assert window.grid.cards["A1"].view.last_seen
    assert window.grid.summary_text().startswith("last seen: ")


def test_the_newest_reason_stands_in_the_strip(window: MainWindow, answering: FakeLink) -> None:
    arrive(window, answering, Lost("the connection to the station broke off", time.monotonic()))
    arrive(window, answering, Lost(FOREIGN, time.monotonic()))
    assert FOREIGN in window.notices.texts["connection"]


def test_a_station_that_follows_the_windows_own_is_not_its_own(
    window: MainWindow, answering: FakeLink
) -> None:
    window.owns_station = True
    arrive(window, answering, snapshot(mixed(4), serial=2), Back())
    assert window.owns_station
    arrive(window, answering, snapshot([channel("A1")], instance="second"), Back())
    assert not window.owns_station


# The link


def test_another_reason_is_told_and_the_same_is_not_told_again() -> None:
    class Gone(ScriptedClient):
        reasons = iter(["one", "one", "two", "two"])
        tried = threading.Semaphore(0)

        def stream(self) -> ScriptedClient:
            self.tried.release()
            raise StationLostError(next(self.reasons, "two"))

    client: Any = Gone()
    link = StationLink("http://127.0.0.1:1", client=client)
    link.start()
    seen: list[str] = []
    for _ in range(5):
        assert client.tried.acquire(timeout=5.0)
        seen += [message.why for message in link.drain() if isinstance(message, Lost)]
    link.close()
    assert seen == ["one", "two"]


@pytest.mark.sockets
def test_the_bench_of_a_lost_station_is_found_at_its_new_address(notes: Path, qtbot: QtBot) -> None:
    bench = str(notes / "bench.toml")
    first, second = StandIn(), StandIn()
    seen: list[Any] = []

    def came(kind: type) -> bool:
        seen.extend(link.drain())
        return any(isinstance(message, kind) for message in seen)

    link = StationLink(first.url)
    try:
        with announced(StationNote(first.url, "token", bench, 1)):
            link.start()
            qtbot.waitUntil(lambda: came(Back))
            assert link.bench == bench
        first.kill()
        qtbot.waitUntil(lambda: came(Lost))
        seen.clear()
        with (
            announced(StationNote("http://127.0.0.1:1", "other", str(notes / "other.toml"), 3)),
            announced(StationNote(second.url, "token", bench, 2)),
        ):
            qtbot.waitUntil(lambda: came(Back))
            assert link.url == second.url
            told: list[object] = []
            link.command(lambda client: client.url, told.append)
            qtbot.waitUntil(lambda: link.drain() is not None and told == [second.url])
    finally:
        link.close()
        first.kill()
        second.kill()


def test_a_done_of_a_command_is_no_notice(window: MainWindow, answering: FakeLink) -> None:
    answering.client.answers["abort"] = Done(ok=True, message="off")
    window.commands.stop("A1")
    window.drain()
    assert "command-A1" not in window.notices.texts
