"""How the targets of full cells are measured."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from operando.evaluation.cccv import Cycle, cccv
from operando.evaluation.gitt import gitt
from operando.evaluation.half_cycles import HalfCycle, read_cycling
from operando.evaluation.impedance import MeasuredSpectrum, impedance
from operando.evaluation.impedance_by_charge import impedance_by_charge
from operando.evaluation.rate_capability import rate_capability as rates_of
from operando.records import Record
from operando.validation.direct import CellFailedError
from operando.validation.experiments import (
    CYCLING,
    FIRST_CYCLE,
    FRESH_AND_RESTED,
    RATE_TEST,
    STRESS,
    TITANATE,
    TITRATION,
    held,
)
from operando.validation.lab import Experiment, Lab
from operando.validation.other_cells import PRESETS
from operando.validation.outcomes import Found, measures, per_case
from operando.validation.published import Target

Floats = npt.NDArray[np.float64]

# ---------------------------------------------------------------- first cycle


@measures("V-01", "V-02", "V-03")
def first_cycle(lab: Lab, target: Target) -> Found:
    """Charge, discharge and efficiency of the first C/10 cycle."""

    def value(preset: str) -> float:
        cycle = lab.run(FIRST_CYCLE, preset).cycles[0]
        if target.id == "V-01":
            return lab.specific(cycle.charge_capacity, preset)
        if target.id == "V-02":
            return lab.specific(cycle.discharge_capacity, preset)
        return 100.0 * cycle.coulombic_efficiency

    return per_case(target, value)


# ---------------------------------------------------------------- rate test


def _capacities(lab: Lab, preset: str) -> dict[float, float]:
    """Discharge capacity by C-rate of the ladder, mAh/g."""
    ladder = rates_of(lab.run(RATE_TEST, preset).records[1])
    return {
        round(3600.0 * rate.rate, 6): lab.specific(rate.capacity, preset) for rate in ladder.rates
    }


@measures("V-04", "V-05", "V-07")
def rate_capability(lab: Lab, target: Target) -> Found:
    """2C, 2C over C/10, and what C/10 gives afterwards."""

    def value(preset: str) -> float:
        found = _capacities(lab, preset)
        if target.id == "V-04":
            return found[2.0]
        if target.id == "V-05":
            return 100.0 * found[2.0] / found[0.1]
        (after,) = rates_of(lab.run(RATE_TEST, preset).records[2]).rates
        return lab.specific(after.capacity, preset)

    note = "" if target.id == "V-07" else "one cycle at each rate from C/10 up, after formation"
    return per_case(target, value, note)


# ---------------------------------------------------------------- cycling


def _driven(lab: Lab, experiment: Experiment, preset: str) -> tuple[Cycle, ...]:
    """The cycles of an experiment after its formation cycle."""
    return lab.run(experiment, preset).cycles[1:]


def _retention(lab: Lab, experiment: Experiment, preset: str) -> float:
    cycles = _driven(lab, experiment, preset)
    return 100.0 * cycles[-1].discharge_capacity / cycles[0].discharge_capacity


@measures("V-09", "V-11")
def retention(lab: Lab, target: Target) -> Found:
    """Last over first discharge at C/2."""
    experiment = CYCLING if target.id == "V-09" else STRESS
    return per_case(target, lambda p: _retention(lab, experiment, p))


COUNTED = 10
"""Cycles over which an efficiency is averaged: at 10 s between two readings the end of a half cycle
is known to 0.09 % of its charge."""


@measures("V-10")
def least_efficiency(lab: Lab, target: Target) -> Found:
    """Least coulombic efficiency at C/2, without the cycle in which the rate changes."""

    def value(preset: str) -> float:
        found = [cycle.coulombic_efficiency for cycle in _driven(lab, CYCLING, preset)[1:]]
        return 100.0 * float(np.min(np.convolve(found, np.full(COUNTED, 1.0 / COUNTED), "valid")))

    return per_case(
        target,
        value,
        f"means of {COUNTED} cycles, since one is counted to 0.05 %; from the second C/2 cycle on, "
        "for the first is charged after a C/10 discharge",
    )


def halves_of(record: Record, cycle: int) -> tuple[HalfCycle, Floats, HalfCycle, Floats]:
    """Charge and discharge of a cycle, each with the voltage (V) of its samples."""
    cycling = read_cycling(record)
    found = {half.charging: half for half in cycling.halves if half.cycle == cycle}
    voltage = cycling.samples["voltage"]
    up, down = found[True], found[False]
    return up, voltage[up.rows], down, voltage[down.rows]


def gap_at_half(record: Record, cycle: int) -> float:
    """Charge voltage minus discharge voltage at half of each one's own charge, V."""
    up, up_voltage, down, down_voltage = halves_of(record, cycle)
    high = np.interp(0.5 * up.charge, up.passed, up_voltage)
    low = np.interp(0.5 * -down.charge, -down.passed, down_voltage)
    return float(high - low)


