"""Water in a gas: dew or frost point, vapour pressure, mole ratio and mole fraction.

Saturation over ice: Wagner, Saul and Pruss, J. Phys. Chem. Ref. Data 23 (1994) 515, in the form
of Vaisala, Humidity Conversion Formulas, B210973EN, which also gives the saturation over water:
Wagner and Pruss, J. Phys. Chem. Ref. Data 22 (1993) 783. Gas and vapour are taken as ideal,
pressures are absolute. Below the triple point the dew point is a frost point, over ice.
"""

from __future__ import annotations

import math

from operando.instruments.errors import BadInputError

ATMOSPHERE = 101_325.0
"""Pa, the standard atmosphere (BIPM, The International System of Units, 9th edition)."""

TRIPLE_POINT = 273.16
"""K, of water: ice below, liquid above (ITS-90)."""

COLDEST, HOTTEST = 173.15, 646.15
"""K, where the formulas hold: -100 degC over ice, 373 degC over water (B210973EN)."""

_ICE_PRESSURE = 611.657  # Pa at the triple point
_ICE = (-13.928169, 34.707823)

_CRITICAL_TEMPERATURE = 647.096  # K
_CRITICAL_PRESSURE = 22.064e6  # Pa
_WATER = (
    (-7.85951783, 1.0),
    (1.84408259, 1.5),
    (-11.7866497, 3.0),
    (22.6807411, 3.5),
    (-15.9618719, 4.0),
    (1.80122502, 7.5),
)

_HALVINGS = 60
"""Of an interval of 473 K: far below the resolution of a float."""


def saturation_pressure(temperature: float) -> float:
    """Vapour pressure (Pa) of ice or, from the triple point on, of water at `temperature` (K).

    Raises BadInputError outside `COLDEST` to `HOTTEST`.
    """
    if not COLDEST <= temperature <= HOTTEST:
        raise BadInputError(
            f"a dew point of {temperature:g} K lies outside {COLDEST:g} to {HOTTEST:g} K, where "
            "the vapour pressure of ice and water is known"
        )
    if temperature < TRIPLE_POINT:
        reduced = temperature / TRIPLE_POINT
        exponent = _ICE[0] * (1.0 - reduced**-1.5) + _ICE[1] * (1.0 - reduced**-1.25)
        return _ICE_PRESSURE * math.exp(exponent)
    distance = 1.0 - temperature / _CRITICAL_TEMPERATURE
    series = sum(factor * distance**power for factor, power in _WATER)
    return _CRITICAL_PRESSURE * math.exp(_CRITICAL_TEMPERATURE / temperature * series)


def dew_point(vapour_pressure: float) -> float:
    """Dew or frost point (K) at which `vapour_pressure` (Pa) saturates.

    Raises BadInputError outside the vapour pressures of `COLDEST` and `HOTTEST`.
    """
    lowest, highest = saturation_pressure(COLDEST), saturation_pressure(HOTTEST)
    if not lowest <= vapour_pressure <= highest:
        raise BadInputError(
            f"a vapour pressure of {vapour_pressure:g} Pa lies outside {lowest:.3g} to "
            f"{highest:.3g} Pa, where the dew point is known"
        )
    low, high = COLDEST, HOTTEST
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if saturation_pressure(middle) < vapour_pressure:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def water_ratio(temperature: float, pressure: float = ATMOSPHERE) -> float:
    """Moles of water per mole of dry gas with a dew point of `temperature` (K) at `pressure` (Pa).

    Times 1e6 it is "ppmv" as hygrometers print it. Raises BadInputError where water would boil.
    """
    vapour = saturation_pressure(temperature)
    if not vapour < pressure:
        raise BadInputError(
            f"at {pressure:g} Pa there is no dew point of {temperature:g} K: water boils below it"
        )
    return vapour / (pressure - vapour)


def water_fraction(temperature: float, pressure: float = ATMOSPHERE) -> float:
    """Mole fraction of water in a gas with a dew point of `temperature` (K) at `pressure` (Pa)."""
    ratio = water_ratio(temperature, pressure)
    return ratio / (1.0 + ratio)


def dew_point_of_ratio(ratio: float, pressure: float = ATMOSPHERE) -> float:
    """Dew point (K) at `pressure` (Pa) of a mole ratio to dry gas, such as 1e-6 for 1 ppmv."""
    return dew_point(pressure * ratio / (1.0 + ratio))


def dew_point_of_fraction(fraction: float, pressure: float = ATMOSPHERE) -> float:
    """Dew point (K) at `pressure` (Pa) of a mole fraction."""
    return dew_point(pressure * fraction)


def dew_point_at(temperature: float, measured: float, wanted: float) -> float:
    """Dew point (K) at the pressure `wanted` of a gas with `temperature` (K) at `measured` (Pa)."""
    return dew_point_of_fraction(water_fraction(temperature, measured), wanted)
