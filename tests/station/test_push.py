"""The push: every committed row to whoever follows, and nobody held up by whoever does not read."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lab import wait_until
from operando.station import push
from operando.station.client import Rows, Snapshot, StationLostError, Stream
from operando.station.push import FEW, Ring
from operando.station.views import MOST_NEW, START, Fresh, Views
from station.served_stub import (
    TOKEN,
    Author,
    Served,
    StubDesk,
    author,
    status,
    warm_views,
)

pytestmark = pytest.mark.sockets


BULK = 400_000
"""Bytes of a snapshot that is to fill the system's buffers soon."""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def views(output: Path) -> Iterator[Views]:
    with warm_views(output) as views:
        yield views


@pytest.fixture
def writing(output: Path, request: pytest.FixtureRequest) -> Iterator[Author]:
    """The record of the run on channel A1."""
    with author(output, f"{request.node.name}-a1") as writing:
        writing.sample(0.0)
        writing.commit()
        yield writing


@pytest.fixture
def station(views: Views, writing: Author) -> Iterator[Served]:
    channels = (status("A1", state="running", run=writing.run, elapsed=5.0), status("A2"))
    with Served(StubDesk(Path("unused"), channels), views) as served:
        yield served


@pytest.fixture
def stream(station: Served) -> Iterator[Stream]:
    with station.client() as client, client.stream() as stream:
        yield stream


