"""Reading `bench.toml`. Every error names file, line, table and key, and the remedy."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from operando.instruments import units
from operando.instruments.addresses import Address, parse_address
from operando.instruments.bench import (
    PLAUSIBLE_VOLTAGES,
    Bench,
    Calibration,
    CellEntry,
    ChannelEntry,
    InstrumentEntry,
    RoomEntry,
    SimulatedEntry,
)
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import unknown_key
from operando.instruments.roles import ACTUATORS, ROLES, Expect
from operando.instruments.toml_text import Section, TomlDocument
from operando.instruments.units import format_quantity

FASTEST = 1000.0
"""Largest factor of scaled time."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_TABLES = ("clock", "instruments", "channels", "cells", "rooms", "protocols")
_HOUR = 3600.0
_SIMULATED = ("cell", "faults", "room")
_INSTRUMENT = ("driver", "address", "expect", "settings", "simulated", "calibration")


def load_bench(path: Path | str) -> Bench:
    """Read and check a bench file. Raises BadInputError. Touches no instrument."""
    path = Path(path).absolute()
    return parse_bench(TomlDocument.read(path))


def parse_bench(document: TomlDocument) -> Bench:
    """Check a bench file that was read. Raises BadInputError."""
    root = Section(document, (), _TABLES)
    speed = _speed(document)
    rooms = {name: _room(document, name) for name in _names(document, root, "rooms")}
    cells = {name: _cell(document, name, rooms) for name in _names(document, root, "cells")}
    instruments = {
        name: _instrument(document, name, cells, rooms)
        for name in _names(document, root, "instruments")
    }
    _refuse_shared_addresses(document, instruments)
    _refuse_mixed_speed(document, instruments, speed)
    channels = {
        name: _channel(document, name, instruments, cells)
        for name in _names(document, root, "channels")
    }
    _refuse_double_use(document, channels)
    scripts = _scripts(document)
    return Bench(document.path, speed, instruments, channels, cells, rooms, scripts)


def _names(document: TomlDocument, root: Section, table: str) -> list[str]:
    names = list(root.mapping(table))
    for name in names:
        if not _NAME.fullmatch(name):
            raise document.error(
                (table, name), "a name is made of letters, digits, _ and -, without spaces"
            )
    return names


def _speed(document: TomlDocument) -> float:
    clock = Section(document, ("clock",), ("speed",))
    speed = clock.number("speed", 1.0)
    if not 0.0 < speed <= FASTEST:
        raise clock.error("speed", f"must be more than 0 and at most {FASTEST:g}, found {speed:g}")
    return speed


def _scripts(document: TomlDocument) -> Path | None:
    table = Section(document, ("protocols",), ("folder",))
    if not table.text("folder"):
        return None
    folder = document.path.parent / table.text("folder")
    if not folder.is_dir():
        raise table.error("folder", f"there is no folder {folder}; make it, or take this line out")
    return folder


def _instrument(
    document: TomlDocument,
    name: str,
    cells: Mapping[str, CellEntry],
    rooms: Mapping[str, RoomEntry],
) -> InstrumentEntry:
    key = ("instruments", name)
    table = Section(document, key, _INSTRUMENT)
    if not table.text("driver"):
        raise table.missing("driver", 'driver = "keithley-2450"')
    if not table.text("address"):
        raise table.missing("address", 'address = "TCPIP::192.168.0.10::5025::SOCKET"')
    address = _address(document, table)
    expect = Section(document, (*key, "expect"), ("serial", "model", "firmware"))
    simulated = _simulated(document, key, cells, rooms) if "simulated" in table else None
    return InstrumentEntry(
        name=name,
        driver=table.text("driver"),
        address=address.text,
        where=document.where(*key),
        expect=Expect(expect.text("serial"), expect.text("model"), expect.text("firmware")),
        settings=table.mapping("settings"),
        simulated=simulated,
        calibration=_calibration(document, key),
    )


def _calibration(document: TomlDocument, key: tuple[str, ...]) -> Calibration:
    table = Section(document, (*key, "calibration"), ("due", "certificate"))
    due = table.table.get("due")
    if due is not None and (type(due) is not datetime.date):
        raise table.error("due", f"write a day without quotes, such as 2027-01-31, not {due!r}")
    return Calibration(due, table.text("certificate"))


