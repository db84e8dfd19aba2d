"""Cyclic voltammetry: peaks and charges of each scan, resistance and capacitance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from operando.evaluation.half_cycles import Floats
from operando.evaluation.lines import fit_line
from operando.evaluation.lsv import averaged, rate_of
from operando.evaluation.traces import Trace, linearity, read_traces
from operando.instruments.errors import BadInputError
from operando.records import Record

NAN = math.nan
PROMINENCE = 0.05
"""Height of a peak above its surroundings over the span of its sweep's current, from which on it
counts. Our choice."""

MIDDLE = (0.25, 0.75)
"""Share of the window in which resistance and capacitance are read. Our choice: near the vertices
the current has not settled after the turn."""

OHMIC = 0.98
"""R2 of the mean current over voltage below which a scan is no resistor. Our choice."""


@dataclass(frozen=True, slots=True)
class Peak:
    """up: in the sweep upwards. voltage: V. current: A. prominence: A above its surroundings."""

    up: bool
    voltage: float
    current: float
    prominence: float


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan, upwards and downwards.

    number: from 1. rate: V/s, a magnitude, as measured. positive_charge, negative_charge: charge
    that charged the cell and that discharged it, C, both signed. peaks: in order of time.
    resistance, resistance_error: ohm, from the slope of the mean of both sweeps in the middle of
    the window, NaN where that is no line. linearity: R2 of that. capacitance: F, half the
    difference of both sweeps over the rate, mean over the middle of the window. flags: "not ohmic"
    (R2 below 0.98), "incomplete" (a sweep is missing or did not end), and those of a `Trace`.
    """

    number: int
    rate: float
    positive_charge: float
    negative_charge: float
    peaks: tuple[Peak, ...]
    resistance: float
    resistance_error: float
    linearity: float
    capacitance: float
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CvResult:
    """What cyclic voltammetry showed, scan by scan. area: m2, NaN where not stated."""

    cell: str
    simulated: bool
    area: float
    scans: tuple[Scan, ...]
    flags: tuple[str, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a scan in the units of the literature."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "scan": scan.number,
                "rate_mV_per_s": 1e3 * scan.rate,
                "positive_charge_mAh": scan.positive_charge / 3.6,
                "negative_charge_mAh": scan.negative_charge / 3.6,
                "peaks_V": ", ".join(
                    f"{peak.voltage:.3f} {'up' if peak.up else 'down'}" for peak in scan.peaks
                ),
                "resistance_ohm": scan.resistance,
                "resistance_ohm_cm2": scan.resistance * self.area * 1e4,
                "capacitance_uF": 1e6 * scan.capacitance,
                "flags": ", ".join(scan.flags),
            }
            for scan in self.scans
        ]


def cv(record: Record) -> CvResult:
    """Evaluate cyclic voltammetry.

    Of a resistance R beside a capacitance C the current is E/R + C dE/dt: the mean of both sweeps
    at the same voltage is that of the resistance, half of their difference that of the
    capacitance. R and C in series are seen so only while the sweep is slow against R C. A sweep
    that is a staircase, read at the end of each step, shows of a capacitance only what is still
    being charged then: too little where R C is shorter than a step. Peaks are
    maxima of the current upwards and minima downwards, averaged over 5 mV, that stand out by 5 %
    of the span of their sweep. Raises BadInputError if there is no scan.
    """
    scans: dict[int, dict[bool, Trace]] = {}
    for trace in read_traces(record):
        if trace.step.kind == "VoltageSweep" and trace.step.label in ("sweep up", "sweep down"):
            branches = scans.setdefault(trace.step.cycle, {})
            branches[trace.step.label == "sweep up"] = trace
    if not scans:
        raise BadInputError(f"{record.folder}: there is no scan; evaluate a record of cv")
    return CvResult(
        record.cell_name,
        record.simulated,
        record.of_cell("area"),
        tuple(_scan(number, branches) for number, branches in sorted(scans.items())),
        () if record.state == "completed" else (f"run {record.state}",),
    )


def _scan(number: int, branches: dict[bool, Trace]) -> Scan:
    traces = sorted(branches.values(), key=lambda trace: trace.step.start)
    # As the run counted it: from the beginning of a sweep, before its first reading.
    passed = [np.diff(trace.charge, prepend=0.0) for trace in traces]
    positive = float(sum(np.sum(np.maximum(one, 0.0)) for one in passed))
    negative = float(sum(np.sum(np.minimum(one, 0.0)) for one in passed))
    rate = float(np.mean([abs(rate_of(trace)) for trace in traces]))
    flags = []
    if len(traces) < 2 or not all(trace.step.ended for trace in traces):
        flags.append("incomplete")
    flags += dict.fromkeys(flag for trace in traces for flag in trace.flags)
    resistance = error = straight = capacitance = NAN
    if len(traces) == 2:
        voltage, up, down = _both(branches[True], branches[False])
        if len(voltage) > 2:
            line = fit_line(voltage, 0.5 * (up + down))
            straight = linearity(line, len(voltage))
            if straight >= OHMIC:
                resistance, error = 1.0 / line.slope, abs(line.slope_error / line.slope**2)
            capacitance = float(np.mean(0.5 * (up - down))) / rate
    if not straight >= OHMIC:
        flags.append("not ohmic")
    return Scan(
        number=number,
        rate=rate,
        positive_charge=positive,
        negative_charge=negative,
        peaks=tuple(
            peak for trace in traces for peak in _peaks(trace, up=trace.step.label == "sweep up")
        ),
        resistance=resistance,
        resistance_error=error,
        linearity=straight,
        capacitance=capacitance,
        flags=tuple(flags),
    )


def _both(up: Trace, down: Trace) -> tuple[Floats, Floats, Floats]:
    """Voltage in the middle of the window (V) and the current of both sweeps there (A)."""
    voltage, upwards = averaged(up.voltage, up.current)
    other, downwards = averaged(down.voltage, down.current)
    if len(voltage) == 0 or len(other) == 0:
        return voltage[:0], voltage[:0], voltage[:0]
    low, high = (voltage[0] + share * (voltage[-1] - voltage[0]) for share in MIDDLE)
    use = (voltage >= low) & (voltage <= high)
    return voltage[use], upwards[use], np.interp(voltage[use], other, downwards)


def _peaks(trace: Trace, *, up: bool) -> list[Peak]:
    """The peaks of a sweep in order of time."""
    from scipy.signal import find_peaks

    voltage, current = averaged(trace.voltage, trace.current)
    sign = 1.0 if up else -1.0
    if len(current) < 3:
        return []
    places, found = find_peaks(sign * current, prominence=PROMINENCE * np.ptp(current))
    peaks = [
        Peak(up, float(voltage[place]), float(current[place]), float(height))
        for place, height in zip(places, found["prominences"], strict=True)
    ]
    return peaks if up else peaks[::-1]
