"""Rooms that simulated instruments and cells are in: laboratory, climate chamber, glovebox."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from operando.instruments.bench import RoomEntry
from operando.instruments.errors import BadInputError
from operando.simulators.devices.device import Options
from operando.simulators.rooms.chamber import Chamber
from operando.simulators.rooms.glovebox import Glovebox
from operando.simulators.rooms.laboratory import (
    OXYGEN_IN_AIR,
    STANDARD_PRESSURE,
    WATER_IN_AIR,
    Laboratory,
    Room,
)

__all__ = [
    "KINDS",
    "OXYGEN_IN_AIR",
    "STANDARD_PRESSURE",
    "WATER_IN_AIR",
    "Chamber",
    "Glovebox",
    "Laboratory",
    "Room",
    "make_room",
]

KINDS: Mapping[str, Callable[[Options, float, str], Room]] = {
    "chamber": Chamber,
    "glovebox": Glovebox,
    "laboratory": Laboratory,
}


def make_room(entry: RoomEntry, start: float) -> Room:
    """Build a room of a bench file. start: laboratory time, s. Raises BadInputError."""
    if entry.kind not in KINDS:
        raise BadInputError(
            f"{entry.where}: kind = {entry.kind!r}: write one of {', '.join(sorted(KINDS))}"
        )
    options = Options(f"[rooms.{entry.name}]", entry.options)
    room = KINDS[entry.kind](options, start, entry.name)
    options.finish()
    return room
