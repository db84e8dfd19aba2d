"""Operands that remember: how far a magnitude has fallen, and the dose of a quantity.

    fall of abs(voltage) after 60 s > 5 %
    dose of h2o above 1 ppm > 5 ppm h

In Python `VOLTAGE.fall("60 s") > 0.05` and `H2O.dose("1 ppm") > "5 ppm h"`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from operando.instruments import units
from operando.instruments.conditions import _COUNTED, Live, Operand
from operando.instruments.errors import BadInputError
from operando.instruments.evaluators import Compiler, compile_dose, compile_fall
from operando.instruments.units import Dimension

_KEPT_ALREADY = {"current": "charge", "power": "energy"}
"""Quantities whose integral is a live quantity itself."""


def _measured(name: str, what: str) -> None:
    Live(name)
    if name in _COUNTED:
        raise BadInputError(f"{name} is counted, not measured: its {what} means nothing")


@dataclass(frozen=True, slots=True)
class Fall(Operand):
    """Share by which a quantity's magnitude lies below its highest since the step began.

    name: of the quantity. after: s for which nothing is looked at, because what is switched on
    settles first. A fraction, 0 at the highest magnitude; undefined (NaN) before `after`, at an
    invalid reading and while the highest is 0. It begins anew after a pause.
    """

    name: str
    after: float = 0.0

    def __post_init__(self) -> None:
        _measured(self.name, "fall")
        if not 0.0 <= self.after <= units.LARGEST:
            raise BadInputError(f"`after` needs a time that is not negative, not {self.after}")

    @property
    def dimension(self) -> Dimension:
        return units.NUMBER

    @property
    def quantity(self) -> str:
        return self.name

    def _compile(self, compiler: Compiler) -> Callable[..., float]:
        return compile_fall(compiler, self.name, self.after)

    def __str__(self) -> str:
        after = f" after {units.exact_text(self.after, units.TIME)}" if self.after else ""
        return f"fall of abs({self.name}){after}"


@dataclass(frozen=True, slots=True)
class Dose(Operand):
    """Time integral of a quantity since the step, for a limit the run, began.

    name: of the quantity. above: only what exceeds this counts, SI; None integrates all of it.
    SI unit of the quantity times s. Readings are joined by straight lines, over a stretch without
    valid readings too: it is never counted as zero. While the latest reading is invalid the dose
    is undefined (NaN). A pause does not interrupt it.
    """

    name: str
    above: float | None = None

    def __post_init__(self) -> None:
        _measured(self.name, "dose")
        if self.name in _KEPT_ALREADY:
            raise BadInputError(
                f"the time integral of {self.name} is a live quantity: write "
                f"{_KEPT_ALREADY[self.name]}"
            )
        if self.above is not None and not abs(self.above) <= units.LARGEST:
            raise BadInputError(f"{self.name} cannot be compared with {self.above}")

    @property
    def dimension(self) -> Dimension:
        return _dimension(self.name).times(units.TIME)

    @property
    def quantity(self) -> str:
        return self.name

    @property
    def symbols(self) -> tuple[str, ...]:
        own = (unit for unit in units.units_of(_dimension(self.name)) if unit != "degC")
        return tuple(f"{unit} {time}" for unit in own for time in ("h", "min", "s"))

    def _compile(self, compiler: Compiler) -> Callable[..., float]:
        return compile_dose(self.name, self.above)

    def __str__(self) -> str:
        if self.above is None:
            return f"dose of {self.name}"
        return f"dose of {self.name} above {units.exact_text(self.above, _dimension(self.name))}"


def _dimension(name: str) -> Dimension:
    dimension = Live(name).dimension
    assert dimension is not None  # counts are refused
    return dimension


def read_dose(operand: Operand, dimension: Dimension, text: str) -> float:
    """Value (SI) of a written dose, which is of a dimension. Raises BadInputError."""
    remedy = f'{operand} takes a value in {operand.symbols[0]}, such as "5 {operand.symbols[0]}"'
    try:
        measured = units.parse_measured(text)
    except BadInputError as error:
        raise BadInputError(f"{error}; {remedy}") from None
    # A fraction times a time has the dimension of a time: its unit tells them apart.
    fraction = any(symbol in text for symbol in units.units_of(units.NUMBER))
    if measured.dimension != dimension or (dimension == units.TIME and not fraction):
        raise BadInputError(f'"{text}" is {units.name(measured.dimension)}; {remedy}')
    return measured.value
