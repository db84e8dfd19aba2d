"""Transports over real sockets and pseudo-terminals, with servers that misbehave."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.line_server import Answer, Server, echo, with_wire
from operando.drivers.transports import ThreadedWire, make_wire, threaded
from operando.drivers.transports.threaded import GUARD, OPEN_TIMEOUT
from operando.instruments.clock import Clock, run
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    LinkLostError,
    ReplyTimeoutError,
)
from operando.instruments.wires import Framing, Sized, Switchboard, Terminated, Wire

pytestmark = pytest.mark.sockets

LINE = Terminated(b"\n")


def answer_questions(server: Server, line: bytes, send: Callable[[bytes], None]) -> None:
    """Send back what ends with a question mark."""
    if line.endswith(b"?\n"):
        send(line)


def silent_on_hush(server: Server, line: bytes, send: Callable[[bytes], None]) -> None:
    """Echo, but answer a line that begins with `hush` when the test says so."""
    if line.startswith(b"hush"):
        server.release.wait(30.0)
    send(line)
    server.answered.set()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Answer = echo, *, reads: bool = True) -> Server:
        servers.append(Server(answer, reads=reads))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[str]:
    """Address of a pseudo-terminal that echoes."""
    master, slave = os.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    stop_reader, stop_writer = os.pipe()

    def serve_echo() -> None:
        import select

        while True:
            ready = select.select([master, stop_reader], [], [])[0]
            if stop_reader in ready:
                return
            os.write(master, os.read(master, 4096))

    thread = threading.Thread(target=serve_echo)
    thread.start()
    yield f"serial:{os.ttyname(slave)}?baud=9600"
    os.write(stop_writer, b"x")
    thread.join(5.0)
    for handle in (master, slave, stop_reader, stop_writer):
        os.close(handle)


# ---------------------------------------------------------------- plain exchanges


@pytest.mark.parametrize("kind", ["visa", "serial"])
def test_a_request_comes_back_without_its_terminator(
    serve: Callable[..., Server], kind: str
) -> None:
    server = serve(answer_questions)

    async def use(wire: Wire) -> None:
        assert wire.address == getattr(server, kind)
        assert await wire.exchange(b"*IDN?\n", LINE, 2.0) == b"*IDN?"
        await wire.send(b":OUTP OFF\n", 2.0)
        assert await wire.exchange(b":OUTP?\n", LINE, 2.0) == b":OUTP?"

    run(with_wire(getattr(server, kind), use))
    assert server.lines == [b"*IDN?\n", b":OUTP OFF\n", b":OUTP?\n"]


def test_a_reply_longer_than_one_read_is_put_together(serve: Callable[..., Server]) -> None:
    long = b"x" * 10_000

    async def use(wire: Wire) -> None:
        assert await wire.exchange(long + b"\n", LINE, 5.0) == long
        assert await wire.exchange(b"short\n", LINE, 2.0) == b"short"

    run(with_wire(serve().visa, use))


def test_a_terminator_of_two_characters_is_found(serve: Callable[..., Server]) -> None:
    async def use(wire: Wire) -> None:
        assert await wire.exchange(b"01B\r\n", Terminated(b"\r\n"), 2.0) == b"01B"

    run(with_wire(serve().visa, use))


def test_a_serial_line_carries_lines_and_frames_of_a_known_size(terminal: str) -> None:
    def length(data: bytes) -> int:
        return data[0]

    async def use(wire: Wire) -> None:
        assert await wire.exchange(b"01B\r\n", Terminated(b"\r\n"), 2.0) == b"01B"
        frame = bytes((4, 10, 13, 255))
        assert await wire.exchange(frame, Sized(1, length), 2.0) == frame

    run(with_wire(terminal, use))


def test_a_visa_session_refuses_frames_without_a_terminator(serve: Callable[..., Server]) -> None:
    async def use(wire: Wire) -> None:
        with pytest.raises(LinkLostError, match="terminator"):
            await wire.exchange(b"\x01\x03", Sized(2, len), 1.0)

    run(with_wire(serve().visa, use))


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("kind", ["visa", "serial"])
def test_nobody_at_the_address_is_a_lost_link(free_port: int, kind: str) -> None:
    address = {
        "visa": f"TCPIP::127.0.0.1::{free_port}::SOCKET",
        "serial": f"serial:socket://127.0.0.1:{free_port}",
    }[kind]

    async def scenario() -> None:
        with pytest.raises(LinkLostError, match="cannot be opened"):
            await make_wire(address, Clock()).open()

    run(scenario())


def test_a_port_that_does_not_exist_is_a_lost_link(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(LinkLostError, match="cannot be opened"):
            await make_wire(f"serial:{tmp_path}/none", Clock()).open()

    run(scenario())


@pytest.mark.parametrize("kind", ["visa", "serial"])
def test_silence_ends_in_time_and_a_late_reply_is_not_taken_for_the_next(
    serve: Callable[..., Server], kind: str
) -> None:
    server = serve(silent_on_hush)

    async def use(wire: Wire) -> None:
        start = time.monotonic()
        with pytest.raises(ReplyTimeoutError):
            await wire.exchange(b"hush\n", LINE, 0.2)
        assert time.monotonic() - start < 0.2 + GUARD + 1.0
        server.release.set()
        if kind == "serial":  # a line has no way to tell a late reply that comes even later
            await until(server.answered.is_set)
        for number in range(20):
            text = b"%d" % number
            assert await wire.exchange(text + b"\n", LINE, 2.0) == text

    run(with_wire(getattr(server, kind), use))


def test_half_a_reply_is_a_time_out_and_is_forgotten(serve: Callable[..., Server]) -> None:
    def half(server: Server, line: bytes, send: Callable[[bytes], None]) -> None:
        send(b"+1.23" if line == b"half\n" else line)

    async def use(wire: Wire) -> None:
        with pytest.raises(ReplyTimeoutError):
            await wire.exchange(b"half\n", LINE, 0.1)
        assert await wire.exchange(b"whole\n", LINE, 2.0) == b"whole"

    run(with_wire(serve(half).visa, use))


@pytest.mark.parametrize("kind", ["visa", "serial"])
def test_a_broken_connection_is_a_lost_link_and_can_be_opened_again(
    serve: Callable[..., Server], kind: str
) -> None:
    server = serve()

    async def use(wire: Wire) -> None:
        assert await wire.exchange(b"one\n", LINE, 2.0) == b"one"
        server.drop()
        with pytest.raises(LinkLostError):
            await wire.exchange(b"two\n", LINE, 0.5)
        await wire.reopen()
        assert await wire.exchange(b"three\n", LINE, 2.0) == b"three"

    run(with_wire(getattr(server, kind), use))


def test_endless_noise_is_bounded_and_the_session_can_be_replaced(
    serve: Callable[..., Server],
) -> None:
    def babble(server: Server, line: bytes, send: Callable[[bytes], None]) -> None:
        while line == b"babble\n" and not server.release.is_set():
            send(b"noise " * 20)
            server.release.wait(0.002)
        send(line)

    server = serve(babble)

    async def use(wire: Wire) -> None:
        start = time.monotonic()
        with pytest.raises(CommunicationError):
            await wire.exchange(b"babble\n", LINE, 0.2)
        assert time.monotonic() - start < 0.2 + GUARD + 1.0
        await wire.reopen()
        server.release.set()
        assert await wire.exchange(b"fine\n", LINE, 2.0) == b"fine"

    run(with_wire(server.visa, use))


def test_a_server_that_takes_no_bytes_does_not_hold_the_caller(
    serve: Callable[..., Server],
) -> None:
    server = serve(reads=False)

    async def use(wire: Wire) -> None:
        start = time.monotonic()
        for use_it in (wire.exchange(b"x" * 20_000_000 + b"\n", LINE, 0.2),
                       wire.send(b"x" * 20_000_000 + b"\n", 0.2)):  # fmt: skip
            with pytest.raises(ReplyTimeoutError):
                await use_it
        assert time.monotonic() - start < 0.4 + GUARD + 1.0
        server.reads = True  # the next connection
        assert await wire.exchange(b"fine\n", LINE, 2.0) == b"fine"

    run(with_wire(server.visa, use))
    assert server.connections == 3


# ---------------------------------------------------------------- the thread


class Stubborn:
    """A session whose every call waits for the test; it remembers what was called."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.may_return = threading.Event()
        self.entered = threading.Event()
        self.closed = threading.Event()
        self.resynchronised = 0

    def exchange(self, request: bytes, framing: Framing, timeout: float) -> bytes:
        self.calls.append(request)
        self.entered.set()
        assert self.may_return.wait(30.0)
        return request

    def send(self, request: bytes, timeout: float) -> None:
        self.exchange(request, LINE, timeout)

    def resynchronise(self) -> None:
        self.resynchronised += 1

    def abort(self) -> None:
        """Nothing can wake it."""

    def close(self) -> None:
        self.closed.set()


