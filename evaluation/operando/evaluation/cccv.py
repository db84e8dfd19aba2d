"""Constant-current constant-voltage cycling: capacities, efficiency, polarisation, pressure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.evaluation.half_cycles import Cycling, Floats, HalfCycle, read_cycling
from operando.instruments.recorder import Entry
from operando.instruments.samples import Regulation
from operando.records import LimitEvent, Record
from operando.records.reader import Columns, usable_values

COULOMBS_PER_MAH = 3.6
PASCALS_PER_MPA = 1e6
GRAMS_PER_KG = 1e3
CM2_PER_M2 = 1e4

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class CyclePressure:
    """How the stack pressure followed the charge of one cycle.

    swing: pressure at the end of the charge minus pressure at its start, Pa; positive when the
    cell pushes harder as it is charged. NaN if either was not measured within the maximum age.
    charge_slope, discharge_slope: least-squares slope of pressure against charge during the
    charge and the discharge, Pa/C; both have the sign of the swing if the cell breathes
    reversibly. NaN with fewer than three readings.
    """

    swing: float = NAN
    charge_slope: float = NAN
    discharge_slope: float = NAN


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle. NaN where a half is absent.

    cycle: from 1. charge_capacity, discharge_capacity: magnitudes, C.
    constant_voltage_time: time under voltage regulation while charging, s; between a sample under
    current and one under voltage regulation half the interval counts.
    charge_end_voltage, discharge_end_voltage: V under current, at the last sample of the half.
    mean_charge_voltage, mean_discharge_voltage: energy over charge, V.
    pressure: see there.
    flags: what speaks against using the numbers: "incomplete" (a half is absent, or a step that
    drives the cell has no outcome), "gap" (part was not observed), "paused" (the circuit was opened
    within it), "limit <name>" (a limit acted), "run <state>" (the last cycle of a run that is not
    completed: what the protocol had still to do is missing).
    """

    cycle: int
    charge_capacity: float
    discharge_capacity: float
    constant_voltage_time: float
    charge_end_voltage: float
    discharge_end_voltage: float
    mean_charge_voltage: float
    mean_discharge_voltage: float
    pressure: CyclePressure
    flags: tuple[str, ...] = ()

    @property
    def coulombic_efficiency(self) -> float:
        """Discharge capacity over charge capacity of the same cycle, fraction."""
        return self.discharge_capacity / self.charge_capacity if self.charge_capacity else NAN

    @property
    def mean_polarisation(self) -> float:
        """Mean voltage of the charge minus that of the discharge, V."""
        return self.mean_charge_voltage - self.mean_discharge_voltage


