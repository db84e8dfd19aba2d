"""Simulated instruments behind TCP sockets, on this computer alone."""

from __future__ import annotations

import asyncio

from operando.instruments.clock import Clock
from operando.instruments.errors import AddressInUseError, BadInputError
from operando.instruments.wires import Peer
from operando.simulators.wire.timed import TimedLine


class TcpServer:
    """Serves one instrument at a port of the loopback interface.

    Every connection is a session of its own, so that a second host gets in while a frozen one
    still holds its connection. host: 127.0.0.1, ::1 or localhost.
    """

    def __init__(self, peer: Peer, clock: Clock, host: str, port: int) -> None:
        self._peer = peer
        self._clock = clock
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._sessions: set[_Session] = set()

    @property
    def sessions(self) -> int:
        """Number of open connections."""
        return len(self._sessions)

    async def start(self) -> None:
        """Listen. Raises AddressInUseError when something else does."""
        if self._host not in ("127.0.0.1", "::1", "localhost"):
            raise BadInputError(
                f"simulated instruments are served on this computer alone, not on {self._host}; "
                "write 127.0.0.1"
            )
        loop = asyncio.get_running_loop()
        host = "127.0.0.1" if self._host == "localhost" else self._host
        try:
            self._server = await loop.create_server(self._session, host, self._port)
        except OSError as error:
            raise AddressInUseError(
                f"cannot listen at {host}:{self._port}: {error.strerror or error}; another "
                "simulation may be running there, or choose another port in the bench file"
            ) from error

    async def close(self) -> None:
        """Stop listening and break every connection; idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for session in tuple(self._sessions):
            session.line.drop()
        await server.wait_closed()
        # One turn of the loop lets broken transports report that they are gone.
        await asyncio.sleep(0)

    def _session(self) -> _Session:
        return _Session(self._peer, self._clock, self._sessions)


class _Session(asyncio.Protocol):
    def __init__(self, peer: Peer, clock: Clock, sessions: set[_Session]) -> None:
        self._peer = peer
        self._clock = clock
        self._sessions = sessions
        self._transport: asyncio.Transport | None = None
        self.line = TimedLine(clock, self._write, self._abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sessions.add(self)
        self._peer.connected(self.line, self._clock.now())

    def data_received(self, data: bytes) -> None:
        if self.line.alive:
            self._peer.receive(self.line, data, self._clock.now())

    def connection_lost(self, exc: Exception | None) -> None:
        self._sessions.discard(self)
        self.line.forget()
        self._peer.disconnected(self.line, self._clock.now())

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
