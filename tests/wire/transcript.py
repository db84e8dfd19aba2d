"""Transcripts: the bytes that must pass between a driver and its instrument, in order.

Anything left over fails, on either side: a request that was not expected at once, an expected
one that never came when the transcript ends.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from operando.instruments.clock import Clock, run
from operando.instruments.wires import Line, Switchboard, Wire

ADDRESS = "TCPIP::smu1.lab::5025::SOCKET"

P = ParamSpec("P")
D = TypeVar("D")


class Pair(NamedTuple):
    """One request and what comes back. delay: s from request to reply."""

    request: bytes
    reply: bytes | None
    delay: float


class Transcript:
    """The instrument's end of a conversation that was written down beforehand.

    end: terminator added to everything that is given as text.
    """

    def __init__(self, end: bytes = b"\n") -> None:
        self._end = end
        self._script: deque[Pair] = deque()
        self.connections = 0
        self.disconnections = 0

    def expect(self, *requests: str | bytes) -> None:
        """Expect requests that have no reply."""
        self._script.extend(Pair(self._bytes(request), None, 0.0) for request in requests)

    def answer(self, request: str | bytes, reply: str | bytes, *, delay: float = 0.0) -> None:
        """Expect a request and answer it after `delay` (s)."""
        self._script.append(Pair(self._bytes(request), self._bytes(reply), delay))

    def dialogue(self, *pairs: tuple[str | bytes, str | bytes]) -> None:
        """Expect requests that are answered at once."""
        for request, reply in pairs:
            self.answer(request, reply)

    def finish(self) -> None:
        """Fail if anything that was expected has not come."""
        left = [pair.request for pair in self._script]
        assert not left, f"the driver never sent {left}"

    def _bytes(self, text: str | bytes) -> bytes:
        return text if isinstance(text, bytes) else text.encode("ascii") + self._end

    def connected(self, line: Line, now: float) -> None:
        """A host opened a connection."""
        self.connections += 1

    def disconnected(self, line: Line, now: float) -> None:
        """The host closed the connection."""
        self.disconnections += 1

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """Compare what came with what is next in the script, and answer."""
        assert self._script, f"the driver sent {data!r}, but nothing more was expected"
        pair = self._script.popleft()
        assert data == pair.request, f"the driver sent {data!r}, expected {pair.request!r}"
        if pair.reply is not None:
            line.send(pair.reply, now + pair.delay)


@asynccontextmanager
async def transcript(
    driver: Callable[Concatenate[Wire, Clock, P], D],
    end: bytes = b"\n",
    *arguments: P.args,
    **settings: P.kwargs,
) -> AsyncIterator[tuple[D, Transcript]]:
    """A driver on a transcript; not connected yet. Checks for leftovers at the end."""
    switchboard, clock = Switchboard(), Clock("virtual")
    peer = Transcript(end)
    switchboard.attach(ADDRESS, peer)
    wire = switchboard.wire(ADDRESS, clock)
    yield driver(wire, clock, *arguments, **settings), peer
    peer.finish()


def in_virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Make a test function of a coroutine function."""

    @functools.wraps(test)
    def wrapper(*arguments: P.args, **settings: P.kwargs) -> None:
        async def scenario() -> None:
            await test(*arguments, **settings)

        run(scenario(), virtual=True)

    return wrapper
