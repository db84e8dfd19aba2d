"""Numbers and spans as people read them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from operando.gui.models.units import (
    UNKNOWN,
    charge_text,
    current_text,
    display,
    duration_text,
    number_text,
    significant_text,
    time_unit,
)
from operando.instruments import QUANTITIES

UNITS = {"A": 1.0, "mA": 1e-3, "µA": 1e-6, "mAh": 3.6}
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def parsed(text: str) -> float:
    """The number of a readout."""
    number = text.split(" ", maxsplit=1)[0]
    assert "-" not in number
    return float(number.replace("−", "-"))


def seconds(text: str) -> int:
    """The length of a span, from its words."""
    words = text.split(" ")
    return sum(int(n) * SECONDS[u] for n, u in zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("name", sorted(QUANTITIES))
def test_every_live_quantity_has_a_label_and_goes_there_and_back(name: str) -> None:
    shown = display(name)
    assert shown.label[0].isupper()
    assert "_" not in shown.label
    assert shown.si(shown.shown(1.25)) == pytest.approx(1.25, abs=1e-9)
    assert bool(shown.unit) == bool(QUANTITIES[name].unit)


@pytest.mark.parametrize(
    ("name", "value", "text", "axis"),
    [
        ("voltage", 3.84214, "3.8421 V", "Voltage / V"),
        ("voltage", -0.62, "−0.6200 V", "Voltage / V"),
        ("current", -1.569e-3, "−1.569 mA", "Current / mA"),
        ("charge", 3.6, "1.000 mAh", "Charge / mAh"),
        ("energy", 36.0, "10.000 mWh", "Energy / mWh"),
        ("pressure", 5.1234e6, "5.12 MPa", "Pressure / MPa"),
        ("temperature", 298.15, "25.0 °C", "Temperature / °C"),
        ("dew_point", 193.15, "−80.0 °C", "Dew point / °C"),
        ("h2o", 0.5e-6, "0.50 ppm", "Water / ppm"),
        ("relative_humidity", 0.45, "45.0 %", "Humidity / %"),
        ("box_pressure", 250.0, "2.50 mbar", "Glovebox / mbar"),
        ("cycle", 7.0, "7", "Cycle"),
    ],
)
def test_a_quantity_is_read_in_the_unit_of_its_field(
    name: str, value: float, text: str, axis: str
) -> None:
    assert display(name).text(value) == text
    assert display(name).axis == axis


def test_a_quantity_that_nobody_declared_is_shown_as_it_is() -> None:
    assert display("odd_thing").axis == "Odd thing"
    assert display("odd_thing").text(1.5) == "1.5000"


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_is_a_dash(value: float | None) -> None:
    texts = {
        display("voltage").text(value),
        number_text(value, 3),
        significant_text(value),
        current_text(value),
        charge_text(value),
        duration_text(value),
    }
    assert texts == {UNKNOWN}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.569e-3, "1.569 mA"),
        (-1.569e-3, "−1.569 mA"),
        (15.694e-3, "15.69 mA"),
        (0.9999e-3, "999.9 µA"),
        (0.99996e-3, "1.000 mA"),
        (0.99996, "1.000 A"),
        (-12.5, "−12.50 A"),
        (12.34e-6, "12.34 µA"),
        (2.4e-9, "0.002 µA"),
        (-1e-12, "0.000 µA"),
        (0.0, "0.000 mA"),
        (-0.0, "0.000 mA"),
    ],
)
def test_a_current_chooses_its_unit_by_its_size(value: float, text: str) -> None:
    assert current_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(8.6868, "2.413 mAh"), (-8.6868, "−2.413 mAh"), (36000.0, "10000 mAh"), (0.0, "0.000 mAh")],
)
def test_a_charge_is_read_in_milliampere_hours(value: float, text: str) -> None:
    assert charge_text(value) == text


@given(st.floats(-100.0, 100.0))
@example(9.9995e-4)
def test_a_current_parses_back_within_its_last_digit(value: float) -> None:
    text = current_text(value)
    scale = UNITS[text.split(" ")[1]]
    decimals = len(text.split(" ")[0].partition(".")[2])
    # Once for the rounding to four digits, once for that to three decimals.
    assert abs(parsed(text) * scale - value) <= 1.01 * scale * 10.0**-decimals
    assert len(re.sub(r"\D", "", text.split(" ")[0])) <= 6


@given(st.floats(-1e6, 1e6), st.integers(0, 6))
def test_a_number_parses_back_within_half_its_last_digit(value: float, decimals: int) -> None:
    text = number_text(value, decimals)
    assert abs(parsed(text) - value) <= 0.5000001 * 10.0**-decimals + 1e-9
    if text.startswith("−"):
        assert parsed(text) < 0.0


@given(st.floats(1e-9, 1e6), st.floats(1e-9, 1e6))
def test_a_larger_current_never_reads_as_a_smaller_one(one: float, other: float) -> None:
    assume(one < other)

    def read(value: float) -> float:
        text = current_text(value)
        return parsed(text) * UNITS[text.split(" ")[1]]

    assert read(one) <= read(other) * (1.0 + 1e-12)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (-3.0, "0 s"),
        (0.0, "0 s"),
        (59.9, "59 s"),
        (60.0, "1 min"),
        (200.0, "3 min 20 s"),
        (3599.9, "59 min 59 s"),
        (3600.0, "1 h"),
        (4320.0, "1 h 12 min"),
        (86399.0, "23 h 59 min"),
        (86400.0, "1 d"),
        (183600.0, "2 d 3 h"),
    ],
)
def test_a_span_is_said_in_its_two_largest_units(span: float, text: str) -> None:
    assert duration_text(span) == text


@given(st.floats(0.0, 1e8), st.floats(0.0, 1e8))
def test_a_longer_span_never_reads_shorter(one: float, other: float) -> None:
    shorter, longer = sorted((one, other))
    assert seconds(duration_text(shorter)) <= seconds(duration_text(longer))


@given(st.floats(0.0, 1e8))
def test_a_span_is_cut_by_less_than_its_smaller_unit(span: float) -> None:
    text = duration_text(span)
    cut = span - seconds(text)
    assert 0.0 <= cut < {"s": 1, "min": 60, "h": 3600, "d": 3600}[_finest(text)]


def _finest(text: str) -> str:
    """The unit below which a span is cut."""
    first = text.split(" ")[1]
    return {"s": "s", "min": "s", "h": "min", "d": "h"}[first]


@given(st.floats(0.0, 1e8))
def test_a_time_axis_has_numbers_of_a_size_to_read(span: float) -> None:
    unit, size = time_unit(span)
    assert SECONDS[unit] == size
    assert span / size <= 120.0 or unit == "d"
    assert span / size > 1.9 or unit == "s"
