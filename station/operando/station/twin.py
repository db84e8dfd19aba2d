"""The simulated twin of one channel: a bench of its own, for a dry run in virtual time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from operando.instruments.bench import (
    Bench,
    CellEntry,
    ChannelEntry,
    InstrumentEntry,
    RoomEntry,
    SimulatedEntry,
)
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import parse_quantity
from operando.instruments.registry import SIMULATORS, available
from operando.instruments.roles import Expect
from operando.station.assembly import driver_info
from operando.station.orders import cell_of

AT_THE_CELL = frozenset({"potentiostat", "cycler", "load_cell", "pressure_controller"})
"""Roles of instruments that touch the cell; the others sense or condition a room."""

_EVENTS = "events"
"""Option of a room with what is planned to happen in it."""


@dataclass(frozen=True)
class Twin:
    """A bench with one channel, all simulated. notes: what it is not, and what was left out."""

    bench: Bench
    cell: CellEntry
    notes: tuple[str, ...]


def twin_of(bench: Bench, channel: str) -> Twin:
    """Make the twin of a channel. Raises BadInputError.

    Instruments with a table `simulated` are taken as they are, without faults. The others are
    simulated by the simulator that has their driver's name, with its default options, on a fresh
    cell of the preset that the bench states.
    """
    cell = cell_of(bench, channel).entry
    entry = bench.channels[channel]
    if not cell.preset:
        raise BadInputError(
            f"{cell.where}: a dry run needs to know what cell {cell.name} is like; write preset = "
            f'"ncm811-caec" into [cells.{cell.name}], with one of those that `operando presets` '
            "lists"
        )
    simulators = available(SIMULATORS)
    notes: list[str] = []
    made: dict[str, InstrumentEntry] = {}
    rooms = dict(bench.rooms)
    for name in entry.instruments:
        own = bench.instruments[name]
        if own.simulated is None and own.driver not in simulators:
            if name not in entry.shared:
                raise BadInputError(
                    f"{own.where}: {name} cannot be simulated for a dry run, because no package "
                    f"provides a simulated instrument for its driver {own.driver}"
                )
            notes.append(f"{name} is not in the twin: nothing simulates {own.driver}")
            continue
        if own.simulated is None:
            own, cell = _twinned(own, cell, rooms)
            notes.append(f"{name} is simulated with the default options of {own.driver}")
        made[name] = own
    for host in _hosts(bench, made.values()):
        made.setdefault(host.name, host)
    for name, own in made.items():
        if own.simulated is not None and own.simulated.faults != "none":
            notes.append(f"the faults of {name} ({own.simulated.faults}) are left out")
            made[name] = replace(own, simulated=replace(own.simulated, faults="none"))
    alone = replace(
        entry, cell=cell.name, shared=tuple(name for name in entry.shared if name in made)
    )
    reduced = _reduced(bench, alone, made, cell, rooms, notes)
    return Twin(reduced, cell, tuple(notes))


def _reduced(
    bench: Bench,
    entry: ChannelEntry,
    made: Mapping[str, InstrumentEntry],
    cell: CellEntry,
    rooms: Mapping[str, RoomEntry],
    notes: list[str],
) -> Bench:
    """The bench with nothing but what the channel needs."""
    tables = [own.simulated for own in made.values() if own.simulated is not None]
    cells = {one.cell: bench.cells[one.cell] for one in tables if one.cell} | {cell.name: cell}
    needed = {one.room for one in tables} | {one.room for one in cells.values()}
    quiet = {}
    for name, room in rooms.items():
        if name not in needed:
            continue
        if _EVENTS in room.options:
            notes.append(f"what is planned to happen in {name} is left out")
        options = {key: value for key, value in room.options.items() if key != _EVENTS}
        quiet[name] = replace(room, options=options)
    return replace(
        bench,
        speed=1.0,
        # In the order of the file: the first instrument of a place brings the options of all.
        instruments={name: made[name] for name in bench.instruments if name in made},
        channels={entry.name: entry},
        cells=cells,
        rooms=quiet,
    )


def _hosts(bench: Bench, made: Iterable[InstrumentEntry]) -> list[InstrumentEntry]:
    """First simulated instruments at the places of others, which state the options of all there."""
    places = {own.address.partition("#")[0] for own in made if own.simulated is not None}
    first: dict[str, InstrumentEntry] = {}
    for own in bench.instruments.values():
        place = own.address.partition("#")[0]
        if place in places and own.simulated is not None:
            first.setdefault(place, own)
    return list(first.values())


def _twinned(
    own: InstrumentEntry, cell: CellEntry, rooms: dict[str, RoomEntry]
) -> tuple[InstrumentEntry, CellEntry]:
    """A real instrument with a table `simulated`, and the cell, which may have got a room."""
    roles = driver_info(own.driver, own.where).roles
    options: dict[str, object] = {}
    room = ""
    if AT_THE_CELL.intersection(roles):
        if "pressure_controller" in roles:
            options["stiffness"] = 0.0  # a press keeps the force
        area = own.settings.get("piston_area")
        with contextlib.suppress(BadInputError):  # wrong settings are told by their driver
            options |= {} if area is None else {"area": parse_quantity(str(area), "m2")}
        return _simulated(own, SimulatedEntry(cell.name, options=options)), cell
    if "temperature_controller" in roles:
        room = _room(cell.room, "chamber", own, rooms)
        cell = replace(cell, room=room)
    elif roles[0] == "glovebox_monitor":
        room = _room("", "glovebox", own, rooms)
    return _simulated(own, SimulatedEntry(room=room)), cell


def _simulated(own: InstrumentEntry, table: SimulatedEntry) -> InstrumentEntry:
    # The twin has a serial number of its own.
    return replace(own, simulated=table, expect=Expect())


def _room(stated: str, kind: str, own: InstrumentEntry, rooms: dict[str, RoomEntry]) -> str:
    """Name of the room of an instrument: the one stated, if it is of this kind, else a new one."""
    if stated in rooms and rooms[stated].kind == kind:
        return stated
    name = f"{kind}-of-the-twin"
    rooms.setdefault(name, RoomEntry(name, own.where, kind))
    return name
