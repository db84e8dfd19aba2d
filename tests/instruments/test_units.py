"""Units and quantities as people write them."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operando.instruments import units
from operando.instruments.errors import BadInputError
from operando.instruments.units import (
    exact_text,
    format_quantity,
    parse_measured,
    parse_quantity,
    parse_unit,
)

DIMENSIONS = [
    units.NUMBER, units.TIME, units.CURRENT, units.CHARGE, units.VOLTAGE, units.POWER,
    units.ENERGY, units.FORCE, units.PRESSURE, units.RESISTANCE, units.TEMPERATURE, units.LENGTH,
    units.AREA, units.MASS, units.FREQUENCY, units.C_RATE, units.VOLTAGE.times(units.TIME, -1),
    units.PRESSURE.times(units.TIME, -1), units.CURRENT.times(units.AREA, -1),
    units.CURRENT.times(units.MASS, -1), units.CHARGE.times(units.AREA, -1),
    units.RESISTANCE.times(units.AREA), units.FREQUENCY.times(units.VOLTAGE, 2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("10 min", "s", 600.0),
        ("2 h 30 min", "s", 9000.0),
        ("1 d 2 h", "s", 93600.0),
        ("250 ms", "s", 0.25),
        ("4.25 V", "V", 4.25),
        ("2 mV", "V", 0.002),
        ("5 MPa", "Pa", 5e6),
        ("15 mbar", "Pa", 1500.0),
        ("1.57 mA", "A", 1.57e-3),
        ("50 µA", "A", 50e-6),
        ("50 μA", "A", 50e-6),
        ("50uA", "A", 50e-6),
        ("3.14 mAh", "As", 11.304),
        ("7 As", "As", 7.0),
        ("0.1 mV/min", "V/s", 0.1e-3 / 60.0),
        ("1 MPa/h", "Pa/s", 1e6 / 3600.0),
        ("-60 degC", "K", 213.15),
        ("−60 °C", "K", 213.15),
        ("25 ℃", "K", 298.15),
        ("16.96 mg", "kg", 16.96e-6),
        ("1.131 cm2", "m2", 1.131e-4),
        ("1.131 cm²", "m2", 1.131e-4),
        ("1.131 cm^2", "m2", 1.131e-4),
        ("185 mA/g", "A/kg", 185.0),
        ("0.5 mA/cm2", "A/m2", 5.0),
        ("35 ohm cm2", "ohm*m2", 35e-4),
        ("35 Ω·cm²", "ohm*m2", 35e-4),
        ("5 ppm", "1", 5e-6),
        ("20 %", "1", 0.2),
        ("3 ppb", "1", 3e-9),
        ("1.2 kN", "N", 1200.0),
        ("100 um", "m", 1e-4),
        (".5 V", "V", 0.5),
        ("+1e-3 A", "A", 1e-3),
        ("C/10", "C", 0.1 / 3600.0),
        ("-C/10", "C", -0.1 / 3600.0),
        ("0.5C", "C", 0.5 / 3600.0),
        ("2 C", "C", 2.0 / 3600.0),
        ("C", "C", 1.0 / 3600.0),
        ("10 Hz", "1/s", 10.0),
    ],
)
def test_a_quantity_is_read_into_si(text: str, unit: str, value: float) -> None:
    assert parse_quantity(text, unit) == pytest.approx(value, rel=1e-15)


def test_the_result_is_rounded_once() -> None:
    assert parse_quantity("5 ppm", "1") == 5e-6
    assert parse_quantity("-60 degC", "K") == 213.15
    assert parse_quantity("1.131 cm2", "m2") == 1.131e-4


@pytest.mark.parametrize(
    ("text", "unit", "words"),
    [
        ("10", "s", '"10" has no unit; expected a time in .*such as "10 min"'),
        ("5 V", "s", "is a voltage; expected a time in s, min"),
        ("10 min", "V", 'expected a voltage in V, mV, uV or kV, such as "4.25 V"'),
        ("5 mpa", "Pa", 'did you mean "MPa"'),
        ("5 Volt", "V", 'did you mean "V"|is not a unit known here'),
        ("4,25 V", "V", "decimal point"),
        ("5 C", "As", 'write coulombs as "As"'),
        ("10 Hz", "C", "expected a C-rate"),
        ("C/10", "1/s", "is a C-rate"),
        ("C/0", "C", "divides by zero"),
        ("", "s", "is not a number with a unit"),
        ("V", "V", "is not a number with a unit"),
        ("5 5 V", "V", "is not one number"),
        ("5 degC/min", "K/s", "write K"),
        ("5 1", "1", "is not one number"),
        ("30 min 2 h", "s", "min 2 h"),
        ("1e400 V", "V", "too large"),
        ("1e31 V", "V", "too large"),
        ("9" * 100 + " V", "V", "too long"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_remedy(text: str, unit: str, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        parse_quantity(text, unit)


def test_degrees_celsius_are_refused_for_a_difference() -> None:
    assert parse_quantity("2 K", "K", difference=True) == 2.0
    with pytest.raises(BadInputError, match="write a difference in K"):
        parse_quantity("2 degC", "K", difference=True)


@given(st.text(max_size=90))
def test_arbitrary_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInputError):
        assert math.isfinite(parse_measured(text).value)


@given(st.text(alphabet="0123456789.eE+-/*^ CVmAhsinPadegK%", max_size=20))
def test_text_of_the_right_letters_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInputError):
        assert math.isfinite(parse_measured(text).value)


@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e30, max_value=1e30),
    st.sampled_from(DIMENSIONS),
    st.booleans(),
)
def test_exact_text_reads_back_as_the_same_float(
    value: float, dimension: units.Dimension, difference: bool
) -> None:
    text = exact_text(value, dimension, difference=difference)
    measured = parse_measured(text)
    assert measured.value == value
    assert measured.dimension == dimension


@pytest.mark.parametrize(
    "text",
    ["10 min", "4.25 V", "C/20", "C/3", "2C", "0.1 mV/min", "8 MPa", "60 s", "5 ppm", "60 degC",
     "1 MPa/h", "185 mA/g", "2 mAh/cm2", "-1.57 mA"],
)  # fmt: skip
def test_exact_text_is_what_people_write(text: str) -> None:
    measured = parse_measured(text)
    assert exact_text(measured.value, measured.dimension) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.57e-3, "A", "1.57 mA"),
        (-1.57e-3, "A", "-1.57 mA"),
        (0.0, "A", "0 A"),
        (9.999e-4, "A", "1.00 mA"),
        (8e6, "Pa", "8.00 MPa"),
        (4.25, "V", "4.25 V"),
        (0.002, "V", "2.00 mV"),
        (11.304, "As", "3.14 mAh"),
        (600.0, "s", "10 min"),
        (9000.0, "s", "2 h 30 min"),
        (90.0, "s", "1 min 30 s"),
        (5.0, "s", "5 s"),
        (0.25, "s", "250 ms"),
        (3599.97, "s", "1 h"),
        (93600.0, "s", "1 d 2 h"),
        (5e-6, "1", "5.00 ppm"),
        (0.2, "1", "20.0 %"),
        (333.15, "K", "60.0 degC"),
        (0.1 / 3600.0, "C", "C/10"),
        (2.0 / 3600.0, "C", "2C"),
        (-0.5 / 3600.0, "C", "-C/2"),
        (3.0, "", "3"),
        (math.nan, "Pa", "unknown"),
    ],
)
def test_people_read_a_handy_size(value: float, unit: str, text: str) -> None:
    assert format_quantity(value, unit) == text


@given(
    st.floats(min_value=1e-9, max_value=1e9),
    st.sampled_from(["A", "V", "Pa", "As", "s", "N", "1", "J", "ohm"]),
)
def test_text_for_people_is_right_to_half_a_percent(value: float, unit: str) -> None:
    measured = parse_measured(format_quantity(value, unit))
    assert measured.dimension == parse_unit(unit).dimension
    # Times lose their tenths beyond an hour and milliseconds below a minute; others keep 3 digits.
    assert measured.value == pytest.approx(value, rel=0.0051)


def test_more_digits_can_be_asked_for() -> None:
    assert format_quantity(4.25037, "V", digits=6) == "4.25037 V"
