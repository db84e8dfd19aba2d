"""Byte pipes between drivers and instruments, neutral to both.

A driver holds a `Wire`. A simulated instrument is a `Peer` that is handed a `Line` for each
connection. `Switchboard` joins the two in memory, for virtual time; transports and servers join
them over real sockets and serial lines.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from operando.instruments.clock import Clock
from operando.instruments.errors import LinkLostError, ReplyTimeoutError


@dataclass(frozen=True, slots=True)
class Terminated:
    """A reply that ends with a terminator, which is not part of what is returned."""

    terminator: bytes = b"\n"

    def find_end(self, data: bytes | bytearray) -> int:
        """Number of bytes of the first complete reply in `data`, 0 when incomplete."""
        at = data.find(self.terminator)
        return 0 if at < 0 else at + len(self.terminator)

    def strip(self, reply: bytes) -> bytes:
        """The reply without its terminator."""
        return reply[: -len(self.terminator)]


@dataclass(frozen=True, slots=True)
class Sized:
    """A reply whose length follows from its first bytes.

    header: number of bytes that must be there before `length` can tell.
    length: total number of bytes, given at least the header.
    """

    header: int
    length: Callable[[bytes], int]

    def find_end(self, data: bytes | bytearray) -> int:
        """Number of bytes of the first complete reply in `data`, 0 when incomplete."""
        if len(data) < self.header:
            return 0
        total = self.length(bytes(data))
        return total if len(data) >= total else 0

    def strip(self, reply: bytes) -> bytes:
        """The reply as it is."""
        return reply


Framing = Terminated | Sized


class Wire(Protocol):
    """A driver's end of a byte pipe. One request at a time; owned by one driver.

    Time-outs are seconds of wall time (virtual seconds in virtual time). Errors carry no
    instrument name: the driver adds it.
    """

    @property
    def address(self) -> str:
        """Address as the bench file writes it."""
        ...

    async def open(self) -> None:
        """Open the session. Raises LinkLostError."""
        ...

    async def exchange(
        self, request: bytes, framing: Framing, timeout: float, *, urgent: bool = False
    ) -> bytes:
        """Send a request and return its reply without terminator.

        Input left over from an earlier failed exchange is discarded first. urgent: jump the
        queue of waiting requests. Raises ReplyTimeoutError, LinkLostError.
        """
        ...

    async def send(self, request: bytes, timeout: float, *, urgent: bool = False) -> None:
        """Send a request that has no reply."""
        ...

    async def reopen(self) -> None:
        """Abandon the session, even one whose thread is stuck, and open a fresh one."""
        ...

    async def close(self) -> None:
        """Close the session; idempotent."""
        ...


class Line(Protocol):
    """An instrument's end of one connection."""

    def send(self, data: bytes, at: float) -> None:
        """Deliver bytes to the host at laboratory time `at` (s), in order."""
        ...

    def drop(self) -> None:
        """Break the connection."""
        ...


class Peer(Protocol):
    """An instrument that is spoken to in bytes."""

    def connected(self, line: Line, now: float) -> None:
        """A host opened a connection at laboratory time `now`."""
        ...

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Bytes came in at laboratory time `now`; answer through `line.send`."""
        ...

    def disconnected(self, line: Line, now: float) -> None:
        """The host closed the connection, or it broke."""
        ...


class Switchboard:
    """Memory pipes by address, so that neither side knows the other."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}

    def attach(self, address: str, peer: Peer) -> None:
        """Make an instrument reachable at an address; a channel behind "#" does not count."""
        place = address.partition("#")[0]
        if place in self._peers:
            raise ValueError(f"two instruments at one address: {place}")
        self._peers[place] = peer

    def wire(self, address: str, clock: Clock) -> MemoryWire:
        """A wire to the instrument at `address`; not yet open."""
        return MemoryWire(self, address, clock)

    def peer(self, address: str) -> Peer:
        """The instrument at `address`. Raises LinkLostError."""
        try:
            return self._peers[address.partition("#")[0]]
        except KeyError:
            raise LinkLostError(f"nothing is attached at {address}") from None


