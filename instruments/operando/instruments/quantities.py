"""Quantities: annotated types for parameters and settings, and the names of live quantities.

Inside the code every quantity is a float in SI units. At the edges (files, command line, forms)
it is a string with a unit, or a number that is already SI.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from operando.instruments.errors import BadInputError
from operando.instruments.units import format_quantity, parse_measured, parse_quantity

__all__ = [
    "QUANTITIES",
    "Amperes",
    "AmperesPerKilogram",
    "AmperesPerSecond",
    "AmperesPerSquareMetre",
    "CRate",
    "CRates",
    "Coulombs",
    "CoulombsPerKilogram",
    "CoulombsPerSquareMetre",
    "Fraction",
    "Fractions",
    "Hertz",
    "Joules",
    "KelvinDifference",
    "Kelvins",
    "KelvinsPerSecond",
    "Kilograms",
    "LiveQuantity",
    "Metres",
    "Newtons",
    "Ohms",
    "Pascals",
    "PascalsPerSecond",
    "Quantity",
    "Seconds",
    "SquareMetres",
    "Voltages",
    "Volts",
    "VoltsPerSecond",
    "Watts",
    "format_quantity",
    "parse_quantity",
    "si",
]


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a parameter is, as metadata of an annotated float: `Annotated[float, Quantity(...)]`.

    unit: SI unit of the value, in the spelling of `units`; "C" stands for a C-rate in 1/s.
    meaning: noun for messages and forms. example: how to write it.
    lowest: smallest value allowed, SI; itself excluded when `above` is true.
    numbers: interval in which a bare number is believed to be SI. Outside it was most probably
    meant in another unit (a C-rate of 0.1, a temperature of 25) and is refused.
    difference: a change, for which degC is refused.
    """

    unit: str
    meaning: str
    example: str
    lowest: float = -math.inf
    above: bool = False
    numbers: tuple[float, float] = (-math.inf, math.inf)
    difference: bool = False

    def parse(self, value: object) -> float:
        """SI value of a number (already SI) or a string with unit. Raises BadInputError."""
        if isinstance(value, str):
            result = parse_quantity(value, self.unit, difference=self.difference)
        elif isinstance(value, Real) and not isinstance(value, bool):
            result = float(value)
            if not math.isfinite(result):
                raise BadInputError(f"{value} is not a number that can be used")
            if not self.numbers[0] <= result <= self.numbers[1]:
                raise BadInputError(
                    f"{value:g} without a unit would be {result:g} {self.si_unit}, "
                    f'which is hardly meant; write it with its unit, such as "{self.example}"'
                )
        else:
            raise BadInputError(
                f'{value!r} is not {self.meaning}; write a text with a unit, such as "'
                f'{self.example}"'
            )
        if result < self.lowest or (self.above and result <= self.lowest):
            bound = "more than" if self.above else "at least"
            raise BadInputError(f"{value!r}: must be {bound} {self.lowest:g} {self.si_unit}")
        return result

    def format(self, value: float) -> str:
        """The value for people."""
        return format_quantity(value, self.unit)

    @property
    def si_unit(self) -> str:
        """Unit of the float: that of `unit`, but 1/s for a C-rate."""
        return "1/s" if self.unit == "C" else self.unit

    def _validate(self, value: object) -> float:
        try:
            return self.parse(value)
        except BadInputError as error:
            raise PydanticCustomError("quantity", "{reason}", {"reason": str(error)}) from None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validation by pydantic."""
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """JSON schema with the keys that forms use: unit, quantity, examples."""
        return {
            "anyOf": [{"type": "number"}, {"type": "string"}],
            "unit": self.si_unit,
            "quantity": self.meaning,
            "examples": [self.example],
        }


def si(text: str) -> float:
    """SI value of a quantity written with its unit: `si("10 min")` is 600.0.

    For defaults in signatures: `pulse: Seconds = si("10 min")`. Raises BadInputError.
    """
    return parse_measured(text).value


# A bare number for a C-rate is 1/s: 0.1 would be 360C. Above 10C it is refused.
_TEN_C = 10.0 / 3600.0

Seconds = Annotated[float, Quantity("s", "a time", "10 min", lowest=0.0)]
Volts = Annotated[float, Quantity("V", "a voltage", "4.25 V")]
Amperes = Annotated[float, Quantity("A", "a current", "1.57 mA")]
Coulombs = Annotated[float, Quantity("As", "a charge", "3.14 mAh")]
Pascals = Annotated[float, Quantity("Pa", "a pressure", "5 MPa")]
Newtons = Annotated[float, Quantity("N", "a force", "1.2 kN")]
Kelvins = Annotated[
    float,
    Quantity("K", "a temperature", "60 degC", lowest=0.0, above=True, numbers=(100.0, math.inf)),
]
"""A bare number below 100 is refused: `60` was meant in degrees Celsius."""
KelvinDifference = Annotated[
    float, Quantity("K", "a temperature difference", "2 K", difference=True)
]
Metres = Annotated[float, Quantity("m", "a length", "100 um")]
SquareMetres = Annotated[float, Quantity("m2", "an area", "1.131 cm2", lowest=0.0, above=True)]
Kilograms = Annotated[float, Quantity("kg", "a mass", "16.96 mg", lowest=0.0, above=True)]
Ohms = Annotated[float, Quantity("ohm", "a resistance", "35 ohm")]
Watts = Annotated[float, Quantity("W", "a power", "6 mW")]
Joules = Annotated[float, Quantity("J", "an energy", "12 mWh")]
Hertz = Annotated[float, Quantity("Hz", "a frequency", "10 Hz", lowest=0.0, above=True)]
Fraction = Annotated[float, Quantity("1", "a fraction", "5 ppm")]
"""A mole fraction or a relative humidity."""
CRate = Annotated[float, Quantity("C", "a C-rate", "C/10", numbers=(-_TEN_C, _TEN_C))]
"""1/s: "C/10" is 0.1/3600; a current in A is the rate times the capacity in C (ampere seconds).

