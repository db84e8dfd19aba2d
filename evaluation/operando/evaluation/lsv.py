"""Linear sweep voltammetry: background, onset and charge of an oxidation or a reduction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from operando.evaluation.half_cycles import Floats
from operando.evaluation.lines import Line, fit_line
from operando.evaluation.traces import Trace, read_traces
from operando.instruments.errors import BadInputError
from operando.records import Record

NAN = math.nan
BACKGROUND = (0.1, 0.4)
"""Share of the sweep that is taken as free of reaction where nothing else is said. Our choice."""

BIN = 5e-3
"""V over which currents are averaged before anything is read off them. Our choice."""

TANGENT = 5
"""Averages through which the tangent is laid."""


@dataclass(frozen=True, slots=True)
class LsvResult:
    """What a sweep showed.

    area: m2. rate: V/s, signed, as measured. voltage, current: V and A, averaged over BIN, voltage
    without the ohmic drop that was stated. background: current (A) over voltage (V) as a line.
    charge: of the whole sweep, C, signed. reaction_charge: the part above the background, C.
    threshold: current density of the criterion, A/m2. threshold_onset: V from which on the current
    stays above the background by it, NaN if it does not. tangent_onset: V at which the tangent at
    the steepest place meets the background. tangent_voltage: V of that place. end_density: above
    the background at the end, A/m2. flags: see `lsv`.
    """

    cell: str
    simulated: bool
    area: float
    rate: float
    voltage: Floats
    current: Floats
    background: Line
    charge: float
    reaction_charge: float
    threshold: float
    threshold_onset: float
    tangent_onset: float
    tangent_voltage: float
    end_density: float
    flags: tuple[str, ...]

    def rows(self) -> list[dict[str, float | str | bool]]:
        """One row in the units of the literature."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "rate_mV_per_s": 1e3 * self.rate,
                "threshold_uA_per_cm2": 100.0 * self.threshold,
                "threshold_onset_V": self.threshold_onset,
                "tangent_onset_V": self.tangent_onset,
                "tangent_voltage_V": self.tangent_voltage,
                "end_uA_per_cm2": 100.0 * self.end_density,
                "charge_uAh": self.charge / 3.6e-3,
                "reaction_charge_uAh": self.reaction_charge / 3.6e-3,
                "flags": ", ".join(self.flags),
            }
        ]


