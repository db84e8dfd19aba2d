"""Annotated quantities at the edges."""

from __future__ import annotations

from typing import Any, cast, get_args

import pytest
from pydantic import TypeAdapter, ValidationError, create_model

from operando.instruments import quantities
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import (
    QUANTITIES,
    Amperes,
    Coulombs,
    CRate,
    Fraction,
    KelvinDifference,
    Kelvins,
    Kilograms,
    Newtons,
    Pascals,
    Quantity,
    Seconds,
    SquareMetres,
    Voltages,
    Volts,
    VoltsPerSecond,
    si,
)
from operando.instruments.units import parse_measured, parse_unit


def read(kind: object, value: object) -> Any:
    return TypeAdapter(cast(Any, kind)).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Seconds, "10 min", 600.0),
        (Volts, "4.25 V", 4.25),
        (Amperes, "-1.57 mA", -1.57e-3),
        (Coulombs, "1 mAh", 3.6),
        (Pascals, "5 MPa", 5e6),
        (Newtons, "1.2 kN", 1200.0),
        (Kelvins, "60 degC", 333.15),
        (KelvinDifference, "2 K", 2.0),
        (SquareMetres, "1 cm2", 1e-4),
        (Kilograms, "1 mg", 1e-6),
        (CRate, "C/10", 0.1 / 3600.0),
        (VoltsPerSecond, "6 mV/min", 1e-4),
        (Fraction, "20 %", 0.2),
    ],
)
def test_a_string_with_unit_becomes_si(kind: object, text: str, value: float) -> None:
    assert read(kind, text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(("kind", "value"), [(Seconds, 5), (Volts, 4.25), (CRate, 1e-4)])
def test_a_number_is_si_already(kind: object, value: float) -> None:
    assert read(kind, value) == value
    assert isinstance(read(kind, value), float)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Seconds, "10", '"10" has no unit; expected a time in s, min, h or d, such as "10 min"'),
        (CRate, "0.5", '"0.5" has no unit; expected a C-rate, such as "C/10" or "0.5C"'),
        (CRate, "half", '"half" is not a number with a unit; expected a C-rate, such as "C/10"'),
        (Volts, "2,5 V", "as a point; expected a voltage in V"),
        (Seconds, "-5 s", "at least 0 s"),
        (Volts, "5 MPa", "expected a voltage in V"),
        (Volts, True, "is not a voltage"),
        (Volts, None, "is not a voltage"),
        (Volts, float("nan"), "not a number that can be used"),
        (Volts, float("inf"), "not a number that can be used"),
        (CRate, 0.1, "hardly meant.*C/10"),
        (Kelvins, 60, "hardly meant.*60 degC"),
        (Kelvins, "-300 degC", "more than 0 K"),
        (KelvinDifference, "2 degC", "write a difference in K"),
        (SquareMetres, "0 cm2", "more than 0"),
    ],
)
def test_what_is_no_such_quantity_is_refused(kind: object, value: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        read(kind, value)


def test_a_window_of_voltages_is_two_rising_ones() -> None:
    assert read(Voltages, ["2.5 V", 4.25]) == (2.5, 4.25)
    assert read(Voltages, "2.5 V, 4.25 V") == (2.5, 4.25)
    with pytest.raises(ValidationError, match="lower voltage comes first"):
        read(Voltages, ("4.25 V", "2.5 V"))
    with pytest.raises(ValidationError):
        read(Voltages, "2.5 V")


def test_models_are_made_of_them() -> None:
    model = create_model("Settings", pulse=(Seconds, 600.0), limit=(Volts | None, None))
    values = model.model_validate({"pulse": "30 s", "limit": "4 V"}).model_dump()
    assert values == {"pulse": 30.0, "limit": 4.0}


def test_the_json_schema_has_the_unit_of_the_number() -> None:
    schema = TypeAdapter(Pascals).json_schema()
    assert schema["unit"] == "Pa"
    assert {"type": "number"} in schema["anyOf"]
    assert {"type": "string"} in schema["anyOf"]
    assert TypeAdapter(CRate).json_schema()["unit"] == "1/s"


def markers() -> list[Quantity]:
    annotated = (getattr(quantities, name) for name in quantities.__all__)
    return [
        extra for kind in annotated for extra in get_args(kind)[1:] if isinstance(extra, Quantity)
    ]


def test_every_type_accepts_its_own_example() -> None:
    assert len(markers()) > 20
    for marker in markers():
        assert marker.parse(marker.example) == parse_measured(marker.example).value
        assert marker.format(marker.parse(marker.example))


def test_si_reads_a_default() -> None:
    assert si("10 min") == 600.0
    with pytest.raises(BadInputError):
        si("10")


def test_live_quantities_have_units_that_can_be_read() -> None:
    assert {"voltage", "current", "charge", "step_charge", "elapsed", "pressure"} <= set(QUANTITIES)
    for name, quantity in QUANTITIES.items():
        assert quantity.name == name
        if quantity.unit:
            parse_unit(quantity.unit)
        assert all(source in QUANTITIES for source in quantity.sources)


def test_capacity_is_no_live_quantity_because_it_is_ambiguous() -> None:
    assert "capacity" not in QUANTITIES
    assert cast(Any, quantities.ALIASES)["capacity"] == "step_charge"