def _address(document: TomlDocument, table: Section) -> Address:
    try:
        return parse_address(table.text("address"), document.path.parent)
    except BadInputError as error:
        raise table.error("address", str(error)) from None


def _simulated(
    document: TomlDocument,
    key: tuple[str, ...],
    cells: Mapping[str, CellEntry],
    rooms: Mapping[str, RoomEntry],
) -> SimulatedEntry:
    key = (*key, "simulated")
    written = Section(document, key[:-1], _INSTRUMENT)
    keys = list(written.mapping("simulated"))
    table = Section(document, key, keys)
    for name in keys:
        # All other keys are the device's own, so only what looks like a slip is refused here.
        if name not in _SIMULATED and difflib.get_close_matches(name, _SIMULATED, 1, 0.75):
            raise table.error(name, unknown_key(name, list(_SIMULATED)))
    cell = table.text("cell")
    if cell and cell not in cells:
        raise table.error("cell", f"there is no [cells.{cell}]; {_listed('cells', cells)}")
    options = {name: value for name, value in table.table.items() if name not in _SIMULATED}
    room = _known_room(table, rooms)
    return SimulatedEntry(cell, table.text("faults", "none"), options, room)


def _room(document: TomlDocument, name: str) -> RoomEntry:
    root = Section(document, (), _TABLES)
    written = root.mapping("rooms")[name]
    keys = list(written) if isinstance(written, Mapping) else []
    table = Section(document, ("rooms", name), ["kind", *keys])
    if not table.text("kind"):
        raise table.missing("kind", 'kind = "glovebox"')
    options = {key: value for key, value in table.table.items() if key != "kind"}
    return RoomEntry(name, document.where("rooms", name), table.text("kind"), options)


def _known_room(table: Section, rooms: Mapping[str, RoomEntry]) -> str:
    room = table.text("room")
    if room and room not in rooms:
        raise table.error("room", f"there is no [rooms.{room}]; {_listed('rooms', rooms)}")
    return room


def _listed(what: str, names: Mapping[str, object]) -> str:
    return f"{what} of this bench: {', '.join(names) or 'none'}"


def _refuse_shared_addresses(
    document: TomlDocument, instruments: Mapping[str, InstrumentEntry]
) -> None:
    taken: dict[str, str] = {}
    places: dict[str, str] = {}
    for name, entry in instruments.items():
        address = parse_address(entry.address)
        key = address.key
        beside = places.setdefault(address.base_key, name)
        other = instruments[beside]
        if (
            beside != name
            and key not in taken
            and (
                other.driver != entry.driver
                or not (address.channel and parse_address(other.address).channel)
            )
        ):
            raise document.error(
                ("instruments", name, "address"),
                f"{entry.address} is the place of {beside} already "
                f"({document.where('instruments', beside, 'address')}); only channels of one "
                f'instrument share a place: one driver, and "#channel" behind each address',
            )
        if key in taken:
            owner = taken[key]
            raise document.error(
                ("instruments", name, "address"),
                f"{entry.address} is the address of {owner} already "
                f"({document.where('instruments', owner, 'address')})",
            )
        taken[key] = name


def _refuse_mixed_speed(
    document: TomlDocument, instruments: Mapping[str, InstrumentEntry], speed: float
) -> None:
    real = [e for e in instruments.values() if e.simulated is None or not _is_ours(e.address)]
    if speed != 1.0 and real:
        raise document.error(
            ("clock", "speed"),
            f"is {speed:g}, but {real[0].name} is a real instrument ({real[0].where}). Simulated "
            "and real instruments on one bench only at speed 1",
        )


def _is_ours(address: str) -> bool:
    """Whether no real instrument can be at an address: this computer, or a path of one's own."""
    parsed = parse_address(address)
    return parsed.is_loopback if parsed.host else parsed.is_private_path


