"""Steps: one thing to do to a cell, with the conditions that end it.

A step that drives a current always carries the voltage at which the instrument itself must stop.
For a constant-current step that cut-off is found among its end conditions.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from operando.instruments.conditions import (
    ELAPSED,
    Comparison,
    Condition,
    Operator,
    voltage_bound,
)
from operando.instruments.errors import BadInputError
from operando.instruments.recorder import JSON
from operando.instruments.roles import Galvanostatic, OpenCircuit, Potentiostatic, SetPoint


class Step(Protocol):
    """What the runner needs to know of a step.

    until: the step ends when one of them is true. label: the protocol's word for it.
    cycle: cycle it belongs to, from 1; 0 keeps the cycle of the step before.
    """

    @property
    def until(self) -> tuple[Condition, ...]: ...
    @property
    def label(self) -> str: ...
    @property
    def cycle(self) -> int: ...

    def setpoint(self, voltage_limit: float) -> SetPoint:
        """What to ask of the potentiostat. voltage_limit: V, magnitude for a rest."""
        ...

    @property
    def direction(self) -> int:
        """Sign that the current must have: +1 charge, -1 discharge, 0 either."""
        ...

    @property
    def cutoff(self) -> Condition | None:
        """The end condition that the instrument enforces itself, if any."""
        ...


class AtRest:
    """What a step is to the cell that drives no current: open circuit, voltage watched."""

    __slots__ = ()

    @property
    def direction(self) -> int:
        """No current is driven."""
        return 0

    @property
    def cutoff(self) -> Condition | None:
        """A rest has no hardware cut-off."""
        return None

    def setpoint(self, voltage_limit: float) -> SetPoint:
        """Zero current within the voltage limit (V, magnitude)."""
        return OpenCircuit(voltage_limit)


@dataclass(frozen=True, slots=True)
class Rest(AtRest):
    """Open circuit, voltage watched."""

    until: tuple[Condition, ...]
    label: str = "rest"
    cycle: int = 0


@dataclass(frozen=True, slots=True)
class ConstantCurrent:
    """Constant current until a cut-off voltage or another condition.

    current: A, positive charges. until must hold a voltage bound on the side to which the
    current drives the cell: it becomes the instrument's own cut-off.
    """

    current: float
    until: tuple[Condition, ...]
    label: str = "constant current"
    cycle: int = 0

    def __post_init__(self) -> None:
        bound = voltage_bound(self.until, self.direction)
        if bound is None:
            side = ">=" if self.current > 0 else "<="
            raise BadInputError(
                f"step '{self.label}': a current of {self.current:g} A has no voltage at which to "
                f"stop; add an end condition 'voltage {side} ...'"
            )

    @property
    def direction(self) -> int:
        """Sign of the current."""
        return 1 if self.current > 0 else -1

    @property
    def cutoff(self) -> Condition | None:
        """The voltage condition that the instrument enforces."""
        bound = voltage_bound(self.until, self.direction)
        return next(c for c in self.until if voltage_bound((c,), self.direction) == bound)

    def setpoint(self, voltage_limit: float) -> SetPoint:
        """The current with its cut-off."""
        bound = voltage_bound(self.until, self.direction)
        assert bound is not None
        return Galvanostatic(self.current, bound)


@dataclass(frozen=True, slots=True)
class ConstantVoltage:
    """Constant voltage (V) with a current limit (A, magnitude)."""

    voltage: float
    current_limit: float
    until: tuple[Condition, ...]
    label: str = "constant voltage"
    cycle: int = 0

    @property
    def direction(self) -> int:
        """Either sign may flow."""
        return 0

    @property
    def cutoff(self) -> Condition | None:
        """The voltage is the set-point, not an end."""
        return None

    def setpoint(self, voltage_limit: float) -> SetPoint:
        """The voltage with its current limit."""
        return Potentiostatic(self.voltage, self.current_limit)


@dataclass(frozen=True, slots=True)
class ConstantCurrentConstantVoltage:
    """Constant current to a voltage, which is then held.

    current: A, positive charges. voltage: V. until: usually a taper, abs(current) <= ...
    """

    current: float
    voltage: float
    until: tuple[Condition, ...]
    label: str = "constant current, constant voltage"
    cycle: int = 0

    @property
    def direction(self) -> int:
        """Sign of the current."""
        return 1 if self.current > 0 else -1

    @property
    def cutoff(self) -> Condition | None:
        """The voltage is held, not an end."""
        return None

    def setpoint(self, voltage_limit: float) -> SetPoint:
        """The current with the voltage as cut-off."""
        return Galvanostatic(self.current, self.voltage)


@dataclass(frozen=True, slots=True)
class Block:
    """A static group of steps, run `repeat` times; may run on board whole."""

    steps: tuple[Step, ...]
    repeat: int = 1


def problem_with(item: object) -> str:
    """What keeps something from being carried out as a step, in words; "" if nothing does."""
    asked = ("until", "label", "cycle", "setpoint", "direction", "cutoff")
    if isinstance(item, type) or not all(hasattr(item, name) for name in asked):
        found = f"the class {item.__name__}" if isinstance(item, type) else shown(item)
        return (
            f"{found} is no step; yield Rest(...), ConstantCurrent(...), ConstantVoltage(...), "
            "ConstantCurrentConstantVoltage(...), or a Block of them"
        )
    until: object = getattr(item, "until", None)
    ends = isinstance(until, tuple) and until and all(isinstance(one, Condition) for one in until)
    if not ends:
        return (
            f"step '{getattr(item, 'label', '')}' needs until = a tuple of at least one condition, "
            f"such as (ELAPSED >= 60.0,); found {shown(until)}"
        )
    return ""


def shown(value: object) -> str:
    """A value and its type, for messages."""
    text = str(value) if isinstance(value, Condition) else reprlib.repr(value)
    return f"{text} ({type(value).__name__})"


def elapsed_bound(until: Iterable[Condition]) -> float | None:
    """Time after which a step ends whatever else happens, s; None when there is none."""
    bounds = [
        condition.bound
        for condition in until
        if isinstance(condition, Comparison)
        and condition.operand == ELAPSED
        and condition.operator in (Operator.AT_LEAST, Operator.ABOVE)
    ]
    return min(bounds, default=None)


def describe(step: Step) -> dict[str, JSON]:
    """A step as plain data: its kind, its numbers in SI units, its conditions as text."""
    data: dict[str, JSON] = {"kind": type(step).__name__}
    for name in getattr(step, "__dataclass_fields__", {}):
        value = getattr(step, name)
        data[name] = [str(c) for c in value] if name == "until" else value
    return data


def step_hash(step: Step) -> str:
    """A short hash of what a step does, to compare a replay with its journal."""
    text = json.dumps(describe(step), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