def receive(stream: Stream, wanted: Callable[[Snapshot | Rows], bool], timeout: float = 20.0):  # type: ignore[no-untyped-def]
    """The first message that is wanted."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        message = stream.receive(1.0)
        if message is not None and wanted(message):
            return message
    raise AssertionError(f"nothing of that kind within {timeout:g} s")


def snapshot(stream: Stream) -> Snapshot:
    found: Snapshot = receive(stream, lambda message: isinstance(message, Snapshot))
    return found


def rows(stream: Stream) -> Rows:
    found: Rows = receive(stream, lambda message: isinstance(message, Rows))
    return found


def follow(station: Served, stream: Stream, *runs: str) -> None:
    """Follow, and return when that has come into force."""
    stream.follow(runs)
    wait_until(
        lambda: any(
            set(client.followed) == set(runs) and set(runs) <= set(station.board._rings)
            for client in tuple(station.board._clients)
        )
    )


def test_a_new_client_gets_a_snapshot_at_once_and_then_one_a_second(stream: Stream) -> None:
    first = snapshot(stream)
    begun = time.monotonic()
    second, third = snapshot(stream), snapshot(stream)
    assert time.monotonic() - begun > 0.8
    assert first.serial < second.serial < third.serial
    assert [channel.name for channel in third.channels] == ["A1", "A2"]


def test_a_change_is_pushed_before_the_next_heartbeat(station: Served, stream: Stream) -> None:
    for n in range(3):
        snapshot(stream)
        station.desk.channels = (status("A1", step=f"step {n}"),)
        begun = time.monotonic()
        receive(
            stream,
            lambda m, n=n: isinstance(m, Snapshot) and m.channels[0].step == f"step {n}",  # type: ignore[misc]
        )
        assert time.monotonic() - begun < 0.8


def test_time_that_goes_by_is_no_change(station: Served, stream: Stream) -> None:
    receive(stream, lambda m: isinstance(m, Snapshot) and m.channels[0].rows == 1)
    first = snapshot(stream)
    begun = time.monotonic()
    channel, other = station.desk.channels
    channel = channel.model_copy(update={"elapsed": 6.0, "progress": 0.5})
    station.desk.channels = (channel, other)
    second = snapshot(stream)
    assert time.monotonic() - begun > 0.7  # the next heartbeat and not before
    assert (first.channels[0].elapsed, second.channels[0].elapsed) == (5.0, 6.0)
    assert second.channels[0].age == 6.0


def test_committed_rows_come_to_who_follows_them(
    station: Served, stream: Stream, writing: Author
) -> None:
    follow(station, stream, writing.run)
    writing.sample(1.0, 3.71)
    writing.sample(2.0, float("nan"))
    writing.pressure(1.5, 5e6)
    writing.commit()
    message = rows(stream)
    assert message.run == writing.run
    assert not message.skipped
    assert message.quantities["voltage"] == ((1.0, 2.0), (3.71, None))
    assert message.quantities["pressure"] == ((1.5,), (5e6,))


def test_rows_do_not_come_to_who_does_not_follow_them(
    station: Served, stream: Stream, writing: Author, output: Path
) -> None:
    stream.follow(["no such run", "../up"])
    snapshot(stream)
    writing.sample(1.0)
    writing.commit()
    found = receive(stream, lambda m: not isinstance(m, Snapshot) or m.channels[0].rows == 2)
    assert isinstance(found, Snapshot)
    follow(station, stream, writing.run)
    follow(station, stream)
    writing.sample(2.0)
    writing.commit()
    found = receive(stream, lambda m: not isinstance(m, Snapshot) or m.channels[0].rows == 3)
    assert isinstance(found, Snapshot)


def test_a_run_of_no_channel_can_be_followed(station: Served, stream: Stream, output: Path) -> None:
    with author(output, "another") as another:
        follow(station, stream, "another")
        another.sample(1.0)
        another.commit()
        assert rows(stream).quantities["voltage"] == ((1.0,), (3.7,))


def test_more_rows_than_can_be_shown_are_skipped_and_it_is_said(
    station: Served, stream: Stream, writing: Author
) -> None:
    follow(station, stream, writing.run)
    for n in range(MOST_NEW + 1):
        writing.sample(1.0 + n)
    writing.commit()
    # What was committed on the way may come first.
    message = receive(stream, lambda m: isinstance(m, Rows) and m.skipped)
    times, values = message.quantities["voltage"]
    assert len(times) == len(values) == FEW
    assert times[-1] == MOST_NEW + 1.0


def mute_client(station: Served, *runs: str) -> socket.socket:
    """A WebSocket client that follows, and then never reads again."""
    connection = socket.create_connection(("127.0.0.1", station.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(
        f"GET /api/stream HTTP/1.1\r\nHost: {station.host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    text = json.dumps({"follow": list(runs)}).encode()
    head = (
        bytes([0x81, 0xFE]) + len(text).to_bytes(2, "big")
        if len(text) > 125
        else bytes([0x81, 0x80 | len(text)])
    )
    connection.sendall(head + bytes(4) + text)  # masked with zeros
    return connection


def buffered(station: Served) -> int:
    """Bytes that the station holds back for its clients."""
    connections = tuple(station._server.server_state.connections)
    return max(connection.transport.get_write_buffer_size() for connection in connections)


def test_a_client_that_does_not_read_costs_nobody_anything(
    station: Served, stream: Stream, writing: Author
) -> None:
    # Large snapshots, so that the socket's own buffers are full soon.
    station.desk.channels = (station.desk.channels[0], status("A2", reason="x" * BULK))
    mute = mute_client(station, writing.run)
    try:
        follow(station, stream, writing.run)
        got: list[float] = []
        longest = most = 0.0
        for batch in range(30):
            station.desk.channels = (
                station.desk.channels[0],
                status("A2", reason="x" * BULK, step=str(batch)),
            )
            for n in range(150):
                writing.sample(1.0 + 150.0 * batch + n)
            writing.commit()
            begun = time.monotonic()
            while len(got) < 150 * (batch + 1):
                message = rows(stream)
                assert not message.skipped
                got += message.quantities["voltage"][0]
            longest = max(longest, time.monotonic() - begun)
            most = max(most, buffered(station))
        assert got == [1.0 + n for n in range(4500)]
        assert longest < 2.0
        assert 64 * 1024 < most < 64 * 1024 + 2 * BULK  # the mute one is stuck, and no further
    finally:
        mute.close()


def test_a_client_that_never_reads_is_cut_off(
    station: Served, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "STUCK", 0.3)
    mute = mute_client(station)
    try:
        step = 0

        def is_cut_off() -> bool:
            nonlocal step
            step += 1
            station.desk.channels = (status("A1", reason="x" * 1_000_000, step=str(step)),)
            snapshot(stream)
            return step > 5 and len(station._server.server_state.connections) == 1

        wait_until(is_cut_off, 20.0)
    finally:
        mute.close()


def test_the_station_can_end_beside_a_client_that_does_not_read(
    views: Views, writing: Author
) -> None:
    begun = time.monotonic()
    with Served(StubDesk(Path("unused")), views) as station:
        station.desk.channels = (status("A1", reason="x" * 5_000_000),)
        mute = mute_client(station)
        wait_until(
            lambda: station._server.server_state.connections and buffered(station) > 1_000_000
        )
    mute.close()
    assert time.monotonic() - begun < 8.0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("hello", "no JSON"),
        ("[" * 60_000, "no JSON"),
        ('"follow"', "expected"),
        ('{"follow": "run1"}', "expected"),
        ('{"follow": [1]}', "expected"),
        ('{"follow": ["run1"], "unfollow": []}', "expected"),
        ('{"start": "A1"}', "expected"),
        (json.dumps({"follow": [f"run{n}" for n in range(65)]}), "at most 64"),
        (b"\x00\x01", "expected"),
    ],
)
def test_garbage_ends_the_stream_with_a_reason(
    station: Served, message: str | bytes, reason: str
) -> None:
    with websocket(station) as connection:
        connection.send(message)
        assert ended(connection)[0] == 1008
        assert reason in ended(connection)[1]


def test_a_message_that_is_too_long_ends_the_stream(station: Served) -> None:
    with websocket(station) as connection:
        connection.send(json.dumps({"follow": ["x" * 100_000]}))
        assert ended(connection)[0] == 1009


def test_there_is_room_for_a_number_of_clients(
    station: Served, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(stream)
    monkeypatch.setattr(push, "MOST_CLIENTS", 1)
    with websocket(station) as connection:
        assert ended(connection)[0] == 1013


def ended(connection: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the station ends a connection."""
    while True:
        try:
            connection.recv(10.0)
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