def at_speed(bench: Bench, speed: float) -> Bench:
    """The bench at another speed than its file says. Raises BadInputError where that is refused."""
    if not 0.0 < speed <= FASTEST:
        raise BadInputError(
            f"the speed must be more than 0 and at most {FASTEST:g}, found {speed:g}"
        )
    for entry in bench.instruments.values():
        if speed != 1.0 and (entry.simulated is None or not _is_ours(entry.address)):
            raise BadInputError(
                f"speed {speed:g}: {entry.name} is a real instrument ({entry.where}); leave the "
                "speed out"
            )
    return replace(bench, speed=speed)


def require_served_addresses(bench: Bench) -> None:
    """Refuse to serve simulated instruments where real ones may be. Raises BadInputError.

    A bench of real instruments may have `simulated` tables: for virtual time, which opens no
    address.
    """
    for entry in bench.instruments.values():
        if entry.simulated is not None and not _is_ours(entry.address):
            raise BadInputError(
                f"{entry.where}: {entry.name} at {entry.address} cannot be served, because a real "
                "instrument may be there. Simulated instruments are served at 127.0.0.1, such as "
                '"TCPIP::127.0.0.1::5025::SOCKET", or at a path of their own, such as '
                '"serial:ports/smu1"; virtual time (--virtual) needs no address'
            )


def _channel(
    document: TomlDocument,
    name: str,
    instruments: Mapping[str, InstrumentEntry],
    cells: Mapping[str, CellEntry],
) -> ChannelEntry:
    key = ("channels", name)
    written = document.table["channels"]
    assert isinstance(written, Mapping)
    for role in written[name] if isinstance(written[name], Mapping) else ():
        if role not in ROLES and role not in ("cell", "shared"):
            message = unknown_key(role, [*ROLES, "cell", "shared"])
            raise document.error((*key, role), message.replace("unknown key", "unknown role"))
    table = Section(document, key, (*ROLES, "cell", "shared"))
    roles = {role: table.text(role) for role in table.table if role in ROLES}
    shared = table.texts("shared")
    for place, instrument in [*roles.items(), *(("shared", one) for one in shared)]:
        if instrument not in instruments:
            raise table.error(
                place,
                f"there is no [instruments.{instrument}]; {_listed('instruments', instruments)}",
            )
    repeated = [one for one in shared if shared.count(one) > 1 or one in roles.values()]
    if repeated:
        raise table.error("shared", f"{repeated[0]} is named twice in this channel")
    cell = table.text("cell")
    if cell and cell not in cells:
        raise table.error("cell", f"there is no [cells.{cell}]; {_listed('cells', cells)}")
    for instrument in roles.values():
        simulated = instruments[instrument].simulated
        if simulated is None or not simulated.cell:
            continue
        if cell and simulated.cell != cell:
            raise table.error(
                "cell" if "cell" in table else next(iter(roles)),
                f"the channel has cell {cell}, but {instrument} is simulated on cell "
                f"{simulated.cell} ({document.where('instruments', instrument, 'simulated')})",
            )
        cell = simulated.cell
    return ChannelEntry(name, document.where(*key), roles, cell, shared)


def _refuse_double_use(document: TomlDocument, channels: Mapping[str, ChannelEntry]) -> None:
    users: dict[str, str] = {}
    cells: dict[str, str] = {}
    for channel in channels.values():
        for role, instrument in channel.roles.items():
            other = users.setdefault(instrument, channel.name)
            if other != channel.name:
                raise document.error(
                    ("channels", channel.name, role),
                    f"{instrument} belongs to channel {other} already; an instrument that serves "
                    "several channels is listed under `shared` of each",
                )
        if channel.cell:
            other = cells.setdefault(channel.cell, channel.name)
            if other != channel.name:
                raise document.error(
                    ("channels", channel.name, "cell"),
                    f"cell {channel.cell} is on channel {other} already",
                )
    for channel in channels.values():
        for instrument in channel.shared:
            owner = users.get(instrument)
            # One channel may drive the chamber in which the cells of others are.
            if owner is not None and instrument not in map(channels[owner].roles.get, ACTUATORS):
                raise document.error(
                    ("channels", channel.name, "shared"),
                    f"{instrument} has a role of channel {owner} and cannot be shared",
                )


_CELL = (
    "capacity", "active_mass", "one_c", "area", "voltage_range", "chemistry", "preset", "seed",
    "room", "metadata",
)  # fmt: skip
_HIGHEST = 100.0
"""Largest voltage of a cell, V: a range beyond it was hardly meant."""