@measures("V-12")
def gap_growth(lab: Lab, target: Target) -> Found:
    """Growth of the voltage gap from the first C/2 cycle to the last."""
    fresh, aged = {}, {}
    for case in target.cases:
        record = lab.run(CYCLING, target.presets[case]).records[0]
        fresh[case], aged[case] = (1e3 * gap_at_half(record, cycle) for cycle in (2, 101))
    note = "gap: " + ", ".join(
        f"{case} {fresh[case]:.0f} -> {aged[case]:.0f} mV" for case in target.cases
    )
    growth = {case: aged[case] - fresh[case] for case in target.cases}
    return Found(growth, note)


PEAK_WIDTH = 0.02
"""V. Charge is counted in bins of this width for dQ/dV; a 2450's noise is below 1 mV."""


PEAK_WINDOW = (2.6, 3.9)
"""V. Between these the main peak of a discharge is looked for: the same one fresh and aged. The
features above run into the start of the discharge as the cell polarises."""


def main_peak(record: Record, cycle: int) -> float:
    """Height of the highest dQ/dV peak of a discharge within the window, C/V."""
    *_, down, voltage = halves_of(record, cycle)
    order = np.argsort(voltage)
    levels = np.arange(*PEAK_WINDOW, PEAK_WIDTH)
    passed = np.interp(levels, voltage[order], down.passed[order])
    return float(np.max(np.abs(np.diff(passed))) / PEAK_WIDTH)


@measures("V-14")
def peak_height(lab: Lab, target: Target) -> Found:
    """Main dQ/dV peak of the last discharge over that of the first."""

    def value(preset: str) -> float:
        record = lab.run(CYCLING, preset).records[0]
        return main_peak(record, 101) / main_peak(record, 2)

    return per_case(target, value, f"bins of {1e3 * PEAK_WIDTH:g} mV below {PEAK_WINDOW[1]:g} V")


@measures("V-11o")
def loss_per_cycle(lab: Lab, target: Target) -> Found:
    """Mean loss per cycle at both upper voltages."""
    values = {}
    for case in target.cases:
        coating, upper = case.removesuffix(" V").split(" ")
        experiment, cycles = (CYCLING, 100) if upper == "4.25" else (STRESS, 50)
        preset = target.presets[coating]
        values[case] = (100.0 - _retention(lab, experiment, preset)) / (cycles - 1)
    return Found(values, "a mean: 50 cycles against 100")


# ---------------------------------------------------------------- impedance


def _doubts(spectra: list[MeasuredSpectrum]) -> str:
    """What the evaluation flags, once each."""
    flags = dict.fromkeys(flag for one in spectra for flag in one.flags)
    return f"; flagged: {', '.join(flags)}" if flags else ""


def half_charged(lab: Lab, experiment: Experiment, part: int, preset: str) -> MeasuredSpectrum:
    """The spectrum behind the charge of a part of an experiment."""
    return impedance_by_charge(lab.run(experiment, preset).records[part]).points[-1].spectrum


def _arc(one: MeasuredSpectrum) -> tuple[float, float]:
    """Diameter of the slowest arc and its standard error, ohm."""
    if one.slowest_arc is None:
        raise CellFailedError("the spectrum has no arc")
    return one.slowest_arc.resistance, one.slowest_arc.error


@measures("V-08")
def charge_transfer_arc(lab: Lab, target: Target) -> Found:
    """Slowest arc of the fresh, half-charged cell."""
    spectra = {
        case: half_charged(lab, FRESH_AND_RESTED, 0, target.presets[case]) for case in target.cases
    }
    errors = ", ".join(f"{case} {_arc(one)[1]:.2f}" for case, one in spectra.items())
    note = f"slowest arc of the fitted circuit; its standard error in ohm: {errors}"
    return Found(
        {case: _arc(one)[0] for case, one in spectra.items()},
        note + _doubts(list(spectra.values())),
    )


@measures("V-13")
def aged_resistance(lab: Lab, target: Target) -> Found:
    """Resistance of the cells behind their cycles, from the spectrum at half charge."""
    spectra = {case: half_charged(lab, CYCLING, 1, target.presets[case]) for case in target.cases}
    parts = ", ".join(
        f"{case} {one.high_frequency_resistance:.1f} + "
        f"{one.resistance - one.high_frequency_resistance:.1f}"
        for case, one in spectra.items()
    )
    note = f"resistance of the circuit without its tail, half charged; R_hf + arcs: {parts}"
    return Found(
        {case: one.resistance for case, one in spectra.items()},
        note + _doubts(list(spectra.values())),
    )


