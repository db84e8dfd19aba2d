"""What cycles show beside their capacities: retention, polarisation, differential capacity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.evaluation.cccv import NAN, CyclingResult
from operando.evaluation.half_cycles import Cycling, Floats, HalfCycle, read_cycling
from operando.instruments.errors import BadInputError
from operando.records import Record

PEAK_WIDTH = 0.02
"""V. Charge is counted in bins of this width for dQ/dV; noise of a cycler is some 0.1 mV. Our
choice."""

PEAK_WINDOW = (2.6, 3.9)
"""V. Between these the main peak of a discharge of NCM811 is looked for: the same one fresh and
aged. The features above run into the start of the discharge as the cell polarises. Our choice."""


def retention(result: CyclingResult, first: int = 1, last: int | None = None) -> float:
    """Discharge capacity of a cycle over that of an earlier one, a fraction.

    first, last: numbers of the cycles; last: None for the last there is. Where formation comes
    first, `first` is the first cycle behind it. Raises BadInputError for a cycle that is not there.
    """
    capacity = {cycle.cycle: cycle.discharge_capacity for cycle in result.cycles}
    last = max(capacity, default=0) if last is None else last
    for number in (first, last):
        if number not in capacity:
            raise BadInputError(f"cell {result.cell} has no cycle {number} (has {list(capacity)})")
    return capacity[last] / capacity[first]


def least_efficiency(result: CyclingResult, first: int = 1, averaged: int = 1) -> float:
    """Least coulombic efficiency from a cycle on, a fraction; NaN where there are too few cycles.

    first: number of the first cycle that counts. averaged: cycles over which a running mean is
    taken before the least is, since the charge of one is known to what passes between two readings.
    """
    found = [one.coulombic_efficiency for one in result.cycles if one.cycle >= first]
    if averaged < 1 or len(found) < averaged:
        return NAN
    return float(np.min(np.convolve(found, np.full(averaged, 1.0 / averaged), "valid")))


def halves_of(record: Record | Cycling, cycle: int) -> tuple[HalfCycle, Floats, HalfCycle, Floats]:
    """Charge and discharge of a cycle, each with the voltage (V) of its samples.

    record: or what `read_cycling` made of it, where several cycles are asked for. Raises
    BadInputError where the cycle or a half of it is not there.
    """
    cycling = record if isinstance(record, Cycling) else read_cycling(record)
    found = {half.charging: half for half in cycling.halves if half.cycle == cycle}
    if len(found) < 2:
        whole = sorted({half.cycle for half in cycling.halves})
        raise BadInputError(f"there is no charge and discharge of cycle {cycle} (has {whole})")
    voltage = cycling.samples["voltage"]
    up, down = found[True], found[False]
    return up, voltage[up.rows], down, voltage[down.rows]


def gap_at_half(record: Record | Cycling, cycle: int) -> float:
    """Charge voltage minus discharge voltage at half of each one's own charge, V.

    The polarisation of a cycle. Kim et al. (Energy Storage Materials 2026, 105167, section 3.3)
    show normalised profiles and print no definition: this one is ours. Each half is normalised
    with its own capacity, so that lost capacity does not move the point that is compared.
    """
    up, up_voltage, down, down_voltage = halves_of(record, cycle)
    high = np.interp(0.5 * up.charge, up.passed, up_voltage)
    low = np.interp(0.5 * -down.charge, -down.passed, down_voltage)
    return float(high - low)


def polarisation_growth(record: Record | Cycling, first: int, last: int) -> float:
    """`gap_at_half` of a late cycle minus that of an early one, V."""
    cycling = record if isinstance(record, Cycling) else read_cycling(record)
    return gap_at_half(cycling, last) - gap_at_half(cycling, first)


@dataclass(frozen=True, slots=True)
class DifferentialCapacity:
    """dQ/dV of one half cycle. voltage: V, middle of each bin. capacity: C/V, never negative."""

    voltage: Floats
    capacity: Floats


def differential_capacity(
    record: Record | Cycling,
    cycle: int,
    *,
    charging: bool = False,
    window: tuple[float, float] = PEAK_WINDOW,
    width: float = PEAK_WIDTH,
) -> DifferentialCapacity:
    """Magnitude of the charge that passes per voltage, in bins of equal width.

    charging: of the charge instead of the discharge. window: V, lower and upper edge. width: of a
    bin, V. The charge at each edge is interpolated along the samples in order of voltage, so that
    noise averages out within a bin; what a hold passes lies at its own voltage.
    """
    up, up_voltage, down, down_voltage = halves_of(record, cycle)
    half, voltage = (up, up_voltage) if charging else (down, down_voltage)
    order = np.argsort(voltage, kind="stable")
    levels = np.arange(*window, width)
    passed = np.interp(levels, voltage[order], half.passed[order])
    return DifferentialCapacity(0.5 * (levels[1:] + levels[:-1]), np.abs(np.diff(passed)) / width)


def main_peak(
    record: Record | Cycling,
    cycle: int,
    *,
    window: tuple[float, float] = PEAK_WINDOW,
    width: float = PEAK_WIDTH,
) -> float:
    """Height of the highest dQ/dV peak of a discharge within a window, C/V."""
    return float(np.max(differential_capacity(record, cycle, window=window, width=width).capacity))
