"""Effective conductivity of one phase in a mixture of powders."""

from __future__ import annotations


def effective_conductivity(
    conductivity: float, share: float, *, threshold: float, exponent: float, floor: float = 0.0
) -> float:
    """Return the conductivity of a phase that fills a share of the volume, S/m.

    conductivity: of the phase alone, S/m. share: volume over total volume, pores included.
    threshold: share below which the phase forms no path (0.16 in three dimensions: Scher and
    Zallen, J. Chem. Phys. 53 (1970) 3759). exponent: 2 in three dimensions (Stauffer and Aharony,
    Introduction to Percolation Theory). floor: what is left below the threshold, S/m.
    """
    if threshold >= 1.0:
        return min(floor, conductivity)
    path = max((share - threshold) / (1.0 - threshold), 0.0)
    through: float = conductivity * path**exponent + floor
    return min(through, conductivity)
