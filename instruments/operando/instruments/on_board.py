"""Schedules that an instrument carries out by itself while the computer only looks on.

Steps become stages: a set-point with what ends it. An instrument that can run stages says so by
having the methods of `Sequencer`; one that cannot run these very stages says why, and they are
stepped by software instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from operando.instruments.conditions import (
    CURRENT,
    ELAPSED,
    VOLTAGE,
    Comparison,
    Condition,
    Operator,
)
from operando.instruments.roles import Galvanostatic, Potentiostat, SetPoint
from operando.instruments.samples import Reading, Regulation


@dataclass(frozen=True, slots=True)
class Stage:
    """A set-point and what ends it: whichever of the conditions is true first."""

    setpoint: SetPoint
    until: tuple[Condition, ...]


class Ends(NamedTuple):
    """What ends a stage: V, A (magnitude), s; None where it does not end by that.

    cutoff: the voltage of a galvanostatic set-point ends it instead of being held.
    """

    cutoff: float | None = None
    taper: float | None = None
    elapsed: float | None = None


def ends_of(stage: Stage) -> Ends | None:
    """What ends a stage, in numbers; None when its conditions say more than such numbers can."""
    ends = Ends()
    rising = (Operator.AT_LEAST, Operator.ABOVE)
    for condition in stage.until:
        if not isinstance(condition, Comparison):
            return None
        above = condition.operator in rising
        setpoint, bound = stage.setpoint, condition.bound
        if condition.operand == ELAPSED and above and ends.elapsed is None:
            ends = ends._replace(elapsed=bound)
        elif condition.operand == abs(CURRENT) and not above and ends.taper is None:
            ends = ends._replace(taper=bound)
        elif (
            condition.operand == VOLTAGE
            and isinstance(setpoint, Galvanostatic)
            and (above, bound) == (setpoint.current > 0.0, setpoint.cutoff)
        ):
            ends = ends._replace(cutoff=bound)
        else:
            return None
    return ends


class StoredReading(NamedTuple):
    """One row out of the instrument's own memory.

    stage: number of its stage, from 0. elapsed: s since the stage began. voltage: V. current: A,
    positive charges. charge, energy: net, of the stage so far, C and J.
    """

    stage: int
    elapsed: float
    voltage: float
    current: float
    charge: float
    energy: float
    regulation: Regulation


class Progress(NamedTuple):
    """Where a schedule is.

    stage: the one at work, from 0; their number once it has come to its end. elapsed: s in that
    stage by the instrument's clock, NaN where it does not tell.
    """

    reading: Reading
    stage: int
    elapsed: float


@runtime_checkable
class Sequencer(Potentiostat, Protocol):
    """A potentiostat that runs stages one after the other by itself, and stores what it measures.

    `safe` stops a schedule as it stops everything else.
    """

    def why_not(self, stages: Sequence[Stage]) -> str:
        """Why it cannot run exactly these stages by itself, in words; "" if it can."""
        ...

    async def begin(self, stages: Sequence[Stage], every: float) -> None:
        """Start a schedule; returns when the instrument has been read back working on it.

        every: longest time between two rows that it stores, s.
        """
        ...

    async def progress(self) -> Progress:
        """Read where the schedule is. Status FAULT when it ended otherwise than by its end.

        After a lost link, `reconnect` first: the instrument has gone on meanwhile.
        """
        ...

    async def collect(self) -> list[StoredReading]:
        """Download what was stored since the last call, in order; also of a stopped schedule."""
        ...
