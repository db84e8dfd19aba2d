"""The simulated twin of a bench: its cells, load frames and instruments, and how to reach them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from operando.instruments import registry
from operando.instruments.bench import Bench, InstrumentEntry
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.wires import Peer, Switchboard
from operando.simulators.cell import AnyCell, cell_from_preset
from operando.simulators.cell import presets as cell_presets
from operando.simulators.devices.ports import Site
from operando.simulators.faults import FaultyPeer
from operando.simulators.loadframe import LoadFrame
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
    devices, cells, frames, rooms: by name, for tests. Raises BadInputError that names the place.
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
        for name, entry in self._entries.items():
            switchboard.attach(entry.address, self._peers[name])

    async def serve(self) -> tuple[Served, ...]:
        """Serve every simulated instrument at the bench's addresses (TCP, pty).

        On failure nothing stays served.
        """
        if self.clock.mode == "virtual":
            raise BadInputError("virtual time has no sockets: attach to a switchboard instead")
        try:
            for name, entry in self._entries.items():
                if name not in self._servers:
                    server = server_for(entry.address, self._peers[name], self.clock)
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
        for device in self.devices.values():
            close = getattr(device, "close", None)
            if callable(close):
                close()

    def relays(self) -> Mapping[str, bool]:
        """True output relay of each instrument that has one: closed or not."""
        return {
            name: bool(device.relay_closed)
            for name, device in self.devices.items()
            if getattr(device, "has_relay", False) and hasattr(device, "relay_closed")
        }

    def inject(self, instrument: str, fault: str) -> None:
        """Replace the faults of one instrument, e.g. "silence", "late 3 s; garbage", "none"."""
        peer = self._peers.get(instrument)
        if peer is None:
            raise BadInputError(
                f"there is no simulated instrument {instrument!r}; there are "
                + ", ".join(sorted(self._peers))
            )
        peer.inject(fault)

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
        if described.room:
            self.rooms[described.room].occupy(cell, self._start)
        self.cells[name] = cell
        try:
            self.frames[name] = LoadFrame(cell, **frame_options.get(name, {}))
        except ValueError as error:
            raise BadInputError(f"{_place(entry)} load frame: {error}") from error

    @staticmethod
    def presets() -> dict[str, str]:
        """Presets of simulated cells: name to description in one line."""
        return cell_presets(None)

    def _build_device(self, name: str, entry: InstrumentEntry) -> None:
        simulated = entry.simulated
        assert simulated is not None
        make = cast("Callable[..., Peer]", registry.load(registry.SIMULATORS, entry.driver))
        options = {
            key: value for key, value in simulated.options.items() if key not in FRAME_OPTIONS
        }
        device = make(
            name,
            site=Site(
                self.cells.get(simulated.cell),
                self.frames.get(simulated.cell),
                self.rooms.get(simulated.room),
            ),
            clock=self.clock,
            options=options,
        )
        peer = FaultyPeer(device, self.clock, name=name)
        peer.inject(simulated.faults)
        self.devices[name] = device
        self._peers[name] = peer


def _place(entry: InstrumentEntry) -> str:
    return f"{entry.where}: [instruments.{entry.name}.simulated]"
