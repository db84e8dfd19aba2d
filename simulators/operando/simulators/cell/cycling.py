"""Cycling of a cell alone, driven by its own events instead of polls."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from operando.simulators.cell.simulated import SimulatedCell

PATIENCE = 3.0
"""A charge or discharge is given up after this many times its nominal duration, plus a day."""

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Cycle:
    """One charge and discharge."""

    number: int
    """From 1."""
    start: float
    """Laboratory time at which the charge began, s."""
    end: float
    """Laboratory time at which the discharge ended, s."""
    charged: float
    """Charge put in, C."""
    discharged: float
    """Charge taken out, C; positive."""


def cycle(
    cell: SimulatedCell,
    now: float,
    *,
    lower: float,
    upper: float,
    rate: float,
    cycles: int = 1,
    charge_rate: float | None = None,
    cutoff_rate: float | None = None,
) -> Iterator[Cycle]:
    """Cycle a cell without instruments: charge, hold, discharge.

    now: laboratory time to begin at, s. lower, upper: voltages, V. rate: of the discharge and,
    without a `charge_rate`, of the charge, as a multiple of 1C. cutoff_rate: current at which the
    hold at the upper voltage ends, as a multiple of 1C; None does not hold. A half-cycle that does
    not end within a day more than three times its nominal duration is ended there. The cell is
    left connected at the end of the last discharge.
    """
    one_c = cell.nominal_capacity / 3600.0
    charge_rate = rate if charge_rate is None else charge_rate
    for c_rate in (rate, charge_rate):
        if not (math.isfinite(c_rate) and c_rate > 0.0):
            raise ValueError(f"a rate must be positive and finite, not {c_rate!r}")
    cutoff = math.inf if cutoff_rate is None else cutoff_rate * one_c
    for number in range(1, cycles + 1):
        start, begun = now, cell.charge_passed(now)
        cell.source_voltage(now, upper, charge_rate * one_c)
        now = cell.run_until(cutoff, now + PATIENCE * 3600.0 / charge_rate + DAY)
        full = cell.charge_passed(now)
        cell.source_voltage(now, lower, rate * one_c)
        now = cell.run_until(math.inf, now + PATIENCE * 3600.0 / rate + DAY)
        yield Cycle(number, start, now, full - begun, full - cell.charge_passed(now))