def _cell(document: TomlDocument, name: str, rooms: Mapping[str, RoomEntry]) -> CellEntry:
    table = Section(document, ("cells", name), _CELL)
    mass = _positive(table, "active_mass", "kg", "16.96 mg")
    area = _positive(table, "area", "m2", "1.131 cm2")
    capacity, words = _one_c(table, mass, area)
    return CellEntry(
        name=name,
        where=document.where("cells", name),
        capacity=capacity,
        active_mass=mass,
        area=area,
        one_c=words,
        voltage_range=_voltage_range(table),
        chemistry=table.text("chemistry"),
        preset=table.text("preset"),
        seed=table.whole("seed"),
        room=_known_room(table, rooms),
        metadata=table.mapping("metadata"),
    )


def _positive(table: Section, name: str, unit: str, example: str) -> float:
    """A positive quantity, 0.0 when absent. A bare number is refused: nobody weighs in kg."""
    if name not in table:
        return 0.0
    written = table.table[name]
    if not isinstance(written, str):
        raise table.error(name, f'write it with its unit, such as "{example}", not {written!r}')
    try:
        value = units.parse_quantity(written, unit)
    except BadInputError as error:
        raise table.error(name, str(error)) from None
    if value <= 0.0:
        raise table.error(name, f'must be more than zero, found "{written}"')
    return value


def _voltage_range(table: Section) -> tuple[float, float]:
    """Voltages between which the cell may be, V."""
    if "voltage_range" not in table:
        return PLAUSIBLE_VOLTAGES
    written = table.table["voltage_range"]
    texts = [one for one in written if isinstance(one, str)] if isinstance(written, list) else []
    if not isinstance(written, list) or not len(texts) == len(written) == 2:
        raise table.error("voltage_range", f'write two voltages, ["0 V", "5 V"], not {written!r}')
    try:
        low, high = (units.parse_quantity(one, "V") for one in texts)
    except BadInputError as error:
        raise table.error("voltage_range", str(error)) from None
    if not low < high:
        raise table.error("voltage_range", f"the lower voltage comes first, found {written!r}")
    if max(-low, high) > _HIGHEST:
        raise table.error("voltage_range", f"{_HIGHEST:g} V is the most, found {written!r}")
    return low, high


def _one_c(table: Section, mass: float, area: float) -> tuple[float, str]:
    """Capacity that 1C refers to, in C (ampere seconds), and how it was defined."""
    if "capacity" in table:
        if "one_c" in table:
            raise table.error("one_c", "1C is defined by capacity already; state one of the two")
        capacity = _positive(table, "capacity", "As", "3.14 mAh")
        return capacity, f"1C = {_milliamperes(capacity)}, from the stated capacity"
    if "one_c" not in table:
        return 0.0, ""
    written = table.table["one_c"]
    example = 'such as "185 mA/g" (with active_mass) or "3 mA/cm2" (with area)'
    if not isinstance(written, str):
        raise table.error("one_c", f"write it with its unit, {example}, not {written!r}")
    try:
        measured = units.parse_measured(written)
    except BadInputError as error:
        raise table.error("one_c", f"{error}; write it {example}") from None
    per_mass = units.CURRENT.times(units.MASS, -1)
    per_area = units.CURRENT.times(units.AREA, -1)
    if measured.dimension not in (per_mass, per_area):
        raise table.error("one_c", f'"{written}" is {units.name(measured.dimension)}; write it '
                          f"{example}")  # fmt: skip
    of_mass = measured.dimension == per_mass
    name, size, unit = ("active_mass", mass, "kg") if of_mass else ("area", area, "m2")
    if not size:
        raise table.error("one_c", f'"{written}" needs {name}; state it for this cell too')
    if measured.value <= 0.0:
        raise table.error("one_c", f'must be more than zero, found "{written}"')
    capacity = measured.value * size * _HOUR
    words = f"{written} x {format_quantity(size, unit, digits=4)}"
    return capacity, f"1C = {words} = {_milliamperes(capacity)}"


def _milliamperes(capacity: float) -> str:
    return format_quantity(capacity / _HOUR, "A", digits=4)
