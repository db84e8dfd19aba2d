"""What a run is made of: its channel, its settings, its state and its result."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from operando.instruments.limits import Limit
from operando.instruments.recipe import Poll, Preflight, RecordConditions
from operando.instruments.roles import (
    Galvanostatic,
    Potentiostat,
    Potentiostatic,
    Protection,
    SetPoint,
)
from operando.protocols.monitors import Monitor
from operando.protocols.preflight import Finding, OpenCircuitWindow
from operando.protocols.protocol import Cell


class RunState(enum.Enum):
    """Where a run is. The last five are final."""

    PREPARING = "preparing"
    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    COMPLETED = "completed"
    TRIPPED = "tripped"
    ABORTED = "aborted"
    FAULTED = "faulted"
    REFUSED = "refused"
    """Something before the first step was not as it must be; the cell was not driven."""


GRAVITY = {
    RunState.PAUSED: 1,
    RunState.HELD: 2,
    RunState.ABORTED: 3,
    RunState.TRIPPED: 4,
    RunState.REFUSED: 5,
    RunState.FAULTED: 6,
}
"""When several interruptions meet, the gravest decides the state of the run."""

FINAL = frozenset(GRAVITY) - {RunState.PAUSED, RunState.HELD}
"""States in which a run is over."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How to poll, record and guard a run.

    poll: s between readings of the potentiostat, and of each monitor.
    limits: what must never happen. record: which readings become rows.
    protection: bounds programmed into the potentiostat before anything is switched on.
    open_circuit: voltage in which a healthy cell is found before the first step.
    preflight: what else is looked at before it, and what is let pass. found: what the computer
    and its files already said. predicted: voltage (V) of a twin, by running number of the step,
    its charge (C) and its time (s); None without one.
    """

    poll: Poll
    limits: tuple[Limit, ...]
    record: RecordConditions
    protection: Protection
    open_circuit: OpenCircuitWindow
    preflight: Preflight = field(default_factory=Preflight)
    found: tuple[Finding, ...] = ()
    predicted: Callable[[int, float, float], float] | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """A cell with the instruments around it. monitors: by their names on the bench.

    actuators: those of the monitors that steps may drive, names by their roles.
    """

    name: str
    cell: Cell
    potentiostat: Potentiostat
    monitors: Mapping[str, Monitor] = field(default_factory=dict)
    actuators: Mapping[str, str] = field(default_factory=dict)


POTENTIOSTAT: Final = "potentiostat"
"""What drives the cell, among what may be unsafe; it is read back by its role."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. duration: s. charge: net, C.

    safe: the safe state was read back, of the potentiostat and of each actuator that was driven.
    unsafe: of which it was not: "potentiostat", or an actuator by its name.
    """

    state: RunState
    reason: str
    safe: bool
    duration: float
    charge: float
    steps: int
    unsafe: tuple[str, ...] = ()

    @property
    def output_off(self) -> bool:
        """Whether the cell's circuit was read back open, whatever stands around it."""
        return POTENTIOSTAT not in self.unsafe


def current_bound(setpoint: SetPoint) -> float:
    """Highest current that a set-point can drive, A, magnitude."""
    if isinstance(setpoint, Galvanostatic):
        return abs(setpoint.current)
    if isinstance(setpoint, Potentiostatic):
        return setpoint.current_limit
    return 0.0
