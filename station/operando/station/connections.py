"""Who may hold a connection to the station: few at a time, and nobody for long without the token.

STOP needs a connection. So a crowd of connections, whoever makes it, takes neither the station's
files nor its time, and fills no disk with complaints.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import socket
import sys
from collections import Counter
from typing import Any

import uvicorn
from starlette.types import Scope
from uvicorn.config import Config
from uvicorn.server import ServerState

from operando.station.push import AnswerProtocol, StreamProtocol

_LOG = logging.getLogger(__name__)

MOST = 128
"""Connections at a time. One more takes the place of the oldest that has not shown the token, or
else of one that is idle; it is turned away when all of them are being answered."""

PATIENCE = 5.0
"""Wall s within which a connection must have made a request with the token."""

GRACE = 0.5
"""Wall s more, so that a station that stood still itself reads first what came meanwhile."""

AT_ONCE = 16
"""Connections taken in one turn of the loop: several turns of them are still fewer than `MOST`, so
that a request is read before those who came later can take the place of its connection."""

QUEUE = 1024
"""Connections that the system keeps waiting for their turn."""

SILENCE = 60.0
"""Wall s for which a complaint is not repeated, but counted."""

_CONNECTION = "connection"
_numbers = itertools.count()

_QUIET = logging.getLogger(f"{__name__}.requests")
_QUIET.setLevel(logging.ERROR)  # a warning a malformed request, of which anybody may send many


def trust(scope: Scope) -> None:
    """The connection of this request has shown the token: it may stay."""
    connection = scope.get("state", {}).get(_CONNECTION)
    if isinstance(connection, RequestConnection | StreamConnection):
        connection.trust()


class RequestConnection(AnswerProtocol):
    """HTTP for as long as its client has the token."""

    _deadline: asyncio.TimerHandle | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, _CONNECTION: self}, _loop)
        self.logger = _QUIET
        self.number = next(_numbers)
        self.trusted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connects."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(PATIENCE, self._expire)
        _make_room(self.connections, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """It becomes a stream, which the gate lets in or ends."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def trust(self) -> None:
        """Its client has the token."""
        self.trusted = True
        self._stop_waiting()

    @property
    def rank(self) -> int:
        """Who goes first when there are too many: strangers, then idle clients."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return 2 * self.trusted + answering

    def _expire(self) -> None:
        self._deadline = self.loop.call_later(GRACE, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class StreamConnection(StreamProtocol):
    """A WebSocket, which counts among the connections."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, _CONNECTION: self}, _loop)
        self.number = next(_numbers)
        self.trusted = False

    def trust(self) -> None:
        """Its client has the token."""
        self.trusted = True

    @property
    def rank(self) -> int:
        """As a request that is being answered."""
        return 2 * self.trusted + 1


def _make_room(connections: set[Any], newcomer: RequestConnection) -> None:
    living = [one for one in connections if not one.transport.is_closing()]
    if len(living) > MOST:
        order = {one: (2.5 if one is newcomer else one.rank, one.number) for one in living}
        min(living, key=order.__getitem__).transport.abort()


class Complaints:
    """What the loop of the API complains about: said once in a while, and counted in between."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an exception that nobody else handled."""
        kind = str(context.get("message", "")).partition("<")[0]
        now = loop.time()
        if now - self._said.get(kind, -math.inf) < SILENCE:
            self._unsaid[kind] += 1
            return
        self._said[kind] = now
        before = self._unsaid.pop(kind, 0)
        again = f" ({before} times more since this was said last)" if before else ""
        error = context.get("exception")
        if isinstance(error, OSError) and "socket" in context:
            # The traceback of an accept says nothing, and cannot even be read without a file.
            _LOG.error("the API cannot take a connection now: %s%s", error, again)
            return
        if again:
            _LOG.error("%s%s", kind.strip(), again)
        loop.default_exception_handler(context)


class Server(uvicorn.Server):
    """uvicorn's server, with a long queue of which it takes a few at a time."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        asyncio.get_running_loop().set_exception_handler(Complaints())
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(QUEUE)  # asyncio has made it as short as a turn


def open_many_files() -> None:
    """Let this process open as many files as its system allows; elsewhere do nothing."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # macOS says "unlimited" and then refuses it.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
