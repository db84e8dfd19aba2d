"""Instruments that only watch: polled on their own grid, each reading at its own time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Coroutine, Mapping
from typing import Protocol

from operando.instruments.clock import Clock
from operando.instruments.errors import CommunicationError, InstrumentError
from operando.instruments.recipe import Poll
from operando.instruments.roles import Instrument
from operando.instruments.samples import AuxReading
from operando.protocols.synchrony import Synchrony


class Monitor(Instrument, Protocol):
    """A load cell, thermometer or glovebox sensor."""

    async def measure(self) -> AuxReading | tuple[AuxReading, ...]:
        """One reading, or one of each quantity."""
        ...


class MonitorSink(Protocol):
    """Who wants to know what a monitor says."""

    def on_aux(self, reading: AuxReading) -> None:
        """A reading came."""
        ...

    async def on_monitor_failure(self, name: str, why: str) -> None:
        """An outage began."""
        ...

    def on_monitor_back(self, name: str) -> None:
        """An outage ended."""
        ...

    def on_crash(self, name: str, why: str) -> None:
        """The watcher itself failed."""
        ...


async def watch(
    name: str,
    monitor: Monitor,
    interval: float,
    clock: Clock,
    sink: MonitorSink,
    synchrony: Synchrony | None = None,
) -> None:
    """Poll a monitor every `interval` s of laboratory time until cancelled.

    synchrony: poll it together with the potentiostat instead, where that is polled as often.

    A reading that fails is reported once an outage; the session is renewed and polling goes on,
    so that the limits on its quantities find them stale. The phase within the interval follows
    from the name, so that many monitors do not speak at once.
    """
    phase = interval * (zlib.crc32(name.encode()) / 2**32)
    due = clock.now() + phase
    failing = False
    try:
        while True:
            if synchrony is not None and name in synchrony:
                await synchrony.wait(name, interval)
            else:
                await clock.sleep_until(due)
            try:
                readings = await readings_of(monitor)
            except InstrumentError as error:
                if not failing:
                    await sink.on_monitor_failure(name, str(error))
                failing = True
                await _renew(monitor)
            else:
                if failing:
                    sink.on_monitor_back(name)
                failing = False
                for reading in readings:
                    sink.on_aux(reading)
            due += interval
            now = clock.now()
            if due < now:
                due += interval * (1 + (now - due) // interval)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        sink.on_crash(name, f"{type(error).__name__}: {error}")
        raise


class Watchers:
    """The tasks that look on while a run goes on, by the instrument's name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(
        self,
        monitors: Mapping[str, Monitor],
        poll: Poll,
        sink: MonitorSink,
        synchrony: Synchrony,
    ) -> None:
        """Poll monitors, each as often as its own interval says."""
        for name, monitor in monitors.items():
            self.add(name, watch(name, monitor, poll.of(name), self._clock, sink, synchrony))

    def add(self, name: str, watching: Coroutine[None, None, None]) -> None:
        """Let something look on beside them."""
        self._tasks[name] = asyncio.create_task(watching)

    async def stop(self, *names: str) -> None:
        """End some of them, all if none is named, and wait for that."""
        chosen = names or tuple(self._tasks)
        tasks = [self._tasks.pop(name) for name in chosen if name in self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def readings_of(monitor: Monitor) -> tuple[AuxReading, ...]:
    """One reading of each of its quantities."""
    readings = await monitor.measure()
    return (readings,) if isinstance(readings, AuxReading) else readings


async def _renew(monitor: Monitor) -> None:
    try:
        await monitor.reconnect()
    except CommunicationError:
        return  # still out of reach: the next poll tries again