async def until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110  (threads set it)
        await asyncio.sleep(1e-3)


def test_an_urgent_request_comes_before_all_that_wait() -> None:
    session = Stubborn()

    async def scenario() -> None:
        wire = ThreadedWire("stubborn", lambda: session)
        await wire.open()
        first = asyncio.ensure_future(wire.exchange(b"reading", LINE, 5.0))
        await until(session.entered.is_set)
        others = [asyncio.ensure_future(wire.send(b"%d" % n, 5.0)) for n in range(3)]
        await asyncio.sleep(0)
        off = asyncio.ensure_future(wire.send(b"off", 5.0, urgent=True))
        await asyncio.sleep(0)
        session.may_return.set()
        await asyncio.gather(first, off, *others)
        await wire.close()

    run(scenario())
    assert session.calls == [b"reading", b"off", b"0", b"1", b"2"]


def test_a_stuck_thread_is_given_up_in_time_and_a_fresh_session_takes_over() -> None:
    sessions: list[Stubborn] = []

    def opener() -> Stubborn:
        session = Stubborn()
        if sessions:
            session.may_return.set()
        sessions.append(session)
        return session

    async def scenario() -> None:
        wire = ThreadedWire("stubborn", opener)
        await wire.open()
        start = time.monotonic()
        reading = asyncio.ensure_future(wire.exchange(b"reading", LINE, 0.1))
        waiting = asyncio.ensure_future(wire.exchange(b"waiting", LINE, 0.1))
        with pytest.raises(ReplyTimeoutError, match="given up"):
            await reading
        with pytest.raises(LinkLostError, match="stuck"):
            await waiting
        assert time.monotonic() - start < 0.1 + GUARD + 1.0
        await wire.reopen()
        assert await wire.exchange(b"off", LINE, 1.0, urgent=True) == b"off"
        await wire.close()
        # When the old thread wakes, its result is dropped and it closes its session itself.
        sessions[0].may_return.set()
        await until(sessions[0].closed.is_set)

    run(scenario())
    assert sessions[0].calls == [b"reading"]
    assert sessions[1].calls == [b"off"]
    assert sessions[1].closed.is_set()


