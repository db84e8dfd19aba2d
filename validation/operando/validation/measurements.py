"""How each target is measured: one function a row, and what cannot be measured yet, with why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from operando.evaluation.cccv import Cycle, cccv
from operando.evaluation.half_cycles import HalfCycle, read_cycling
from operando.records import Record
from operando.simulators.cell import CellParameters, load_preset, presets
from operando.validation import other_cells as others
from operando.validation.direct import DirectCell, arc, rate_test, titration
from operando.validation.direct import first_cycle as direct_first_cycle
from operando.validation.lab import (
    CYCLING,
    FIRST_CYCLE,
    RATE_TEST,
    RATES,
    STRESS,
    TITANATE,
    Experiment,
    Lab,
)
from operando.validation.published import Target

Floats = npt.NDArray[np.float64]


class Path(Enum):
    """By what way a value was measured."""

    INSTRUMENTS = "instruments"
    """Protocol, engine, driver, bytes, simulated instrument, cell, record, evaluation."""
    DIRECT = "direct"
    """On the model itself: protocol or instrument do not exist yet."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured. values: by case, in the target's unit. note: what a reader must know."""

    values: Mapping[str, float]
    path: Path
    note: str = ""


@dataclass(frozen=True, slots=True)
class NotYet:
    """A target that cannot be measured yet, and why."""

    reason: str


Measurement = Callable[[Lab, Target], Found | NotYet]

MEASUREMENTS: dict[str, Measurement] = {}
"""The measurement of every target, by its id."""


def measures(*ids: str) -> Callable[[Measurement], Measurement]:
    """Enter a function as the measurement of targets."""

    def enter(function: Measurement) -> Measurement:
        for target in ids:
            MEASUREMENTS[target] = function
        return function

    return enter


def _per_case(
    lab: Lab, target: Target, value: Callable[[str], float], path: Path, note: str = ""
) -> Found:
    return Found({case: value(target.presets[case]) for case in target.cases}, path, note)


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

    return _per_case(lab, target, value, Path.INSTRUMENTS)


# ---------------------------------------------------------------- rate test


def _rate_cycles(lab: Lab, preset: str) -> dict[str, list[float]]:
    """Discharge capacities of the rate test by rate, mAh/g, in the order they were measured."""
    cycles = lab.run(RATE_TEST, preset).cycles[1:]
    found: dict[str, list[float]] = {}
    for rate, cycle in zip(RATES, cycles, strict=True):
        found.setdefault(rate, []).append(lab.specific(cycle.discharge_capacity, preset))
    return found


@measures("V-04", "V-05", "V-07")
def rate_capability(lab: Lab, target: Target) -> Found:
    """2C, 2C over C/10, and what C/10 gives afterwards."""

    def value(preset: str) -> float:
        found = _rate_cycles(lab, preset)
        if target.id == "V-04":
            return found["2C"][0]
        if target.id == "V-05":
            return 100.0 * found["2C"][0] / found["C/10"][0]
        return found["C/10"][1]

    note = "" if target.id == "V-07" else "one cycle at each rate from C/10 up, after formation"
    return _per_case(lab, target, value, Path.INSTRUMENTS, note)


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
    return _per_case(lab, target, lambda p: _retention(lab, experiment, p), Path.INSTRUMENTS)


COUNTED = 10
"""Cycles over which an efficiency is averaged: at 10 s between two readings the end of a half cycle
is known to 0.09 % of its charge."""


