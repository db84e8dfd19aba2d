"""Conditions: expressions over live quantities that end a step, branch it or make a limit.

    voltage >= 4.25 V or elapsed >= 10 min
    abs(current) <= C/20
    pressure > 8 MPa for 5 s
    abs(dV/dt over 60 s) < 0.1 mV/min
    dose of h2o > 5 ppm h

In Python the same values are built from `VOLTAGE >= 4.25`, `abs(CURRENT) <= "C/20"`,
`(PRESSURE > 8e6).held(5.0)`, `VOLTAGE.slope(60.0)`, `H2O.dose()`, `&` and `|`. A condition is a
frozen value: equal ones compare equal, `str` gives canonical text, and
`parse(str(condition)) == condition`.

A comparison with NaN is false, so an invalid reading never ends a step.
"""

from __future__ import annotations

import difflib
import enum
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from operando.instruments import units
from operando.instruments.errors import BadInputError
from operando.instruments.evaluators import (
    Compiler,
    Evaluate,
    Evaluator,
    compile_all,
    compile_any,
    compile_comparison,
    compile_held,
    compile_slope,
)
from operando.instruments.quantities import ALIASES, QUANTITIES
from operando.instruments.units import Dimension

if TYPE_CHECKING:
    from operando.instruments.histories import Dose, Fall


class Operator(enum.Enum):
    """How a live value is compared with its bound."""

    AT_LEAST = ">="
    AT_MOST = "<="
    ABOVE = ">"
    BELOW = "<"

    @property
    def mirrored(self) -> Operator:
        """The operator with its sides exchanged."""
        return _MIRRORED[self]


_MIRRORED = {
    Operator.AT_LEAST: Operator.AT_MOST,
    Operator.AT_MOST: Operator.AT_LEAST,
    Operator.ABOVE: Operator.BELOW,
    Operator.BELOW: Operator.ABOVE,
}


class Per(enum.Enum):
    """What of the cell a bound refers to, until `Condition.bind` multiplies with it."""

    NOTHING = ""
    CAPACITY = "capacity"
    """The bound is a C-rate, 1/s."""
    AREA = "area"
    """The bound is per electrode area, SI/m2."""
    MASS = "mass"
    """The bound is per active mass, SI/kg."""


_SHORT = {"voltage": "V", "current": "I", "pressure": "P", "temperature": "T", "charge": "Q"}
_SLOPES = {f"d{letter}": name for name, letter in _SHORT.items()}
_COUNTED = frozenset(name for name, quantity in QUANTITIES.items() if not quantity.sources)


class Condition:
    """Something that is true or false of a cell. Built by `parse` or from the building blocks."""

    __slots__ = ()

    @property
    def quantities(self) -> frozenset[str]:
        """Names of the live quantities that it uses."""
        raise NotImplementedError

    @property
    def windows(self) -> tuple[float, ...]:
        """Windows of its slopes, s. Each must hold at least three samples."""
        raise NotImplementedError

    @property
    def unbound(self) -> frozenset[Per]:
        """What of the cell must be given to `bind` before it can be evaluated."""
        raise NotImplementedError

    def bind(self, *, capacity: float = 0.0, area: float = 0.0, mass: float = 0.0) -> Condition:
        """The condition with C-rates and specific bounds turned into amperes or coulombs.

        capacity: C (ampere seconds) that 1C refers to. area: m2. mass: active mass, kg. 0.0 is
        unknown. Raises BadInputError when one that is needed is unknown.
        """
        raise NotImplementedError

    def held(self, duration: float | str) -> Held:
        """True once this has been true for `duration` (s) of sample stamps without a break."""
        return Held(self, _seconds(duration))

    def evaluator(self, *, patient: bool = False) -> Evaluator:
        """A fresh stateful evaluator, see `evaluators.Evaluator`.

        patient: an invalid (NaN) sample does not restart a `for` timer. For limits, which an
        intermittent sensor must not disarm; never for the end of a step.
        Raises BadInputError while something is unbound.
        """
        if self.unbound:
            missing = sorted(self.unbound, key=lambda per: per.value)
            raise BadInputError(f'condition "{self}": {_UNKNOWN[missing[0]]}')
        compiler = Compiler(patient)
        return Evaluator(self._compile(compiler), compiler.resets)

    def _compile(self, compiler: Compiler) -> Evaluate:
        raise NotImplementedError

    def __and__(self, other: Condition) -> Condition:
        return All((self, other)) if isinstance(other, Condition) else NotImplemented

    def __or__(self, other: Condition) -> Condition:
        return AnyOf((self, other)) if isinstance(other, Condition) else NotImplemented

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a condition has no truth value of its own: combine conditions with & and |, and "
            "evaluate them with evaluator()"
        )


