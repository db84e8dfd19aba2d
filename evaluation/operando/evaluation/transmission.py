"""The transmission line of a composite between two contacts that block one of its carriers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.evaluation.circuits import Complexes, Floats

NAN = math.nan


@dataclass(frozen=True, slots=True)
class LineFit:
    """A fitted transmission line.

    through, through_error: resistance of the conductor whose carrier the contacts let pass, ohm.
    blocked, blocked_error: of the other, ohm. capacitance: between both, of the whole pellet, F
    (the coefficient of a constant-phase element where exponent is below 1). contact: resistance of
    the contacts, as given, ohm. inductance: H. residual: root mean square of the relative
    residuals. impedance: of the fit, ohm.
    """

    through: float
    through_error: float
    blocked: float
    blocked_error: float
    capacitance: float
    exponent: float
    contact: float
    inductance: float
    residual: float
    impedance: Complexes


def line_impedance(
    omega: Floats, through: float, blocked: float, coefficient: float, exponent: float
) -> Complexes:
    """Impedance between two equal contacts that let one carrier pass and block the other, ohm.

    omega: rad/s. through, blocked: resistance of each conductor from face to face, ohm.
    coefficient, exponent: constant-phase element between the conductors, of the whole pellet.

        Z = R_t R_b / (R_t + R_b) + R_t^2 / (R_t + R_b) tanh(h) / h,
        h = 1/2 sqrt((R_t + R_b) Q (j w)^a)

    Siroma et al., J. Power Sources 316 (2016) 215, for a line with both ends alike. At high
    frequency both conductors carry current beside each other, at the lowest the passing one alone.
    """
    both = through + blocked
    half = 0.5 * np.sqrt(both * coefficient * (1j * omega) ** exponent)
    decay = np.exp(-2.0 * half)  # tanh without overflow
    fall = (1.0 - decay) / (1.0 + decay) / half
    return np.asarray(through * blocked / both + through**2 / both * fall, np.complex128)


def fit_transmission_line(
    frequency: Floats, impedance: Complexes, *, contact: float = 0.0
) -> LineFit:
    """Fit the line to a spectrum by complex least squares, each residual relative to |Z|.

    frequency: Hz. impedance: ohm. contact: resistance of the contacts in series, ohm. It cannot be
    fitted: the spectrum has three features (both ends and the time between them), the line three
    unknowns. An error of the contact goes into `through` as it is, and into `blocked` enlarged.
    Raises ValueError with fewer than eight points.
    """
    from scipy.optimize import least_squares

    if len(frequency) < 8:
        raise ValueError(f"a transmission line needs eight frequencies, not {len(frequency)}")
    omega = 2.0 * np.pi * np.asarray(frequency, np.float64)
    weight = 1.0 / np.abs(impedance)
    order = np.argsort(omega)
    low = max(float(impedance.real[order[0]]) - contact, 1e-3 * float(np.abs(impedance).max()))
    middle = impedance[order[len(order) // 2 :]]
    flat = int(np.argmin(np.abs(middle.imag / middle)))
    high = min(max(float(middle.real[flat]) - contact, 0.05 * low), 0.95 * low)
    # Both ends give both resistances: high = R_t R_b / (R_t + R_b), low = R_t.
    blocked = high * low / (low - high)
    turning = omega[order[int(np.argmax(-impedance.imag[order]))]]
    capacitance = 10.0 / (turning * (low + blocked))
    start = np.array([math.log(low), math.log(blocked), math.log(capacitance), 0.98, 0.0])

    def model(p: Floats) -> Complexes:
        line = line_impedance(omega, math.exp(p[0]), math.exp(p[1]), math.exp(p[2]), p[3])
        return np.asarray(line + contact + 1j * omega * p[4], np.complex128)

    def residuals(p: Floats) -> Floats:
        wrong = (model(p) - impedance) * weight
        return np.concatenate([wrong.real, wrong.imag])

    most = np.abs(impedance).max() / omega.max()
    bounds = ([-20.0, -20.0, -40.0, 0.6, 0.0], [40.0, 40.0, 20.0, 1.0 + 1e-9, most])
    found: Any = least_squares(residuals, start, bounds=bounds, x_scale="jac", max_nfev=300)
    count = 2 * len(omega)
    variance = float(np.sum(found.fun**2)) / max(count - len(start), 1)
    errors = np.sqrt(np.diag(np.linalg.pinv(found.jac.T @ found.jac) * variance))
    through, other = math.exp(found.x[0]), math.exp(found.x[1])
    return LineFit(
        through=through,
        through_error=through * float(errors[0]),
        blocked=other,
        blocked_error=other * float(errors[1]),
        capacitance=math.exp(found.x[2]),
        exponent=float(found.x[3]),
        contact=contact,
        inductance=float(found.x[4]),
        residual=math.sqrt(float(np.mean(found.fun**2))),
        impedance=model(found.x),
    )
