"""What instruments report: readings at their own times, with what is known about them."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Regulation(enum.Enum):
    """Which quantity the electrical instrument holds constant at the moment of a reading."""

    OPEN = "open"
    """No current is driven (relay open, or a zero-current source)."""
    CURRENT = "current"
    VOLTAGE = "voltage"
    UNKNOWN = "unknown"


class Status(enum.Enum):
    """How far a reading can be trusted. Only OK values may end a step."""

    OK = "ok"
    UNSTABLE = "unstable"
    """Valid but moving (load cell in motion)."""
    OVERLOAD = "overload"
    UNDERLOAD = "underload"
    FAULT = "fault"
    """The instrument says that its sensor or converter does not work."""


class Reading(NamedTuple):
    """One reading of an electrical instrument.

    time: laboratory time in s, midpoint between sending and reply.
    uncertainty: half the width of that interval, s.
    voltage: V at the cell. current: A, positive charges the cell.
    Overflow is NaN with status OVERLOAD.
    """

    time: float
    uncertainty: float
    voltage: float
    current: float
    regulation: Regulation
    status: Status


class AuxReading(NamedTuple):
    """One reading of any other instrument.

    source: name of the instrument on the bench. quantity: a name of `quantities.QUANTITIES`.
    time, uncertainty: s, as in `Reading`. value: SI units of the quantity, NaN when invalid.
    """

    source: str
    quantity: str
    time: float
    uncertainty: float
    value: float
    status: Status


class Origin(enum.Enum):
    """Where a stored row came from."""

    POLL = "poll"
    INSTRUMENT = "instrument"
    """Downloaded from the instrument's own memory."""


class Sample(NamedTuple):
    """One row of a run's `samples` table.

    time: s of laboratory time since the start of the run. unix_time: s, UTC.
    uncertainty: half-width of `time`, s. voltage: V. current: A, positive charges.
    charge: net charge of the run, C. step_charge: net charge of the step, C.
    energy: net energy of the run, J.
    step_time: s since the step began, pauses excluded. step_count: running number of the step,
    from 1, never repeats. step_id: position in the protocol's own program, may recur.
    cycle: from 1.
    """

    time: float
    unix_time: float
    uncertainty: float
    voltage: float
    current: float
    charge: float
    step_charge: float
    energy: float
    step_time: float
    step_count: int
    step_id: int
    cycle: int
    regulation: Regulation
    status: Status
    origin: Origin


class SpectrumRow(NamedTuple):
    """One row of a run's `spectra` table.

    spectrum: running number of the spectrum in the run, from 1. point: from 1, in the order of
    measuring. time: s since the start of the run. step_count, cycle: as in `Sample`. frequency:
    Hz. real, imaginary: ohm, capacitive is negative. voltage, current: held meanwhile, V and A,
    NaN where not told.
    """

    spectrum: int
    point: int
    time: float
    step_count: int
    cycle: int
    frequency: float
    real: float
    imaginary: float
    voltage: float
    current: float
    status: Status
