"""Steps that tell a chamber or a press where to go; to the cell they are a rest.

The set-point stays in force through the steps behind it, until another such step changes it or the
run ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from operando.instruments.conditions import Condition, Live, Operand
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import RecordConditions
from operando.instruments.words import quantity_words
from operando.protocols.steps import AtRest

CHAMBER_TEMPERATURE = Live("chamber_temperature")


def within(operand: Operand, value: float, tolerance: float) -> Condition:
    """A quantity lies no further than `tolerance` from `value`, both in its SI unit.

    `within(CHAMBER_TEMPERATURE, 333.15, 0.5).held("10 min")` waits for 60 degC to be steady.
    """
    if not tolerance > 0.0:
        raise BadInputError(f"within needs a positive tolerance, not {tolerance:g}")
    return (operand >= value - tolerance) & (operand <= value + tolerance)


@dataclass(frozen=True, slots=True)
class HoldTemperature(AtRest):
    """The channel's temperature controller holds a temperature from now on; the cell rests.

    temperature: K. until: when the protocol goes on, such as
    `(within(CHAMBER_TEMPERATURE, 333.15, 0.5).held("10 min"), ELAPSED >= "2 h")`.
    Raises BadInputError for a temperature that is not positive and finite.
    """

    temperature: float
    until: tuple[Condition, ...]
    label: str = "hold temperature"
    cycle: int = 0
    record: RecordConditions | None = None

    role: ClassVar[str] = "temperature_controller"

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < math.inf:
            raise BadInputError(
                f"step '{self.label}': a temperature of {self.temperature} K is none; write a "
                "positive number of K"
            )

    @property
    def asked(self) -> Mapping[str, float]:
        """Arguments of the controller's `check` and `hold`, SI units."""
        return {"temperature": self.temperature}

    def __str__(self) -> str:
        return f"open circuit, chamber at {quantity_words(self.temperature, 'K')}"


@dataclass(frozen=True, slots=True)
class HoldPressure(AtRest):
    """The channel's pressure controller holds a stack pressure from now on; the cell rests.

    pressure: Pa. slew: Pa/s, magnitude, both ways. maximum: Pa, never exceeded on the way. until:
    when the protocol goes on, such as `(within(PRESSURE, 5e6, 5e4).held("1 min"), ELAPSED >= 600)`.
    Raises BadInputError for numbers that are not finite, a negative pressure, a maximum below it,
    and a slew that is not positive.
    """

    pressure: float
    slew: float
    maximum: float
    until: tuple[Condition, ...]
    label: str = "hold pressure"
    cycle: int = 0
    record: RecordConditions | None = None

    role: ClassVar[str] = "pressure_controller"

    def __post_init__(self) -> None:
        if not 0.0 <= self.pressure <= self.maximum < math.inf:
            raise BadInputError(
                f"step '{self.label}': pressure and maximum must be finite, from 0 Pa up and the "
                f"pressure not above the maximum; found {self.pressure} Pa and {self.maximum} Pa"
            )
        if not 0.0 < self.slew < math.inf:
            raise BadInputError(
                f"step '{self.label}': slew must be a positive number of Pa/s, not {self.slew}"
            )

    @property
    def asked(self) -> Mapping[str, float]:
        """Arguments of the controller's `check` and `hold`, SI units."""
        return {"pressure": self.pressure, "slew": self.slew, "maximum": self.maximum}

    def __str__(self) -> str:
        return (
            f"open circuit, stack at {quantity_words(self.pressure, 'Pa')} by "
            f"{quantity_words(self.slew, 'Pa/s')}, at most {quantity_words(self.maximum, 'Pa')}"
        )


ActuatorStep = HoldTemperature | HoldPressure
