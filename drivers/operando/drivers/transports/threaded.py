"""Blocking library sessions behind asyncio: one thread owns one session.

An exchange costs one hop to the thread and one back; writing and reading happen inside it.
Three clocks bound every call: the library's own time-out, then a guard in the event loop, which
gives the session up as stuck, and then whoever asked opens a fresh one with `reopen`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from operando.instruments.errors import CommunicationError, LinkLostError, ReplyTimeoutError
from operando.instruments.wires import Framing

GUARD = 0.25
"""s by which a library call may outlast its own time-out before its session counts as stuck."""

OPEN_TIMEOUT = 5.0
"""s in which a session must open."""

FAREWELL = 0.5
"""s for which `reopen` waits for a thread to let go (pyserial sleeps 0.3 s when it closes)."""


class Session(Protocol):
    """A blocking session with one instrument.

    Only the thread that owns it calls it, but for `abort`. Errors are those of
    `operando.instruments.errors`, without the instrument's name.
    """

    def exchange(self, request: bytes, framing: Framing, timeout: float) -> bytes:
        """Send a request, return its reply without terminator. timeout: s."""
        ...

    def send(self, request: bytes, timeout: float) -> None:
        """Send a request that has no reply. timeout: s."""
        ...

    def resynchronise(self) -> None:
        """After a failure: make sure that a late reply is not taken for the next one."""
        ...

    def abort(self) -> None:
        """From another thread: try to wake a call that blocks. May do nothing."""
        ...

    def close(self) -> None:
        """Close; raises nothing."""
        ...


class _Job:
    """One request on its way through the thread."""

    __slots__ = ("deadline", "framing", "future", "guard", "loop", "request", "timeout")

    def __init__(
        self,
        request: bytes,
        framing: Framing | None,
        timeout: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.request = request
        self.framing = framing
        self.timeout = timeout
        self.loop = loop
        self.future: asyncio.Future[bytes] = loop.create_future()
        self.deadline = 0.0
        """Monotonic time at which the call counts as stuck; set when it begins."""
        self.guard: asyncio.TimerHandle | None = None

    def finish(self, reply: bytes, error: Exception | None) -> None:
        """In the event loop: hand over the result unless nobody waits for it any more."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(reply)
        else:
            self.future.set_exception(error)


