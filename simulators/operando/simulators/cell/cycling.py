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
    completed: bool
    """Both halves reached their ends; False where patience ended one."""


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
    left connected at the end of the last discharge. Raises ValueError, before anything is
    connected, for voltages that are not finite or in the wrong order and for a rate of none.
    """
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise ValueError(
            "the lower voltage must lie below the upper one and both be finite, not "
            f"{lower!r} V and {upper!r} V"
        )
    rates = {"rate": rate, "charge_rate": charge_rate, "cutoff_rate": cutoff_rate}
    for name, c_rate in rates.items():
        if c_rate is not None and not (math.isfinite(c_rate) and c_rate > 0.0):
            raise ValueError(f"{name} must be positive and finite, not {c_rate!r}")
    charge_rate = rate if charge_rate is None else charge_rate
    one_c = cell.nominal_capacity / 3600.0
    cutoff = math.inf if cutoff_rate is None else cutoff_rate * one_c
    charge_patience, patience = (PATIENCE * 3600.0 / r + DAY for r in (charge_rate, rate))

    def run(now: float) -> Iterator[Cycle]:
        for number in range(1, cycles + 1):
            start, begun = now, cell.charge_passed(now)
            latest = start + charge_patience
            cell.source_voltage(now, upper, charge_rate * one_c)
            now = cell.run_until(cutoff, latest)
            completed = now < latest
            full, latest = cell.charge_passed(now), now + patience
            cell.source_voltage(now, lower, rate * one_c)
            now = cell.run_until(math.inf, latest)
            completed = completed and now < latest
            discharged = full - cell.charge_passed(now)
            yield Cycle(number, start, now, full - begun, discharged, completed)

    return run(now)
