"""Laboratory time: real, scaled or virtual, behind one face.

real     laboratory time is the wall's monotonic time.
scaled   laboratory time runs `speed` times faster than the wall. It is CLOCK_MONOTONIC times
         the factor, so every process of one computer agrees about it without talking.
virtual  an asyncio loop whose time jumps to the next timer when nothing is ready.

Time-outs of input and output are wall time in the first two and virtual time in the third.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal, NoReturn, TypeVar

Mode = Literal["real", "scaled", "virtual"]

VIRTUAL_EPOCH = 1_767_225_600.0
"""Unix time of virtual time zero: 2026-01-01T00:00:00Z. Fixed, so that records repeat."""

T = TypeVar("T")


class Clock:
    """Laboratory time of one process.

    speed: laboratory seconds a wall second; 1.0 when real; meaningless when virtual.
    """

    def __init__(self, mode: Mode = "real", speed: float = 1.0) -> None:
        if mode == "real" and speed != 1.0:
            raise ValueError("a real clock has speed 1; ask for a scaled one")
        if speed <= 0.0:
            raise ValueError(f"the speed of a clock must be positive, not {speed}")
        self.mode: Mode = mode
        self.speed = speed
        self._utc_offset = 0.0
        if mode == "virtual":
            self._utc_offset = VIRTUAL_EPOCH
        else:
            self._utc_offset = time.time() - self.now()

    def now(self) -> float:
        """Laboratory time in s; monotonic, arbitrary zero."""
        if self.mode == "virtual":
            return asyncio.get_running_loop().time()
        return time.monotonic() * self.speed

    def utc(self, at: float | None = None) -> float:
        """Unix time in s of the laboratory time `at` (now when None)."""
        return self._utc_offset + (self.now() if at is None else at)

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds` of laboratory time."""
        await self.sleep_until(self.now() + seconds)

    async def sleep_until(self, deadline: float) -> None:
        """Wait until laboratory time `deadline`; returns at once if it has passed.

        Always yields to other tasks at least once.
        """
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualTimeLoop):
            if deadline <= loop.time():
                await asyncio.sleep(0)
            else:
                await loop.until(deadline)
            return
        wait = (deadline - self.now()) / self.speed
        await asyncio.sleep(max(0.0, wait))

    def lab(self, seconds: float) -> float:
        """Seconds of the event loop (time-outs) expressed in laboratory seconds."""
        return seconds if self.mode == "virtual" else seconds * self.speed

    def suspended(self) -> float:
        """Wall seconds that the computer has slept since it started, where it can be known.

        CLOCK_MONOTONIC stands still in a suspend; a jump of this value is a gap.
        """
        if self.mode == "virtual" or not hasattr(time, "CLOCK_BOOTTIME"):
            return 0.0
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """An event loop whose time jumps to the next timer when nothing is ready.

    Threads, executors and sockets have no place in virtual time: using them raises.
    Timers that fall due together run in the order in which they were set.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._sequence = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle | asyncio.Future[None]]] = []

    def time(self) -> float:
        """Virtual time in s since the loop was made."""
        return self._now

    def until(self, when: float) -> asyncio.Future[None]:
        """A future that is done at virtual time `when`; the cheapest way to wait."""
        future = self.create_future()
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, future))
        return future

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule a callback at virtual time `when`."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule a callback after `delay` virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when they surface."""

    def _process_events(self, event_list: object) -> None:
        """There are no events from outside."""

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nothing has to be woken."""

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        if not ready:
            timers = self._timers
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                if self._stopping:  # type: ignore[attr-defined]
                    return
                raise RuntimeError(
                    "virtual time: every task waits, but no timer is set; something waits for "
                    "an event that only the real world could bring"
                )
            now = self._now = max(self._now, timers[0][0])
            while timers and timers[0][0] <= now:
                item = heapq.heappop(timers)[2]
                if item.cancelled():
                    continue
                if isinstance(item, asyncio.TimerHandle):
                    ready.append(item)
                else:
                    item.set_result(None)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def call_soon_threadsafe(self, *_: object, **__: object) -> NoReturn:
        """Forbidden: virtual time has one thread."""
        raise RuntimeError("virtual time has one thread: call_soon_threadsafe is forbidden")

    def run_in_executor(self, *_: object, **__: object) -> NoReturn:
        """Forbidden: virtual time has one thread."""
        raise RuntimeError("virtual time has one thread: executors are forbidden")

    def _forbid_sockets(self, *_: object, **__: object) -> NoReturn:
        raise RuntimeError("virtual time has no sockets: use memory pipes")

    create_connection = _forbid_sockets
    create_server = _forbid_sockets
    create_unix_connection = _forbid_sockets
    create_unix_server = _forbid_sockets
    add_reader = _forbid_sockets
    add_writer = _forbid_sockets
    sock_connect = _forbid_sockets


def run(main: Coroutine[Any, Any, T], *, virtual: bool = False) -> T:
    """Run a coroutine to its end in a new event loop, virtual or real."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop if virtual else None) as runner:
        return runner.run(main)
