"""A crowd of connections without a token keeps nobody from STOP, and fills no disk."""

from __future__ import annotations

import http.client
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab import simulated, wait_until, write_bench
from operando.station.client import RunRequest, StationClient, StationProcess
from operando.station.connections import MOST, PATIENCE
from operando.station.views import Views
from station.served_stub import TOKEN, Served, StubDesk, warm_views

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes"),
]

LOW = 256
"""Files that the station may open."""

SOON = 5.0
"""Wall s for a STOP, with the read-back of the output, on a busy machine."""

REQUEST = RunRequest(
    protocol="cccv",
    parameters={"charge_rate": "C/2", "discharge_rate": "C/2"},
    poll={"interval": "2 s"},
)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    with warm_views(tmp_path_factory.mktemp("station")) as views:
        yield views


@pytest.fixture
def station(views: Views, tmp_path: Path) -> Iterator[Served]:
    with Served(StubDesk(tmp_path), views) as served:
        yield served


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def connect(stack: ExitStack, port: int) -> socket.socket:
    """A connection that says nothing."""
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30.0))


def begin(client: StationClient) -> None:
    """Start a run and wait until it has measured a current."""

    def current() -> float:
        reading = client.snapshot().channels[0].latest.get("current")
        return 0.0 if reading is None else abs(reading.value or 0.0)

    client.start("A1", REQUEST)
    wait_until(current)


def answer(connection: socket.socket, head: str) -> str:
    """Status line for the head of a request; "" when the station closed the connection."""
    try:
        connection.sendall(head.encode())
        received = http.client.HTTPResponse(connection)
        received.begin()
        received.read()
    except (ConnectionError, http.client.BadStatusLine):
        return ""
    return f"{received.status} {received.reason}"


