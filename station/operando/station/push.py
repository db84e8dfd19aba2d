"""The push: what changes goes to every client at once, and no client can hold it up.

Snapshots are composed for all clients together; a client that has not taken one yet gets the
newest instead. Rows wait once a run, and each client remembers how far it has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from operando.instruments.bench import Bench
from operando.station.client.models import (
    UNDER_WAY,
    ChannelStatus,
    CheckReport,
    Done,
    ProtocolInfo,
    Reading,
    Rows,
    RunRequest,
    Snapshot,
    Started,
)
from operando.station.views import MOST_NEW, START, Fresh, Readings, Views

_LOG = logging.getLogger(__name__)

PERIOD = 0.1
"""Wall s between looks for something new."""

HEARTBEAT = 0.9
"""Wall s after which a snapshot is sent though nothing has changed: at least one a second."""

READING_PATIENCE = 0.3
"""Wall s that a snapshot waits for the newest readings; then it goes out with those before."""

SLOW = 2.0
"""Wall s after which it is said that readings do not come."""

STUCK = 10.0
"""Wall s after which a client that does not read is cut off."""

MOST_CLIENTS = 64
MOST_FOLLOWED = 64
"""Runs that one client may follow."""

LONGEST_MESSAGE = 64 * 1024
"""Bytes of a message from a client."""

PAUSE = 0.05
"""Wall s between two messages of a client that are listened to."""

FEW = 20
"""Newest readings of a quantity that are sent when the others are skipped."""

STEADY = {"elapsed": None, "age": None, "progress": None, "time_left": None}
"""What always changes while a run is under way: no reason to push."""


class Desk(Protocol):
    """What the station can do, as its API needs it. Refuses with RefusedError."""

    @property
    def instance(self) -> str: ...
    @property
    def started(self) -> float: ...
    @property
    def bench(self) -> Bench: ...
    @property
    def bench_name(self) -> str: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def speed(self) -> float: ...
    @property
    def version(self) -> str: ...
    @property
    def output(self) -> Path: ...

    def statuses(self) -> tuple[ChannelStatus, ...]: ...
    def alarm(self) -> str: ...
    def protocols(self) -> list[ProtocolInfo]: ...
    def check(self, channel: str, request: RunRequest) -> CheckReport: ...
    async def start(self, channel: str, request: RunRequest, request_id: str = "") -> Started: ...
    def pause(self, channel: str) -> Done: ...
    def resume(self, channel: str) -> Done: ...
    def acknowledge(self, channel: str, run: str = "") -> Done: ...
    async def abort(self, channel: str, run: str = "") -> Done: ...
    async def end_step(self, channel: str, step: int = 0, by: str = ...) -> Done: ...
    async def change_limit(self, channel: str, name: str, when: str, by: str = ...) -> Done: ...
    async def go_on(self, channel: str, run: str = "") -> Started: ...
    async def stop_all(self) -> Done: ...
    def shut_down(self) -> None: ...


class _Batch:
    """Rows that were committed together. count: of the quantity that has most of them."""

    __slots__ = ("count", "readings", "skipped")

    def __init__(self, readings: Readings, skipped: bool) -> None:
        self.readings = readings
        self.skipped = skipped
        self.count = max((len(times) for times, _ in readings.values()), default=0)


class Ring:
    """The newest rows of a run, for clients that each take them at their own pace.

    Holds at most `MOST_NEW` rows, or one batch. next: number of the batch that comes next. final:
    whether its record was read to the end after it was closed.
    """

    def __init__(self) -> None:
        self.cursor = START
        self.latest: dict[str, Reading] = {}
        self.final = False
        self.problem = ""
        self.next = 0
        self._batches: deque[_Batch] = deque()
        self._count = 0
        self._begun = False

    def take(self, fresh: Fresh) -> None:
        """Add what is new. What was there before anybody looked is not new."""
        self.problem = ""
        self.cursor, self.final = fresh.cursor, fresh.over
        for name, reading in fresh.latest.items():
            known = self.latest.get(name)
            if known is None or known.time <= reading.time:
                self.latest[name] = reading
        if self._begun and (fresh.readings or fresh.skipped):
            batch = _Batch(fresh.readings, fresh.skipped)
            self._batches.append(batch)
            self._count += batch.count
            self.next += 1
            while self._count > MOST_NEW and len(self._batches) > 1:
                self._count -= self._batches.popleft().count
        self._begun = True

    def since(self, run: str, number: int) -> Rows | None:
        """The rows from batch `number` on, None if there are none.

        Only the newest few, and `skipped`, when some of them are gone or there are too many.
        """
        if number == self.next:
            return None
        first = self.next - len(self._batches)
        due = list(islice(self._batches, max(0, number - first), None))
        times: dict[str, list[float]] = {}
        values: dict[str, list[float | None]] = {}
        for batch in due:
            for name, (when, what) in batch.readings.items():
                times.setdefault(name, []).extend(when)
                values.setdefault(name, []).extend(what)
        skipped = not first <= number < self.next or any(batch.skipped for batch in due)
        last = -FEW if skipped else None
        return Rows(
            run=run,
            quantities={
                name: (tuple(times[name][last:]), tuple(values[name][last:])) for name in times
            },
            skipped=skipped,
        )


@dataclass(eq=False)
class Client:
    """What one client is still to get. followed: by run the number of the batch that is next."""

    snapshot: str | None = None
    followed: dict[str, int] = field(default_factory=dict)
    due: asyncio.Event = field(default_factory=asyncio.Event)


class Board:
    """Composes what clients see, and serves each of them as fast as it reads."""

    def __init__(self, desk: Desk, views: Views) -> None:
        self._desk = desk
        self._views = views
        self._clients: set[Client] = set()
        self._watched = asyncio.Event()
        self._rings: dict[str, Ring] = {}
        self._problem = ""
        self._reading: asyncio.Task[None] | None = None
        self._asked_at = math.inf
        self._wanted: set[str] = set()
        self._serial = 0
        self._sent: Snapshot | None = None
        self._sent_at = -math.inf

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Push while the context lasts."""
        pushing = asyncio.create_task(self._push())
        try:
            yield
        finally:
            tasks = [task for task in (pushing, self._reading) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def snapshot(self) -> Snapshot:
        """The station as it is now. Waits for readings until it can be said that none come."""
        await self._read(SLOW)
        return self._compose()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client until it goes, sends garbage or is cut off."""
        await websocket.accept()
        if len(self._clients) >= MOST_CLIENTS:
            await websocket.close(1013, f"{MOST_CLIENTS} clients are connected already")
            return
        client = Client()
        with self._connected(client):
            tasks = [
                asyncio.create_task(self._send(websocket, client)),
                asyncio.create_task(self._listen(websocket, client)),
            ]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, WebSocketDisconnect):
                raise end

    # ---- below -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _connected(self, client: Client) -> Iterator[None]:
        self._clients.add(client)
        self._sent_at = -math.inf  # the newcomer gets a snapshot at once
        self._watched.set()
        try:
            yield
        finally:
            self._clients.discard(client)
            if not self._clients:
                self._watched.clear()

    async def _listen(self, websocket: WebSocket, client: Client) -> None:
        while True:
            message = await websocket.receive()
            if message["type"] != "websocket.receive":
                return
            try:
                runs = _followed(message.get("text"))
            except ValueError as error:
                await websocket.close(1008, str(error)[:120])
                return
            before = client.followed
            client.followed = {
                run: before[run] if run in before else self._next(run) for run in runs
            }
            await asyncio.sleep(PAUSE)

    def _next(self, run: str) -> int:
        ring = self._rings.get(run)
        return 0 if ring is None else ring.next

    async def _send(self, websocket: WebSocket, client: Client) -> None:
        while True:
            await client.due.wait()
            client.due.clear()
            text, client.snapshot = client.snapshot, None
            if text is not None:
                await websocket.send_text(text)
            for run in tuple(client.followed):
                ring = self._rings.get(run)
                rows = (
                    None if ring is None else ring.since(run, client.followed.get(run, ring.next))
                )
                if ring is not None and rows is not None:
                    client.followed[run] = ring.next
                    await websocket.send_text(rows.model_dump_json())

    async def _push(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._watched.wait()
            begun = loop.time()
            try:
                await self._push_once(begun)
            except Exception:
                # Clients take the silence for what it is, a station that cannot be seen.
                _LOG.exception("no snapshot could be composed")
                await asyncio.sleep(HEARTBEAT)
            await asyncio.sleep(max(0.0, PERIOD - (loop.time() - begun)))

    async def _push_once(self, now: float) -> None:
        await self._read()
        snapshot = self._compose()
        if now - self._sent_at >= HEARTBEAT or not _alike(snapshot, self._sent):
            self._sent, self._sent_at = snapshot, now
            text = snapshot.model_dump_json()
            for client in self._clients:
                client.snapshot = text
        for client in self._clients:
            client.due.set()

    async def _read(self, patience: float = READING_PATIENCE) -> None:
        """Ask for the newest readings, but do not wait for them for long."""
        now = asyncio.get_running_loop().time()
        if self._reading is None or self._reading.done():
            self._reading, self._asked_at = asyncio.create_task(self._ask()), now
        waited = now - self._asked_at
        # A little longer, so that who waits for `SLOW` finds it over.
        patience = max(READING_PATIENCE, patience + PERIOD - waited)
        await asyncio.wait({self._reading}, timeout=patience)

    async def _ask(self) -> None:
        wanted = {status.run for status in self._desk.statuses() if status.run is not None}
        self._wanted = wanted
        for client in self._clients:
            wanted.update(client.followed)
        if not self._clients:
            self._rings = {}  # nobody looked since: what is there then is not new
        rings = {run: self._rings.get(run) or Ring() for run in sorted(wanted)}
        try:
            found = await self._views.fresh({run: ring.cursor for run, ring in rings.items()})
        except Exception as error:  # nobody awaits this: whatever it is, the windows say it
            self._problem = f"readings cannot be shown: {str(error) or type(error).__name__}"
            return
        self._problem = ""
        for run, fresh in found.items():
            if isinstance(fresh, str):
                rings[run].problem = fresh
            else:
                rings[run].take(fresh)
        self._rings = {run: ring for run, ring in rings.items() if run in found}

    def _overdue(self) -> str:
        """That readings do not come, "" if they do. The same words while that lasts."""
        if self._reading is None or self._reading.done() or not self._wanted:
            return ""
        if asyncio.get_running_loop().time() - self._asked_at < SLOW:
            return ""
        return (
            f"readings cannot be shown: their reader has not answered for more than {SLOW:g} s; "
            "what is shown of runs may be old"
        )

    def _compose(self) -> Snapshot:
        desk = self._desk
        self._serial += 1
        channels = tuple(self._with_readings(status) for status in desk.statuses())
        problems = [
            f"{channel.name}: readings cannot be shown: {self._rings[channel.run].problem}"
            for channel in channels
            if channel.run in self._rings and self._rings[channel.run].problem
        ]
        return Snapshot(
            instance=desk.instance,
            serial=self._serial,
            version=desk.version,
            bench=desk.bench_name,
            simulated=desk.simulated,
            speed=desk.speed,
            started=desk.started,
            now=time.time(),
            channels=channels,
            alarm="; ".join(
                filter(None, [desk.alarm(), self._problem or self._overdue(), *problems])
            ),
        )

    def _with_readings(self, status: ChannelStatus) -> ChannelStatus:
        ring = self._rings.get(status.run) if status.run is not None else None
        if ring is None:
            return status
        age = None
        if status.state in UNDER_WAY and status.elapsed is not None and ring.latest:
            newest = max(reading.time for reading in ring.latest.values())
            age = max(0.0, status.elapsed - newest)
        return status.model_copy(
            update={
                "latest": dict(ring.latest),
                "rows": ring.cursor.samples,
                "age": age,
                "final": ring.final and status.state not in UNDER_WAY,
            }
        )


def _alike(new: Snapshot, old: Snapshot | None) -> bool:
    """Whether two snapshots differ only in what always does."""
    return old is not None and _lasting(new) == _lasting(old)


def _lasting(snapshot: Snapshot) -> Snapshot:
    channels = tuple(channel.model_copy(update=STEADY) for channel in snapshot.channels)
    return snapshot.model_copy(update={"channels": channels, "serial": 0, "now": 0.0})


def _followed(text: object) -> list[str]:
    """The runs that a client asks to follow. Raises ValueError with the reason to cut it off."""
    expected = 'expected {"follow": [RUN, ...]}'
    if not isinstance(text, str) or len(text) > LONGEST_MESSAGE:
        raise ValueError(f"{expected} of at most {LONGEST_MESSAGE} bytes")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{expected}, not something that is no JSON") from None
    runs = message.get("follow") if isinstance(message, dict) and len(message) == 1 else None
    if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
        raise ValueError(expected)
    if len(runs) > MOST_FOLLOWED:
        raise ValueError(f"{len(runs)} runs; at most {MOST_FOLLOWED} can be followed")
    return runs


class AnswerProtocol(H11Protocol):
    """uvicorn's HTTP, which sends what it has.

    asyncio sees to that for sockets that were made with TCP's number; others are not worth 40 ms
    an answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connects; its WebSocket will use the same socket."""
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class StreamProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, cut off when its client has not read for `STUCK` seconds.

    Without this a client that never reads would keep its socket, and the server's end, for ever.
    """

    _cutting: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to."""
        super().pause_writing()
        self._cutting = self.loop.call_later(STUCK, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._spare()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever wanted it."""
        self._spare()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends: say goodbye, but not to somebody who does not listen."""
        stuck = not self.writable.is_set()
        super().shutdown()
        if stuck:
            self.transport.abort()

    def _spare(self) -> None:
        if self._cutting is not None:
            self._cutting.cancel()
            self._cutting = None
