"""The window's threads to its station: what arrives goes into a queue that the window drains.

No Qt here. Nothing in this module blocks its caller but `close`, and that for less than a second.

One thread reads the stream and connects again for ever, one asks questions, and every command has
a thread of its own, so that a stop never waits behind a question. The window's thread calls
`drain`, and all that `ask` and `command` bring back is delivered from there.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from operando.station.client import (
    Rows,
    Snapshot,
    StationClient,
    StationLostError,
    Stream,
    station_at,
    station_of,
)

RETRY = 0.25
"""Wall s between two attempts to connect."""

TICK = 0.05
"""Wall s after which the reader looks whether anything else is to be done."""

SILENCE = 1.5
"""Wall s without a message after which a station counts as lost; it promises one a second."""

READINGS = 200_000
"""Readings that wait for the window at most; beyond, they are left out and said to be."""

MESSAGES = 2_000
"""Messages that wait for the window at most."""

CLOSING = 0.8
"""Wall s that `close` waits for the threads at most."""

SENDING = 0.4
"""Part of it in which commands may still reach the station."""

FOREIGN = (
    "the station there speaks another version; run station and window of the same version of "
    "operando"
)
"""Of an answer that is not understood."""

NAME = "the window"
"""Who asks, in the journal of a run that is changed."""

UNCONNECTED = ("ConnectError", "ConnectTimeout")
"""Errors of the HTTP client that come before anything is sent."""

T = TypeVar("T")


def plain(error: BaseException) -> str:
    """What went wrong between window and station, without the words of sockets and parsers."""
    if not isinstance(error, StationLostError):
        # That of a parser: whatever it was, it is not what this version sends.
        strange = isinstance(error, ValueError) or isinstance(error.__cause__, ValueError)
        return FOREIGN if strange else str(error)
    if never_sent(error):
        return "no station answers there"
    if error.__cause__ is None:
        return str(error)
    if any("timeout" in type(each).__name__.lower() for each in _causes(error)):
        return "the station does not answer in time"
    return "the connection to the station broke off"


def never_sent(error: BaseException) -> bool:
    """Whether a request surely reached no station: nobody took the connection.

    False is not the opposite: then nobody here knows.
    """
    refused = any(
        isinstance(each, ConnectionRefusedError) or type(each).__name__ in UNCONNECTED
        for each in _causes(error)
    )
    unknown = error.__cause__ is None and str(error).startswith("no station of this user")
    return isinstance(error, StationLostError) and (refused or unknown)


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and what it came from; not what was only in the way when it arose."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


@dataclass(frozen=True, slots=True)
class Lost:
    """The station is lost. why: in words. since: `time.monotonic()` of its last sign of life, s.

    It comes again when the reason is another one.
    """

    why: str
    since: float


@dataclass(frozen=True, slots=True)
class Back:
    """The station answers, for the first time or again; its snapshot came just before.

    Rows committed in between were not sent, and if the station was started anew, what was asked
    before is not answered any more: ask again.
    """


LinkMessage = Snapshot | Rows | Lost | Back


@dataclass(eq=False, slots=True)
class _Request:
    """A call of the station with what to do in the window's thread afterwards."""

    key: str | None
    work: Callable[[StationClient], object]
    then: Callable[..., None]
    failed: Callable[[Exception], None] | None
    result: object = None
    error: Exception | None = None


