"""Measurements on cells that are no full cells: pellets, lithium on both sides or on one.

No protocol or instrument for them exists yet, so all of this runs on the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from operando.simulators.cell import presets
from operando.simulators.cell.factory import load_lithium, load_pellet
from operando.simulators.cell.lithium import LithiumCell, LithiumParameters
from operando.simulators.cell.pellet import PelletCell, PelletParameters

Floats = npt.NDArray[np.float64]
Parameters = TypeVar("Parameters", LithiumParameters, PelletParameters)

HOUR = 3600.0
MA_PER_CM2 = 10.0
"""A/m2."""
UAH_PER_CM2 = 36.0
"""C/m2."""


class NoPresetError(LookupError):
    """A preset that a measurement needs does not exist."""


def lithium(name: str) -> LithiumParameters:
    """Parameters of a lithium preset. Raises NoPresetError."""
    return _loaded(name, load_lithium)


def pellet(name: str) -> PelletParameters:
    """Parameters of a pellet preset. Raises NoPresetError."""
    return _loaded(name, load_pellet)


def _loaded(name: str, load: Callable[[str], Parameters]) -> Parameters:
    if name not in presets(None):
        raise NoPresetError(f"there is no preset {name!r}")
    return load(name)


# ---------------------------------------------------------------- pellets


TAIL_SLOPE = 3.0
"""Slope of -Im Z against Re Z from which a low-frequency line counts as the tail of a blocking
contact; one with an exponent of 0.9 has 6.3."""


def resistance_of(impedance: npt.NDArray[np.complex128]) -> float:
    """Resistance of a spectrum, from high to low frequency, without its blocking tail, ohm.

    The steepest piece of the tail, of those at the lowest frequencies, is drawn on to the real
    axis. A spectrum that ends on the real axis has no tail: then Re Z at its end.
    """
    real, capacitive = impedance.real, -impedance.imag
    if capacitive[-1] < 0.05 * real[-1]:
        return float(real[-1])
    rise, run = np.diff(capacitive), np.diff(real)
    steep = (rise > 0.0) & (rise > TAIL_SLOPE * run)
    if not steep.any():
        return float(real[-1])
    last = int(np.flatnonzero(steep)[-1])
    gentle = np.flatnonzero(~steep[: last + 1])
    first = int(gentle[-1]) + 1 if len(gentle) else 0
    place = first + int(np.argmin(run[first : last + 1] / rise[first : last + 1]))
    return float(real[place] - capacitive[place] * run[place] / rise[place])


def spectrum_frequencies() -> Floats:
    """1 MHz to 1 mHz, twenty a decade, Hz."""
    return np.logspace(6.0, -3.0, 181)


def conductivity(parameters: PelletParameters) -> float:
    """Conductivity of a pellet from its spectrum between blocking contacts, S/m."""
    cell = PelletCell(parameters)
    found = resistance_of(cell.impedance(spectrum_frequencies(), 0.0))
    return parameters.thickness / (found * cell.area)


def static_growth(parameters: PelletParameters, hours: float = 48.0) -> float:
    """Growth of the total resistance of a resting pellet, ohm: V-18."""
    cell = PelletCell(parameters)
    fresh = resistance_of(cell.impedance(spectrum_frequencies(), 0.0))
    now = hours * HOUR
    return resistance_of(cell.impedance(spectrum_frequencies(), now)) - fresh


def crossing(parameters: PelletParameters) -> float:
    """Share of active material at which both conductivities of a composite are equal: V-60.

    NaN where they do not cross between 10 and 90 %.
    """

    def excess(share: float) -> float:
        state = PelletCell(replace(parameters, active_fraction=share)).state(0.0)
        return math.log(state.ionic_resistance / state.electronic_resistance)

    low, high = 0.1, 0.9
    if not excess(low) < 0.0 < excess(high):
        return math.nan
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) < 0.0 else (low, middle)
    return 0.5 * (low + high)


# ---------------------------------------------------------------- lithium on steel

TITRATION_CURRENT = 0.1 * MA_PER_CM2
TITRATION_CHARGE = 2.0 * UAH_PER_CM2
TITRATION_TRIGGER = 0.05
"""V: the next titration is due when the steel has risen so far above lithium."""
TITRATION_TIME = 100.0 * HOUR
TITRATION_TEMPERATURE = 298.15


def titration_exponent(parameters: LithiumParameters) -> float:
    """Exponent of titrated charge against time, q = q0 + k t^n with n free: V-40.

    0.1 mA/cm2, 2 uAh/cm2 a titration, 100 h (steps and current are not published).
    """
    cell = LithiumCell(parameters)
    cell.set_temperature(0.0, TITRATION_TEMPERATURE)
    now, plated = 0.0, 0.0
    times, charges = [], []
    while now < TITRATION_TIME:
        cell.source_current(now, -TITRATION_CURRENT * cell.area, 5.0)
        now += TITRATION_CHARGE / TITRATION_CURRENT
        plated += TITRATION_CHARGE
        cell.open_circuit(now)
        wait = 10.0
        while cell.terminal(now).voltage < TITRATION_TRIGGER and now < TITRATION_TIME:
            now += wait
            wait = min(wait * 1.05, 120.0)
        times.append(now)
        charges.append(plated)
    # The last one was cut off by the end of the experiment.
    return power_of(np.array(times[:-1]), np.array(charges[:-1]))


def power_of(time: Floats, charge: Floats) -> float:
    """Exponent n of the least-squares fit q = q0 + k t^n; NaN with fewer than five points."""
    if len(time) < 5:
        return math.nan

    def error(n: float) -> float:
        design = np.stack([np.ones_like(time), (time / time[-1]) ** n], axis=1)
        solution, *_ = np.linalg.lstsq(design, charge, rcond=None)
        return float(np.sum((design @ solution - charge) ** 2))

    candidates = np.linspace(0.05, 1.5, 291)
    return float(candidates[int(np.argmin([error(float(n)) for n in candidates]))])


PLATED = 100.0 * UAH_PER_CM2
"""Charge of a first plating over which its floor is looked for."""


def charge_to_floor(parameters: LithiumParameters, current: float) -> float:
    """Charge of a first plating until the interface is within 10 % of its floor, uAh/cm2: V-41.

    current: A/m2. The interface is the working side's; the floor its least resistance.
    """
    cell = LithiumCell(parameters)
    cell.source_current(0.0, -current * cell.area, 5.0)
    charge = np.linspace(0.0, PLATED, 401)[1:]
    found = np.array([cell.interface_resistances(float(q) / current)[0] for q in charge])
    floor = int(np.argmin(found))
    near = int(np.argmax(found[: floor + 1] <= 1.1 * found[floor]))
    return float(charge[near]) / UAH_PER_CM2


SWEEP_RATE = 1e-4
"""V/s."""
SWEEP_STEP = 0.05
SWEEP_END = 5.0
"""V against lithium."""


def swept_charge(parameters: LithiumParameters) -> float:
    """Charge of a sweep from rest to 5.0 V at 0.1 mV/s, C: V-19."""
    cell = LithiumCell(parameters)
    level, now = cell.terminal(1.0).voltage, 1.0
    while level < SWEEP_END:
        level = min(level + SWEEP_STEP, SWEEP_END)
        cell.source_voltage(now, level, 1.0)
        now += SWEEP_STEP / SWEEP_RATE
        cell.terminal(now)
    return cell.charge_passed(now)


# ---------------------------------------------------------------- lithium on both sides

RAMP_STEP = 0.05 * MA_PER_CM2
RAMP_HALF = HOUR
RAMP_REST = 600.0
LARGEST_RAMP = 3.0 * MA_PER_CM2
DROP = 0.05
"""Fall of voltage over current within a half cycle that counts as a soft short."""


def critical_current(
    parameters: LithiumParameters, *, kelvin: float = 298.15, pressure: float | None = None
) -> float:
    """Critical current density of a ramp of 0.05 mA/cm2 and 1 h each way, mA/cm2: V-42T.

    pressure: Pa; that of the preset without one. It is the last current without a short.
    """
    cell = LithiumCell(parameters)
    cell.set_temperature(0.0, kelvin)
    if pressure is not None:
        cell.set_stack_pressure(0.0, pressure)
    now, current, last = 0.0, RAMP_STEP, 0.0
    while current <= LARGEST_RAMP:
        for sign in (1.0, -1.0):
            cell.source_current(now, sign * current * cell.area, 5.0)
            if shorted(cell, now, RAMP_HALF):
                return last / MA_PER_CM2
            now += RAMP_HALF
            cell.open_circuit(now)
            now += RAMP_REST
        last, current = current, current + RAMP_STEP
    return last / MA_PER_CM2


def shorted(cell: LithiumCell, start: float, length: float, readings: int = 60) -> bool:
    """Whether the voltage falls within a half cycle (s) by more than 5 % of its highest so far."""
    highest = 0.0
    for step in range(1, readings + 1):
        voltage = abs(cell.terminal(start + length * step / readings).voltage)
        if voltage < (1.0 - DROP) * highest:
            return True
        highest = max(highest, voltage)
    return False


LIFE_CURRENT = 0.25 * MA_PER_CM2
LIFE = 400.0 * HOUR


def late_over_early(parameters: LithiumParameters) -> tuple[float, float]:
    """Overpotential at failure over the first one, minus 1, and the time of failure, h: V-43.

    0.25 mA/cm2, 1 h each way, until the voltage has fallen below half of the first or risen to
    twice it; 400 h without either.
    """
    cell = LithiumCell(parameters)
    now, first, ratio = 0.0, math.nan, 0.0
    sign = 1.0
    while now < LIFE:
        cell.source_current(now, sign * LIFE_CURRENT * cell.area, 10.0)
        now += HOUR
        found = abs(cell.terminal(now).voltage)
        first = found if math.isnan(first) else first
        ratio = found / first - 1.0
        if not -0.5 < ratio < 1.0:
            break
        sign = -sign
    return ratio, now / HOUR


# ---------------------------------------------------------------- which preset stands for what

PRESETS: Mapping[str, str] = {
    "V-16 lpscb": "pellet-lpscb",
    "V-17 caec": "pellet-caec",
    "V-17 lno": "pellet-lno",
    "V-18 caec": "static-caec",
    "V-18 lno": "static-lno",
    "V-19 caec": "sweep-caec",
    "V-19 lno": "sweep-lno",
    "V-40": "steel-lpscl-li",
    "V-42T": "li-lpscl",
    "V-43 lgps": "li-lgps",
    "V-45a": "ncm811-lno-lto",
    "V-60": "composite-ncm83-ions",
}
"""Presets of the other systems by target and case."""
