"""What a simulated instrument is connected to: the physics, seen through narrow ports."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class TerminalState(Protocol):
    """Voltage, current and regulation at the terminals of a cell."""

    @property
    def voltage(self) -> float:
        """V at the cell's terminals."""
        ...

    @property
    def current(self) -> float:
        """A; positive charges the cell."""
        ...

    @property
    def regulation(self) -> enum.Enum:
        """What the source holds: a member whose value is "open", "current" or "voltage"."""
        ...


class CellPort(Protocol):
    """The two terminals of a cell. Times are laboratory time in s and never decrease."""

    def open_circuit(self, now: float) -> None:
        """Disconnect whatever is connected."""
        ...

    def source_voltage(
        self, now: float, level: float, current_limit: float, resistance: float = 0.0
    ) -> None:
        """Connect a voltage source: level in V, limit in A, leads in ohm."""
        ...

    def source_current(self, now: float, level: float, voltage_limit: float) -> None:
        """Connect a current source: level in A, limit in V (magnitude)."""
        ...

    def terminal(self, now: float) -> TerminalState:
        """What is seen at the terminals."""
        ...


class FramePort(Protocol):
    """The force in a load frame."""

    @property
    def area(self) -> float:
        """Area of the piston, m2."""
        ...

    def force(self, now: float) -> float:
        """Force at laboratory time `now` (s), N; positive compresses."""
        ...

    def press(self, now: float, force: float) -> None:
        """Let an actuator bring the force to a value (N, not negative) at a time (s)."""
        ...


class RoomPort(Protocol):
    """The air around an instrument. Times are laboratory time in s and never decrease."""

    def temperature(self, now: float) -> float:
        """K."""
        ...

    def pressure(self, now: float) -> float:
        """Absolute, Pa."""
        ...

    def surrounding_pressure(self, now: float) -> float:
        """Absolute pressure outside the room, Pa: what a gauge is relative to."""
        ...

    def fraction(self, gas: str, now: float) -> float:
        """Mole fraction of "o2", "h2o" or "h2s"."""
        ...

    def regulate(self, now: float, target: float | None, rate: float = float("inf")) -> None:
        """Let a chamber go to a temperature (K) at no more than a rate (K/s); None: no more.

        Raises ValueError in a room that nothing heats.
        """
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """Where a simulated instrument is: what of the physics it touches. None: nothing of that."""

    cell: CellPort | None = None
    frame: FramePort | None = None
    room: RoomPort | None = None