class StationLink:
    """Threads between the window and one station. url, token, client: see `StationClient`.

    A client that is given belongs to the link from then on and is closed with it.
    `url` changes when the bench of a station that is lost turns up at another one. `bench`: path
    of the bench file that the station named in its note, "" before one was seen.
    `last_error`: of the last request that failed, whether or not somebody was told; None before.
    """

    def __init__(
        self, url: str, *, token: str | None = None, client: StationClient | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.bench = ""
        self.last_error: Exception | None = None
        self._retired: list[StationClient] = []
        self._token = token
        self._client = client if client is not None else StationClient(url, token, name=NAME)
        self._closing = threading.Event()
        self._started = False
        self._inbox = _Inbox()
        self._wanted: frozenset[str] = frozenset()
        self._instance: str | None = None
        self._seen = time.monotonic()
        self._lost = False
        self._why = ""
        self._changed = threading.Condition()
        self._pending: dict[str, _Request] = {}
        self._newest: dict[str, _Request] = {}
        self._answers: deque[_Request] = deque()
        self._threads: list[threading.Thread] = []
        self._commands: list[threading.Thread] = []

    # For the window's thread

    def start(self) -> None:
        """Start the threads; once is enough."""
        if self._started or self._closing.is_set():
            return
        self._started = True
        self._seen = time.monotonic()
        self._threads = [
            threading.Thread(target=self._read, name="operando-stream", daemon=True),
            threading.Thread(target=self._query, name="operando-query", daemon=True),
        ]
        for thread in (*self._threads, *self._commands):
            thread.start()

    def close(self) -> None:
        """End the threads, within a second even when the station hangs. Idempotent.

        Commands given just before are still sent; nothing is delivered any more. A thread that
        waits for a hanging station ends by itself when its call times out.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        end = time.monotonic() + CLOSING
        if self._started:
            _join(self._commands, time.monotonic() + SENDING)
        for client in (self._client, *self._retired):
            client.close()
        if self._started:
            _join([*self._threads, *self._commands], end)
        self._inbox.clear()
        self._answers.clear()

    def follow(self, runs: Iterable[str]) -> None:
        """Have the new rows of these runs sent, and of no others; said again after each loss."""
        self._wanted = frozenset(runs)

    def ask(
        self,
        key: str,
        work: Callable[[StationClient], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Call the station in the query thread; `drain` delivers the answer to `then`.

        key: of several requests with the same one only the newest counts: an older one that has
        not begun is replaced, and if it has, what it brings is dropped. A request whose station
        was started anew in between is dropped as well; `Back` follows.
        failed: is given what `work` raised; without it the exception is kept in `last_error`.
        """
        with self._changed:
            request = _Request(key, work, then, failed)
            # A key that waits already keeps its place: whoever asks often waits no longer.
            self._pending[key] = self._newest[key] = request
            self._changed.notify_all()

    def forget(self, key: str) -> None:
        """Drop what was asked under a key: who asked is gone."""
        with self._changed:
            self._pending.pop(key, None)
            self._newest.pop(key, None)

    def command(
        self,
        work: Callable[[StationClient], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Call the station in a thread of its own; `drain` always delivers what became of it."""
        if self._closing.is_set():
            return
        request = _Request(None, work, then, failed)
        thread = threading.Thread(
            target=self._run, args=(request,), name="operando-command", daemon=True
        )
        self._commands = [*(old for old in self._commands if _is_needed(old)), thread]
        if self._started:
            thread.start()

    def drain(self, limit: int = 200) -> list[LinkMessage]:
        """What has arrived, at most `limit` messages in their order; answers are delivered first.

        Rows that are already part of an answer may come after it: look at their times. What
        `then` or `failed` raises comes out here; no message is lost by that.
        """
        if self._closing.is_set():
            return []
        for _ in range(limit):
            try:
                request = self._answers.popleft()
            except IndexError:
                break
            self._deliver(request)
        return self._inbox.take(limit)

    # ---- below -----------------------------------------------------------------------------

    def _deliver(self, request: _Request) -> None:
        if request.key is not None:
            with self._changed:
                if self._newest.get(request.key) is not request:
                    return
                del self._newest[request.key]
        if request.error is None:
            request.then(request.result)
            return
        self.last_error = request.error
        if request.failed is not None:
            request.failed(request.error)

    def _run(self, request: _Request) -> None:
        try:
            request.result = request.work(self._client)
        except Exception as error:
            request.error = error
        if not self._closing.is_set():
            self._answers.append(request)

    def _query(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closing.is_set())
                if self._closing.is_set():
                    return
                request = self._pending.pop(next(iter(self._pending)))
            self._run(request)

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                stream = self._client.stream()
            except Exception as error:
                self._lose(error)
                self._seek()
            else:
                try:
                    self._listen(stream)
                except Exception as error:
                    self._lose(error)
                finally:
                    with contextlib.suppress(Exception):
                        stream.close()
            self._closing.wait(RETRY)

    def _listen(self, stream: Stream) -> None:
        sent: frozenset[str] = frozenset()
        fresh, silence, before = True, 0.0, time.monotonic()
        while not self._closing.is_set():
            if (wanted := self._wanted) != sent:
                stream.follow(wanted)
                sent = wanted
            message = stream.receive(TICK)
            now = time.monotonic()
            # What this process slept itself is no silence of the station: a tick is a tick.
            silence = 0.0 if message is not None else silence + min(now - before, 2.0 * TICK)
            before = now
            if message is None:
                if silence >= SILENCE:
                    raise StationLostError(
                        f"no sign of life from the station at {self.url} for {SILENCE:g} s"
                    )
                continue
            self._seen = now
            if fresh and isinstance(message, Snapshot):
                fresh = False
                self._meet(message)
            else:
                self._inbox.put(message)

    def _meet(self, snapshot: Snapshot) -> None:
        """Take the first snapshot of a connection."""
        self._lost, self._why = False, ""
        if self._token is None:
            with contextlib.suppress(Exception):
                note = station_at(self.url)
                self.bench = self.bench if note is None else note.bench
        with self._changed:
            if self._instance not in (None, snapshot.instance):
                # What the other one was asked says nothing about this one.
                self._pending.clear()
                self._newest.clear()
            self._instance = snapshot.instance
        self._inbox.put(snapshot, Back())

    def _lose(self, error: Exception) -> None:
        why = plain(error)
        if (not self._lost or why != self._why) and not self._closing.is_set():
            self._lost, self._why = True, why
            self._inbox.put(Lost(why, self._seen))

    def _seek(self) -> None:
        """Look where the bench of the lost station is now, and go there at the next attempt.

        One that was started by hand has another port and another token than the one that the
        window started for itself.
        """
        with contextlib.suppress(Exception):
            if not self.bench or self._token is not None or station_at(self.url) is not None:
                return
            note = station_of(Path(self.bench))
            if note is None:
                return
            # Calls that are under way still use the one before: it is closed at the end.
            self._retired.append(self._client)
            self._client, self.url = StationClient(note.url, name=NAME), note.url


class _Inbox:
    """What waits for the window: in order, and bounded however long the window does not look.

    Of snapshots, losses and returns the newest count; too many rows become a `Rows` without
    readings that says so, one for each run.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[LinkMessage] = []
        self._readings = 0
        self._skipped: set[str] = set()

    def put(self, *messages: LinkMessage) -> None:
        """Add messages that belong together."""
        with self._lock:
            for message in messages:
                if isinstance(message, Rows):
                    self._put_rows(message)
                elif isinstance(message, Snapshot):
                    self._put_snapshot(message)
                else:
                    self._drop(type(message))
                    self._queue.append(message)

    def take(self, limit: int) -> list[LinkMessage]:
        """Remove and return the oldest, at most `limit`."""
        with self._lock:
            taken = self._queue[:limit]
            del self._queue[:limit]
            for message in taken:
                if isinstance(message, Rows):
                    self._readings -= _readings(message)
                    self._skipped.discard(message.run)
            return taken

    def clear(self) -> None:
        """Remove everything."""
        self.take(len(self._queue))

    def _put_rows(self, rows: Rows) -> None:
        if rows.run in self._skipped:
            return
        self._queue.append(rows)
        self._readings += _readings(rows)
        if self._readings > READINGS or len(self._queue) > MESSAGES:
            runs = dict.fromkeys(kept.run for kept in self._queue if isinstance(kept, Rows))
            self._drop(Rows)
            self._queue += [Rows(run=run, quantities={}, skipped=True) for run in runs]
            self._skipped = set(runs)
            self._readings = 0

    def _put_snapshot(self, snapshot: Snapshot) -> None:
        for place in reversed(range(len(self._queue))):
            if isinstance(self._queue[place], Lost):
                break
            if isinstance(self._queue[place], Snapshot):
                # At its place, so that it stays before the `Back` that it came with.
                self._queue[place] = snapshot
                return
        self._drop(Snapshot)
        self._queue.append(snapshot)

    def _drop(self, kind: type[LinkMessage]) -> None:
        self._queue = [kept for kept in self._queue if not isinstance(kept, kind)]


def _readings(rows: Rows) -> int:
    return sum(len(times) for times, _ in rows.quantities.values())


def _is_needed(thread: threading.Thread) -> bool:
    return thread.ident is None or thread.is_alive()


def _join(threads: Iterable[threading.Thread], end: float) -> None:
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
