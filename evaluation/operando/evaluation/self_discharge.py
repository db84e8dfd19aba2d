"""Self-discharge: the charge that storage costs, what of it comes back, and its current."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.evaluation.cccv import COULOMBS_PER_MAH, NAN, cccv
from operando.evaluation.cycling import gap_at_half
from operando.evaluation.half_cycles import read_cycling
from operando.evaluation.lines import fit_line
from operando.evaluation.traces import Trace, read_traces
from operando.records import Record

CONSTANT = 0.98
"""Share of the largest current of a charge above which it counts as constant."""
STEADY_CHANGE = 0.2
"""Largest relative difference of dV/dt between the third and the last quarter without a flag."""


@dataclass(frozen=True, slots=True)
class SelfDischargeResult:
    """One storage.

    storage_time: s. before, stored, after: discharge capacities of the cycle before the storage, of
    that with it and of the one behind it, C. start_voltage, end_voltage: of the storage, V.
    drift: dV/dt over its second half, V/s, and drift_error its standard error.
    drift_current: that drift times dQ/dV, A, positive. flags: what speaks against the numbers:
    "still relaxing", and those of the three cycles.
    """

    cell: str
    simulated: bool
    storage_time: float
    before: float
    stored: float
    after: float
    start_voltage: float
    end_voltage: float
    drift: float
    drift_error: float
    drift_current: float
    flags: tuple[str, ...] = ()

    @property
    def lost(self) -> float:
        """Charge that the storage cost, C."""
        return self.before - self.stored

    @property
    def irreversible(self) -> float:
        """What of it the next cycle does not give back either, C."""
        return self.before - self.after

    @property
    def reversible(self) -> float:
        """What of it the next charge puts back, C."""
        return self.after - self.stored

    @property
    def mean_current(self) -> float:
        """Lost charge over the time of storage, A."""
        return self.lost / self.storage_time

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """One row in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "storage_h": self.storage_time / 3600.0,
                "lost_mAh": self.lost / COULOMBS_PER_MAH,
                "reversible_mAh": self.reversible / COULOMBS_PER_MAH,
                "irreversible_mAh": self.irreversible / COULOMBS_PER_MAH,
                "lost_percent": 100.0 * self.lost / self.before,
                "mean_current_uA": 1e6 * self.mean_current,
                "drift_mV_per_h": 1e3 * 3600.0 * self.drift,
                "drift_current_uA": 1e6 * self.drift_current,
                "flags": ", ".join(self.flags),
            }
        ]


def self_discharge(record: Record) -> SelfDischargeResult:
    """Evaluate storage at open circuit between two cycles without it.

    Lost is what the cell gives less after the storage than in the cycle before; irreversible is
    what it gives less in the cycle behind. Both hold what a cycle costs anyhow, so that a cell that
    is not formed seems to lose more. A side reaction that oxidises at the cathode discharges it as
    an electronic leak does: neither is told from the other.

    The drift current is C dV/dt, dV/dt by least squares over the second half of the storage and
    C = dQ/dV of the charge before it, at constant current, over the voltages of that half. The
    charge lies above the open circuit by its polarisation, for which half the gap between charge
    and discharge at half the capacity is taken (our choice). It is an estimate: dQ/dV is steep near
    the top, so that it wants C/10 or slower and a formed cell, and it holds only where the voltage
    falls for what leaks and no longer for what relaxes: flagged "still relaxing" where the slope
    differs by more than a fifth between the third and the last quarter.

    Raises RecordError if the record cannot be read.
    """
    traces = read_traces(record)
    storage = next((trace for trace in traces if trace.step.label == "storage"), None)
    cycling = read_cycling(record)
    cycles = {cycle.cycle: cycle for cycle in cccv(record).cycles}
    number = storage.step.cycle if storage else 0
    three = [cycles.get(number + offset) for offset in (-1, 0, 1)]
    flags = list(dict.fromkeys(flag for one in three if one for flag in one.flags))
    if storage is None or not all(three):
        flags.append("incomplete")
    before, stored, after = (one.discharge_capacity if one else NAN for one in three)
    drift = drift_error = current = NAN
    if storage is not None:
        length = float(storage.time[-1])
        drift, drift_error = _slope(storage, 0.5 * length)
        third, _ = _slope(storage, 0.5 * length, 0.75 * length)
        last, _ = _slope(storage, 0.75 * length)
        if not abs(third - last) <= STEADY_CHANGE * abs(last):
            flags.append("still relaxing")
        up = [t for t in traces if t.step.label == "charge" and t.step.cycle == number]
        if up and "incomplete" not in flags:
            shift = 0.5 * gap_at_half(cycling, number - 1)
            current = abs(drift) * _differential_capacity(up[0], storage, shift)
    return SelfDischargeResult(
        cell=record.cell_name,
        simulated=record.simulated,
        storage_time=storage.step.duration if storage else NAN,
        before=before,
        stored=stored,
        after=after,
        start_voltage=float(storage.voltage[0]) if storage else NAN,
        end_voltage=float(storage.voltage[-1]) if storage else NAN,
        drift=drift,
        drift_error=drift_error,
        drift_current=current,
        flags=tuple(flags),
    )


def _slope(storage: Trace, start: float, end: float = np.inf) -> tuple[float, float]:
    """dV/dt between two times (s) of the storage and its standard error, V/s."""
    time, voltage, _ = storage.between(start, end)
    if len(time) < 3:
        return NAN, NAN
    line = fit_line(time, voltage)
    return line.slope, line.slope_error


def _differential_capacity(charge: Trace, storage: Trace, shift: float) -> float:
    """dQ/dV of a charge over the voltages of the second half of the storage, C/V.

    shift: V by which the charge lies above the open circuit. The span is moved down as far as the
    end of the constant current demands.
    """
    _, voltage, _ = storage.between(0.5 * float(storage.time[-1]), np.inf)
    constant = charge.current >= CONSTANT * charge.current.max()
    rising, passed = charge.voltage[constant], charge.charge[constant]
    if len(voltage) < 3 or len(rising) < 3:
        return NAN
    span = float(voltage[0] - voltage[-1])
    high = min(float(voltage[0]) + shift, float(rising[-1]))
    if not span > 0.0 or high - span <= rising[0]:
        return NAN
    low_charge, high_charge = np.interp([high - span, high], rising, passed)
    return float(high_charge - low_charge) / span
