"""Values and conditions as people read them: "156.9 µA", "−1.569 mA", "after 10 min".

For screens and printed sheets. What is stored, sent or parsed again is written by `str` and
`units.exact_text`.
"""

from __future__ import annotations

import re

from operando.instruments import units
from operando.instruments.conditions import (
    ELAPSED,
    All,
    AnyOf,
    Comparison,
    Condition,
    Held,
    Live,
    Magnitude,
    Operand,
    Operator,
    parse,
)
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import QUANTITIES
from operando.instruments.units import Dimension, exact_text, format_quantity

_DIGITS = 4
"""Significant digits of a bound that has more of them."""

_NUMBER = re.compile(r"-?[0-9.]+(?:e[+-]?[0-9]+)?")
_SIGNS = {
    Operator.AT_LEAST: "≥",
    Operator.AT_MOST: "≤",
    Operator.ABOVE: ">",
    Operator.BELOW: "<",
}


def tidy(text: str) -> str:
    """A quantity with µ, °C and a true minus sign instead of u, degC and a hyphen."""
    text = re.sub(r"(?<=\d )u(?=[A-Za-z])", "µ", text)
    text = re.sub(r"(?<![\w.])-(?=\d)", "−", text)
    return text.replace("degC", "°C")


def quantity_words(value: float, unit: str, *, digits: int = 4) -> str:
    """An SI value in a unit of handy size: "1.569 mA", "4.25 V". unit: as in `QUANTITIES`."""
    if unit == "V":  # set-points are round numbers
        return bound_words(value, unit)
    return tidy(format_quantity(value, unit, digits=digits))


def bound_words(value: float, unit: str) -> str:
    """A bound, which somebody wrote or rounded: "4.3 V", "3.77 mA", never "3.770 mA"."""
    return tidy(_bound(value, units.parse_unit(unit).dimension, difference=False))


def condition_words(condition: Condition) -> str:
    """A condition: "|current| ≤ 156.9 µA or after 10 min". A longer bound is rounded."""
    if isinstance(condition, Comparison):
        return _comparison(condition)
    if isinstance(condition, Held):
        return (
            f"{_part(condition.condition)} for {tidy(exact_text(condition.duration, units.TIME))}"
        )
    if isinstance(condition, All):
        return " and ".join(map(_part, condition.conditions))
    if isinstance(condition, AnyOf):
        return " or ".join(map(condition_words, condition.conditions))
    return str(condition)


def condition_text_words(text: str) -> str:
    """The same for the text of a condition; one that cannot be read stays as it is."""
    try:
        return condition_words(parse(text))
    except BadInputError:
        return text


def _part(condition: Condition) -> str:
    words = condition_words(condition)
    return words if isinstance(condition, Comparison) else f"({words})"


def _comparison(condition: Comparison) -> str:
    dimension = condition._bound_dimension()
    bound = f"{condition.bound:g}" if dimension is None else tidy(_bound_of(condition, dimension))
    rising = condition.operator in (Operator.AT_LEAST, Operator.ABOVE)
    if condition.operand == ELAPSED and rising:
        return f"after {bound}"
    return f"{_operand(condition.operand)} {_SIGNS[condition.operator]} {bound}"


def _operand(operand: Operand) -> str:
    if isinstance(operand, Magnitude):
        return f"|{_operand(operand.operand)}|"
    if not isinstance(operand, Live):
        return str(operand)
    return QUANTITIES[operand.quantity].name.replace("_", " ")


def _bound_of(condition: Comparison, dimension: Dimension) -> str:
    operand = condition.operand
    if operand.symbols:
        return exact_text(condition.bound, dimension, difference=True, symbols=operand.symbols)
    return _bound(condition.bound, dimension, difference=operand.difference)


def _bound(value: float, dimension: Dimension, *, difference: bool) -> str:
    if dimension == units.TIME:
        return format_quantity(value, "s")
    text = exact_text(value, dimension, difference=difference)
    found = _NUMBER.match(text)
    # A voltage may be told from another by a tenth of a millivolt.
    most = _DIGITS + 1 if dimension == units.VOLTAGE else _DIGITS
    if found is None or len(found[0].lstrip("-").replace(".", "").strip("0")) <= most:
        return text
    return exact_text(float(f"{value:.{most}g}"), dimension, difference=difference)
