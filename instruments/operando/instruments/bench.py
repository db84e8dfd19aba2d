"""The bench: instruments, channels and cells of one computer, as `bench.toml` describes them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from operando.instruments.roles import Expect


@dataclass(frozen=True, slots=True)
class SimulatedEntry:
    """`[instruments.NAME.simulated]`: read by simulation alone.

    cell: name of the cell whose physics stands behind the instrument; empty when none.
    faults: faults active from the start, "none" or e.g. "silence". options: the device's own.
    room: name of the room that the instrument is in; empty when it senses none.
    """

    cell: str = ""
    faults: str = "none"
    options: Mapping[str, object] = field(default_factory=dict)
    room: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """`calibration` of an instrument, as its certificate says.

    due: day on which the next one is due, None when that is not stated. certificate: its number.
    """

    due: datetime.date | None = None
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class InstrumentEntry:
    """`[instruments.NAME]`. where: "bench.toml line 12", for messages.

    settings: the table `[instruments.NAME.settings]` as written; the driver's `Settings` parses it.
    """

    name: str
    driver: str
    address: str
    where: str
    expect: Expect = field(default_factory=Expect)
    settings: Mapping[str, object] = field(default_factory=dict)
    simulated: SimulatedEntry | None = None
    calibration: Calibration = field(default_factory=Calibration)


@dataclass(frozen=True, slots=True)
class ChannelEntry:
    """`[channels.NAME]`: roles filled by instruments.

    roles: role name to instrument name. shared: instruments that other channels watch as well.
    """

    name: str
    where: str
    roles: Mapping[str, str]
    cell: str = ""
    shared: tuple[str, ...] = ()

    @property
    def instruments(self) -> tuple[str, ...]:
        """Names of its instruments, each once; the shared ones last."""
        return tuple(dict.fromkeys((*self.roles.values(), *self.shared)))


PLAUSIBLE_VOLTAGES = (-5.0, 5.5)
"""Between these a lithium cell is believed to be, V, unless its table says otherwise. Our choice:
symmetric cells are driven to both sides of zero, cathodes of the 5 V class to about 5.2 V."""


@dataclass(frozen=True, slots=True)
class CellEntry:
    """`[cells.NAME]`: the thing under test.

    capacity: C (ampere seconds) that 1C refers to, 0.0 when unknown. active_mass: kg, 0.0 when
    unknown. area: electrode area in m2, 0.0 when unknown. one_c: how 1C was defined, in words.
    voltage_range: V, between which the cell may be; no window, set-point or limit lies beyond it.
    chemistry: what it is made of, by a name that `operando.protocols` knows; empty when not stated.
    metadata: everything else that was written, for the record.
    preset, seed, room: only read by simulation; the cell has the temperature of its room.
    """

    name: str
    where: str
    capacity: float = 0.0
    active_mass: float = 0.0
    area: float = 0.0
    one_c: str = ""
    voltage_range: tuple[float, float] = PLAUSIBLE_VOLTAGES
    chemistry: str = ""
    preset: str = ""
    seed: int = 0
    room: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoomEntry:
    """`[rooms.NAME]`: a glovebox, chamber or laboratory; only read by simulation.

    kind: what it is. options: its own, SI units.
    """

    name: str
    where: str
    kind: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bench:
    """A whole bench. path: the file it came from. speed: laboratory s a wall s, 1.0 is real.

    scripts: folder of the protocol scripts that are offered with the installed protocols.
    """

    path: Path
    speed: float
    instruments: Mapping[str, InstrumentEntry]
    channels: Mapping[str, ChannelEntry]
    cells: Mapping[str, CellEntry]
    rooms: Mapping[str, RoomEntry] = field(default_factory=dict)
    scripts: Path | None = None
