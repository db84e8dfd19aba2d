"""A step by software: the set-point, then readings on a grid until a condition ends the step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from operando.instruments.clock import Clock
from operando.instruments.errors import CommunicationError, LinkLostError
from operando.instruments.recorder import JSON, Entry
from operando.instruments.roles import OpenCircuit, Potentiostat, TellsSwitching
from operando.instruments.samples import Reading
from operando.protocols.limit_watch import READING_TIME
from operando.protocols.preflight import settled
from operando.protocols.run import current_bound
from operando.protocols.steps import Step, VoltageSweep
from operando.protocols.synchrony import Synchrony
from operando.protocols.tally import Tally
from operando.protocols.techniques import begin_sweep

MISSED_READINGS: Final = 2
"""Consecutive failed readings that are repeated before the run counts as faulted."""


READINGS_A_LEVEL: Final = 4
"""Of a staircase, in which the current falls after each rise: one reading a level, always at the
same moment of it, was seen to be wrong by 7 % of the charge, four by less than 1 %. Our choice."""


class Host(Protocol):
    """The run, as its polls need it. interrupted: whether they are to end."""

    clock: Clock
    tally: Tally
    synchrony: Synchrony

    @property
    def interrupted(self) -> bool: ...
    @property
    def rest_limit(self) -> float: ...

    def judge(self, reading: Reading, step: Step) -> None:
        """Take a reading and let limits act on it."""
        ...

    async def unobserved(self, start: float, end: float, slept: float = 0.0) -> None:
        """Journal that nothing was observed between two laboratory times, and hold."""
        ...

    async def note(self, entry: Entry, data: Mapping[str, JSON]) -> None:
        """Append to the journal."""
        ...


async def poll(step: Step, potentiostat: Potentiostat, interval: float, host: Host) -> None:
    """Apply a step and read every `interval` s until it has ended, or nothing was observed.

    Raises CommunicationError when several readings in a row failed.
    """
    clock, tally = host.clock, host.tally
    setpoint = step.setpoint(host.rest_limit)
    resting = isinstance(setpoint, OpenCircuit)
    asked, stairs = clock.now(), None
    if isinstance(step, VoltageSweep):
        stairs = await begin_sweep(potentiostat, step, tally.elapsed, clock)
        interval = min(interval, step.step / step.rate / READINGS_A_LEVEL)
    else:
        await potentiostat.apply(setpoint)
    # The set-point before ended when the relay opened for a rest, else when the new one came.
    ended = began = asked if resting else clock.now()
    if isinstance(potentiostat, TellsSwitching):
        ended, began = potentiostat.switched
    tally.begin_attempt(began, current_bound(setpoint), ended)
    if resting and not isinstance(potentiostat, TellsSwitching):
        await settled(potentiostat)  # what is first read are the lowest range's own transients
    suspended = clock.suspended()
    patience = 5.0 * interval + clock.lab(READING_TIME)
    missed, due = 0, clock.now()
    while True:
        await clock.sleep_until(due)
        host.synchrony.strike()
        try:
            reading = await potentiostat.measure()
        except LinkLostError:
            raise
        except CommunicationError as error:
            # Reading again is harmless; writing again would not be.
            missed += 1
            if missed > MISSED_READINGS:
                raise
            await host.note(Entry.ALARM, {"what": "reading failed, repeated", "why": str(error)})
            continue
        missed = 0
        host.synchrony.electrical(reading.time)
        slept, suspended = clock.suspended() - suspended, clock.suspended()
        if slept > 1.0 or reading.time - tally.last_time > patience:
            await host.unobserved(tally.last_time, reading.time, slept)
            return
        host.judge(reading, step)
        if not host.interrupted and tally.step_ended(reading):
            return
        if stairs is not None and not host.interrupted:
            await stairs.follow(clock.now())
        due = tally.next_due(due, interval, clock.now())
