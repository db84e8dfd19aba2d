"""Instruments that several channels watch, and one may drive: asked once, told to all who ask.

A glovebox sensor or a chamber stands beside many cells. Each run polls it on its own grid, as it
does its own monitors; what one run has just been told is told to the others too, instead of asking
again. Each run stores its own copy, with the time at which it was measured.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from operando.instruments.capabilities import Capabilities
from operando.instruments.clock import Clock
from operando.instruments.errors import InstrumentError
from operando.instruments.roles import DriverInfo, Identity
from operando.instruments.samples import AuxReading
from operando.protocols.monitors import Monitor, readings_of


class SharedInstrument:
    """An instrument that is open as long as somebody watches it."""

    def __init__(self, instrument: Monitor, clock: Clock) -> None:
        self.instrument = instrument
        self.clock = clock
        self.turn = asyncio.Lock()
        self.attempts = 0
        self.asked_at = -math.inf
        self.outcome: tuple[AuxReading, ...] | InstrumentError = ()


class SharedView:
    """A shared instrument as one run sees it; a monitor.

    patience: age up to which an answer that another run got is this run's answer too, s.
    """

    def __init__(self, shared: SharedInstrument, patience: float) -> None:
        self._shared = shared
        self._patience = patience
        self._told = shared.attempts
        self._asked_last = False

    @property
    def capabilities(self) -> Capabilities:
        """Of the instrument."""
        return self._shared.instrument.capabilities

    async def measure(self) -> tuple[AuxReading, ...]:
        """What it measures, asked now or told to another run a moment ago; never twice the same."""
        shared = self._shared
        async with shared.turn:
            fresh = shared.clock.now() - shared.asked_at <= self._patience
            self._asked_last = not (fresh and shared.attempts > self._told)
            if self._asked_last:
                shared.asked_at = shared.clock.now()
                try:
                    shared.outcome = await readings_of(shared.instrument)
                except InstrumentError as error:
                    shared.outcome = error
                shared.attempts += 1
            self._told = shared.attempts
            if isinstance(shared.outcome, InstrumentError):
                raise shared.outcome
            return shared.outcome

    async def connect(self) -> Identity:
        """Open the wire again: see `reconnect`."""
        return await self.reconnect()

    async def reconnect(self) -> Identity:
        """Renew the session if it was this run that found it broken; else that run does."""
        if not self._asked_last:
            return Identity("", "")
        async with self._shared.turn:
            return await self._shared.instrument.reconnect()

    async def safe(self) -> None:
        """Nothing: what others need is not switched by one run."""

    async def close(self) -> None:
        """Nothing: it is closed when nobody watches it any more."""


class DrivenView(SharedView):
    """A shared instrument as the run sees it whose channel drives it: it alone switches it."""

    @property
    def INFO(self) -> DriverInfo:  # noqa: N802 - as drivers call it
        """Of the instrument."""
        info: DriverInfo = self._driver.INFO
        return info

    @property
    def _driver(self) -> Any:
        return self._shared.instrument

    def check(self, **asked: float) -> None:
        """Raise UnsupportedError if its settings do not allow a set-point."""
        self._driver.check(**asked)

    async def hold(self, **asked: float) -> None:
        """Tell it a set-point; returns when that has been read back."""
        await self._driver.hold(**asked)

    async def reconnect(self) -> Identity:
        """Renew the session, whoever found it broken."""
        async with self._shared.turn:
            return await self._shared.instrument.reconnect()

    async def safe(self) -> None:
        """Bring it into its safe state, for every run that watches it."""
        await self._shared.instrument.safe()


class SharedInstruments:
    """The shared instruments of a bench that are open, by name."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[SharedInstrument, AsyncExitStack]] = {}
        self._users: dict[str, int] = {}
        self._doors: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def watch(
        self,
        name: str,
        patience: float,
        open_it: Callable[[str, AsyncExitStack], Awaitable[SharedInstrument]],
        *,
        drive: bool = False,
    ) -> AsyncIterator[SharedView]:
        """Watch an instrument for as long as the context lasts.

        open_it: opens it for the first who watches, and leaves in the stack what closes it after
        the last. drive: it is the one channel's that has it in a role.
        """
        door = self._doors.setdefault(name, asyncio.Lock())
        async with door:
            if name not in self._open:
                async with AsyncExitStack() as stack:
                    self._open[name] = await open_it(name, stack), stack.pop_all()
            self._users[name] = self._users.get(name, 0) + 1
        try:
            yield (DrivenView if drive else SharedView)(self._open[name][0], patience)
        finally:
            async with door:
                self._users[name] -= 1
                if not self._users[name]:
                    _, stack = self._open.pop(name)
                    await stack.aclose()
