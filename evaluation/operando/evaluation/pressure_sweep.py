"""Impedance against stack pressure: the power of the pressure with which contacts improve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.evaluation.impedance import MeasuredSpectrum, impedance
from operando.evaluation.lines import fit_line
from operando.records import Record

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class PressureSweep:
    """The spectra of a ladder of pressures.

    cell: its name. area: m2. pressures: Pa, as measured. high_frequency, resistance: ohm, see
    `MeasuredSpectrum`. exponent: n of resistance - high_frequency = k P^-n on the way up, with its
    standard error. hysteresis: share by which that resistance is lower at the lowest pressure on
    the way down. flags: of the spectra, and "few levels". simulated: whether the data are.
    """

    cell: str
    area: float
    simulated: bool
    pressures: tuple[float, ...]
    high_frequency: tuple[float, ...]
    resistance: tuple[float, ...]
    exponent: float
    exponent_error: float
    hysteresis: float
    spectra: tuple[MeasuredSpectrum, ...]
    flags: tuple[str, ...] = ()


def pressure_sweep(record: Record, *, pressure_source: str | None = None) -> PressureSweep:
    """Evaluate a ladder of pressures with a spectrum at each.

    What lies between the high-frequency resistance and the whole is of the interfaces; that of a
    contact of rough faces goes with the inverse of the pressure to a power: 0.5 for the lithium
    contact of arXiv 2501.00600. pressure_source: the load cell or press, if there were several.
    Raises RecordError if the record cannot be read or has several sources of pressure.
    """
    found = impedance(record, pressure_source=pressure_source)
    spectra = found.spectra
    pressures = np.array([one.pressure for one in spectra])
    high = np.array([one.high_frequency_resistance for one in spectra])
    whole = np.array([one.resistance for one in spectra])
    interface = whole - high
    top = int(np.nanargmax(pressures)) if np.isfinite(pressures).any() else 0
    exponent, error, flags = NAN, NAN, []
    up = slice(0, top + 1)
    if top >= 2 and np.all(interface[up] > 0.0):
        line = fit_line(np.log(pressures[up]), np.log(interface[up]))
        exponent, error = -line.slope, line.slope_error
    else:
        flags.append("few levels")
    back = interface[-1] / interface[0] - 1.0 if len(spectra) > top + 1 else NAN
    flags += [f"spectrum {one.index}: {flag}" for one in spectra for flag in one.flags]
    return PressureSweep(
        found.cell,
        found.area,
        found.simulated,
        tuple(map(float, pressures)),
        tuple(map(float, high)),
        tuple(map(float, whole)),
        exponent,
        error,
        float(back),
        spectra,
        tuple(flags),
    )
