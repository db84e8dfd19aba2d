"""Values that describe a cell, its source and one point of its trajectory."""

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Regulation(enum.Enum):
    """The quantity a source holds at present."""

    OPEN = "open"
    CURRENT = "current"
    VOLTAGE = "voltage"


class Terminal(NamedTuple):
    """What is seen at the terminals of a cell; made at every poll, hence a tuple."""

    voltage: float
    """At the cell's terminals, V."""
    current: float
    """A; positive charges the cell."""
    regulation: Regulation
    """Which quantity the source holds at this moment."""


@dataclass(frozen=True, slots=True)
class CellState:
    """Inner state of a cell: truth, which no instrument shows."""

    time: float
    """Laboratory time, s."""
    lithiation: float
    """Mean lithium content of the connected active material."""
    surface_lithiation: float
    """Lithium content at the particle surface."""
    contact_fraction: float
    """Contact between active material and electrolyte, relative to the fresh cell (theta)."""
    connected_fraction: float
    """Share of the active material that is still connected (f)."""
    interphase_thickness: float
    """Cathode interphase grown since assembly, m (delta)."""
    counter_interphase_charge: float
    """Lithium used up by the counter electrode's interphase, C/m2 (q_a); in no outer current."""
    void_fraction: float
    """Share of the lithium interface lost to voids (v); 0 so far."""
    counter_lithium: float
    """Metallic lithium left in the counter electrode, C/m2."""
    charge: float
    """Net charge passed since assembly, C; positive charged the cell."""
    throughput: float
    """Absolute charge passed since assembly, C."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is connected to a cell."""

    regulation: Regulation
    """What it is set to hold."""
    level: float = 0.0
    """V or A."""
    limit: float = 0.0
    """Magnitude of the other quantity, A or V."""
    resistance: float = 0.0
    """Of the leads in series, ohm."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One stretch of a source's characteristic: a held current or a held voltage."""

    regulation: Regulation
    level: float = 0.0
    """A or V."""
    resistance: float = 0.0
    """Of the leads in series with a held voltage, ohm."""


@dataclass(slots=True)
class Point:
    """State at one end of a step. Never changed after it is made."""

    time: float
    """s."""
    x: list[float]
    """Lithium content from the centre of the particle to its surface."""
    current: float
    """A."""
    voltage: float
    """At the terminals, V."""
    charge: float
    """Net charge since assembly, C."""
    positive: float
    """Charge passed in the direction of charging since assembly, C."""
    throughput: float
    """Absolute charge since assembly, C."""
    strain: float
    """Volume strain of the active material, against x = 1."""
    contact: float
    """Contact fraction."""
    connected: float
    """Connected active fraction."""
    interphase: float
    """Cathode interphase, m."""
