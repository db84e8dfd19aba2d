"""Validation of settings and of the arguments of protocols."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from operando.instruments.errors import BadInputError
from operando.instruments.parameters import parameters_from, parameters_schema
from operando.instruments.quantities import CRate, Pascals, Seconds, SquareMetres, Voltages


@dataclass(frozen=True)
class Settings:
    """Settings of a load cell.

    area: area of the piston in m2, which turns force
        into pressure.
    timeout, copy: other things.
    """

    area: SquareMetres
    timeout: Seconds = 2.0
    unit: Literal["N", "kN"] = "N"
    copy: bool = False
    offsets: tuple[float, ...] = field(default_factory=tuple)


def titration(
    cell: object,
    *,
    rate: CRate = "C/10",  # type: ignore[assignment]
    pulse: Seconds = 600.0,
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    cycles: int = 1,
    maximum: Pascals | None = None,
) -> None:
    """A protocol.

    rate: pulse current.
    """


def test_a_table_becomes_an_instance_of_the_settings() -> None:
    table: dict[str, object] = {"area": "1 cm2", "unit": "kN", "copy": True}
    settings = parameters_from(Settings, table, "bench.toml line 3: [settings]")
    assert settings == Settings(area=1e-4, unit="kN", copy=True)


def test_arguments_of_a_function_are_its_keyword_only_ones_with_defaults_read() -> None:
    assert parameters_from(titration, {"pulse": "5 min"}, "") == {
        "rate": 0.1 / 3600.0,
        "pulse": 300.0,
        "window": (2.5, 4.25),
        "cycles": 1,
        "maximum": None,
    }


def test_strings_of_a_command_line_will_do() -> None:
    table = {"cycles": "3", "window": "2 V, 4 V", "rate": "C/3"}
    values = parameters_from(titration, table, "--")
    assert (values["cycles"], values["window"]) == (3, (2.0, 4.0))


def test_a_wrapped_function_and_a_signature_will_do_too() -> None:
    @functools.wraps(titration)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        """Nothing."""

    expected = parameters_from(titration, {}, "")
    assert parameters_from(wrapper, {}, "") == expected
    signature = inspect.signature(titration, eval_str=True)
    assert parameters_from(signature, {}, "") == expected


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInputError) as caught:
        parameters_from(titration, {"puls": "5 min"}, "gitt.toml line 4: [parameters]")
    assert str(caught.value) == (
        'gitt.toml line 4: [parameters] puls: unknown key; did you mean "pulse"?'
    )


def test_a_wrong_value_names_place_key_and_remedy() -> None:
    def where(key: str) -> str:
        return f"gitt.toml line 7: [parameters] {key}"

    with pytest.raises(BadInputError) as caught:
        parameters_from(titration, {"pulse": "10"}, where)
    assert str(caught.value).startswith("gitt.toml line 7: [parameters] pulse: ")
    assert str(caught.value).endswith(
        '"10" has no unit; expected a time in s, min, h or d, such as "10 min"'
    )


@pytest.mark.parametrize(
    ("key", "written", "said"),
    [
        ("window", ["2.5", "4 V"], 'lower: "2.5" has no unit; expected a voltage'),
        ("window", ["2.5 V", "4"], 'upper: "4" has no unit; expected a voltage'),
        ("window", "2.5 V", 'write two values, such as "2.5 V, 4.25 V"'),
        ("window", ["1 V"], 'write two values, such as "2.5 V, 4.25 V"'),
        ("window", ["1 V", "2 V", "3 V"], 'write two values, such as "2.5 V, 4.25 V"'),
        ("window", 4.25, 'write two values, such as "2.5 V, 4.25 V"'),
        ("cycles", "two", '"two" is not a whole number'),
        ("cycles", "2.5", '"2.5" is not a whole number'),
        ("cycles", 2.5, "2.5 is not a whole number"),
        ("cycles", "", "is empty; write a whole number"),
        ("cycles", None, "None is not a whole number"),
    ],
)
def test_a_wrong_value_is_refused_in_words_of_the_laboratory(
    key: str, written: object, said: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        parameters_from(titration, {key: written}, "x")
    message = str(caught.value)
    assert message.startswith(f"x {key}: {said}"), message
    assert "\n" not in message


def test_wrong_numbers_ticks_choices_and_lists_are_told_in_words_too() -> None:
    def many(
        *,
        factor: float = 1.5,
        fast: bool = False,
        order: Literal["up", "down"] = "up",
        rates: tuple[CRate, ...] = ("C/10",),  # type: ignore[assignment]
        text: str = "",
        few: Annotated[int, Field(ge=1)] = 1,
    ) -> None: ...

    table = {
        "factor": "x", "fast": "perhaps", "order": "left", "rates": ["C/2", "1 V"], "text": 3,
        "few": 0,
    }  # fmt: skip
    with pytest.raises(BadInputError) as caught:
        parameters_from(many, table, "-")
    assert str(caught.value).splitlines() == [
        '- factor: "x" is not a number',
        '- fast: must be true or false, found "perhaps"',
        "- order: must be 'up' or 'down', found \"left\"",
        '- rates: value 2: "1 V" is a voltage; expected a C-rate, such as "C/10" or "0.5C"',
        "- text: must be a text in quotes, found 3",
        "- few: must be greater than or equal to 1, found 0",
    ]


def test_every_wrong_value_is_told_at_once() -> None:
    with pytest.raises(BadInputError) as caught:
        parameters_from(titration, {"pulse": "10", "cycles": "many", "window": ["1 V", 2, 3]}, "x")
    told = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in told] == ["x pulse", "x window", "x cycles"]


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(BadInputError, match="area: is missing"):
        parameters_from(Settings, {}, "bench.toml")


def test_a_class_that_is_no_dataclass_is_a_mistake_of_its_author() -> None:
    with pytest.raises(TypeError, match="not a dataclass"):
        parameters_from(int, {}, "")
    bare: Callable[..., object] = lambda *, a: a  # noqa: E731
    with pytest.raises(TypeError, match="annotation"):
        parameters_from(bare, {}, "")


def test_the_schema_of_a_form_has_units_descriptions_and_defaults() -> None:
    properties = parameters_schema(titration)["properties"]
    assert list(properties) == ["rate", "pulse", "window", "cycles", "maximum"]
    assert properties["pulse"]["unit"] == "s"
    assert properties["rate"]["default"] == "C/10"
    assert properties["rate"]["description"] == "pulse current."
    described = parameters_schema(Settings)
    assert described["required"] == ["area"]
    area = described["properties"]["area"]
    assert area["description"] == "area of the piston in m2, which turns force into pressure."
    assert described["properties"]["copy"]["description"] == "other things."