def websocket(station: Served) -> ClientConnection:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"ws://{station.host}/api/stream"
    return connect(url, additional_headers=headers, proxy=None, max_size=None)


def test_a_stream_says_that_the_station_is_lost_and_works_again_when_it_is_back(
    views: Views, writing: Author
) -> None:
    with Served(StubDesk(Path("unused")), views) as station:
        port, client = station.port, station.client()
        stream = client.stream()
        assert snapshot(stream).instance == "i1"
    with client:
        with stream, pytest.raises(StationLostError, match="broke"):
            receive(stream, lambda _: False)
        with pytest.raises(StationLostError):
            client.stream()
        with (
            Served(StubDesk(Path("unused"), instance="i2"), views, port),
            client.stream() as again,
        ):
            assert snapshot(again).instance == "i2"


def test_heartbeats_go_on_without_the_readers_and_say_how_old_the_readings_are(
    output: Path, writing: Author
) -> None:
    with Views(output) as views:
        channel = status("A1", state="running", run=writing.run, elapsed=5.0)
        desk = StubDesk(Path("unused"), (channel,))
        with Served(desk, views) as station, station.client() as client, client.stream() as stream:
            receive(stream, lambda m: isinstance(m, Snapshot) and m.channels[0].rows == 1)
            pid = views.live.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            desk.channels = (channel.model_copy(update={"elapsed": 65.0}),)
            beats = [
                receive(stream, lambda m: isinstance(m, Snapshot) and m.channels[0].elapsed == 65.0)
                for _ in range(3)
            ]
            assert [beat.channels[0].age for beat in beats] == [65.0] * 3
            assert all(beat.channels[0].latest["voltage"].value == 3.7 for beat in beats)
            follow(station, stream, writing.run)
            writing.sample(60.0)
            writing.commit()
            os.kill(pid, signal.SIGKILL)
            assert rows(stream).quantities["voltage"][0] == (60.0,)