_UNKNOWN = {
    Per.CAPACITY: 'a C-rate needs the cell\'s capacity; state capacity = "3.14 mAh", or '
    'active_mass = "16.96 mg" and one_c = "185 mA/g", of the cell in the bench file',
    Per.AREA: 'a value per area needs the electrode area; state area = "1.131 cm2" of the cell in '
    "the bench file",
    Per.MASS: 'a value per mass needs the active mass; state active_mass = "16.96 mg" of the cell '
    "in the bench file",
}


class Operand:
    """The left side of a comparison. Comparing it with a number (SI) or text makes a condition."""

    __slots__ = ()

    @property
    def dimension(self) -> Dimension | None:
        """Dimension of its value; None for a count."""
        raise NotImplementedError

    @property
    def quantity(self) -> str:
        """The live quantity it is made of."""
        raise NotImplementedError

    @property
    def window(self) -> float:
        """Window of its slope, s; 0.0 when it has none."""
        return 0.0

    @property
    def difference(self) -> bool:
        """Whether a bound in degC would be meaningless."""
        return True

    @property
    def symbols(self) -> tuple[str, ...]:
        """Units that a bound is written in; none are those of its dimension."""
        return ()

    def _compile(self, compiler: Compiler) -> Callable[..., float] | str:
        raise NotImplementedError

    def __ge__(self, bound: float | str) -> Comparison:
        return _comparison(self, Operator.AT_LEAST, bound)

    def __le__(self, bound: float | str) -> Comparison:
        return _comparison(self, Operator.AT_MOST, bound)

    def __gt__(self, bound: float | str) -> Comparison:
        return _comparison(self, Operator.ABOVE, bound)

    def __lt__(self, bound: float | str) -> Comparison:
        return _comparison(self, Operator.BELOW, bound)

    def __abs__(self) -> Magnitude:
        return Magnitude(self)


