"""The simulated twin of a bench: rooms, cells, load frames, instruments, and how to reach them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

from operando.instruments import registry
from operando.instruments.bench import Bench, InstrumentEntry
from operando.instruments.ble import attach_peripheral, parse_ble_address
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Peer, Switchboard
from operando.simulators.cell import AnyCell, cell_from_preset
from operando.simulators.cell import presets as cell_presets
from operando.simulators.devices.bluetooth import BluetoothSensor
from operando.simulators.devices.ports import CellPort, FramePort, Site
from operando.simulators.faults import FaultyPeer
from operando.simulators.loadframe import LoadFrame
from operando.simulators.radio import FaultyPeripheral
from operando.simulators.rooms import Room, make_room
from operando.simulators.wire.server import WireServer, server_for

FRAME_OPTIONS = (
    "stiffness",
    "stack_stiffness",
    "preload",
    "area",
    "thermal_pressure",
    "relaxation",
)
"""Options of `[instruments.NAME.simulated]` that describe the load frame around the cell,
not the instrument: SI units, see `LoadFrame`."""


@runtime_checkable
class SeveralChannels(Protocol):
    """A simulated instrument with channels that live and fail separately."""

    @property
    def channel_relays(self) -> Mapping[str, bool]:
        """True output relay by channel: closed or not."""
        ...

    def add_channel(
        self, name: str, channel: str, *, site: Site, options: Mapping[str, object]
    ) -> None:
        """Wire another channel. name: on the bench."""
        ...


@dataclass(slots=True)
class Served:
    """One simulated instrument that is being served."""

    name: str
    driver: str
    address: str


class SimulatedBench:
    """A bench made of simulated instruments around simulated cells.

    bench: instruments without a `simulated` table are left out. clock: laboratory time; cells are
    assembled at `clock.now()`, so in virtual time a bench is made inside the running loop.
    devices, cells, frames, rooms: by name, for tests; a cell in a chamber is told its temperature
    when its instruments ask, or by `settle`. Raises BadInputError that names the place.
    """

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self.bench = bench
        self.clock = clock
        self._start = clock.now()
        self._entries = {
            name: entry for name, entry in bench.instruments.items() if entry.simulated is not None
        }
        if not self._entries:
            raise BadInputError(
                f"{bench.path}: no instrument has a table [instruments.NAME.simulated]"
            )
        self.rooms: dict[str, Room] = {
            name: make_room(room, self._start) for name, room in bench.rooms.items()
        }
        self.cells: dict[str, AnyCell] = {}
        self.frames: dict[str, LoadFrame] = {}
        # Cells and frames as their rooms let instruments see them.
        self._terminals: dict[str, CellPort] = {}
        self._pressed: dict[str, FramePort] = {}
        frame_options = self._frame_options()
        for entry in self._entries.values():
            self._build_cell(entry, frame_options)
        self.devices: dict[str, Peer] = {}
        self._peers: dict[str, FaultyPeer] = {}
        self._servers: dict[str, WireServer] = {}
        for name, entry in self._entries.items():
            self._build_device(name, entry)

    # -- Simulation

    def attach(self, switchboard: Switchboard) -> None:
        """Make every simulated instrument reachable through memory pipes."""
        for address, name in self._places().items():
            peer = self._peers[name]
            if isinstance(peer, FaultyPeripheral):
                attach_peripheral(switchboard, address, peer)
            else:
                switchboard.attach(address, peer)

    async def serve(self) -> tuple[Served, ...]:
        """Serve every simulated instrument at the bench's addresses (TCP, pty).

        On failure nothing stays served.
        """
        if self.clock.mode == "virtual":
            raise BadInputError("virtual time has no sockets: attach to a switchboard instead")
        try:
            for address, name in self._places().items():
                if name not in self._servers:
                    server = server_for(address, self._peers[name], self.clock)
                    await server.start()
                    self._servers[name] = server
        except BaseException:
            await self.close()
            raise
        return tuple(
            Served(name, entry.driver, entry.address) for name, entry in self._entries.items()
        )

    async def close(self) -> None:
        """Stop serving and remove what was made for it; idempotent."""
        servers, self._servers = self._servers, {}
        for server in servers.values():
            await server.close()
        for peer in self._peers.values():
            peer.close()
        for device in self.devices.values():
            close = getattr(device, "close", None)
            if callable(close):
                close()

    def charges(self) -> Mapping[str, float]:
        """True net charge that has passed each cell since it was assembled, C."""
        now = self.clock.now()
        return {name: self._charge(name, now) for name in self.cells}

    def relays(self) -> Mapping[str, bool]:
        """True output relay of each instrument that has one: closed or not."""
        closed = {}
        for name, device in self.devices.items():
            channel = self._entries[name].address.partition("#")[2]
            if channel and isinstance(device, SeveralChannels):
                closed[name] = device.channel_relays[channel]
            elif getattr(device, "has_relay", False) and hasattr(device, "relay_closed"):
                closed[name] = bool(device.relay_closed)
        return closed

    def inject(self, instrument: str, fault: str) -> None:
        """Replace the faults of one instrument, e.g. "silence", "late 3 s; garbage", "none".

        They may be planned: "at 2 h: silence for 30 s". Instead of an instrument, a room: its
        events, e.g. "leak for 10 min"; "rooms.NAME" where an instrument has the same name.
        """
        if instrument in self._peers:
            self._peers[instrument].inject(fault)
            return
        room = self.rooms.get(instrument.removeprefix("rooms."))
        if room is None:
            rooms = f"; rooms: {', '.join(sorted(self.rooms))}" if self.rooms else ""
            raise BadInputError(
                f"there is no simulated instrument {instrument!r}; there are "
                + ", ".join(sorted(self._peers))
                + rooms
            )
        room.inject(fault, self.clock.now())

    def settle(self) -> None:
        """Tell every cell the temperatures that it has had in its room until now."""
        now = self.clock.now()
        for cell in self._terminals.values():
            cell.terminal(now)

    def _places(self) -> dict[str, str]:
        """Addresses without channels, each with the first instrument there."""
        places: dict[str, str] = {}
        for name, entry in self._entries.items():
            places.setdefault(entry.address.partition("#")[0], name)
        return places

    # -- building

    def _frame_options(self) -> dict[str, dict[str, float]]:
        """Options of the load frame of each cell, gathered from its instruments."""
        found: dict[str, dict[str, float]] = {}
        for entry in self._entries.values():
            assert entry.simulated is not None
            options = found.setdefault(entry.simulated.cell, {})
            for key in FRAME_OPTIONS:
                if key not in entry.simulated.options:
                    continue
                value = entry.simulated.options[key]
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise BadInputError(
                        f"{_place(entry)} {key} = {value!r}: write a number in SI units"
                    )
                if options.setdefault(key, float(value)) != value:
                    raise BadInputError(
                        f"{_place(entry)} {key} = {value!r}: another instrument of cell "
                        f"{entry.simulated.cell} says {options[key]:g}; a cell has one load frame"
                    )
        return found

    def _build_cell(
        self, entry: InstrumentEntry, frame_options: Mapping[str, Mapping[str, float]]
    ) -> None:
        simulated = entry.simulated
        assert simulated is not None
        name = simulated.cell
        if not name or name in self.cells:
            return
        described = self.bench.cells.get(name)
        if described is None:
            raise BadInputError(
                f"{entry.where}: instrument {entry.name} is simulated on cell {name!r}, but there "
                f"is no table [cells.{name}]"
            )
        if not described.preset:
            raise BadInputError(f"{described.where}: cell {name} is simulated and needs a `preset`")
        try:
            cell = cell_from_preset(described.preset, seed=described.seed, start=self._start)
        except (KeyError, ValueError) as error:
            raise BadInputError(f"{described.where}: {error.args[0]}") from error
        room = self.rooms.get(described.room)
        terminals: CellPort = cell
        if room is not None:
            terminals = room.occupy(cell, self._start)
        self.cells[name] = cell
        try:
            frame = LoadFrame(cell, **frame_options.get(name, {}))
        except ValueError as error:
            raise BadInputError(f"{_place(entry)} load frame: {error}") from error
        self.frames[name] = frame
        self._terminals[name] = terminals
        self._pressed[name] = frame if room is None else room.clamp(frame, terminals)

    def _charge(self, cell: str, now: float) -> float:
        """Net charge of a cell (C) at a laboratory time (s)."""
        if cell not in self.cells:
            known = ", ".join(sorted(self.cells)) or "none"
            raise BadInputError(
                f"cycles are counted on a cell, not on {cell!r}; write 'at cycle 3 of NAME: ...' "
                f"with one of: {known}"
            )
        self._terminals[cell].terminal(now)
        return self.cells[cell].charge_passed(now)

    @staticmethod
    def presets() -> dict[str, str]:
        """Presets of simulated cells: name to description in one line."""
        return cell_presets(None)

    def _build_device(self, name: str, entry: InstrumentEntry) -> None:
        simulated = entry.simulated
        assert simulated is not None
        place, _, number = entry.address.partition("#")
        options = {
            key: value for key, value in simulated.options.items() if key not in FRAME_OPTIONS
        }
        site = Site(
            self._terminals.get(simulated.cell),
            self._pressed.get(simulated.cell),
            self.rooms.get(simulated.room),
        )
        first = self._places()[place]
        if first != name:
            beside = self.devices[first]
            if not isinstance(beside, SeveralChannels):
                raise BadInputError(f"{_place(entry)} {entry.driver} has one channel only")
            if simulated.faults != "none":
                raise BadInputError(
                    f"{_place(entry)} faults: write them at {first}, the first channel there"
                )
            beside.add_channel(name, number, site=site, options=options)
            self.devices[name], self._peers[name] = beside, self._peers[first]
            return
        make = cast("Callable[..., Peer]", registry.load(registry.SIMULATORS, entry.driver))
        channel = {"channel": number} if number else {}
        device = make(name, site=site, clock=self.clock, options=options, **channel)
        own = simulated.cell

        def charge(cell: str, now: float) -> float:
            return self._charge(cell or own, now)

        peer: FaultyPeer
        if isinstance(device, BluetoothSensor):
            device.address = parse_ble_address(place).device
            peer = FaultyPeripheral(device, self.clock, name=name, start=self._start, charge=charge)
        else:
            peer = FaultyPeer(device, self.clock, name=name, start=self._start, charge=charge)
        try:
            # Fast laboratory time goes on while a bench is made.
            peer.inject(simulated.faults, self._start)
        except BadInputError as error:
            raise BadInputError(f"{_place(entry)} faults: {error}") from error
        self.devices[name] = device
        self._peers[name] = peer


def _place(entry: InstrumentEntry) -> str:
    return f"{entry.where}: [instruments.{entry.name}.simulated]"