@measures("V-10")
def least_efficiency(lab: Lab, target: Target) -> Found:
    """Least coulombic efficiency at C/2, without the cycle in which the rate changes."""

    def value(preset: str) -> float:
        found = [cycle.coulombic_efficiency for cycle in _driven(lab, CYCLING, preset)[1:]]
        return 100.0 * float(np.min(np.convolve(found, np.full(COUNTED, 1.0 / COUNTED), "valid")))

    return _per_case(
        lab,
        target,
        value,
        Path.INSTRUMENTS,
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
    return Found(growth, Path.INSTRUMENTS, note)


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

    return _per_case(
        lab,
        target,
        value,
        Path.INSTRUMENTS,
        f"bins of {1e3 * PEAK_WIDTH:g} mV below {PEAK_WINDOW[1]:g} V",
    )


@measures("V-11o")
def loss_per_cycle(lab: Lab, target: Target) -> Found:
    """Mean loss per cycle at both upper voltages."""
    values = {}
    for case in target.cases:
        coating, upper = case.removesuffix(" V").split(" ")
        experiment, cycles = (CYCLING, 100) if upper == "4.25" else (STRESS, 50)
        preset = target.presets[coating]
        values[case] = (100.0 - _retention(lab, experiment, preset)) / (cycles - 1)
    return Found(values, Path.INSTRUMENTS, "a mean: 50 cycles against 100")


@measures("V-13")
def aged_resistance(lab: Lab, target: Target) -> Found:
    """Resistance of the cells that were cycled through the instruments, read on the model."""
    return _per_case(
        lab,
        target,
        lambda preset: lab.resistance_after(CYCLING, preset),
        Path.DIRECT,
        "aged through the instruments, then a current step on the model: no EIS yet",
    )


# ---------------------------------------------------------------- on the model


@measures("V-08")
def charge_transfer_arc(lab: Lab, target: Target) -> Found:
    """Arc of the fresh, half-charged cell."""
    return _per_case(lab, target, lambda p: arc(DirectCell(p)), Path.DIRECT, "no EIS yet")


@measures("V-15")
def diffusion_coefficient(lab: Lab, target: Target) -> Found:
    """GITT on charge."""
    return _per_case(
        lab,
        target,
        lambda preset: titration(DirectCell(preset)),
        Path.DIRECT,
        "no GITT protocol yet; charge, mean over 10-90 %, without the ohmic jump",
    )


REST_AGEING = 500.0 * 3600.0
"""s"""


@measures("M-42")
def rest_ageing(lab: Lab, target: Target) -> Found:
    """Cathode resistance of bare and coated cells, fresh and after a rest, half charged."""
    values = {}
    for coating in ("lno", "bare"):
        cell = DirectCell(target.presets[coating])
        values[f"{coating} fresh"] = fresh = arc(cell)
        cell.rest(REST_AGEING)
        values[f"{coating} growth"] = cell.cell.charge_transfer_resistance(cell.now) - fresh
    return Found(values, Path.DIRECT, "on the cells of Kim et al., half charged, no EIS yet")


HOLD_OFFSET = 0.62
"""V of In/InLi against Li: Santhosha et al. 2019."""


@measures("V-48")
def voltage_holds(lab: Lab, target: Target) -> Found:
    """Growth of the cathode resistance in holds of 20 h, halved for the course in time."""
    growth = {}
    halves = {}
    for level in (3.9, 3.6, 3.3):
        cell = DirectCell("ncm811-bare")
        cell.half(0.1, level + HOLD_OFFSET, down_to=0.005)
        readings = [cell.cell.charge_transfer_resistance(cell.now)]
        for _ in range(2):
            cell.cell.source_voltage(cell.now, level + HOLD_OFFSET, cell.current(0.1))
            cell.now += 10.0 * 3600.0
            readings.append(cell.cell.charge_transfer_resistance(cell.now))
        growth[f"{level:g} V"] = readings[2] - readings[0]
        halves[level] = readings[1] - readings[0], readings[2] - readings[1]
    growth["3.9 V, 0-10 h"], growth["3.9 V, 10-20 h"] = halves[3.9]
    note = "stand-in cell ncm811-bare, against Li 0.62 V higher; no EIS yet"
    return Found(growth, Path.DIRECT, note)


# ---------------------------------------------------------------- pressure


@measures("V-45b")
def pressure_against_lithium(lab: Lab, target: Target) -> Found:
    """Slope of pressure against charge on the first charge, read from the load cell."""
    return Found({"li": _charge_slope(lab, target.presets["caec"])}, Path.INSTRUMENTS)


def _charge_slope(lab: Lab, preset: str, experiment: Experiment = FIRST_CYCLE) -> float:
    """Slope of pressure against charge on the first charge, MPa per mAh/cm2."""
    row = cccv(lab.run(experiment, preset).records[0]).rows()[0]
    return float(row["charge_pressure_slope_MPa_per_mAh_per_cm2"])


@measures("V-45a")
def pressure_against_titanate(lab: Lab, target: Target) -> Found | NotYet:
    """The same against a counter electrode without strain."""
    preset = others.PRESETS[target.id]
    if preset not in presets():
        return NotYet(f"there is no preset {preset!r}")
    return Found({"lto": _charge_slope(lab, preset, TITANATE)}, Path.INSTRUMENTS)


# ---------------------------------------------------------------- pellets and lithium cells


def _on_the_model(
    target: Target, value: Callable[[str], float], note: str = "no protocol yet"
) -> Found | NotYet:
    """Values by case from cells of other kinds; not yet where a preset is missing."""
    try:
        return Found({case: value(case) for case in target.cases}, Path.DIRECT, note)
    except others.NoPresetError as error:
        return NotYet(str(error))


@measures("V-16", "V-17")
def pellet_conductivity(lab: Lab, target: Target) -> Found | NotYet:
    """Conductivity between blocking contacts, from the spectrum."""
    scale = 10.0 if target.id == "V-16" else 0.01  # S/m in mS/cm, S/cm

    def value(case: str) -> float:
        return scale * others.conductivity(others.pellet(others.PRESETS[f"{target.id} {case}"]))

    return _on_the_model(target, value, "spectrum of the model: no EIS yet")


@measures("V-18-caec", "V-18-lno")
def static_contact(lab: Lab, target: Target) -> Found | NotYet:
    """Resistance growth of a resting pellet in 48 h."""

    def value(case: str) -> float:
        return others.static_growth(others.pellet(others.PRESETS[f"V-18 {case}"]))

    return _on_the_model(target, value, "spectrum of the model: no EIS yet")


@measures("V-19")
def coating_sweep(lab: Lab, target: Target) -> Found | NotYet:
    """Charge that a coating pellet passes on the way to 5.0 V."""

    def value(case: str) -> float:
        return others.swept_charge(others.lithium(others.PRESETS[f"V-19 {case}"]))

    return _on_the_model(target, value, "no sweep protocol yet; the computed window is an input")


@measures("V-60")
def conductivity_crossing(lab: Lab, target: Target) -> Found | NotYet:
    """Share of active material at which ions and electrons are conducted alike."""
    preset = others.PRESETS[target.id]
    return _on_the_model(target, lambda case: others.crossing(others.pellet(preset)))


@measures("V-40")
def titrated_charge(lab: Lab, target: Target) -> Found | NotYet:
    """Exponent of the side-reaction charge against time."""
    preset = others.PRESETS[target.id]
    return _on_the_model(
        target,
        lambda case: others.titration_exponent(others.lithium(preset)),
        "no protocol yet; 0.1 mA/cm2, 2 uAh/cm2 a titration, 100 h (assumed)",
    )


@measures("V-41")
def first_plating(lab: Lab, target: Target) -> Found | NotYet:
    """Charge to the floor of the interface at three currents."""
    preset = others.PRESETS["V-40"]

    def value(case: str) -> float:
        current = others.MA_PER_CM2 * float(case.removesuffix(" mA/cm2"))
        return others.charge_to_floor(others.lithium(preset), current)

    return _on_the_model(target, value)


@measures("V-42T")
def critical_current_density(lab: Lab, target: Target) -> Found | NotYet:
    """CCD by temperature at the preset's pressure, and by pressure at 25 degC."""
    name = others.PRESETS[target.id]

    def value(case: str) -> float:
        amount, unit = case.split(" ")
        if unit == "degC":
            return others.critical_current(others.lithium(name), kelvin=273.15 + float(amount))
        return others.critical_current(others.lithium(name), pressure=1e6 * float(amount))

    return _on_the_model(target, value, "no protocol yet; steps of 0.05 mA/cm2, 1 h each way")


@measures("V-43")
def symmetric_failure(lab: Lab, target: Target) -> Found | NotYet:
    """How the overpotential ends in symmetric cells."""
    lives: list[str] = []

    def value(case: str) -> float:
        preset = others.PRESETS["V-43 lgps"] if case == "lgps" else others.PRESETS["V-42T"]
        ratio, hours = others.late_over_early(others.lithium(preset))
        lives.append(f"{case} after {hours:.0f} h")
        return ratio

    found = _on_the_model(target, value)
    if isinstance(found, NotYet):
        return found
    note = f"no protocol yet; 0.25 mA/cm2, 1 h each way: {', '.join(lives)}"
    return Found(found.values, found.path, note)


# ---------------------------------------------------------------- coating loadings

RATE_VALUES = {"C/10": 0.1, "C/2": 0.5, "2C": 2.0}
"""C-rates by their words."""

LOADINGS = {"0.5": 0.5, "1": 1.0, "2": 2.0}
"""Coating of the CAEC cell by loading, wt%."""


def loaded(preset: str, loading: float) -> CellParameters:
    """A coated cell with another loading of the same coating.

    The uncovered share falls exponentially with the loading, as when patches land anywhere, and
    the rest of the mass is thickness: assumed, since neither is published.
    """
    p = load_preset(preset).parameters
    coverage = 1.0 - (1.0 - p.coating_coverage) ** loading
    thickness = p.coating_thickness * loading * p.coating_coverage / coverage
    return replace(p, coating_coverage=coverage, coating_thickness=thickness)


@measures("V-26a", "V-26b")
def coating_loadings(lab: Lab, target: Target) -> Found:
    """First efficiency, or capacity at three rates, by loading of the coating."""
    values: dict[str, float] = {}
    for case in target.cases:
        _, loading, _, *rate = case.split(" ")
        cell = DirectCell(loaded(target.presets["caec"], LOADINGS[loading]))
        if rate:
            cycle = rate_test(cell, (RATE_VALUES[rate[0]],))[0]
            values[case] = cell.specific(cycle.discharge.charge)
        else:
            values[case] = 100.0 * direct_first_cycle(cell).efficiency
    note = "no presets of other loadings: coverage and thickness of the CAEC cell are scaled"
    return Found(values, Path.DIRECT, note)
