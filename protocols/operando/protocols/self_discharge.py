"""Self-discharge: what a charged cell loses at open circuit, and how much of it for good."""

from __future__ import annotations

from dataclasses import replace

from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, Seconds, Voltages
from operando.instruments.recipe import RecordConditions
from operando.protocols.cycling_steps import (
    charge,
    check_rates,
    check_taper,
    check_times,
    discharge,
    rested,
)
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Block

STORAGE = "storage"
"""Label of the long rest."""

FINE = RecordConditions(every=600.0, on_change={"voltage": 1e-3})
"""What charges and discharges record: dQ/dV is taken over the few mV that a stored cell falls."""


@protocol(
    source="our choice: a cycle, a cycle with the storage between charge and discharge, a cycle; "
    "window and taper of Kim et al., Energy Storage Materials 2026, 105167, section 2.3"
)
def self_discharge(
    cell: Cell,
    *,
    storage: Seconds = "7 d",  # type: ignore[assignment]
    rate: CRate = "C/10",  # type: ignore[assignment]
    cv_cutoff: CRate = "C/50",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    rest: Seconds = "1 h",  # type: ignore[assignment]
    cycles: int = 1,
) -> Steps:
    """Cycle, charge and store at open circuit, discharge, and cycle again.

    The cycles before the storage say what the cell gives without it, those behind it what it gives
    afterwards: the difference is lost for good. A cell that is not formed loses to its formation
    as well: form it first. The taper is low, so that little still moves within the electrodes
    while the cell is stored. The bench file must state the cell's capacity, or its active mass and
    what 1C is. Poll every 30 s or more seldom, and record every 10 min.

    storage: time in s at open circuit after the charge.
    rate: charge and discharge rate as a C-rate of the cell's nominal capacity.
    cv_cutoff: current at which the hold at the upper voltage ends, as a C-rate.
    window: lower and upper voltage in V against the counter electrode.
    rest: open-circuit time in s after each other charge, and after each discharge.
    cycles: number of cycles before the storage, and behind it.
    """
    lower, upper = window
    check_rates(rate=rate)
    check_taper(cv_cutoff, rate, "rate")
    check_times(rest=rest)
    if storage <= rest:
        raise BadInputError("storage: must be longer than rest, which the other cycles have")
    if cycles < 1:
        raise BadInputError("cycles: ask for at least one before the storage and behind it")
    for cycle in range(1, 2 * cycles + 2):
        stored = cycle == cycles + 1
        after = (
            rested(storage, cycle, STORAGE) if stored else rested(rest, cycle, "rest after charge")
        )
        yield Block(
            (
                replace(charge(cell, rate, upper, cv_cutoff, cycle), record=FINE),
                after,
                replace(discharge(cell, rate, lower, cycle), record=FINE),
                rested(rest, cycle, "rest after discharge"),
            )
        )
