"""The one face that every simulated cell shows, whatever is inside it."""

from __future__ import annotations

from typing import Protocol

from operando.simulators.cell.state import Terminal


class Cell(Protocol):
    """Two terminals, a temperature and a thickness.

    Times are laboratory time in s and never decrease from call to call (ValueError). Positive
    current charges the cell: it is anodic at the positive terminal.
    """

    area: float
    """Electrode area, m2."""
    assembled_at: float
    """Laboratory time of assembly, s."""

    def open_circuit(self, now: float) -> None:
        """Disconnect whatever is connected."""

    def source_voltage(
        self, now: float, level: float, current_limit: float, resistance: float = 0.0
    ) -> None:
        """Connect a voltage source: level in V, limit in A (a magnitude), leads in ohm."""

    def source_current(self, now: float, level: float, voltage_limit: float) -> None:
        """Connect a current source: level in A, limit in V (a magnitude)."""

    def terminal(self, now: float) -> Terminal:
        """Return voltage (V), current (A) and regulation at the terminals."""
        ...

    def advance(self, now: float) -> None:
        """Make the state valid up to a time."""

    @property
    def temperature(self) -> float:
        """Temperature of the whole cell, K."""
        ...

    def set_temperature(self, now: float, kelvin: float) -> None:
        """Set the temperature of the whole cell, K."""

    def thickness_change(self, now: float) -> float:
        """Return what the stack has gained in thickness since assembly, m."""
        ...

    def charge_passed(self, now: float) -> float:
        """Return the net charge since assembly, C; positive charged the cell."""
        ...

    def throughput(self, now: float) -> float:
        """Return the absolute charge passed since assembly, C."""
        ...

    def open_circuit_voltage(self, now: float) -> float:
        """Return the voltage the cell would relax to if it were left alone, V."""
        ...
