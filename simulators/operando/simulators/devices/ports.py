"""What a simulated instrument is connected to: the physics, seen through narrow ports."""

from __future__ import annotations

import enum
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

    def force(self, now: float) -> float:
        """Force at laboratory time `now` (s), N; positive compresses."""
        ...
