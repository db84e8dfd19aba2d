"""Elements that the spectra of all cells are made of, as functions of angular frequency."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from operando.simulators.cell.materials import GAS_CONSTANT

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]


def arrhenius(activation_energy: float, reference: float, kelvin: float) -> float:
    """Return the factor on a rate between two temperatures (K); activation_energy in J/mol."""
    return math.exp(activation_energy / GAS_CONSTANT * (1.0 / reference - 1.0 / kelvin))


def constant_phase(omega: Real, coefficient: float, exponent: float) -> Complex:
    """Return the admittance of a constant-phase element, S.

    omega: rad/s. coefficient: F s^(exponent - 1). exponent: 1 is a capacitor.
    """
    return np.asarray(coefficient * (1j * omega) ** exponent, dtype=np.complex128)


def arc(omega: Real, resistance: float, coefficient: float, exponent: float) -> Complex:
    """Return a resistance (ohm) beside a constant-phase element, ohm."""
    admittance = constant_phase(omega, coefficient, exponent)
    return np.asarray(resistance / (1.0 + resistance * admittance), dtype=np.complex128)


def sphere_impedance(
    omega: Real, *, slope: float, capacity: float, time_constant: float
) -> Complex:
    """Return the impedance of diffusion in spherical particles with their potential, ohm.

    slope: of the open-circuit potential over lithium content, V. capacity: charge per unit of
    lithium content, C. time_constant: radius squared over diffusivity, s. It is exact for a small
    signal around a uniform composition: -U'/(3 Q) tau tanh(s) / (s - tanh(s)), s = sqrt(j w tau).
    At low frequency it tends to -U' tau / (15 Q) - U' / (j w Q).
    """
    s = np.sqrt(1j * omega * time_constant)
    squared = 1j * omega * time_constant
    # Both differences cancel for small s: there the series, 3/s^2 + 1/5 - s^2/175.
    small = np.abs(s) < 0.05
    safe = np.where(small, 1.0, s)
    tangent = np.tanh(safe)
    with np.errstate(divide="ignore", invalid="ignore"):
        series = 3.0 / squared + 0.2 - squared / 175.0
    ratio = np.where(small, series, tangent / (safe - tangent))
    return np.asarray(-slope * time_constant / (3.0 * capacity) * ratio, dtype=np.complex128)


def transmission_line(interface: Complex, ionic: float, electronic: float) -> Complex:
    """Return the impedance between separator and collector of a composite electrode, ohm.

    interface: impedance of the whole interface between its two conductors, ohm, shared evenly
    along the thickness. ionic, electronic: resistance of each conductor from end to end, ohm.
    Ions enter on one side, electrons on the other (Siroma et al., J. Power Sources 316 (2016) 215).
    """
    both = ionic + electronic
    if both == 0.0:
        return interface
    k = np.sqrt(both / interface)
    coth, csch = _coth_csch(k)
    parallel = ionic * electronic / both
    cross = (ionic * ionic + electronic * electronic) / both
    return np.asarray(parallel + (cross * coth + 2.0 * parallel * csch) / k, dtype=np.complex128)


def distribution(double_layer: Complex, ionic: float, electronic: float) -> Complex:
    """Return what the way through a composite adds to the impedance of its interface, ohm.

    double_layer: admittance of the double layer of the whole interface, S. The particles react
    evenly through the thickness, as the single particle of the time domain does; only the charge
    of the double layer is distributed, as on a transmission line:
    Z = 1 / (Y + 1/z) + [line(1/Y) - 1/Y]. The bracket is what this returns; it goes from a third
    of both resistances where the double layer takes nothing to their parallel connection.
    """
    both = ionic + electronic
    if both == 0.0:
        return np.zeros_like(double_layer)
    # k^2 = both * Y; below this the difference cancels, and its series is used.
    small = np.abs(both * double_layer) < 1e-3
    safe = np.where(small, 1.0 / both + 0j, double_layer)
    interface: Complex = np.reciprocal(safe)
    line = transmission_line(interface, ionic, electronic) - interface
    bend = 7.0 * ionic * electronic / 180.0 - (ionic * ionic + electronic * electronic) / 45.0
    series = both / 3.0 + bend * double_layer
    return np.where(small, series, line)


def _coth_csch(k: Complex) -> tuple[Complex, Complex]:
    """Return both for a positive real part of k, without overflow."""
    decay: Complex = np.exp(-k)
    rest = 1.0 - decay * decay
    coth: Complex = (1.0 + decay * decay) / rest
    csch: Complex = 2.0 * decay / rest
    return coth, csch
