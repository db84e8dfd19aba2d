"""A connection whose bytes leave at stated laboratory times, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from operando.instruments.clock import Clock
from operando.simulators.timing import set_timer


class TimedLine:
    """An instrument's end of one connection: a `Line`.

    write: puts bytes on the wire at once. breaks: breaks the connection.
    """

    def __init__(
        self, clock: Clock, write: Callable[[bytes], None], breaks: Callable[[], None]
    ) -> None:
        self.alive = True
        self._clock = clock
        self._write = write
        self._break = breaks
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def send(self, data: bytes, at: float) -> None:
        """Deliver bytes at laboratory time `at` (s), not before what was sent earlier."""
        if not self.alive:
            return
        if not self._waiting and at <= self._clock.now():
            self._write(data)
            return
        self._waiting.append((at, data))
        if self._timer is None:
            self._timer = set_timer(self._clock, at, self._deliver)

    def drop(self) -> None:
        """Break the connection; what has not been delivered is lost."""
        if self.alive:
            self.forget()
            self._break()

    def forget(self) -> None:
        """The connection is gone."""
        self.alive = False
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deliver(self) -> None:
        self._timer = None
        while self._waiting:
            at, data = self._waiting[0]
            if at > self._clock.now():
                self._timer = set_timer(self._clock, at, self._deliver)
                return
            self._waiting.popleft()
            self._write(data)
