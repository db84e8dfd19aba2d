"""Simulated instruments behind real sockets and pseudo-terminals."""

from __future__ import annotations

import asyncio
import os
import socket
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import serial

from operando.instruments.clock import Clock, run
from operando.instruments.errors import AddressInUseError, BadInputError
from operando.instruments.wires import Peer
from operando.simulators.devices.keithley_2450 import SimulatedKeithley2450
from operando.simulators.devices.ports import Site
from operando.simulators.devices.pt113 import SimulatedPT113
from operando.simulators.faults import FaultyPeer
from operando.simulators.wire import PtyServer, TcpServer, server_for
from simulators.bench_of_one import ResistorCell, Spring

pytestmark = pytest.mark.sockets

IDENTITY = b"KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.6.7c\n"


def source_meter(clock: Clock, **options: object) -> FaultyPeer:
    """A source meter on a cell."""
    device = SimulatedKeithley2450("smu1", site=Site(ResistorCell()), clock=clock, options=options)
    return FaultyPeer(device, clock, name="smu1")


@asynccontextmanager
async def served(peer: Peer, clock: Clock, port: int) -> AsyncIterator[TcpServer]:
    """An instrument at a port."""
    server = TcpServer(peer, clock, "127.0.0.1", port)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


class Session:
    """A host's session over TCP, in lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Session:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes, timeout: float = 5.0) -> bytes:
        """Send a request; the line that comes back, b"" when the link broke."""
        self.writer.write(request)
        async with asyncio.timeout(timeout):
            return await self.reader.readline()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def test_a_source_meter_answers_over_tcp_and_two_sessions_may_be_open(free_port: int) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with served(source_meter(clock), clock, free_port) as server:
            first, second = await Session.open(free_port), await Session.open(free_port)
            assert await first.ask(b"*IDN?\n") == IDENTITY
            assert await second.ask(b"*IDN?\n") == IDENTITY
            assert server.sessions == 2
            # A request in pieces, and two in one.
            first.writer.write(b"*ID")
            await first.writer.drain()
            assert await first.ask(b"N?\n") == IDENTITY
            assert await first.ask(b":SOUR:VOLT 1\n:SOUR:VOLT?\n") == b"1\n"
            await first.close()
            await second.close()

    run(scenario())


def test_a_scaled_clock_shortens_the_reading_time(free_port: int) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 60.0)
        loop = asyncio.get_running_loop()
        async with served(source_meter(clock, reading_time=30.0), clock, free_port):
            session = await Session.open(free_port)
            before, lab_before = loop.time(), clock.now()
            assert await session.ask(b":READ?\n") != b""
            assert clock.now() - lab_before >= 30.0
            assert loop.time() - before >= 0.5
            await session.close()

    run(scenario())


def test_only_this_computer_is_served() -> None:
    async def scenario() -> None:
        clock = Clock()
        with pytest.raises(BadInputError, match=r"0\.0\.0\.0"):
            await TcpServer(source_meter(clock), clock, "0.0.0.0", 5025).start()

    run(scenario())


def test_a_port_that_is_taken_is_named(free_port: int) -> None:
    async def scenario() -> None:
        clock = Clock()
        with (
            socket.create_server(("127.0.0.1", free_port)),
            pytest.raises(AddressInUseError, match=str(free_port)),
        ):
            await TcpServer(source_meter(clock), clock, "127.0.0.1", free_port).start()

    run(scenario())


@pytest.mark.parametrize(
    "address", ["TCPIP::127.0.0.1::INSTR", "GPIB0::18::INSTR", "serial:rfc2217://127.0.0.1:5031"]
)
def test_an_address_that_cannot_be_served_is_refused(address: str) -> None:
    async def scenario() -> None:
        clock = Clock()
        with pytest.raises(BadInputError, match="cannot be served"):
            server_for(address, source_meter(clock), clock)

    run(scenario())


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("silence once", None), ("mute once", None), ("truncated once", None), ("drop", b"")],
)
def test_faults_act_over_tcp(fault: str, expected: bytes | None, free_port: int) -> None:
    async def scenario() -> None:
        clock = Clock()
        peer = source_meter(clock)
        async with served(peer, clock, free_port):
            session = await Session.open(free_port)
            assert await session.ask(b"*IDN?\n") == IDENTITY
            peer.inject(fault)
            try:
                reply = await session.ask(b"*IDN?\n", timeout=0.3)
            except (TimeoutError, ConnectionError) as error:
                lost = isinstance(error, ConnectionError)
                reply = b"" if lost else None  # type: ignore[assignment]
            assert reply == expected
            await session.close()
            fresh = await Session.open(free_port)
            assert await fresh.ask(b"*IDN?\n") == IDENTITY
            await fresh.close()

    run(scenario())


def test_garbage_and_lateness_act_over_tcp(free_port: int) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 60.0)
        loop = asyncio.get_running_loop()
        peer = source_meter(clock)
        async with served(peer, clock, free_port):
            session = await Session.open(free_port)
            peer.inject("garbage once")
            assert await session.ask(b"*IDN?\n") != IDENTITY
            # Lateness plays on time-outs, which are wall time on any clock.
            peer.inject("late 200 ms once")
            before = loop.time()
            assert await session.ask(b"*IDN?\n") == IDENTITY
            assert loop.time() - before >= 0.2
            await session.close()

    run(scenario())


def test_a_reboot_breaks_the_link_until_it_has_booted(free_port: int) -> None:
    async def scenario() -> None:
        clock = Clock("scaled", 60.0)
        peer = source_meter(clock)
        async with served(peer, clock, free_port):
            session = await Session.open(free_port)
            assert await session.ask(b"*IDN?\n") == IDENTITY
            peer.inject("reboot 18 s")  # 0.3 s of wall time
            with pytest.raises((ConnectionError, AssertionError)):
                assert await session.ask(b"*IDN?\n") != b""
            await session.close()
            refused = await Session.open(free_port)
            with pytest.raises((ConnectionError, AssertionError)):
                assert await refused.ask(b"*IDN?\n") != b""
            await refused.close()
            await clock.sleep(20.0)
            session = await Session.open(free_port)
            assert await session.ask(b"*ESR?\n") == b"128\n"
            assert (await session.ask(b":SYST:ERR?\n")).startswith(b'-500,"Power on;')
            await session.close()

    run(scenario())


# -- pseudo-terminals


def load_cell(clock: Clock) -> FaultyPeer:
    """An indicator that answers at once."""
    device = SimulatedPT113(
        "lc1",
        site=Site(frame=Spring(123.4)),
        clock=clock,
        options={"noise": 0.0, "response_time": 0.0, "baud": 115200},
    )
    return FaultyPeer(device, clock, name="lc1")


def ask_serial(path: Path, request: bytes, timeout: float = 2.0) -> bytes:
    """Open a serial port as a host does, ask once, close it again."""
    with serial.Serial(str(path), 9600, timeout=timeout) as port:
        port.write(request)
        reply: bytes = port.read_until(b"\r\n")
        return reply


def test_a_load_cell_answers_at_the_path_of_a_serial_port(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        path = tmp_path / "ports" / "lc1"
        server = server_for(f"serial:{path}?baud=9600", load_cell(clock), clock)
        await server.start()
        for _ in range(3):  # it survives hosts that open and close it
            reply = await asyncio.to_thread(ask_serial, path, b"01I\r\n")
            assert reply == b"01IS+000123.4\r\n"
        await server.close()
        await server.close()
        assert not path.is_symlink()
        assert path.parent.is_dir()

    run(scenario())


def test_faults_act_over_a_pty(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        path = tmp_path / "lc1"
        peer = load_cell(clock)
        server = PtyServer(peer, clock, str(path))
        await server.start()
        peer.inject("silence once")
        assert await asyncio.to_thread(ask_serial, path, b"01I\r\n", 0.3) == b""
        peer.inject("truncated once")
        assert await asyncio.to_thread(ask_serial, path, b"01I\r\n", 0.3) == b"01IS+00"
        peer.inject("garbage once")
        garbage = await asyncio.to_thread(ask_serial, path, b"01I\r\n", 0.3)
        assert len(garbage) == 15
        assert garbage != b"01IS+000123.4\r\n"
        peer.inject("late 300 ms once")
        assert await asyncio.to_thread(ask_serial, path, b"01I\r\n") == b"01IS+000123.4\r\n"
        peer.inject("reboot 200 ms")
        assert path.is_symlink(), "the adapter is not the instrument: it stays"
        assert await asyncio.to_thread(ask_serial, path, b"01I\r\n", 0.1) == b""
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(ask_serial, path, b"01I\r\n") == b"01IS+000123.4\r\n"
        await server.close()

    run(scenario())


def test_a_dropped_pty_disappears_and_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        path = tmp_path / "lc1"
        peer = load_cell(clock)
        server = PtyServer(peer, clock, str(path))
        await server.start()
        host = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(host)
        peer.inject("drop 300 ms")
        assert not path.is_symlink()
        with pytest.raises(OSError, match="Input/output"):
            os.write(host, b"01I\r\n")
        os.close(host)
        async with asyncio.timeout(5.0):
            while not path.exists():  # noqa: ASYNC110 - it is the file that is waited for
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(ask_serial, path, b"01I\r\n") == b"01IS+000123.4\r\n"
        await server.close()
        assert not path.is_symlink()

    run(scenario())


def test_what_is_at_the_path_is_not_touched_unless_it_is_a_dead_link(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = Clock()
        path = tmp_path / "lc1"
        path.write_text("mine")
        with pytest.raises(AddressInUseError, match="exists already"):
            await PtyServer(load_cell(clock), clock, str(path)).start()
        assert path.read_text() == "mine"
        path.unlink()
        path.symlink_to(tmp_path / "gone")
        server = PtyServer(load_cell(clock), clock, str(path))
        await server.start()
        assert await asyncio.to_thread(ask_serial, path, b"01I\r\n") == b"01IS+000123.4\r\n"
        await server.close()
        with pytest.raises(BadInputError, match="real one"):
            await PtyServer(load_cell(clock), clock, "/dev/ttyUSB0").start()

    run(scenario())
