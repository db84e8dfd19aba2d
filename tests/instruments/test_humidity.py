"""Dew point and water content, against the values of the humidity formulas and of DMT143 lines."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments import humidity
from operando.instruments.errors import BadInputError

ZERO = 273.15
"""K, 0 degC."""

# Vaisala B210973EN at 1013.25 hPa, dry basis.
FROST_POINTS = [
    (-90.0, 0.09525),
    (-80.0, 0.5391),
    (-76.0, 1.027),
    (-70.0, 2.578),
    (-60.0, 10.66),
    (-50.0, 38.85),
    (-40.0, 126.75),
    (-30.0, 375.3),
    (-20.0, 1020.1),
    (-10.0, 2571.6),
    (-9.80, 2617.8),
]
CONTENTS = [
    (0.1, -89.73),
    (0.5, -80.46),
    (1.0, -76.17),
    (10.0, -60.47),
    (100.0, -42.08),
    (1000.0, -20.21),
]

dew_points = st.floats(humidity.COLDEST + 1e-6, 370.0)
pressures = st.floats(9.5e4, 1.1e5)


@pytest.mark.parametrize(("celsius", "ppm"), FROST_POINTS)
def test_a_frost_point_gives_the_water_content_of_the_formulas(celsius: float, ppm: float) -> None:
    assert humidity.water_ratio(celsius + ZERO) * 1e6 == pytest.approx(ppm, rel=5e-4)


@pytest.mark.parametrize(("ppm", "celsius"), CONTENTS)
def test_a_water_content_gives_the_frost_point_of_the_formulas(ppm: float, celsius: float) -> None:
    assert humidity.dew_point_of_ratio(ppm * 1e-6) - ZERO == pytest.approx(celsius, abs=0.0051)


@pytest.mark.parametrize(
    ("celsius", "printed"),
    [(-9.80, 2618), ((-6.19 - 32.0) / 1.8, 907), (-9.74, 2632), (-9.72, 2636)],
)
def test_the_lines_of_the_dmt143_guide_are_met_to_the_printed_digit(
    celsius: float, printed: int
) -> None:
    # -9.72 degC is itself rounded: half its last digit is 1 ppm.
    assert abs(humidity.water_ratio(celsius + ZERO) * 1e6 - printed) <= 1.0


def test_water_boils_at_a_hundred_degrees() -> None:
    # Wagner and Pruss: 101.325 kPa at 373.124 K (ITS-90).
    assert humidity.saturation_pressure(373.124) == pytest.approx(101_325.0, rel=2e-5)


def test_ice_and_water_meet_at_the_triple_point() -> None:
    ice = humidity.saturation_pressure(math.nextafter(humidity.TRIPLE_POINT, 0.0))
    water = humidity.saturation_pressure(humidity.TRIPLE_POINT)
    assert ice == pytest.approx(611.657, rel=1e-9)
    assert water == pytest.approx(611.657, rel=1e-5)


def test_the_quick_formula_over_water_agrees_within_its_stated_error() -> None:
    # B210973EN: within 0.083 % from 0 to 50 degC.
    for celsius in range(1, 51):
        quick = 611.6441 * 10.0 ** (7.591386 * celsius / (celsius + 240.7263))
        assert humidity.saturation_pressure(celsius + ZERO) == pytest.approx(quick, rel=8.3e-4)


@given(dew_points)
def test_the_vapour_pressure_leads_back_to_the_dew_point(temperature: float) -> None:
    found = humidity.dew_point(humidity.saturation_pressure(temperature))
    # At the triple point the two formulas leave a step of 3e-6 in pressure.
    assert found == pytest.approx(temperature, abs=1e-4)


@given(dew_points, dew_points)
def test_more_water_has_a_higher_dew_point(first: float, second: float) -> None:
    low, high = sorted((first, second))
    if high - low > 1e-3:
        assert humidity.saturation_pressure(low) < humidity.saturation_pressure(high)


@given(st.floats(2e-8, 0.05), pressures)
def test_fraction_and_ratio_differ_by_the_dry_part(fraction: float, pressure: float) -> None:
    point = humidity.dew_point_of_fraction(fraction, pressure)
    ratio = humidity.water_ratio(point, pressure)
    assert humidity.water_fraction(point, pressure) == pytest.approx(fraction, rel=1e-5)
    assert ratio / (1.0 + ratio) == pytest.approx(fraction, rel=1e-5)
    assert humidity.dew_point_of_ratio(ratio, pressure) == pytest.approx(point, abs=1e-4)


def test_a_compressed_gas_has_a_higher_dew_point() -> None:
    # DMT143 guide: 16.71 degF in a line at 3.24 times the atmosphere, -6.19 degF at one.
    compressed, expanded = (16.71 - 32.0) / 1.8 + ZERO, (-6.19 - 32.0) / 1.8 + ZERO
    ratio = humidity.saturation_pressure(compressed) / humidity.saturation_pressure(expanded)
    found = humidity.dew_point_at(expanded, humidity.ATMOSPHERE, ratio * humidity.ATMOSPHERE)
    assert found == pytest.approx(compressed, abs=1e-6)
    assert humidity.dew_point_at(found, ratio * humidity.ATMOSPHERE, humidity.ATMOSPHERE) == (
        pytest.approx(expanded, abs=1e-6)
    )


@pytest.mark.parametrize("temperature", [173.0, 0.0, -5.0, 647.0, math.nan, math.inf])
def test_a_dew_point_outside_the_formulas_is_refused(temperature: float) -> None:
    with pytest.raises(BadInputError, match=r"outside 173\.15 to 646\.15 K"):
        humidity.saturation_pressure(temperature)


@pytest.mark.parametrize("pressure", [0.0, -1.0, 1e-4, 3e7, math.nan])
def test_a_vapour_pressure_without_a_dew_point_is_refused(pressure: float) -> None:
    with pytest.raises(BadInputError, match="vapour pressure"):
        humidity.dew_point(pressure)


def test_a_dew_point_above_the_boiling_point_is_refused() -> None:
    with pytest.raises(BadInputError, match="boils"):
        humidity.water_ratio(380.0)