A bare number above 10C (0.0028 1/s) is refused: `0.1` was meant as "0.1C".
"""
VoltsPerSecond = Annotated[float, Quantity("V/s", "a voltage per time", "0.1 mV/min")]
AmperesPerSecond = Annotated[float, Quantity("A/s", "a current per time", "1 mA/min")]
PascalsPerSecond = Annotated[float, Quantity("Pa/s", "a pressure per time", "1 MPa/h")]
KelvinsPerSecond = Annotated[float, Quantity("K/s", "a temperature per time", "1 K/min")]
AmperesPerSquareMetre = Annotated[float, Quantity("A/m2", "a current density", "0.5 mA/cm2")]
AmperesPerKilogram = Annotated[float, Quantity("A/kg", "a specific current", "185 mA/g")]
CoulombsPerSquareMetre = Annotated[float, Quantity("As/m2", "an areal capacity", "1 mAh/cm2")]
CoulombsPerKilogram = Annotated[float, Quantity("As/kg", "a specific capacity", "200 mAh/g")]


def _parts(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _rising(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise PydanticCustomError(
            "window",
            "the lower voltage comes first: {lower} V is not below {upper} V",
            {"lower": f"{window[0]:g}", "upper": f"{window[1]:g}"},
        )
    return window


Voltages = Annotated[tuple[Volts, Volts], BeforeValidator(_parts), AfterValidator(_rising)]
"""Lower and upper voltage, V. From the command line: "2.5 V, 4.25 V"."""
CRates = Annotated[tuple[CRate, ...], BeforeValidator(_parts)]
"""C-rates in 1/s, in their order; from the command line: "0.1C, 0.2C". None at all is allowed."""
Fractions = Annotated[tuple[Fraction, ...], BeforeValidator(_parts)]
"""Fractions in their order; from the command line: "80 %, 50 %"."""


@dataclass(frozen=True, slots=True)
class LiveQuantity:
    """A quantity that conditions, limits and record conditions can use.

    unit: SI unit; "1" for a fraction, "" for a count. meaning: in words, with its sign.
    sources: measured quantities that it is computed from; it is stale when one of them is. Empty
    for what the runner itself counts.
    """

    name: str
    unit: str
    meaning: str
    sources: tuple[str, ...]


def _live(name: str, unit: str, meaning: str, *sources: str) -> tuple[str, LiveQuantity]:
    return name, LiveQuantity(name, unit, meaning, sources)


QUANTITIES: Mapping[str, LiveQuantity] = dict(
    (
        _live("voltage", "V", "voltage at the cell", "voltage"),
        _live("current", "A", "current, positive charges the cell", "current"),
        _live("charge", "As", "net charge of the run, positive charges the cell", "current"),
        _live("step_charge", "As", "net charge of the step, positive charges", "current"),
        _live("power", "W", "voltage times current", "voltage", "current"),
        _live("energy", "J", "net energy of the run", "voltage", "current"),
        _live("residual", "V", "measured minus predicted voltage", "voltage"),
        _live("elapsed", "s", "time since the step began, pauses excluded"),
        _live("time", "s", "time since the run began"),
        _live("cycle", "", "number of the cycle, from 1"),
        _live("pressure", "Pa", "stack pressure on the cell", "pressure"),
        _live("force", "N", "force on the cell", "force"),
        _live("temperature", "K", "temperature of the cell", "temperature"),
        _live(
            "chamber_temperature", "K", "temperature that the chamber reports",
            "chamber_temperature",
        ),
        _live("o2", "1", "oxygen in the glovebox, mole fraction", "o2"),
        _live("h2o", "1", "water in the glovebox, mole fraction", "h2o"),
        _live("dew_point", "K", "dew point in the glovebox", "dew_point"),
        _live("relative_humidity", "1", "relative humidity", "relative_humidity"),
        _live("box_pressure", "Pa", "pressure of the glovebox against the room", "box_pressure"),
    )
)  # fmt: skip
"""Live quantities by name. There is no "capacity": it would leave open whether the nominal one, the
charge of the run or that of the step is meant. `charge` and `step_charge` say it."""

ALIASES: Mapping[str, str] = {"capacity": "step_charge", "humidity": "h2o", "water": "h2o"}
"""Names that people try, with what they most probably want; used in messages alone."""