@measures("V-15")
def diffusion_coefficient(lab: Lab, target: Target) -> Found:
    """GITT on charge."""
    results = {
        case: gitt(lab.run(TITRATION, target.presets[case]).records[0]) for case in target.cases
    }
    note = "charge, mean over 10-90 %, without the ohmic jump; " + ", ".join(
        f"{case}: {one.validity}" for case, one in results.items()
    )
    return Found({case: 1e4 * one.diffusion_coefficient for case, one in results.items()}, note)


@measures("M-42")
def rest_ageing(lab: Lab, target: Target) -> Found:
    """Cathode resistance of bare and coated cells, fresh and after a rest, half charged."""
    values, errors = {}, []
    for coating in ("lno", "bare"):
        preset = target.presets[coating]
        first = half_charged(lab, FRESH_AND_RESTED, 0, preset)
        (last,) = impedance(lab.run(FRESH_AND_RESTED, preset).records[1]).spectra
        (fresh, fresh_error), (aged, aged_error) = _arc(first), _arc(last)
        values[f"{coating} fresh"] = fresh
        values[f"{coating} growth"] = aged - fresh
        errors.append(f"{coating} {math.hypot(fresh_error, aged_error):.2f}")
    note = (
        "on the cells of Kim et al., half charged, unconnected for 500 h; slowest arc; standard "
        f"error of the growth in ohm: {', '.join(errors)}"
    )
    return Found(values, note)


@measures("V-48")
def voltage_holds(lab: Lab, target: Target) -> Found:
    """Growth of the cathode resistance in holds of 20 h, halved for the course in time."""
    growth, halves, errors = {}, {}, []
    for level in (3.9, 3.6, 3.3):
        records = lab.run(held(level), "ncm811-bare").records
        arcs = [_arc(impedance(one).spectra[0]) for one in records[1::2]]
        before, between, after = (resistance for resistance, _ in arcs)
        growth[f"{level:g} V"] = after - before
        halves[level] = between - before, after - between
        errors.append(f"{math.hypot(arcs[0][1], arcs[2][1]):.2f}")
    growth["3.9 V, 0-10 h"], growth["3.9 V, 10-20 h"] = halves[3.9]
    note = (
        "stand-in cell ncm811-bare, against Li 0.62 V higher; slowest arc an hour after each hold, "
        f"when the voltage still moves; standard errors in ohm: {', '.join(errors)}"
    )
    return Found(growth, note)


# ---------------------------------------------------------------- pressure


@measures("V-45b")
def pressure_against_lithium(lab: Lab, target: Target) -> Found:
    """Slope of pressure against charge on the first charge, read from the load cell."""
    return Found({"li": _charge_slope(lab, target.presets["caec"])})


def _charge_slope(lab: Lab, preset: str, experiment: Experiment = FIRST_CYCLE) -> float:
    """Slope of pressure against charge on the first charge, MPa per mAh/cm2."""
    row = cccv(lab.run(experiment, preset).records[0]).rows()[0]
    return float(row["charge_pressure_slope_MPa_per_mAh_per_cm2"])


@measures("V-45a")
def pressure_against_titanate(lab: Lab, target: Target) -> Found:
    """The same against a counter electrode without strain."""
    return Found({"lto": _charge_slope(lab, PRESETS[target.id], TITANATE)})


# ---------------------------------------------------------------- coating loadings

LOADINGS = {"0.5": "ncm811-caec-half", "1": "ncm811-caec", "2": "ncm811-caec-double"}
"""Presets of the CAEC cell by loading of the coating, wt%."""

RATE_VALUES = {"C/10": 0.1, "C/2": 0.5, "2C": 2.0}
"""C-rates by their words."""


@measures("V-26a", "V-26b")
def coating_loadings(lab: Lab, target: Target) -> Found:
    """First efficiency, or capacity at three rates, by loading of the coating."""
    values: dict[str, float] = {}
    for case in target.cases:
        _, loading, _, *rate = case.split(" ")
        preset = LOADINGS[loading]
        if rate:
            values[case] = _capacities(lab, preset)[RATE_VALUES[rate[0]]]
        else:
            values[case] = 100.0 * lab.run(FIRST_CYCLE, preset).cycles[0].coulombic_efficiency
    return Found(values, "coverage and thickness of the CAEC cell are scaled with its loading")
