"""Cells that are no full cells, on the model itself: what the prior-predictive intervals draw.

And which preset stands for which case of a target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from operando.simulators.cell.lithium import LithiumCell, LithiumParameters
from operando.simulators.cell.pellet import PelletCell, PelletParameters

Floats = npt.NDArray[np.float64]

HOUR = 3600.0
MA_PER_CM2 = 10.0
"""A/m2."""
UAH_PER_CM2 = 36.0
"""C/m2."""


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
