"""Units as people write them: a small exact table, a parser, and text for people.

Arithmetic is done with fractions and rounded once, so that "5 ppm" is the float 5e-6 and text
made by `exact_text` reads back as the same float.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from operando.instruments.errors import BadInputError

MAXIMUM_LENGTH = 80
"""Longest text of a quantity that is looked at, characters."""

LARGEST = 1e30
"""Largest magnitude of a quantity, SI: nothing in a laboratory comes near."""


class Dimension(NamedTuple):
    """Exponents of the base units m, kg, s, A, K and of the C-rate.

    The C-rate is a base of its own, although its value is in 1/s, so that "10 Hz" is no rate.
    """

    length: int = 0
    mass: int = 0
    time: int = 0
    current: int = 0
    temperature: int = 0
    c_rate: int = 0

    def times(self, other: Dimension, power: int = 1) -> Dimension:
        """The dimension of a product with `other` raised to `power`."""
        return Dimension(*(a + power * b for a, b in zip(self, other, strict=True)))


class Unit(NamedTuple):
    """A unit: value in SI = number * factor + offset."""

    factor: Fraction
    dimension: Dimension
    offset: Fraction = Fraction(0)


class Measured(NamedTuple):
    """A parsed quantity. value: SI units of `dimension`.

    scale: False when it was written in a unit with a zero of its own (degC), which makes it no
    difference.
    """

    value: float
    dimension: Dimension
    scale: bool


NUMBER = Dimension()
TIME = Dimension(time=1)
CURRENT = Dimension(current=1)
CHARGE = Dimension(time=1, current=1)
VOLTAGE = Dimension(2, 1, -3, -1)
POWER = Dimension(2, 1, -3)
ENERGY = Dimension(2, 1, -2)
FORCE = Dimension(1, 1, -2)
PRESSURE = Dimension(-1, 1, -2)
RESISTANCE = Dimension(2, 1, -3, -2)
CONDUCTANCE = Dimension(-2, -1, 3, 2)
TEMPERATURE = Dimension(temperature=1)
LENGTH = Dimension(1)
AREA = Dimension(2)
MASS = Dimension(0, 1)
FREQUENCY = Dimension(time=-1)
C_RATE = Dimension(c_rate=1)


class _Words(NamedTuple):
    name: str
    units: tuple[str, ...]
    """Units that people write; also what `exact_text` chooses from, the first at a tie."""
    example: str


_WORDS: dict[Dimension, _Words] = {
    NUMBER: _Words("a fraction", ("ppm", "%", "ppb"), "5 ppm"),
    TIME: _Words("a time", ("s", "min", "h", "d", "ms", "us"), "10 min"),
    CURRENT: _Words("a current", ("A", "mA", "uA", "nA", "pA"), "1.57 mA"),
    CHARGE: _Words("a charge", ("As", "mAh", "Ah", "uAh"), "3.14 mAh"),
    VOLTAGE: _Words("a voltage", ("V", "mV", "uV", "kV"), "4.25 V"),
    POWER: _Words("a power", ("W", "mW", "uW", "kW"), "6 mW"),
    ENERGY: _Words("an energy", ("J", "mWh", "Wh", "kWh", "mJ", "kJ"), "12 mWh"),
    FORCE: _Words("a force", ("N", "kN", "mN"), "1.2 kN"),
    PRESSURE: _Words("a pressure", ("Pa", "kPa", "MPa", "GPa", "mbar", "bar"), "5 MPa"),
    RESISTANCE: _Words("a resistance", ("ohm", "mohm", "kohm", "Mohm"), "35 ohm"),
    CONDUCTANCE: _Words("a conductance", ("S", "mS", "uS"), "5 mS"),
    TEMPERATURE: _Words("a temperature", ("K", "degC"), "60 degC"),
    LENGTH: _Words("a length", ("m", "mm", "um", "nm", "cm"), "100 um"),
    AREA: _Words("an area", ("m2", "cm2", "mm2"), "1.131 cm2"),
    MASS: _Words("a mass", ("kg", "g", "mg", "ug"), "16.96 mg"),
    FREQUENCY: _Words("a frequency", ("Hz", "kHz", "MHz", "mHz"), "10 Hz"),
    C_RATE: _Words("a C-rate", ("C",), "C/10"),
    VOLTAGE.times(TIME, -1): _Words(
        "a voltage per time", ("V/s", "mV/s", "mV/min", "mV/h", "uV/s"), "0.1 mV/min"
    ),
    CURRENT.times(TIME, -1): _Words(
        "a current per time", ("A/s", "mA/s", "mA/min", "mA/h", "uA/s", "uA/min"), "1 mA/min"
    ),
    PRESSURE.times(TIME, -1): _Words(
        "a pressure per time", ("Pa/s", "kPa/s", "MPa/s", "MPa/min", "MPa/h"), "1 MPa/h"
    ),
    TEMPERATURE.times(TIME, -1): _Words(
        "a temperature per time", ("K/s", "K/min", "K/h"), "1 K/min"
    ),
    FORCE.times(TIME, -1): _Words("a force per time", ("N/s", "N/min", "kN/min"), "10 N/min"),
    POWER.times(TIME, -1): _Words("a power per time", ("W/s", "mW/s", "mW/min"), "1 mW/min"),
    CURRENT.times(AREA, -1): _Words(
        "a current density", ("mA/cm2", "uA/cm2", "A/m2"), "0.5 mA/cm2"
    ),
    CURRENT.times(MASS, -1): _Words("a specific current", ("mA/g", "A/kg"), "185 mA/g"),
    CHARGE.times(AREA, -1): _Words("an areal capacity", ("mAh/cm2", "As/m2"), "1 mAh/cm2"),
    CHARGE.times(MASS, -1): _Words("a specific capacity", ("mAh/g", "As/kg"), "200 mAh/g"),
    RESISTANCE.times(AREA): _Words(
        "an area-specific resistance", ("ohm*cm2", "ohm*m2"), "35 ohm*cm2"
    ),
    CONDUCTANCE.times(LENGTH, -1): _Words("a conductivity", ("S/m", "mS/cm", "S/cm"), "5 mS/cm"),
    AREA.times(TIME, -1): _Words("a diffusion coefficient", ("m2/s", "cm2/s"), "1e-8 cm2/s"),
}

_POWERS = {"G": 9, "M": 6, "k": 3, "h": 2, "": 0, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12}


def _table() -> dict[str, Unit]:
    hour = Fraction(3600)
    gram = Fraction(1, 1000)
    rows: list[tuple[str, str, Fraction, Dimension]] = [
        ("s", "m u", Fraction(1), TIME),
        ("min", "", Fraction(60), TIME),
        ("h", "", hour, TIME),
        ("d", "", 24 * hour, TIME),
        ("V", "k m u", Fraction(1), VOLTAGE),
        ("A", "m u n p", Fraction(1), CURRENT),
        ("As", "m u", Fraction(1), CHARGE),
        ("Ah", "m u", hour, CHARGE),
        ("W", "k m u", Fraction(1), POWER),
        ("J", "k m", Fraction(1), ENERGY),
        ("Wh", "k m", hour, ENERGY),
        ("Pa", "G M k h", Fraction(1), PRESSURE),
        ("bar", "m", Fraction(100_000), PRESSURE),
        ("N", "k m", Fraction(1), FORCE),
        ("ohm", "M k m", Fraction(1), RESISTANCE),
        ("S", "m u", Fraction(1), CONDUCTANCE),
        ("m", "c m u n", Fraction(1), LENGTH),
        ("g", "k m u", gram, MASS),
        ("K", "m", Fraction(1), TEMPERATURE),
        ("Hz", "M k m", Fraction(1), FREQUENCY),
        ("%", "", Fraction(1, 100), NUMBER),
        ("ppm", "", Fraction(1, 10**6), NUMBER),
        ("ppb", "", Fraction(1, 10**9), NUMBER),
        # One full nominal capacity an hour; the value is in 1/s.
        ("C", "", 1 / hour, C_RATE),
    ]
    units = {
        prefix + symbol: Unit(Fraction(10) ** _POWERS[prefix] * factor, dimension)
        for symbol, prefixes, factor, dimension in rows
        for prefix in ["", *prefixes.split()]
    }
    # The zero of the Celsius scale: BIPM, SI Brochure, 9th edition, section 2.3.1.
    units["degC"] = Unit(Fraction(1), TEMPERATURE, Fraction(27315, 100))
    return units


UNITS: dict[str, Unit] = _table()
"""Unit symbols as they are written, without powers."""

_SPELLINGS = str.maketrans(
    {"µ": "u", "μ": "u", "²": "2", "³": "3", "−": "-", "·": "*", "\N{NO-BREAK SPACE}": " "}
)
_PLAIN = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_NUMBER = re.compile(rf"[+-]?\s*{_PLAIN}")
_C_RATE = re.compile(rf"([+-])?\s*({_PLAIN})?\s*C(?:\s*/\s*({_PLAIN}))?")
_PART_OF_TIME = re.compile(rf"({_PLAIN})\s*([a-z]+)\s*")
_POWER = re.compile(r"([A-Za-z]+)\^?(-?[1-9])")
_FACTOR = re.compile(r"\s*([*/]|\s)\s*")


def normal(text: str) -> str:
    """`text` with µ, Ω, °C, superscripts and the minus sign in the spelling of `UNITS`."""
    text = text.translate(_SPELLINGS).replace("°C", "degC").replace("℃", "degC")
    return text.replace("Ω", "ohm").replace("\N{OHM SIGN}", "ohm").strip()


def parse_unit(text: str) -> Unit:
    """The unit written as `text`: "mV/min", "mA/cm2", "ohm*cm2", "1/s", "1" (a fraction).

    Raises BadInputError for an unknown one, with the nearest known.
    """
    parts = _FACTOR.split(normal(text))
    factor, dimension, offset = Fraction(1), NUMBER, Fraction(0)
    power = 1
    for index, part in enumerate(parts):
        if index % 2:
            power = -1 if part == "/" else 1
            continue
        if part == "1" and index == 0:
            continue
        unit = _single(part)
        offset = unit.offset
        if offset and len(parts) > 1:
            raise BadInputError(
                f'"{text}": degC has a zero of its own and cannot be multiplied or divided; write K'
            )
        factor *= unit.factor**power
        dimension = dimension.times(unit.dimension, power)
    return Unit(factor, dimension, offset)


def _single(symbol: str) -> Unit:
    unit = UNITS.get(symbol)
    if unit is not None:
        return unit
    power = _POWER.fullmatch(symbol)
    if power and power[1] in UNITS and not UNITS[power[1]].offset:
        base, exponent = UNITS[power[1]], int(power[2])
        return Unit(base.factor**exponent, Dimension(*(exponent * n for n in base.dimension)))
    near = difflib.get_close_matches(symbol, UNITS, n=1, cutoff=0.5)
    folded = [known for known in UNITS if known.casefold() == symbol.casefold()]
    hint = f'; did you mean "{(folded or near)[0]}"?' if folded or near else ""
    raise BadInputError(f'"{symbol}" is not a unit known here{hint}')


def parse_measured(text: str) -> Measured:
    """Parse a number with its unit, of whatever dimension. Raises BadInputError.

    Knows "4.25 V", "-60 degC", "C/10", "0.5C", "0.1 mV/min", "2 h 30 min". A refusal has no
    example: only the caller knows what was meant.
    """
    if len(text) > MAXIMUM_LENGTH:
        raise BadInputError(f'"{text[:20]}..." is too long to be a quantity')
    written = normal(text)
    rate = _C_RATE.fullmatch(written)
    if rate:
        sign, number, divisor = rate.groups()
        size = _fraction(number or "1", text)
        under = _fraction(divisor or "1", text)
        if not under:
            raise BadInputError(f'"{text}" divides by zero')
        size = (-size if sign == "-" else size) / under
        return Measured(_float(size * UNITS["C"].factor, text), C_RATE, True)
    found = _NUMBER.match(written)
    if found is None:
        raise BadInputError(f'"{text}" is not a number with a unit')
    rest = written[found.end() :].strip()
    if not rest:
        raise BadInputError(f'"{text}" has no unit')
    if rest[0] == ",":
        raise BadInputError(f'"{text}": write the decimal point as a point')
    if rest[0].isdigit() and not rest.startswith("1/"):
        raise BadInputError(f'"{text}" is not one number with a unit')
    number = _fraction(found[0].replace(" ", ""), text)
    time = _compound_time(written, text)
    if time is not None:
        return Measured(_float(time, text), TIME, True)
    try:
        unit = parse_unit(rest)
    except BadInputError as error:
        raise BadInputError(f'"{text}": {error}') from None
    if unit == Unit(Fraction(1), NUMBER):
        raise BadInputError(f'"{text}" has no unit')
    value = _float(number * unit.factor + unit.offset, text)
    return Measured(value, unit.dimension, not unit.offset)


def _compound_time(written: str, text: str) -> Fraction | None:
    """Seconds of "2 h 30 min"; None when it is not a sum of two or more times."""
    total, at, count, last = Fraction(0), 0, 0, Fraction(10**9)
    while at < len(written):
        part = _PART_OF_TIME.match(written, at)
        if part is None or part[2] not in UNITS or UNITS[part[2]].dimension != TIME:
            return None
        factor = UNITS[part[2]].factor
        if factor >= last:
            return None
        total += _fraction(part[1], text) * factor
        last, at, count = factor, part.end(), count + 1
    return total if count > 1 else None


def _fraction(number: str, text: str) -> Fraction:
    if not math.isfinite(float(number)):
        raise BadInputError(f'"{text}" is too large')
    return Fraction(Decimal(number))


def _float(value: Fraction, text: str) -> float:
    if abs(value) > LARGEST:
        raise BadInputError(f'"{text}" is too large')
    return float(value)


def parse_quantity(text: str, unit: str, *, difference: bool = False) -> float:
    """Parse `text` into the SI value of a quantity with the dimension of `unit`.

    difference: the value is a change (degC is refused). Raises BadInputError naming what was
    expected.
    """
    dimension = parse_unit(unit).dimension
    try:
        measured = parse_measured(text)
    except BadInputError as error:
        raise BadInputError(f"{error}; expected {expected(dimension)}") from None
    check_dimension(measured, dimension, text, difference=difference)
    return measured.value


def check_dimension(
    measured: Measured, dimension: Dimension, text: str, *, difference: bool = False
) -> None:
    """Refuse a quantity of another dimension. text: as it was written, for the message."""
    if measured.dimension != dimension:
        message = f'"{text}" is {name(measured.dimension)}; expected {expected(dimension)}'
        if measured.dimension == C_RATE and dimension == CHARGE:
            message += ' (C is a C-rate here; write coulombs as "As")'
        raise BadInputError(message)
    if difference and not measured.scale:
        raise BadInputError(f'"{text}" is a temperature; write a difference in K, such as "2 K"')


def name(dimension: Dimension) -> str:
    """What a dimension is called, with its article: "a voltage"."""
    words = _WORDS.get(dimension)
    return words.name if words else f"something in {_base_text(dimension)}"


def expected(dimension: Dimension) -> str:
    """What to write for a dimension: 'a pressure in Pa, kPa or MPa, such as "5 MPa"'."""
    words = _WORDS.get(dimension)
    if words is None:
        return f"something in {_base_text(dimension)}"
    if dimension == C_RATE:
        return 'a C-rate, such as "C/10" or "0.5C"'
    units = words.units[:4]
    listed = units[0] if len(units) == 1 else f"{', '.join(units[:-1])} or {units[-1]}"
    return f'{words.name} in {listed}, such as "{words.example}"'


def _base_text(dimension: Dimension) -> str:
    symbols = ("m", "kg", "s", "A", "K", "C")
    over = [f"{s}{n if n > 1 else ''}" for s, n in zip(symbols, dimension, strict=True) if n > 0]
    under = [f"{s}{-n if n < -1 else ''}" for s, n in zip(symbols, dimension, strict=True) if n < 0]
    return "/".join(["*".join(over) or "1", *under])


def units_of(dimension: Dimension) -> tuple[str, ...]:
    """Units that people write a dimension in."""
    words = _WORDS.get(dimension)
    return words.units if words else (_base_text(dimension),)


def exact_text(
    value: float,
    dimension: Dimension,
    *,
    difference: bool = False,
    symbols: tuple[str, ...] = (),
) -> str:
    """The shortest readable text that `parse_measured` reads back as exactly `value` (SI).

    difference: do not use degC. symbols: units to choose from instead of those of the dimension.
    Raises BadInputError for a value beyond `LARGEST`.
    """
    if not abs(value) <= LARGEST:
        raise BadInputError(f"{value} cannot be written as a quantity")
    candidates = symbols or units_of(dimension)
    best: tuple[int, str] | None = None
    for symbol in candidates:
        unit = parse_unit(symbol)
        if unit.offset and difference:
            continue
        number = _exact_number(value, unit)
        size = abs(float(number))
        cost = len(number.lstrip("-"))
        if size and not 0.1 <= size < 1000.0:
            cost += 3
        if symbol in ("min", "h", "d") and size < 2.0:
            cost += 2
        if symbol.endswith("/h"):
            cost += 3
        if best is None or cost < best[0]:
            text = f"{number} {symbol}" if dimension != C_RATE else _c_rate_text(value, number)
            best = (cost, text)
    assert best is not None
    return best[1]


def _exact_number(value: float, unit: Unit) -> str:
    """Shortest decimal which times the unit rounds to `value`."""
    exact = (Fraction(value) - unit.offset) / unit.factor
    for digits in range(1, 18):
        number = format(float(exact), f".{digits}g")
        if float(Fraction(Decimal(number)) * unit.factor + unit.offset) == value:
            return _plain(number)
    context = Context(prec=40)
    return str(context.divide(Decimal(exact.numerator), Decimal(exact.denominator)))


def _plain(number: str) -> str:
    """Without an exponent where that is shorter."""
    if "e" not in number:
        return number
    plain = format(Decimal(number), "f")
    return plain if len(plain) <= len(number) else number


def _c_rate_text(value: float, number: str) -> str:
    if 1e-6 < abs(float(number)) < 1.0:
        divisor = format(1.0 / abs(float(number)), ".6g")
        sign = "-" if value < 0.0 else ""
        if float(Fraction(1) / Fraction(Decimal(divisor)) / 3600) == abs(value):
            return f"{sign}C/{divisor}"
    return f"{number}C"


def format_quantity(value: float, unit: str, *, digits: int = 3) -> str:
    """A value for people, in a unit of handy size.

    value: SI. unit: SI unit as in `QUANTITIES` ("A", "Pa", "s", "As", "K", "1" for a fraction,
    "" for a count, "C" for a C-rate in 1/s). digits: significant digits.
    `format_quantity(0.00157, "A")` is "1.57 mA", `format_quantity(9000.0, "s")` "2 h 30 min".
    """
    if math.isnan(value):
        return "unknown"
    if not unit:
        return f"{value:.{max(digits, 6)}g}"
    if math.isinf(value):
        return f"{value} {unit}"
    special = _SPECIAL.get(unit)
    if special is not None:
        return special(value, digits)
    dimension = parse_unit(unit).dimension
    symbol, factor = unit, float(parse_unit(unit).factor)
    for candidate in _LADDERS.get(dimension, ()):
        size = float(parse_unit(candidate).factor)
        # The rounded number decides, so that 0.9999 mA is shown as 1.00 mA.
        if abs(float(f"{value / size:.{digits}g}")) >= 1.0:
            symbol, factor = candidate, size
            break
    else:
        if value and dimension in _LADDERS:
            symbol = _LADDERS[dimension][-1]
            factor = float(parse_unit(symbol).factor)
    return f"{_significant(value / factor, digits)} {symbol}"


def _significant(number: float, digits: int) -> str:
    if number == 0.0:
        return "0"
    text = f"{number:.{digits}g}"
    if "e" in text:
        whole = float(text)
        return f"{whole:.0f}" if abs(whole) < 1e6 and abs(whole) >= 1.0 else text
    decimals = digits - 1 - math.floor(math.log10(abs(float(text))))
    return f"{float(text):.{max(decimals, 0)}f}"


_LADDERS: dict[Dimension, tuple[str, ...]] = {
    CURRENT: ("A", "mA", "uA", "nA", "pA"),
    VOLTAGE: ("V", "mV", "uV"),
    CHARGE: ("Ah", "mAh", "uAh"),
    POWER: ("kW", "W", "mW", "uW"),
    ENERGY: ("kWh", "Wh", "mWh", "mJ"),
    FORCE: ("kN", "N", "mN"),
    PRESSURE: ("GPa", "MPa", "kPa", "Pa"),
    RESISTANCE: ("Mohm", "kohm", "ohm", "mohm"),
    LENGTH: ("m", "mm", "um", "nm"),
    AREA: ("m2", "cm2", "mm2"),
    MASS: ("kg", "g", "mg", "ug"),
    FREQUENCY: ("MHz", "kHz", "Hz", "mHz"),
    VOLTAGE.times(TIME, -1): ("V/s", "mV/s", "mV/min", "mV/h"),
    PRESSURE.times(TIME, -1): ("MPa/s", "kPa/s", "Pa/s"),
    TEMPERATURE.times(TIME, -1): ("K/s", "K/min", "K/h"),
    CURRENT.times(AREA, -1): ("mA/cm2", "uA/cm2"),
    CURRENT.times(MASS, -1): ("mA/g",),
    CHARGE.times(AREA, -1): ("mAh/cm2",),
    CHARGE.times(MASS, -1): ("mAh/g",),
    RESISTANCE.times(AREA): ("ohm*cm2",),
}


def _time_text(value: float, digits: int) -> str:
    sign, size = ("-" if value < 0.0 else ""), abs(value)
    if size and size < 1.0:
        step = 1e-3 if size >= 0.9995e-3 else 1e-6
        return f"{sign}{_trim(size / step, digits)} {'ms' if step == 1e-3 else 'us'}"
    size = round(size, 3) if size < 60.0 else round(size, 1) if size < 3600.0 else round(size)
    if size < 60.0:
        return f"{sign}{_trim(size, max(digits, 3))} s"
    parts: list[str] = []
    for symbol, length in (("d", 86400), ("h", 3600), ("min", 60)):
        count = int(size // length)
        size -= count * length
        if count:
            parts.append(f"{count} {symbol}")
    if round(size, 1):
        parts.append(f"{round(size, 1):g} s")
    return sign + " ".join(parts)


def _trim(number: float, digits: int) -> str:
    return f"{number:.{digits}g}"


def _temperature_text(value: float, digits: int) -> str:
    return f"{value - 273.15:.{max(digits - 2, 0)}f} degC"


def _fraction_text(value: float, digits: int) -> str:
    size = abs(value)
    if size >= 0.9995e-2 or not size:
        return f"{_significant(100.0 * value, digits)} %"
    if size >= 0.9995e-6:
        return f"{_significant(1e6 * value, digits)} ppm"
    return f"{_significant(1e9 * value, digits)} ppb"


def _rate_text(value: float, digits: int) -> str:
    rate = 3600.0 * value
    if rate and abs(rate) < 1.0:
        return f"{'-' if rate < 0.0 else ''}C/{1.0 / abs(rate):.{digits}g}"
    return f"{rate:.{digits}g}C"


_SPECIAL: dict[str, Callable[[float, int], str]] = {
    "s": _time_text,
    "K": _temperature_text,
    "1": _fraction_text,
    "C": _rate_text,
}