def lsv(
    record: Record,
    *,
    threshold: float = 1e-4,
    background: tuple[float, float] | None = None,
    resistance: float = 0.0,
) -> LsvResult:
    """Evaluate a sweep from open circuit to an end; the direction is that of the sweep.

    threshold: current density above the background that counts as the onset, A/m2; the default of
    10 nA/cm2 is our choice, and an onset without its threshold means nothing. background: voltages
    (V) between which the current is taken as background and fitted by a line; by default between
    10 and 40 % of the sweep. It holds the charging of the cell and its leakage. resistance: ohm in
    series, whose drop is taken off the voltage.

    Two onsets are given because neither is a property of the material alone: the one by threshold
    of a current that rises as exp(E/s) moves by s ln 10 for each decade of threshold, the one by
    tangent lies about s below the place of the tangent, and moves with the end of the sweep where
    the current still rises there. A fast sweep shifts both upwards: the oxidation takes the current
    over from the charging of the cell, and shows less above the background than it passes. The
    charge of the reaction is too small by what the drop over the cell keeps from being charged,
    capacitance times current times resistance.

    Flags: "no onset" (the threshold is not passed to stay), "noise" (the background scatters by
    more than the threshold), "tangent at the end" (the current is steepest at the end of the
    sweep), "drop" (the ohmic drop of a stated resistance is more than 10 mV at the end), "cut
    short" (the sweep did not reach its end), "no area", "run ..." (it was not completed), and those
    of a `Trace`. Raises BadInputError without sweep.
    """
    sweeps = [trace for trace in read_traces(record) if trace.step.kind == "VoltageSweep"]
    if not sweeps:
        raise BadInputError(f"{record.folder}: there is no sweep; evaluate a record of lsv")
    trace = sweeps[0]
    area = record.of_cell("area")
    sign = math.copysign(1.0, trace.voltage[-1] - trace.voltage[0])
    voltage, current = averaged(trace.voltage - resistance * trace.current, trace.current)
    if sign < 0.0:
        voltage, current = voltage[::-1], current[::-1]
    if len(voltage) < 20:
        raise BadInputError(
            f"{record.folder}: the sweep is too short: {len(voltage)} averages of {1e3 * BIN:g} mV"
        )
    if background is None:
        span = voltage[-1] - voltage[0]
        ends = sorted(float(voltage[0] + share * span) for share in BACKGROUND)
        background = ends[0], ends[1]
    flat = (voltage >= min(background)) & (voltage <= max(background))
    if np.count_nonzero(flat) < 3:
        raise BadInputError(
            f"background: there is no sweep between {background[0]:g} and {background[1]:g} V"
        )
    line = fit_line(voltage[flat], current[flat])
    above = sign * (current - line.intercept - line.slope * voltage)
    density = above / area
    threshold_onset = _onset(voltage, density, threshold)
    # The charging of the cell begins steeply too: only what comes after the background counts.
    tangent_onset, place = _tangent(voltage, above, int(np.flatnonzero(flat)[-1]) + 1)
    measured = line.intercept + line.slope * (trace.voltage - resistance * trace.current)
    passed = sign * (trace.current - measured)
    asked = trace.step.step.get("end")
    conditions = {
        "no onset": math.isnan(threshold_onset),
        "noise": bool(np.std(density[flat]) > threshold),
        "tangent at the end": place >= len(voltage) - TANGENT,
        "drop": abs(resistance * trace.current[-1]) > 10e-3,
        "cut short": not (
            isinstance(asked, int | float) and abs(trace.voltage[-1] - asked) < 2.0 * BIN
        ),
        "no area": not math.isfinite(area),
        f"run {record.state}": record.state != "completed",
    }
    return LsvResult(
        cell=record.cell_name,
        simulated=record.simulated,
        area=area,
        rate=rate_of(trace),
        voltage=voltage,
        current=current,
        background=line,
        charge=float(trace.charge[-1]),
        reaction_charge=sign * float(np.trapezoid(passed, trace.time)),
        threshold=threshold,
        threshold_onset=threshold_onset,
        tangent_onset=tangent_onset,
        tangent_voltage=float(voltage[place]),
        end_density=float(density[-1]),
        flags=(*(name for name, holds in conditions.items() if holds), *trace.flags),
    )


def rate_of(trace: Trace) -> float:
    """Rate of a sweep as measured, V/s, signed."""
    return fit_line(trace.time, trace.voltage).slope


def averaged(voltage: Floats, current: Floats) -> tuple[Floats, Floats]:
    """Means of voltage and current over cells of BIN of the voltage, in ascending order of it.

    The first and the last cell are left out: they are not full.
    """
    cells = np.floor(voltage / BIN).astype(np.int64)
    cells -= cells.min()
    counts = np.bincount(cells)
    full = np.flatnonzero(counts)[1:-1]
    means = [np.bincount(cells, values)[full] / counts[full] for values in (voltage, current)]
    return means[0], means[1]


def _onset(voltage: Floats, density: Floats, threshold: float) -> float:
    """V from which on a density stays above a threshold, between two points linearly."""
    below = np.flatnonzero(density < threshold)
    if len(below) == 0 or below[-1] == len(density) - 1:
        return NAN
    last = int(below[-1])
    share = (threshold - density[last]) / (density[last + 1] - density[last])
    return float(voltage[last] + share * (voltage[last + 1] - voltage[last]))


def _tangent(voltage: Floats, above: Floats, begin: int) -> tuple[float, int]:
    """V at which the steepest tangent meets zero, and its place; (NaN, begin) without one.

    begin: index of the first point that counts.
    """
    half = TANGENT // 2
    places = range(begin + half, len(voltage) - half)
    if not places:
        return NAN, begin - 1
    lines = {
        n: fit_line(voltage[n - half : n + half + 1], above[n - half : n + half + 1])
        for n in places
    }
    steepest = max(places, key=lambda n: abs(lines[n].slope))
    line = lines[steepest]
    return -line.intercept / line.slope, steepest
