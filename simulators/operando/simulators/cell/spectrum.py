"""Small-signal impedance of a cell at its present state, 1 mHz to 1 MHz.

The spectrum is the time-domain model linearised at a frozen state, with the capacitances that the
time domain leaves out added in parallel to the resistances they belong to. With all of them at
zero the two agree. Equations and sources: `docs/explanation/other-cells.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from operando.simulators.cell.elements import (
    Complex,
    Real,
    arc,
    arrhenius,
    constant_phase,
    distribution,
    sphere_impedance,
)
from operando.simulators.cell.simulated import SimulatedCell


class Spectral(Protocol):
    """A cell that gives its own impedance."""

    def impedance(self, frequency: ArrayLike, now: float) -> Complex:
        """Return the impedance at frequencies (Hz) at a laboratory time (s), ohm."""


@dataclass(frozen=True, slots=True)
class Contributions:
    """The parts of a cell's impedance in series; each an array over frequency, ohm."""

    separator: Complex
    """Bulk of the separator, real."""
    grain_boundary: Complex
    """Grain boundaries of the separator, an arc."""
    counter: Complex
    """Interface and interphase of the counter electrode, an arc."""
    cathode_interface: Complex
    """Interface of the active material: double layer beside film, charge transfer, diffusion."""
    cathode_transport: Complex
    """Ions' and electrons' way through the composite, as the double layer charges along it."""

    @property
    def total(self) -> Complex:
        """Sum of all parts, ohm."""
        return (
            self.separator
            + self.grain_boundary
            + self.counter
            + self.cathode_interface
            + self.cathode_transport
        )


def impedance(
    cell: SimulatedCell | Spectral,
    frequency: ArrayLike,
    now: float,
    *,
    lead_resistance: float = 0.0,
    lead_inductance: float = 0.0,
) -> Complex:
    """Return the impedance of any simulated cell at its present state.

    frequency: Hz, any shape; zero and negative ones raise ValueError. now: laboratory time, s;
    the cell is advanced to it and otherwise left alone. lead_resistance, lead_inductance: of
    leads and contacts in series, ohm and H; they belong to the instrument, not to the cell.
    Returns an array of the shape of `frequency`, ohm; the imaginary part is signed.
    """
    f = _frequencies(frequency)
    if isinstance(cell, SimulatedCell):
        z = contributions(cell, f, now).total
    else:
        z = cell.impedance(f, now)
    return z + lead_resistance + 2j * np.pi * f * lead_inductance


def contributions(cell: SimulatedCell, frequency: ArrayLike, now: float) -> Contributions:
    """Return the parts of an insertion cell's impedance; arguments as of `impedance`."""
    omega = 2.0 * np.pi * _frequencies(frequency)
    state = cell.state(now)
    p, physics = cell.parameters, cell._physics
    area, contact, connected = p.area, state.contact_fraction, state.connected_fraction

    # The time domain's own laws, so that what changes there changes here.
    warmer = arrhenius(p.electrolyte_activation_energy, p.reference_temperature, cell.temperature)
    conducts = warmer * p.reference_temperature / cell.temperature
    separator = p.separator_thickness / p.separator_conductivity / conducts / area
    # The time domain lumps a third of both conductors' ways; here they are told apart.
    ways = p.cathode_ionic_resistance / conducts / area
    electronic = p.cathode_electronic_share * ways
    film = state.film_resistance
    charge_transfer = physics.charge_transfer_resistance(
        state.surface_lithiation, contact, connected
    )
    diffusivity = (
        physics._plateau_diffusivity(state.lithiation)
        * physics._diffusion_factor
        * contact
        * contact
    )
    diffusion = sphere_impedance(
        omega,
        slope=physics.potential.slope(state.lithiation),
        capacity=physics.capacity * connected,
        time_constant=p.particle_radius**2 / diffusivity,
    )
    faradaic = film + charge_transfer + diffusion
    double_layer = constant_phase(
        omega, p.double_layer_capacitance * area * contact * connected, p.double_layer_exponent
    )
    grains = p.grain_boundary_share * separator
    inert = np.zeros_like(omega, dtype=np.complex128)
    return Contributions(
        separator=inert + (separator - grains),
        grain_boundary=arc(
            omega, grains, p.grain_boundary_capacitance * area, p.grain_boundary_exponent
        ),
        counter=arc(
            omega,
            state.counter_resistance,
            p.counter_capacitance * area * (1.0 - state.void_fraction),
            p.counter_exponent,
        ),
        cathode_interface=1.0 / (double_layer + 1.0 / faradaic),
        cathode_transport=distribution(double_layer, ways - electronic, electronic),
    )


def _frequencies(frequency: ArrayLike) -> Real:
    """Return frequencies as an array, Hz; ValueError for one that is not positive and finite."""
    f = np.asarray(frequency, dtype=np.float64)
    if not bool(np.all(np.isfinite(f) & (f > 0.0))):
        raise ValueError(f"a spectrum needs positive finite frequencies in Hz, not {frequency!r}")
    return f