class _Worker:
    """The thread that owns a session, and its queue."""

    def __init__(
        self, opener: Callable[[], Session], name: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._opener = opener
        self._loop = loop
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._urgent: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._session: Session | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.current: _Job | None = None
        self.stopping = False
        self.stuck = False
        self.thread = threading.Thread(target=self._run, name=f"wire {name}", daemon=True)

    def submit(self, job: _Job, urgent: bool) -> None:
        """Queue a job; urgent ones come before all that wait."""
        (self._urgent if urgent else self._waiting).append(job)
        self._tokens.put(None)

    def stop(self, error: Exception) -> None:
        """End the thread after its current call; whatever waits fails with `error`."""
        self.stopping = True
        for jobs in (self._urgent, self._waiting):
            while jobs:
                jobs.popleft().finish(b"", error)
        self._tokens.put(None)

    def give_up(self, error: Exception) -> None:
        """Leave a stuck thread to itself: it closes its session when it wakes, if ever."""
        self.stuck = True
        current = self.current
        if current is not None:
            current.finish(b"", error)
        self.stop(LinkLostError("the session is stuck and was given up; reconnect"))
        session = self._session
        if session is not None:
            with suppress(Exception):
                session.abort()

    def _post(self, callback: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the event loop has gone: nobody waits
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _run(self) -> None:
        try:
            session = self._session = self._opener()
        except Exception as error:
            self._post(_fail, self.opened, error)
            self._post(_resolve, self.ended)
            return
        self._post(_resolve, self.opened)
        try:
            self._serve(session)
        finally:
            with suppress(Exception):
                session.close()
            self._post(_resolve, self.ended)

    def _serve(self, session: Session) -> None:
        suspect = False
        while True:
            self._tokens.get()
            if self.stopping:
                return
            try:
                job = self._urgent.popleft() if self._urgent else self._waiting.popleft()
            except IndexError:
                continue
            if job.future.cancelled():
                continue
            job.deadline = time.monotonic() + job.timeout + GUARD
            self.current = job
            reply, error = b"", None
            try:
                if suspect:
                    session.resynchronise()
                    suspect = False
                if job.framing is None:
                    session.send(job.request, job.timeout)
                else:
                    reply = session.exchange(job.request, job.framing, job.timeout)
            except CommunicationError as failure:
                suspect = True
                error = failure
            except Exception as failure:
                suspect = True
                error = LinkLostError(f"{type(failure).__name__}: {failure}")
            self.current = None
            try:
                job.loop.call_soon_threadsafe(job.finish, reply, error)
            except RuntimeError:
                return  # the event loop has gone


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


class ThreadedWire:
    """A `Wire` over a blocking session that one thread owns.

    opener: opens the session; called in the thread.
    """

    def __init__(self, address: str, opener: Callable[[], Session]) -> None:
        self._address = address
        self._opener = opener
        self._worker: _Worker | None = None

    @property
    def address(self) -> str:
        """Address as the bench file writes it."""
        return self._address

    async def open(self) -> None:
        """Open the session. Raises LinkLostError."""
        if self._worker is not None and not self._worker.stuck:
            return
        worker = _Worker(self._opener, self._address, asyncio.get_running_loop())
        worker.thread.start()
        try:
            # Not `timeout`: that one is over too if the event loop was busy until after both.
            await asyncio.wait((worker.opened,), timeout=OPEN_TIMEOUT + GUARD)
            if not worker.opened.done():
                worker.give_up(LinkLostError("not open"))
                raise LinkLostError(f"{self._address} did not open within {OPEN_TIMEOUT:g} s")
            worker.opened.result()
        except CommunicationError:
            raise
        except Exception as error:
            raise LinkLostError(f"{self._address} cannot be opened: {error}") from error
        except BaseException:
            worker.give_up(LinkLostError("opening was cancelled"))
            raise
        self._worker = worker

    async def exchange(
        self, request: bytes, framing: Framing, timeout: float, *, urgent: bool = False
    ) -> bytes:
        """Send a request and return its reply without terminator. timeout: s of wall time.

        Time spent waiting behind other requests is not counted; each of those is bounded itself.
        """
        return await self._perform(request, framing, timeout, urgent)

    async def send(self, request: bytes, timeout: float, *, urgent: bool = False) -> None:
        """Send a request that has no reply. timeout: s of wall time."""
        await self._perform(request, None, timeout, urgent)

    async def _perform(
        self, request: bytes, framing: Framing | None, timeout: float, urgent: bool
    ) -> bytes:
        worker = self._worker
        if worker is None:
            raise LinkLostError(f"the connection to {self._address} is not open")
        if worker.stuck:
            raise LinkLostError(f"the session with {self._address} is stuck; reconnect")
        loop = asyncio.get_running_loop()
        job = _Job(request, framing, timeout, loop)
        worker.submit(job, urgent)
        job.guard = loop.call_later(timeout + GUARD, _watch, worker, job)
        try:
            return await job.future
        finally:
            job.guard.cancel()

    async def reopen(self) -> None:
        """Abandon the session, even one whose thread is stuck, and open a fresh one."""
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stuck:
            if worker.current is None:
                worker.stop(LinkLostError("the session was replaced"))
            else:
                worker.give_up(LinkLostError("the session was replaced"))
            # A serial port cannot be shared: give the thread a moment to let go of it.
            await _farewell(worker, FAREWELL)
        await self.open()

    async def close(self) -> None:
        """Close the session and join its thread; idempotent. Leaves a stuck thread behind."""
        worker, self._worker = self._worker, None
        if worker is None or worker.stuck:
            return
        worker.stop(LinkLostError(f"the connection to {self._address} was closed"))
        current = worker.current
        patience = FAREWELL
        if current is not None:
            patience += max(0.0, current.deadline - time.monotonic())
        await _farewell(worker, patience)


def _watch(worker: _Worker, job: _Job) -> None:
    """Give the session up if the call that runs should have ended by now; else look again."""
    current = worker.current
    remaining = GUARD if current is None else current.deadline - time.monotonic()
    if remaining <= 0.0:
        worker.give_up(
            ReplyTimeoutError(
                f"the library did not return within {job.timeout + GUARD:g} s; the session was "
                "given up, reconnect"
            )
        )
        return
    job.guard = job.loop.call_later(remaining, _watch, worker, job)


async def _farewell(worker: _Worker, patience: float) -> None:
    """Wait for a thread that was told to stop; leave it to itself after `patience` (s)."""
    try:
        async with asyncio.timeout(patience):
            await asyncio.shield(worker.ended)
    except TimeoutError:
        worker.give_up(LinkLostError("the session was abandoned"))
        return
    worker.thread.join()