class _MemoryLine:
    def __init__(self, wire: MemoryWire) -> None:
        self._wire = wire
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.alive = True
        self.arrival: asyncio.Future[None] | None = None

    def send(self, data: bytes, at: float) -> None:
        self.chunks.append((at, data))
        self._notify()

    def drop(self) -> None:
        self.alive = False
        self._notify()

    def _notify(self) -> None:
        if self.arrival is not None and not self.arrival.done():
            self.arrival.set_result(None)


class MemoryWire:
    """A wire that calls the instrument directly; for virtual time and tests."""

    def __init__(self, switchboard: Switchboard, address: str, clock: Clock) -> None:
        self._switchboard = switchboard
        self._address = address
        self._clock = clock
        self._line: _MemoryLine | None = None
        self._peer: Peer | None = None
        self._buffer = bytearray()
        self._lock = asyncio.Lock()
        self._stale = False  # a reply may still come: it must not answer a later request

    @property
    def address(self) -> str:
        """Address as the bench file writes it."""
        return self._address

    async def open(self) -> None:
        """Open the session."""
        if self._line is not None and self._line.alive:
            return
        self._peer = self._switchboard.peer(self._address)
        self._line = _MemoryLine(self)
        self._buffer.clear()
        self._stale = False
        self._peer.connected(self._line, self._clock.now())
        if not self._line.alive:
            raise LinkLostError(f"the instrument at {self._address} refuses connections")

    async def send(self, request: bytes, timeout: float, *, urgent: bool = False) -> None:
        """Send a request that has no reply."""
        async with self._lock:
            if self._stale:
                await self.reopen()
            line, peer = self._session()
            self._discard(line)
            peer.receive(line, request, self._clock.now())
            if not line.alive:
                raise LinkLostError(f"the connection to {self._address} broke")

    async def exchange(
        self, request: bytes, framing: Framing, timeout: float, *, urgent: bool = False
    ) -> bytes:
        """Send a request and return its reply without terminator."""
        async with self._lock:
            if self._stale:
                await self.reopen()
            line, peer = self._session()
            if line.chunks or self._buffer:
                self._discard(line)
            clock = self._clock
            now = clock.now()
            self._stale = True  # until the reply is complete, whatever ends the wait
            peer.receive(line, request, now)
            reply = await self._reply(line, framing, now + timeout)
            self._stale = False
            return reply

    async def _reply(self, line: _MemoryLine, framing: Framing, deadline: float) -> bytes:
        clock = self._clock
        buffer = self._buffer
        while True:
            if line.chunks and line.chunks[0][0] <= deadline:
                due, data = line.chunks.popleft()
                if due > clock.now():
                    await clock.sleep_until(due)
                buffer += data
                end = framing.find_end(buffer)
                if end:
                    reply = bytes(buffer[:end])
                    del buffer[:end]
                    return framing.strip(reply)
                continue
            if not line.alive:
                raise LinkLostError(f"the connection to {self._address} broke")
            loop = asyncio.get_running_loop()
            line.arrival = loop.create_future()
            if line.chunks:
                await clock.sleep_until(deadline)
            else:
                handle = loop.call_at(deadline, line._notify)
                try:
                    await line.arrival
                finally:
                    handle.cancel()
            if clock.now() >= deadline and not (line.chunks and line.chunks[0][0] <= deadline):
                raise ReplyTimeoutError(
                    f"no complete reply within the time-out (got {bytes(buffer)!r})"
                )

    def _session(self) -> tuple[_MemoryLine, Peer]:
        if self._line is None or self._peer is None or not self._line.alive:
            raise LinkLostError(f"the connection to {self._address} is not open")
        return self._line, self._peer

    def _discard(self, line: _MemoryLine) -> None:
        now = self._clock.now()
        while line.chunks and line.chunks[0][0] <= now:
            line.chunks.popleft()
        self._buffer.clear()

    async def reopen(self) -> None:
        """Abandon the session and open a fresh one."""
        await self.close()
        await self.open()

    async def close(self) -> None:
        """Close the session; idempotent."""
        line, self._line = self._line, None
        if line is not None and line.alive and self._peer is not None:
            line.alive = False
            self._peer.disconnected(line, self._clock.now())