def is_cut(connection: socket.socket, timeout: float) -> bool:
    """Whether the station ends a connection within `timeout` wall s."""
    connection.settimeout(timeout)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def test_stop_gets_through_a_crowd_that_holds_every_file(
    tmp_path: Path, stack: ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = write_bench(tmp_path, speed=20.0)
    with simulated(bench) as lab, StationProcess(bench, output=tmp_path / "runs") as station:
        resource.prlimit(station.pid, resource.RLIMIT_NOFILE, (LOW, LOW))
        client = stack.enter_context(StationClient(station.url))
        begin(client)
        assert lab.relays() == {"smu1": True}
        for _ in range(700):
            connect(stack, port_of(station.url))
        late = stack.enter_context(StationClient(station.url))
        since = time.monotonic()
        assert late.abort("A1").ok
        assert time.monotonic() - since < SOON
        assert lab.relays() == {"smu1": False}
        begin(late)
        assert lab.relays() == {"smu1": True}
        for _ in range(300):
            connect(stack, port_of(station.url))
        since = time.monotonic()
        assert client.stop_all().ok
        assert time.monotonic() - since < SOON
        assert lab.relays() == {"smu1": False}
    assert len(capfd.readouterr().err) < 2000


def test_stop_gets_through_while_a_crowd_keeps_coming(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = write_bench(tmp_path, speed=20.0)
    enough = threading.Event()
    count = 0

    def come(port: int) -> None:
        nonlocal count
        while not enough.is_set():
            with ExitStack() as some:
                for _ in range(200):
                    if not enough.is_set():
                        connect(some, port)
                        count += 1

    with simulated(bench) as lab, StationProcess(bench, output=tmp_path / "runs") as station:
        resource.prlimit(station.pid, resource.RLIMIT_NOFILE, (LOW, LOW))
        coming = threading.Thread(target=come, args=[port_of(station.url)])
        coming.start()
        try:
            wait_until(lambda: count > 2 * MOST)
            for _ in range(3):
                with StationClient(station.url) as client:
                    begin(client)
                    assert lab.relays() == {"smu1": True}
                    since = time.monotonic()
                    assert client.stop_all().ok
                    assert time.monotonic() - since < 2 * SOON
                assert lab.relays() == {"smu1": False}
        finally:
            enough.set()
            coming.join()
    assert len(capfd.readouterr().err) < 2000


def test_a_station_without_files_says_so_once_and_answers_when_it_has_some(
    tmp_path: Path, stack: ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = write_bench(tmp_path)
    with simulated(bench), StationProcess(bench, output=tmp_path / "runs") as station:
        _, hard = resource.prlimit(station.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(station.pid, resource.RLIMIT_NOFILE, (10, hard))
        waiting = connect(stack, port_of(station.url))
        assert not is_cut(waiting, 3.5)  # asyncio tries again once a second
        resource.prlimit(station.pid, resource.RLIMIT_NOFILE, (LOW, hard))
        with StationClient(station.url) as client:
            assert client.snapshot().channels
    said = capfd.readouterr().err
    assert said.count("Too many open files") == 1
    assert len(said) < 1000


def test_a_station_may_open_as_many_files_as_its_system_allows(tmp_path: Path) -> None:
    bench = write_bench(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard > LOW
    resource.setrlimit(resource.RLIMIT_NOFILE, (LOW, hard))
    try:
        with simulated(bench), StationProcess(bench, output=tmp_path / "runs") as station:
            assert resource.prlimit(station.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_does_not_show_the_token_is_cut_off(station: Served, stack: ExitStack) -> None:
    head = f"GET /api/station HTTP/1.1\r\nHost: {station.host}\r\n"
    silent, half, wrong = (connect(stack, station.port) for _ in range(3))
    half.sendall(head.encode())
    assert answer(wrong, head + "Authorization: Bearer x\r\n\r\n").startswith("401")
    wrong.sendall(b"GET")  # or its time as an idle connection would end it
    since = time.monotonic()
    assert all(is_cut(connection, PATIENCE + 10.0) for connection in (silent, half, wrong))
    assert time.monotonic() - since > PATIENCE - 1.0


def test_the_oldest_stranger_goes_and_who_showed_the_token_stays(
    station: Served, stack: ExitStack
) -> None:
    head = f"GET /api/station HTTP/1.1\r\nHost: {station.host}\r\n"
    bearer = f"Authorization: Bearer {TOKEN}\r\n\r\n"
    known = connect(stack, station.port)
    assert answer(known, head + bearer).startswith("200")
    with station.client() as client, client.stream() as stream:
        assert stream.receive(10.0) is not None
        since = time.monotonic()
        strangers = [connect(stack, station.port) for _ in range(MOST + 20)]
        assert all(is_cut(stranger, 3.0) for stranger in strangers[:20])
        assert time.monotonic() - since < PATIENCE, "they went because others came"
        assert answer(strangers[-1], head + bearer).startswith("200")
        assert answer(known, head + bearer).startswith("200")
        assert stream.receive(10.0) is not None
        assert client.stop_all().ok


def test_idle_clients_give_way_when_all_have_the_token(station: Served, stack: ExitStack) -> None:
    head = f"GET /openapi.json HTTP/1.1\r\nHost: {station.host}\r\n"
    bearer = f"Authorization: Bearer {TOKEN}\r\n\r\n"
    first = connect(stack, station.port)
    assert answer(first, head + bearer).startswith("200")
    for _ in range(MOST):
        assert answer(connect(stack, station.port), head + bearer).startswith("200")
    assert is_cut(first, 3.0)


def test_garbage_fills_no_disk(
    tmp_path: Path, stack: ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = write_bench(tmp_path)
    with simulated(bench), StationProcess(bench, output=tmp_path / "runs") as station:
        port = port_of(station.url)
        upgrade = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: "
        stream = upgrade + "websocket\r\n"
        for _ in range(50):
            for head in ("\0", upgrade + "tea\r\n", stream, stream + "Sec-WebSocket-Key: \xff\r\n"):
                assert answer(connect(stack, port), head + "\r\n")[:3] in {"400", "401", "426"}
    assert capfd.readouterr().err == ""