@dataclass(frozen=True, slots=True)
class Live(Operand):
    """The latest value of a live quantity. name: of `QUANTITIES`. Raises BadInputError."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in QUANTITIES:
            raise BadInputError(unknown_quantity(self.name))

    @property
    def dimension(self) -> Dimension | None:
        unit = QUANTITIES[self.name].unit
        return units.parse_unit(unit).dimension if unit else None

    @property
    def quantity(self) -> str:
        return self.name

    @property
    def difference(self) -> bool:
        return False

    def slope(self, window: float | str) -> Slope:
        """Its time derivative, least squares over the last `window` (s, or "60 s")."""
        return Slope(self.name, _seconds(window))

    def fall(self, after: float | str = 0.0) -> Fall:
        """Share by which its magnitude lies below its highest since `after` (s) into the step."""
        from operando.instruments.histories import Fall

        return Fall(self.name, _seconds(after))

    def dose(self, above: float | str | None = None) -> Dose:
        """Its time integral since the step or run began, or that of what exceeds `above` (SI)."""
        from operando.instruments.histories import Dose

        level = resolve_bound(self, above)[0] if isinstance(above, str) else above
        return Dose(self.name, level)

    def _compile(self, compiler: Compiler) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Magnitude(Operand):
    """Absolute value of an operand."""

    operand: Operand

    def __post_init__(self) -> None:
        if isinstance(self.operand, Magnitude):
            object.__setattr__(self, "operand", self.operand.operand)

    @property
    def dimension(self) -> Dimension | None:
        return self.operand.dimension

    @property
    def quantity(self) -> str:
        return self.operand.quantity

    @property
    def window(self) -> float:
        return self.operand.window

    @property
    def difference(self) -> bool:
        return self.operand.difference

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.operand.symbols

    def _compile(self, compiler: Compiler) -> Callable[..., float] | str:
        return self.operand._compile(compiler)

    def __str__(self) -> str:
        return f"abs({self.operand})"


@dataclass(frozen=True, slots=True)
class Slope(Operand):
    """Time derivative of a live quantity by least squares over a window.

    name: of the quantity. over: s. Undefined (NaN) until the samples span nine tenths of the
    window, and while fewer than three lie in it.
    """

    name: str
    over: float

    def __post_init__(self) -> None:
        Live(self.name)
        if self.name in _COUNTED:
            raise BadInputError(f"{self.name} is counted, not measured: its slope means nothing")
        if not 0.0 < self.over <= units.LARGEST:
            raise BadInputError(f"the window of a slope must be a positive time, not {self.over}")

    @property
    def dimension(self) -> Dimension | None:
        own = Live(self.name).dimension
        return None if own is None else own.times(units.TIME, -1)

    @property
    def quantity(self) -> str:
        return self.name

    @property
    def window(self) -> float:
        return self.over

    def _compile(self, compiler: Compiler) -> Callable[..., float]:
        return compile_slope(compiler, self.name, self.over)

    def __str__(self) -> str:
        letter = _SHORT.get(self.name)
        head = f"d{letter}/dt" if letter else f"d({self.name})/dt"
        return f"{head} over {units.exact_text(self.over, units.TIME)}"


@dataclass(frozen=True, slots=True)
class Comparison(Condition):
    """An operand compared with a bound. bound: SI units of the operand, or of it per `per`."""

    operand: Operand
    operator: Operator
    bound: float
    per: Per = Per.NOTHING

    def __post_init__(self) -> None:
        if not abs(self.bound) <= units.LARGEST:
            raise BadInputError(f"{self.operand} cannot be compared with {self.bound}")
        if self.per is not Per.NOTHING and self._bound_dimension() is None:
            raise BadInputError(
                f"{self.operand} cannot be compared with a value per {self.per.value}"
            )
        object.__setattr__(self, "bound", float(self.bound) + 0.0)

    def _bound_dimension(self) -> Dimension | None:
        dimension = self.operand.dimension
        return None if dimension is None else _per(dimension, self.per)

    @property
    def quantities(self) -> frozenset[str]:
        return frozenset((self.operand.quantity,))

    @property
    def windows(self) -> tuple[float, ...]:
        return (self.operand.window,) if self.operand.window else ()

    @property
    def unbound(self) -> frozenset[Per]:
        return frozenset() if self.per is Per.NOTHING else frozenset((self.per,))

    def bind(self, *, capacity: float = 0.0, area: float = 0.0, mass: float = 0.0) -> Comparison:
        if self.per is Per.NOTHING:
            return self
        size = {Per.CAPACITY: capacity, Per.AREA: area, Per.MASS: mass}[self.per]
        if not (math.isfinite(size) and size > 0.0):
            raise BadInputError(f'condition "{self}": {_UNKNOWN[self.per]}')
        return replace(self, bound=self.bound * size, per=Per.NOTHING)

    def _compile(self, compiler: Compiler) -> Evaluate:
        return compile_comparison(
            self.operand._compile(compiler),
            isinstance(self.operand, Magnitude),
            self.operator.value,
            self.bound,
        )

    def __str__(self) -> str:
        dimension = self._bound_dimension()
        if dimension is None:
            bound = f"{self.bound:g}" if float(f"{self.bound:g}") == self.bound else str(self.bound)
        else:
            operand = self.operand
            bound = units.exact_text(
                self.bound, dimension, difference=operand.difference, symbols=operand.symbols
            )
        return f"{self.operand} {self.operator.value} {bound}"


@dataclass(frozen=True, slots=True)
class Held(Condition):
    """A condition that must stay true. duration: s, by the stamps of consecutive samples."""

    condition: Condition
    duration: float

    def __post_init__(self) -> None:
        if not 0.0 < self.duration <= units.LARGEST:
            raise BadInputError(f"`for` needs a positive time, not {self.duration}")

    @property
    def quantities(self) -> frozenset[str]:
        return self.condition.quantities

    @property
    def windows(self) -> tuple[float, ...]:
        return self.condition.windows

    @property
    def unbound(self) -> frozenset[Per]:
        return self.condition.unbound

    def bind(self, *, capacity: float = 0.0, area: float = 0.0, mass: float = 0.0) -> Held:
        return Held(self.condition.bind(capacity=capacity, area=area, mass=mass), self.duration)

    def _compile(self, compiler: Compiler) -> Evaluate:
        inner = self.condition._compile(compiler)
        return compile_held(compiler, inner, self.duration, self.quantities, _COUNTED)

    def __str__(self) -> str:
        inner = str(self.condition)
        if not isinstance(self.condition, Comparison):
            inner = f"({inner})"
        return f"{inner} for {units.exact_text(self.duration, units.TIME)}"


@dataclass(frozen=True, slots=True)
class _Several(Condition):
    """Two or more conditions. Nested ones of the same kind are taken up, so that the value does
    not depend on how it was put together."""

    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        flat: list[Condition] = []
        for condition in self.conditions:
            if isinstance(condition, _Several) and type(condition) is type(self):
                flat.extend(condition.conditions)
            else:
                flat.append(condition)
        if len(flat) < 2:
            raise BadInputError("`and` and `or` need at least two conditions")
        object.__setattr__(self, "conditions", tuple(flat))

    @property
    def quantities(self) -> frozenset[str]:
        return frozenset().union(*(condition.quantities for condition in self.conditions))

    @property
    def windows(self) -> tuple[float, ...]:
        return tuple(window for condition in self.conditions for window in condition.windows)

    @property
    def unbound(self) -> frozenset[Per]:
        return frozenset().union(*(condition.unbound for condition in self.conditions))

    def bind(self, *, capacity: float = 0.0, area: float = 0.0, mass: float = 0.0) -> Condition:
        return type(self)(
            tuple(c.bind(capacity=capacity, area=area, mass=mass) for c in self.conditions)
        )


@dataclass(frozen=True, slots=True)
class All(_Several):
    """`and`: every one is true."""

    def _compile(self, compiler: Compiler) -> Evaluate:
        return compile_all([condition._compile(compiler) for condition in self.conditions])

    def __str__(self) -> str:
        return " and ".join(
            f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.conditions
        )


@dataclass(frozen=True, slots=True)
class AnyOf(_Several):
    """`or`: at least one is true."""

    def _compile(self, compiler: Compiler) -> Evaluate:
        return compile_any([condition._compile(compiler) for condition in self.conditions])

    def __str__(self) -> str:
        return " or ".join(str(part) for part in self.conditions)


def _seconds(duration: float | str) -> float:
    return units.parse_quantity(duration, "s") if isinstance(duration, str) else float(duration)


def _per(dimension: Dimension, per: Per) -> Dimension | None:
    """Dimension of a bound of `dimension` per something of the cell; None when not allowed."""
    if per is Per.CAPACITY:
        return units.C_RATE if dimension == units.CURRENT else None
    if dimension not in (units.CURRENT, units.CHARGE):
        return dimension if per is Per.NOTHING else None
    if per is Per.AREA:
        return dimension.times(units.AREA, -1)
    return dimension.times(units.MASS, -1) if per is Per.MASS else dimension


def _comparison(operand: Operand, operator: Operator, bound: float | str) -> Comparison:
    if not isinstance(bound, str):
        return Comparison(operand, operator, float(bound))
    value, per = resolve_bound(operand, bound)
    return Comparison(operand, operator, value, per)


def resolve_bound(operand: Operand, text: str) -> tuple[float, Per]:
    """Value (SI) of a written bound and what it is per. Raises BadInputError."""
    dimension = operand.dimension
    if dimension is None:
        try:
            value = float(text) if len(text) < 30 else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or "_" in text:
            raise BadInputError(f'{operand} is a count; write a plain number, not "{text}"')
        return value, Per.NOTHING
    if operand.symbols:
        from operando.instruments.histories import read_dose

        return read_dose(operand, dimension, text), Per.NOTHING
    try:
        measured = units.parse_measured(text)
    except BadInputError as error:
        raise BadInputError(f"{error}; {operand} takes {units.expected(dimension)}") from None
    for per in Per:
        if per is not Per.NOTHING and _per(dimension, per) == measured.dimension:
            return measured.value, per
    try:
        units.check_dimension(measured, dimension, text, difference=operand.difference)
    except BadInputError as error:
        raise BadInputError(f"{operand}: {error}") from None
    return measured.value, Per.NOTHING


def unknown_quantity(name: str) -> str:
    """Message for a name that is no live quantity, with the nearest one."""
    near = difflib.get_close_matches(name.lower(), QUANTITIES, n=1)
    meant = ALIASES.get(name.lower()) or (near[0] if near else "")
    if meant:
        return f'"{name}" is not a live quantity; did you mean "{meant}"?'
    return f'"{name}" is not a live quantity; there are {", ".join(QUANTITIES)}'


def voltage_bound(conditions: Iterable[Condition], direction: float) -> float | None:
    """The voltage (V) at which any of `conditions` ends a step that drives a current.

    direction: sign of the current. Positive charges: the lowest of the upper bounds (`>=`, `>`);
    negative: the highest of the lower bounds. Only plain comparisons of `voltage` that end the
    step by themselves count: one inside an `and` or a `for` does not. None when there is none.
    """
    upper = direction > 0.0
    wanted = (Operator.AT_LEAST, Operator.ABOVE) if upper else (Operator.AT_MOST, Operator.BELOW)
    found: list[float] = []
    for condition in conditions:
        for part in condition.conditions if isinstance(condition, AnyOf) else (condition,):
            if (
                isinstance(part, Comparison)
                and part.operand == Live("voltage")
                and part.operator in wanted
            ):
                found.append(part.bound)
    if not found:
        return None
    return min(found) if upper else max(found)


def parse(text: str) -> Condition:
    """Parse a condition. Raises BadInputError with the column and a caret under it."""
    from operando.instruments.condition_text import Parser

    return Parser(text).condition()


VOLTAGE = Live("voltage")
CURRENT = Live("current")
CHARGE = Live("charge")
STEP_CHARGE = Live("step_charge")
POWER = Live("power")
ENERGY = Live("energy")
ELAPSED = Live("elapsed")
TIME = Live("time")
CYCLE = Live("cycle")
PRESSURE = Live("pressure")
FORCE = Live("force")
TEMPERATURE = Live("temperature")
O2 = Live("o2")
H2O = Live("h2o")
DEW_POINT = Live("dew_point")
