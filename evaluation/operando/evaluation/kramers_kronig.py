"""The linear Kramers-Kronig test: can a spectrum be that of a linear, causal, steady system?

Schoenleber, Klotz and Ivers-Tiffee, Electrochim. Acta 131 (2014) 20: a chain of M resistances
beside capacitances whose time constants are evenly spaced in their logarithm obeys Kramers and
Kronig by itself. What it cannot follow was no such system, or was noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.evaluation.circuits import Complexes, Floats

MU = 0.85
"""mu below which the chain begins to fit noise (Schoenleber et al., section 3)."""
VALID, DOUBTFUL = 0.01, 0.02
"""Largest relative residual of a valid spectrum, and of one that is used with a warning."""

BEYOND = 3.0
"""Factor by which the time constants reach beyond the band."""


@dataclass(frozen=True, slots=True)
class KramersKronig:
    """Result of the test.

    elements: M of the chain. mu: 1 - sum |R_k < 0| / sum |R_k >= 0| there. real, imaginary:
    residuals over |Z|, measured minus fitted, in the order of the spectrum.
    """

    elements: int
    mu: float
    real: Floats
    imaginary: Floats

    @property
    def largest(self) -> float:
        """Largest relative residual of either part."""
        return float(max(np.max(np.abs(self.real)), np.max(np.abs(self.imaginary))))

    @property
    def valid(self) -> bool:
        """Residuals below 1 %."""
        return self.largest < VALID

    @property
    def flags(self) -> tuple[str, ...]:
        """Nothing for a valid spectrum, else what is to be said of it."""
        if self.valid:
            return ()
        if self.largest < DOUBTFUL:
            return (f"Kramers-Kronig residual {100.0 * self.largest:.1f} %, doubtful",)
        return (f"Kramers-Kronig residual {100.0 * self.largest:.1f} %, not valid",)


def linear_kramers_kronig(frequency: Floats, impedance: Complexes) -> KramersKronig:
    """The test on a spectrum. frequency: Hz. impedance: ohm.

    The chain has a resistance, an inductance and a capacitance in series, as the paper recommends
    for spectra that end in one; both parts are fitted at once, each residual over |Z|. M grows
    until mu falls below 0.85 or there are as many elements as frequencies. Two choices are ours. M
    begins at four a decade instead of one in all, and not above half the number of frequencies:
    fewer leave residuals of 1 % on a transmission line, with mu below 0.85 from the start. The time
    constants reach half a decade beyond the band, for a constant-phase element that goes on there.
    The test is blind to a slow change that the low frequencies share: an arc that grows by 10 %
    over a sweep passes, one by 30 % is doubtful, one that doubles is not valid. So the open-circuit
    voltage is looked at besides, see `impedance`. It says nothing of a non-linear response either,
    whose first harmonic obeys Kramers and Kronig: that takes a second amplitude.
    Raises ValueError with fewer than five points.
    """
    if len(frequency) < 5:
        raise ValueError(f"the Kramers-Kronig test needs five frequencies, not {len(frequency)}")
    omega = 2.0 * np.pi * np.asarray(frequency, np.float64)
    weight = 1.0 / np.abs(impedance)
    decades = np.log10(omega.max() / omega.min())
    count = max(3, min(int(np.ceil(4.0 * decades)), len(omega) // 2))
    while True:
        fitted, mu = _chain(omega, impedance, weight, count)
        if mu < MU or count >= len(omega):
            break
        count += 1
    left = (impedance - fitted) * weight
    return KramersKronig(count, mu, left.real, left.imag)


def _chain(
    omega: Floats, impedance: Complexes, weight: Floats, count: int
) -> tuple[Complexes, float]:
    times = np.geomspace(1.0 / (BEYOND * omega.max()), BEYOND / omega.min(), count)
    columns = np.concatenate(
        [
            1.0 / (1.0 + 1j * np.outer(omega, times)),
            np.ones((len(omega), 1)),
            1j * (omega / omega.max())[:, None],
            -1j * (omega.min() / omega)[:, None],
        ],
        axis=1,
    )
    weighted = columns * weight[:, None]
    design = np.concatenate([weighted.real, weighted.imag])
    wanted = impedance * weight
    solution, *_ = np.linalg.lstsq(design, np.concatenate([wanted.real, wanted.imag]), rcond=None)
    parts = solution[:count]
    positive, negative = parts[parts >= 0.0].sum(), -parts[parts < 0.0].sum()
    mu = 1.0 - negative / positive if positive > 0.0 else 0.0
    return columns @ solution, float(mu)
