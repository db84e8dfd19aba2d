"""Diffusion in a sphere: what titrations with constant flux and with held voltages solve for.

Formulas: J. Crank, The Mathematics of Diffusion, 2nd ed., Clarendon 1975, chapter 6.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from operando.evaluation.half_cycles import Floats

TERMS = 400
"""Of the series; those left out are below 1e-6 from SHORTEST on."""
SHORTEST, LONGEST = 1e-5, 1e2


@cache
def roots() -> Floats:
    """The first positive roots g of tan g = g: between n pi and (n + 1/2) pi, by iteration."""
    order = np.arange(1, TERMS + 1) * math.pi
    found = order + 0.5 * math.pi
    for _ in range(50):
        found = order + np.arctan(found)
    return np.asarray(found, dtype=np.float64)


def overshoot(theta: float) -> float:
    """Rise of the concentration at the surface over that of the mean, under a constant flux.

    theta: D t / R^2. Crank, section 6.3: with the flux F the surface rises by
    F R / D (3 theta + 1/5 - 2 sum exp(-g^2 theta) / g^2), tan g = g, and the mean by
    3 theta F R / D.
    """
    squares = roots() ** 2
    behind = 0.2 - 2.0 * float(np.sum(np.exp(-squares * theta) / squares))
    return 1.0 + behind / (3.0 * theta)


def diffusion_time(ratio: float) -> float:
    """theta = D t / R^2 at which `overshoot` is `ratio`; NaN where no time gives it.

    ratio: dEt / dEs of a pulse: change of the voltage during it without the ohmic jump over the
    change at rest, with the slope of the open-circuit curve taken as constant over the pulse.
    """
    from scipy.optimize import brentq

    if not overshoot(LONGEST) < ratio < overshoot(SHORTEST):
        return math.nan
    theta = brentq(
        lambda log: overshoot(math.exp(log)) - ratio, math.log(SHORTEST), math.log(LONGEST)
    )
    return math.exp(float(theta))


def surface_limited(rate: float, exchange: float) -> float:
    """D / R^2 (1/s) of a current that decays as exp(-rate t) behind a resistance at the surface.

    rate: 1/s. exchange: 1/s, 1 / (3 R_s C), R_s the resistance in ohm and C = dQ/dE in F; infinite
    where nothing but diffusion limits. Crank, section 6.3, surface evaporation: the slowest term
    decays with g^2 D / R^2, g cot g = 1 - exchange R^2 / D; without resistance g is pi. NaN where
    the resistance alone would make it as slow: nothing is left for diffusion.
    """
    from scipy.optimize import brentq

    if not (rate > 0.0 and exchange / rate > 1.0 / 3.0):
        return math.nan
    if math.isinf(exchange):
        return rate / math.pi**2
    share = exchange / rate  # exchange R^2 / D = g^2 share

    def left(root: float) -> float:
        return root * math.cos(root) + (share * root**2 - 1.0) * math.sin(root)

    root = float(brentq(left, 1e-3, math.pi))
    return rate / root**2
