"""Laboratory air, and what every room shows."""

from __future__ import annotations

from typing import Protocol

from operando.instruments.errors import BadInputError
from operando.simulators.cell.port import Cell
from operando.simulators.devices.device import Options
from operando.simulators.devices.ports import CellPort, FramePort, RoomPort

STANDARD_PRESSURE = 101325.0
"""Standard atmosphere, Pa (CGPM 1954)."""

OXYGEN_IN_AIR = 0.20946
"""Mole fraction of oxygen in dry air (U.S. Standard Atmosphere 1976)."""

WATER_IN_AIR = 0.0126
"""Mole fraction of water in laboratory air: 45 % relative humidity at 23 degC (assumed; 0.004 in a
heated room in winter to 0.02)."""

GASES = ("o2", "h2o", "h2s")


class Room(RoomPort, Protocol):
    """A room of the bench: instruments sense it, cells have its temperature."""

    def occupy(self, cell: Cell, now: float) -> CellPort:
        """Put a cell into the room; what is returned is the cell as seen from its terminals."""
        ...

    def clamp(self, frame: FramePort, cell: CellPort) -> FramePort:
        """A load frame around a cell that `occupy` returned."""
        ...

    def inject(self, text: str, now: float) -> None:
        """Let events happen, e.g. "leak; in 10 min: antechamber". Raises BadInputError."""
        ...


class Laboratory:
    """Ambient air that nothing regulates.

    Options: temperature (K), pressure (Pa, absolute), h2o (mole fraction of water).
    """

    def __init__(self, options: Options, start: float, name: str = "laboratory") -> None:
        self._temperature = options.number("temperature", 296.15, low=250.0, high=330.0)
        self._pressure = options.number("pressure", STANDARD_PRESSURE, low=5e4, high=1.2e5)
        self._water = options.number("h2o", WATER_IN_AIR, low=0.0, high=0.2)
        self._fractions = air(self._water)
        self._name = name

    def occupy(self, cell: Cell, now: float) -> CellPort:
        """Put a cell into the room: it has the room's temperature from now on."""
        cell.set_temperature(now, self.temperature(now))
        return cell

    def clamp(self, frame: FramePort, cell: CellPort) -> FramePort:
        """The frame itself: its temperature does not change."""
        return frame

    def temperature(self, now: float) -> float:
        """K."""
        return self._temperature

    def pressure(self, now: float) -> float:
        """Absolute, Pa."""
        return self._pressure

    def surrounding_pressure(self, now: float) -> float:
        """Absolute pressure outside, Pa."""
        return self._pressure

    def fraction(self, gas: str, now: float) -> float:
        """Mole fraction of a gas."""
        return self._fractions[gas]

    def regulate(self, now: float, target: float | None, rate: float = float("inf")) -> None:
        """Refused: nothing heats it."""
        raise ValueError("nothing heats or cools a laboratory: give the chamber a room of its own")

    def inject(self, text: str, now: float) -> None:
        """Refused, except "none": nothing happens in a laboratory."""
        if text.strip() not in {"", "none"}:
            raise BadInputError(f"[rooms.{self._name}]: no events happen here, not {text!r}")


def air(water: float) -> dict[str, float]:
    """Mole fractions of humid air."""
    return {"o2": OXYGEN_IN_AIR * (1.0 - water), "h2o": water, "h2s": 0.0}
