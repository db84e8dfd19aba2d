"""Steps: one thing to do to a cell, with the conditions that end it.

A step that drives a current always carries the voltage at which the instrument itself must stop.
For a constant-current step that cut-off is found among its end conditions.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from operando.instruments.conditions import (
    ELAPSED,
    Comparison,
    Condition,
    Operator,
    voltage_bound,
)
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import RecordConditions
from operando.instruments.recorder import JSON
from operando.instruments.roles import Galvanostatic, OpenCircuit, Potentiostatic, SetPoint
from operando.instruments.techniques import SpectrumRequest, SweepRequest


class Step(Protocol):
    """What the runner needs to know of a step.

    until: the step ends when one of them is true. label: the protocol's word for it.
    cycle: cycle it belongs to, from 1; 0 keeps the cycle of the step before.
    record: which of its readings become rows; None is as the recipe says.
    """

    @property
    def until(self) -> tuple[Condition, ...]: ...
    @property
    def label(self) -> str: ...
    @property
    def cycle(self) -> int: ...
    @property
    def record(self) -> RecordConditions | None: ...

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
    record: RecordConditions | None = None


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
    record: RecordConditions | None = None

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
    record: RecordConditions | None = None

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
    record: RecordConditions | None = None

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
class VoltageSweep:
    """A voltage that runs from `start` to `end` (V) at `rate` (V/s, a magnitude), and stops there.

    current_limit: A, magnitude; beyond it the instrument opens the circuit. until: what may end it
    earlier. step: V, height of the staircase where the instrument makes one. A cell at rest is
    swept from its own voltage: `rest = yield Rest(...)`, then `start=rest.voltage`.
    """

    start: float
    end: float
    rate: float
    current_limit: float
    until: tuple[Condition, ...] = ()
    label: str = "sweep"
    cycle: int = 0
    record: RecordConditions | None = None
    step: float = 1e-3

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise BadInputError(f"step '{self.label}': a sweep needs two different voltages")
        if not (self.rate > 0.0 and self.current_limit > 0.0 and self.step > 0.0):
            raise BadInputError(
                f"step '{self.label}': rate, current_limit and step must be positive; the sweep "
                "goes from start to end"
            )
        swept = ELAPSED >= self.request.duration
        if swept not in self.until:
            object.__setattr__(self, "until", (swept, *self.until))

    @property
    def request(self) -> SweepRequest:
        """The sweep as an instrument is asked for it."""
        return SweepRequest(self.start, self.end, self.rate, self.step, self.current_limit)

    @property
    def direction(self) -> int:
        """Either sign may flow."""
        return 0

    @property
    def cutoff(self) -> Condition | None:
        """The voltage is driven, not an end."""
        return None

    def setpoint(self, voltage_limit: float) -> SetPoint:
        """Its first level; the highest magnitude of both ends is what must be possible."""
        return Potentiostatic(self.start, self.current_limit)


LARGEST_BIAS: Final = 20e-3
"""V by which a spectrum's bias may differ from the open-circuit voltage: more would drive the cell
while it is measured. Our choice."""


@dataclass(frozen=True, slots=True)
class Impedance(AtRest):
    """An impedance spectrum at open circuit, measured by the potentiostat itself.

    frequencies: Hz, evenly spaced in their logarithm, the highest first, see `logarithmic`.
    current_limit: A, the largest current expected; it chooses the range. amplitude: V, root mean
    square. bias: V, None for the open-circuit voltage found right before; one that is further from
    it than LARGEST_BIAS is refused. periods: least number that a point is averaged over. until:
    times at which it is given up; one that no spectrum should need is added.
    """

    frequencies: tuple[float, ...]
    current_limit: float
    amplitude: float = 0.01
    bias: float | None = None
    periods: float = 3.0
    until: tuple[Condition, ...] = ()
    label: str = "impedance"
    cycle: int = 0
    record: RecordConditions | None = None

    def __post_init__(self) -> None:
        try:
            longest = self.request(0.0).duration
        except ValueError as error:
            raise BadInputError(f"step '{self.label}': {error}") from None
        if any(elapsed_bound((condition,)) is None for condition in self.until):
            raise BadInputError(
                f"step '{self.label}': a spectrum is given up only by a time, until = "
                f"(ELAPSED >= 600.0,), not by {', '.join(map(str, self.until))}; what must never "
                "happen meanwhile is a limit"
            )
        given_up = ELAPSED >= 600.0 + 60.0 * len(self.frequencies) + 4.0 * longest
        if given_up not in self.until:
            object.__setattr__(self, "until", (*self.until, given_up))

    def request(self, bias: float) -> SpectrumRequest:
        """The spectrum as an instrument is asked for it. bias: V."""
        return SpectrumRequest(
            self.frequencies, self.amplitude, bias, self.current_limit, self.periods
        )


def logarithmic(highest: float, lowest: float, per_decade: int) -> tuple[float, ...]:
    """Frequencies (Hz) evenly spaced in their logarithm, the highest first, both ends included.

    Raises BadInputError.
    """
    if not (0.0 < lowest < highest and per_decade >= 1):
        raise BadInputError(
            f"highest_frequency and lowest_frequency: {highest:g} Hz must be above {lowest:g} Hz, "
            "with at least one point a decade"
        )
    steps = max(1, round(math.log10(highest / lowest) * per_decade))
    return tuple(highest * (lowest / highest) ** (n / steps) for n in range(steps + 1))


@dataclass(frozen=True, slots=True)
class Block:
    """A static group of steps, run `repeat` times; may run on board whole."""

    steps: tuple[Step, ...]
    repeat: int = 1


def problem_with(item: object) -> str:
    """What keeps something from being carried out as a step, in words; "" if nothing does."""
    asked = ("until", "label", "cycle", "record", "setpoint", "direction", "cutoff")
    if isinstance(item, type) or not all(hasattr(item, name) for name in asked):
        found = f"the class {item.__name__}" if isinstance(item, type) else shown(item)
        return (
            f"{found} is no step; yield Rest(...), ConstantCurrent(...), ConstantVoltage(...), "
            "ConstantCurrentConstantVoltage(...), VoltageSweep(...), Impedance(...), or a Block"
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
        data[name] = _plain(getattr(step, name))
    return data


def _plain(value: object) -> JSON:
    """A field of a step as plain data."""
    if isinstance(value, RecordConditions):
        return {"every": value.every, "on_change": dict(value.on_change)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def step_hash(step: Step) -> str:
    """A short hash of what a step does, to compare a replay with its journal."""
    text = json.dumps(describe(step), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
