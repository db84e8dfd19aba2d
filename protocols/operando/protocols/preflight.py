"""What is looked at before a cell is driven, at zero current on the lowest range."""

from __future__ import annotations

import math
from dataclasses import dataclass

from operando.instruments.roles import Potentiostat
from operando.instruments.samples import AuxReading, Reading, Status

SETTLED = 1e-3
"""Two readings of an open circuit that agree within this are the cell's, V."""

SETTLING_READINGS = 20


@dataclass(frozen=True, slots=True)
class OpenCircuitWindow:
    """Voltage in which a healthy cell is found before its first step, V."""

    low: float
    high: float


def judge_open_circuit(reading: Reading, window: OpenCircuitWindow) -> str | None:
    """What is wrong with a cell's open-circuit voltage, in words with a remedy; None if nothing."""
    voltage = reading.voltage
    found = f"open-circuit voltage {voltage:.4f} V"
    if reading.status is Status.OVERLOAD or math.isnan(voltage):
        return (
            "no open-circuit voltage could be read at zero current (compliance or overflow): "
            "the leads are open or the cell is not connected. Check the contacts."
        )
    if window.low <= voltage <= window.high:
        return None
    expected = f"expected {window.low:.2f} to {window.high:.2f} V"
    if window.low <= -voltage <= window.high:
        return (
            f"{found}, {expected}: the leads are reversed. Nothing was driven. Swap them, "
            "sense leads too."
        )
    return (
        f"{found}, {expected}: implausible for this cell. Nothing was driven. Check the cell, "
        'or state its range in the recipe: [preflight] open_circuit = ["... V", "... V"].'
    )


def judge_monitor(name: str, reading: AuxReading) -> str | None:
    """What is wrong with a monitor's first reading, in words with a remedy; None if nothing."""
    if reading.status in {Status.OK, Status.UNSTABLE} and not math.isnan(reading.value):
        return None
    return (
        f"{name} gives no valid {reading.quantity} ({reading.status.value}); nothing was switched "
        "on. Check the sensor, or take it out of the channel."
    )


async def settled(potentiostat: Potentiostat) -> Reading:
    """Read an open circuit until two readings agree, and return the last.

    A zero-current source on its lowest range takes tenths of a second to charge what hangs on it;
    those readings are the instrument's, not the cell's, and are not kept.
    """
    reading = await potentiostat.measure()
    for _ in range(SETTLING_READINGS):
        before, reading = reading, await potentiostat.measure()
        if abs(reading.voltage - before.voltage) < SETTLED:
            break
    return reading