def test_a_cancelled_request_that_waits_is_never_sent() -> None:
    session = Stubborn()

    async def scenario() -> None:
        wire = ThreadedWire("stubborn", lambda: session)
        await wire.open()
        first = asyncio.ensure_future(wire.exchange(b"first", LINE, 5.0))
        await until(session.entered.is_set)
        waiting = asyncio.ensure_future(wire.send(b"output on", 5.0))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        session.may_return.set()
        assert await first == b"first"
        assert await wire.exchange(b"last", LINE, 5.0) == b"last"
        await wire.close()

    run(scenario())
    assert session.calls == [b"first", b"last"]


def test_a_cancelled_exchange_does_not_disturb_the_next(serve: Callable[..., Server]) -> None:
    server = serve(silent_on_hush)

    async def use(wire: Wire) -> None:
        first = asyncio.ensure_future(wire.exchange(b"hush\n", LINE, 5.0))
        await until(lambda: bool(server.lines))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        server.release.set()
        assert await wire.exchange(b"next\n", LINE, 5.0) == b"next"

    run(with_wire(server.visa, use))


def test_a_cancelled_exchange_that_hangs_does_not_hang_the_next() -> None:
    sessions: list[Stubborn] = []

    def opener() -> Stubborn:
        sessions.append(Stubborn())
        return sessions[-1]

    async def scenario() -> None:
        wire = ThreadedWire("stubborn", opener)
        await wire.open()
        first = asyncio.ensure_future(wire.exchange(b"first", LINE, 0.1))
        await until(sessions[0].entered.is_set)
        first.cancel()
        start = time.monotonic()
        with pytest.raises(LinkLostError):
            await wire.exchange(b"second", LINE, 0.1)
        assert time.monotonic() - start < 0.2 + 2 * GUARD + 1.0
        sessions[0].may_return.set()
        await wire.close()
        await until(sessions[0].closed.is_set)

    run(scenario())


