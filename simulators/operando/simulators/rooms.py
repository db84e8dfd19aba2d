"""Rooms that simulated instruments and cells are in: laboratory, climate chamber, glovebox."""

from __future__ import annotations

from operando.instruments.bench import RoomEntry
from operando.instruments.errors import BadInputError
from operando.simulators.cell.port import Cell
from operando.simulators.devices.device import Options

STANDARD_PRESSURE = 101325.0
"""Standard atmosphere, Pa (CGPM 1954)."""

OXYGEN_IN_AIR = 0.20946
"""Mole fraction of oxygen in dry air (U.S. Standard Atmosphere 1976)."""


class Laboratory:
    """Ambient air that nothing regulates.

    Options: temperature (K), pressure (Pa, absolute), humidity (mole fraction of water).
    """

    def __init__(self, options: Options, start: float) -> None:
        self._temperature = options.number("temperature", 296.15, low=250.0, high=330.0)
        self._pressure = options.number("pressure", STANDARD_PRESSURE, low=5e4, high=1.2e5)
        self._water = options.number("h2o", 0.0126, low=0.0, high=0.2)
        self._cells: list[Cell] = []

    def occupy(self, cell: Cell, now: float) -> None:
        """Put a cell into the room: it has the room's temperature from now on."""
        self._cells.append(cell)
        cell.set_temperature(now, self.temperature(now))

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
        fractions = {"o2": OXYGEN_IN_AIR * (1.0 - self._water), "h2o": self._water, "h2s": 0.0}
        return fractions[gas]

    def regulate(self, now: float, target: float | None, rate: float = float("inf")) -> None:
        """Refused: nothing heats it."""
        raise ValueError("nothing heats or cools a laboratory: give the chamber a room of its own")


Room = Laboratory

KINDS = {"laboratory": Laboratory}


def make_room(entry: RoomEntry, start: float) -> Room:
    """Build a room of a bench file. start: laboratory time, s. Raises BadInputError."""
    if entry.kind not in KINDS:
        raise BadInputError(
            f"{entry.where}: kind = {entry.kind!r}: write one of {', '.join(sorted(KINDS))}"
        )
    options = Options(f"[rooms.{entry.name}]", entry.options)
    room = KINDS[entry.kind](options, start)
    options.finish()
    return room