@dataclass(frozen=True, slots=True)
class CyclingResult:
    """What cycling showed, cycle by cycle.

    cell: its name. active_mass: kg. area: electrode area, m2. NaN where not stated.
    simulated: whether the data came from simulated instruments.
    """

    cell: str
    active_mass: float
    area: float
    simulated: bool
    cycles: tuple[Cycle, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a cycle in the units of the literature, which are part of the keys."""
        grams = self.active_mass * GRAMS_PER_KG
        cm2 = self.area * CM2_PER_M2
        table: list[dict[str, float | int | str | bool]] = []
        for cycle in self.cycles:
            charge = cycle.charge_capacity / COULOMBS_PER_MAH
            discharge = cycle.discharge_capacity / COULOMBS_PER_MAH
            slope = cycle.pressure.charge_slope / PASCALS_PER_MPA * COULOMBS_PER_MAH
            back = cycle.pressure.discharge_slope / PASCALS_PER_MPA * COULOMBS_PER_MAH
            table.append(
                {
                    "cell": self.cell,
                    "simulated": self.simulated,
                    "cycle": cycle.cycle,
                    "charge_capacity_mAh": charge,
                    "discharge_capacity_mAh": discharge,
                    "charge_capacity_mAh_per_g": charge / grams,
                    "discharge_capacity_mAh_per_g": discharge / grams,
                    "coulombic_efficiency_percent": 100.0 * cycle.coulombic_efficiency,
                    "constant_voltage_time_s": cycle.constant_voltage_time,
                    "charge_end_voltage_V": cycle.charge_end_voltage,
                    "discharge_end_voltage_V": cycle.discharge_end_voltage,
                    "mean_polarisation_V": cycle.mean_polarisation,
                    "pressure_swing_MPa": cycle.pressure.swing / PASCALS_PER_MPA,
                    "charge_pressure_slope_MPa_per_mAh": slope,
                    "charge_pressure_slope_MPa_per_mAh_per_cm2": slope * cm2,
                    "discharge_pressure_slope_MPa_per_mAh": back,
                    "discharge_pressure_slope_MPa_per_mAh_per_cm2": back * cm2,
                    "flags": ", ".join(cycle.flags),
                }
            )
        return table


def cccv(
    record: Record, *, max_age: float = 60.0, pressure_source: str | None = None
) -> CyclingResult:
    """Evaluate charge-discharge cycling, with or without constant-voltage parts.

    record: of a run that numbers its cycles. max_age: how far from the start and the end of a
    charge a pressure reading may lie, s. pressure_source: the load cell, if there were several.
    Charge is what the runner counted; the trapezoid rule where it counted nothing. Raises
    RecordError if the record cannot be read or has several sources of pressure.
    """
    cycling = read_cycling(record)
    readings = record.aux("pressure", source=record.source_of("pressure", pressure_source))
    halves = {(half.cycle, half.charging): half for half in cycling.halves}
    events = _Events.of(record)
    cycles = []
    for number in sorted({half.cycle for half in cycling.halves}):
        charge, discharge = halves.get((number, True)), halves.get((number, False))
        cycles.append(
            Cycle(
                cycle=number,
                charge_capacity=charge.charge if charge else NAN,
                discharge_capacity=-discharge.charge if discharge else NAN,
                constant_voltage_time=_constant_voltage_time(cycling, charge),
                charge_end_voltage=_end_voltage(cycling, charge),
                discharge_end_voltage=_end_voltage(cycling, discharge),
                mean_charge_voltage=_mean_voltage(charge),
                mean_discharge_voltage=_mean_voltage(discharge),
                pressure=_pressure(cycling, charge, discharge, readings, max_age),
                flags=_flags(events, cycling, number, (charge, discharge)),
            )
        )
    return CyclingResult(
        cell=record.cell_name,
        active_mass=record.of_cell("active_mass"),
        area=record.of_cell("area"),
        simulated=record.simulated,
        cycles=tuple(cycles),
    )


def _end_voltage(cycling: Cycling, half: HalfCycle | None) -> float:
    return float(cycling.samples["voltage"][half.rows[-1]]) if half else NAN


def _mean_voltage(half: HalfCycle | None) -> float:
    return half.energy / half.charge if half else NAN


def _constant_voltage_time(cycling: Cycling, half: HalfCycle | None) -> float:
    if half is None:
        return NAN
    samples, rows = cycling.samples, half.rows
    held = (samples["regulation"][rows] == Regulation.VOLTAGE.value).astype(np.float64)
    time, step = samples["time"][rows], samples["step_count"][rows]
    share = 0.5 * (held[1:] + held[:-1])
    share[np.diff(step) != 0] = 0.0
    for gap in cycling.gaps:
        share[(time[:-1] < gap.end) & (time[1:] > gap.start)] = 0.0
    return float(np.sum(share * np.diff(time)))


def _pressure(
    cycling: Cycling,
    charge: HalfCycle | None,
    discharge: HalfCycle | None,
    readings: Columns,
    max_age: float,
) -> CyclePressure:
    values = usable_values(readings)
    valid = np.isfinite(values)
    time, pressure = readings["time"][valid], values[valid]
    if charge is None:
        swing = NAN
    else:
        swing = _nearest(charge.end, time, pressure, max_age) - _nearest(
            charge.start, time, pressure, max_age
        )
    return CyclePressure(
        swing,
        _slope(cycling, charge, time, pressure),
        _slope(cycling, discharge, time, pressure),
    )


def _nearest(at: float, time: Floats, values: Floats, max_age: float) -> float:
    if len(time) == 0:
        return NAN
    nearest = int(np.argmin(np.abs(time - at)))
    return float(values[nearest]) if abs(time[nearest] - at) <= max_age else NAN


def _slope(cycling: Cycling, half: HalfCycle | None, time: Floats, pressure: Floats) -> float:
    """Least-squares slope of pressure against charge within one half, Pa/C."""
    if half is None:
        return NAN
    use = (time >= half.start) & (time <= half.end)
    for gap in cycling.gaps:
        use &= (time < gap.start) | (time > gap.end)
    # Charge is sampled more densely than pressure and has no noise: it is interpolated, not the
    # pressure.
    charge = np.interp(time[use], cycling.samples["time"], cycling.net)
    if len(charge) < 3 or np.ptp(charge) == 0.0:
        return NAN
    deviation = charge - charge.mean()
    return float(np.sum(deviation * pressure[use]) / np.sum(deviation**2))


@dataclass(frozen=True, slots=True)
class _Events:
    """What a journal tells of a run, read once. unended: cycles of driven steps without outcome.

    last: the highest cycle of which a step began. pauses: times, s.
    """

    state: str
    unended: frozenset[int]
    last: int
    pauses: tuple[float, ...]
    limits: tuple[LimitEvent, ...]

    @classmethod
    def of(cls, record: Record) -> _Events:
        steps = record.steps()
        return cls(
            state=record.state,
            # A step can be asked for and stopped before its first sample.
            unended=frozenset(s.cycle for s in steps if not s.ended and s.kind != "Rest"),
            last=max((step.cycle for step in steps), default=0),
            pauses=tuple(entry.time for entry in record.journal(Entry.PAUSED)),
            limits=tuple(record.limits),
        )


def _flags(
    events: _Events, cycling: Cycling, number: int, halves: tuple[HalfCycle | None, ...]
) -> tuple[str, ...]:
    flags = []
    if number in events.unended or not all(half and half.complete for half in halves):
        flags.append("incomplete")
    time = cycling.samples["time"][cycling.samples["cycle"] == number]
    start = min([time[0], *(half.start for half in halves if half)])
    later = cycling.samples["time"][cycling.samples["cycle"] > number]
    end = later[0] if len(later) else np.inf
    if any(gap.start < end and gap.end > start for gap in cycling.gaps):
        flags.append("gap")
    if any(start <= time < end for time in events.pauses):
        flags.append("paused")
    names = dict.fromkeys(event.name for event in events.limits if start <= event.time < end)
    flags += [f"limit {name}" for name in names]
    if number >= events.last and events.state != "completed":
        flags.append(f"run {events.state}")
    return tuple(flags)