def test_what_keeps_readings_from_being_shown_is_said(
    station: Served, stream: Stream, output: Path
) -> None:
    with author(output, "damaged") as damaged:
        damaged.commit()
    (output / "damaged" / "record.sqlite").write_bytes(b"this is no database at all" * 99)
    station.desk.channels = (status("A1", state="running", run="damaged", elapsed=1.0),)
    found = receive(stream, lambda m: isinstance(m, Snapshot) and bool(m.alarm))
    assert "A1: readings cannot be shown" in found.alarm


def test_a_station_that_cannot_be_seen_for_a_moment_is_seen_again(
    station: Served, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(stream)

    def broken() -> str:
        monkeypatch.undo()
        raise ValueError("a bug")

    monkeypatch.setattr(station.desk, "alarm", broken)
    seen = snapshot(stream).serial
    assert snapshot(stream).serial > seen
    assert station.desk.alarm() == ""


def test_nothing_is_read_while_nobody_watches(station: Served, views: Views) -> None:
    asked = threading.Event()
    fresh = views.fresh

    async def counted(cursors: object) -> object:
        asked.set()
        return await fresh(cursors)  # type: ignore[arg-type]

    views.fresh = counted  # type: ignore[assignment, method-assign]
    try:
        assert not asked.wait(0.5)
        with station.client() as client, client.stream() as stream:
            snapshot(stream)
            assert asked.is_set()
    finally:
        del views.fresh


# The ring of newest rows


def batch(*times: float, skipped: bool = False) -> Fresh:
    return Fresh(START, {"voltage": (times, (3.7,) * len(times))}, {}, skipped)


def times_of(found: Rows | None) -> tuple[float, ...]:
    assert found is not None
    return found.quantities["voltage"][0]


def test_what_was_there_before_anybody_looked_is_not_new() -> None:
    ring = Ring()
    ring.take(batch(1.0, 2.0))
    assert ring.since("r", 0) is None
    ring.take(batch(3.0))
    assert times_of(ring.since("r", 0)) == (3.0,)
    assert ring.since("r", ring.next) is None


def test_each_client_takes_rows_at_its_own_pace() -> None:
    ring = Ring()
    ring.take(batch())
    for n in range(5):
        ring.take(batch(float(n)))
    assert times_of(ring.since("r", 3)) == (3.0, 4.0)
    assert times_of(ring.since("r", 0)) == (0.0, 1.0, 2.0, 3.0, 4.0)


def test_a_ring_holds_no_more_than_it_may_and_says_what_is_gone() -> None:
    ring = Ring()
    ring.take(batch())
    for n in range(300):
        ring.take(batch(*(10.0 * n + m for m in range(10))))
    assert ring._count <= MOST_NEW
    assert sum(each.count for each in ring._batches) == ring._count
    behind, up_to_date = ring.since("r", 0), ring.since("r", 200)
    assert behind is not None
    assert behind.skipped
    assert times_of(behind) == tuple(float(n) for n in range(3000 - FEW, 3000))
    assert up_to_date is not None
    assert not up_to_date.skipped
    assert len(times_of(up_to_date)) == 1000


def test_a_client_whose_place_is_lost_is_told_to_ask_again() -> None:
    ring = Ring()
    ring.take(batch())
    ring.take(batch(1.0))
    found = ring.since("r", 57)  # of a ring before this one
    assert found is not None
    assert found.skipped


def test_a_gap_is_told_even_when_no_rows_came_with_it() -> None:
    ring = Ring()
    ring.take(batch())
    ring.take(Fresh(START, {}, {}, True))
    found = ring.since("r", 0)
    assert found is not None
    assert (found.quantities, found.skipped) == ({}, True)
