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
    """Contact between active material and electrolyte, relative to perfect adhesion (theta)."""
    connected_fraction: float
    """Share of the active material that is still connected (f)."""
    interphase_thickness: float
    """Cathode interphase grown since assembly, m (delta)."""
    counter_interphase_charge: float
    """Lithium used up by the counter electrode's interphase, C/m2 (q_a); in no outer current."""
    void_fraction: float
    """Share of the lithium interface lost to voids (v)."""
    counter_lithium: float
    """Metallic lithium left in the counter electrode, C/m2."""
    charge: float
    """Net charge passed since assembly, C; positive charged the cell."""
    throughput: float
    """Absolute charge passed since assembly, C."""
    leaked_charge: float
    """Charge that passed the separator as electrons since assembly, C; in no outer current."""
    oxidised_charge: float
    """Charge given to the cathode by oxidised electrolyte since assembly, C."""
    cathode_lithium: float
    """Lithium in connected and isolated active material, C; a balance with `charge`."""
    film_resistance: float
    """What coating, bare contact and interphase add to the cathode's arc, ohm."""
    counter_resistance: float
    """Of the counter electrode with its interphase and voids, ohm."""
    pressure: float
    """On the stack, Pa, as the ageing sees it."""


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


class Wear(NamedTuple):
    """What ages, at one end of a step; changed by `operando.simulators.cell.ageing` alone."""

    contact: float
    """Contact fraction (theta)."""
    connected: float
    """Connected active fraction (f)."""
    isolated: float
    """Lithium locked in active material that has lost its connection, in units of x times f."""
    interphase: float
    """Cathode interphase, mean over the active surface, m (delta)."""
    growth: float
    """Rate at which it grew over the last step, m/s."""
    reaction_time: float
    """Time since assembly as the incubation counts it, at the reference temperature, s."""
    first: float
    """Area exposed by lost contact in the first stage of its incubation, over all surface."""
    second: float
    """The same in the second stage."""
    ripe: float
    """The same where the incubation is over and the interphase grows."""
    counter_square: float
    """Square of the counter electrode's interphase charge, C2/m4 (q_a)."""
    void: float
    """Share of the counter electrode's interface lost to voids (v)."""
    primed: float
    """Share of the active surface whose electrolyte the first charge has oxidised."""
    oxidation: float
    """Current that oxidised electrolyte gave to the cathode over the last step, A."""


@dataclass(slots=True)
class Point:
    """State at one end of a step. Never changed after it is made."""

    time: float
    """s."""
    x: list[float]
    """Lithium content from the centre of the particle to its surface."""
    mean: float
    """Mean lithium content, from the charge that went in and out."""
    current: float
    """Of the step's equations, A."""
    shown: float
    """At the terminals, A: the same, or under a held voltage nearer to the slope of `charge`."""
    voltage: float
    """At the terminals, V."""
    charge: float
    """Net charge since assembly, C."""
    positive: float
    """Charge passed in the direction of charging since assembly, C."""
    throughput: float
    """Absolute charge since assembly, C."""
    leaked: float
    """Charge that passed the separator as electrons since assembly, C."""
    oxidised: float
    """Charge given to the cathode by oxidised electrolyte since assembly, C."""
    strain: float
    """Volume strain of the active material, against x = 1."""
    resistance: float
    """All of the cell that is ohmic, ohm."""
    side: float
    """Charge per time that the cathode took up in no outer current over the step before, A."""
    potential: float
    """Of the cathode against lithium in the electrolyte beside it, V."""
    wear: Wear

    @property
    def contact(self) -> float:
        """Contact fraction."""
        return self.wear.contact

    @property
    def connected(self) -> float:
        """Connected active fraction."""
        return self.wear.connected

    @property
    def interphase(self) -> float:
        """Cathode interphase, m."""
        return self.wear.interphase