def test_after_a_failure_the_session_is_resynchronised_before_the_next_request() -> None:
    class Failing(Stubborn):
        def exchange(self, request: bytes, framing: Framing, timeout: float) -> bytes:
            if request == b"bad":
                raise ReplyTimeoutError("silence")
            assert self.resynchronised == 1
            return request

    session = Failing()

    async def scenario() -> None:
        wire = ThreadedWire("failing", lambda: session)
        await wire.open()
        with pytest.raises(ReplyTimeoutError):
            await wire.exchange(b"bad", LINE, 1.0)
        assert await wire.exchange(b"good", LINE, 1.0) == b"good"
        assert await wire.exchange(b"good", LINE, 1.0) == b"good"
        await wire.close()

    run(scenario())
    assert session.resynchronised == 1


def test_closing_joins_the_thread_and_can_be_repeated(serve: Callable[..., Server]) -> None:
    server = serve()

    async def scenario() -> None:
        wire = make_wire(server.visa, Clock())
        await wire.open()
        assert any(thread.name == f"wire {server.visa}" for thread in threading.enumerate())
        await wire.close()
        assert not any(thread.name == f"wire {server.visa}" for thread in threading.enumerate())
        await wire.close()
        with pytest.raises(LinkLostError, match="not open"):
            await wire.exchange(b"x\n", LINE, 1.0)

    run(scenario())


def test_an_opened_session_is_not_given_up_because_the_event_loop_was_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threaded, "OPEN_TIMEOUT", 0.0)
    monkeypatch.setattr(threaded, "GUARD", 0.001)

    async def scenario() -> None:
        loop, told = asyncio.get_running_loop(), threading.Event()
        tell = loop.call_soon_threadsafe

        def watched(*arguments: Any, **more: Any) -> asyncio.Handle:
            handle = tell(*arguments, **more)
            told.set()
            return handle

        monkeypatch.setattr(loop, "call_soon_threadsafe", watched)
        wire = ThreadedWire("busy", Stubborn)
        opening = asyncio.ensure_future(wire.open())
        begun = time.monotonic()
        await asyncio.sleep(0)
        # The event loop does nothing until both have happened: the session is open, time is over.
        assert told.wait(30.0)
        while time.monotonic() - begun < 0.01:
            pass
        await opening
        await wire.close()

    run(scenario())


def test_an_opening_that_hangs_is_given_up_and_closes_itself_later() -> None:
    may_open = threading.Event()
    session = Stubborn()

    def opener() -> Stubborn:
        assert may_open.wait(30.0)
        return session

    async def scenario() -> None:
        wire = ThreadedWire("slow", opener)
        opening = asyncio.ensure_future(wire.open())
        await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        with pytest.raises(LinkLostError, match="not open"):
            await wire.exchange(b"x", LINE, 1.0)
        may_open.set()
        await until(session.closed.is_set)

    run(scenario())
    assert session.calls == []
    assert OPEN_TIMEOUT < 10.0


# ---------------------------------------------------------------- the door


def test_a_switchboard_replaces_the_outside_world() -> None:
    wire = make_wire("TCPIP::x::1::SOCKET", Clock("virtual"), switchboard=Switchboard())
    assert type(wire).__name__ == "MemoryWire"


def test_virtual_time_cannot_reach_the_outside_world() -> None:
    with pytest.raises(BadInputError, match="virtual time"):
        make_wire("TCPIP::x::1::SOCKET", Clock("virtual"))


def test_an_address_that_means_nothing_is_bad_input() -> None:
    with pytest.raises(BadInputError):
        make_wire("COM7 at the back", Clock())
