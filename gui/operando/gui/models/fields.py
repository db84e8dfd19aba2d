"""Fields of a form: from the JSON schema of a protocol's parameters, and those of every run."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from operando.instruments.errors import BadInputError
from operando.instruments.units import C_RATE, exact_text, parse_unit

Value = str | bool | tuple[str, str]
"""What stands in a field: a text as typed, a tick, or the two texts of a window."""

_UNITS: Mapping[str, str] = {
    "s": "s, min, h",
    "V": "V, mV",
    "A": "A, mA, µA",
    "As": "mAh, As",
    "Pa": "MPa, kPa, bar",
    "N": "N, kN",
    "K": "degC, K",
    "m": "mm, µm",
    "m2": "cm2, mm2",
    "kg": "g, mg",
    "ohm": "ohm, mohm",
    "W": "W, mW",
    "J": "Wh, mWh",
    "Hz": "Hz, kHz",
    "1": "%, ppm",
    "A/m2": "mA/cm2",
    "A/kg": "mA/g",
    "As/m2": "mAh/cm2",
    "As/kg": "mAh/g",
    "V/s": "mV/s, mV/min",
    "A/s": "mA/min",
    "Pa/s": "MPa/h",
    "K/s": "K/min",
}
"""Units that people write, by SI unit."""

_WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*")
_ABBREVIATIONS = frozenset({"cv", "cc", "ocv", "eis", "soc", "ccd", "gitt"})


class Kind(enum.Enum):
    """What a field takes."""

    QUANTITY = "quantity"
    """A number with a unit, as text."""
    WINDOW = "window"
    """Two quantities, the lower one first."""
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"
    PROSE = "prose"
    """Text of several lines."""
    CHOICE = "choice"
    LIST = "list"
    """Several values, separated by commas."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the form.

    key: as in `Problem.where`. name: its last part or, of a parameter, the parameter's name.
    unit: SI unit of a quantity, quantity: what it is in words ("a C-rate"), example: how to write
    it. meaning: a sentence. choices: texts to choose from, options: their values. required: has no
    default. optional: may be left empty. empty: what an empty field means, for a placeholder.
    items: kind of the values of a list.
    """

    key: str
    title: str
    kind: Kind
    default: Value
    unit: str = ""
    quantity: str = ""
    meaning: str = ""
    example: str = ""
    choices: tuple[str, ...] = ()
    options: tuple[object, ...] = ()
    required: bool = False
    optional: bool = False
    empty: str = ""
    items: Kind = Kind.TEXT

    @property
    def name(self) -> str:
        """Name of the widget: "charge_rate", "poll-interval", "record-every"."""
        if self.key.startswith("parameters."):
            return self.key.removeprefix("parameters.")
        return self.key.replace(".", "-").replace("_", "-")

    @property
    def unit_hint(self) -> str:
        """Units in which people write it: "s, min, h"."""
        if self.quantity == "a C-rate":
            return "C/10, 2C"
        return _UNITS.get(self.unit, self.unit)

    def left_out(self, value: Value) -> bool:
        """Whether a setting is not part of the request: empty, or a tick as it is by default."""
        if isinstance(value, bool):
            return value == self.default
        return not "".join(value).strip()

    def to_request(self, value: Value) -> object:
        """The value as the station takes it: texts as typed, numbers and ticks as such."""
        if isinstance(value, bool):
            return value
        if isinstance(value, tuple):
            return list(value)
        if self.optional and not value.strip():
            return None
        if self.kind is Kind.CHOICE:
            return dict(zip(self.choices, self.options, strict=True)).get(value, value)
        if self.kind is Kind.LIST:
            parts = [part.strip() for part in value.split(",")]
            return [_typed(self.items, part) for part in parts if part]
        return _typed(self.kind, value)

    def from_recipe(self, written: object, *, units: bool = False) -> Value:
        """The text for a value of a recipe. units: write the SI unit after a bare number.

        Raises ValueError in words when it does not fit the field.
        """
        if self.kind is Kind.BOOLEAN:
            if not isinstance(written, bool):
                raise ValueError(f"must be true or false, found {written!r}")
            return written
        if self.kind is Kind.WINDOW:
            two = written.split(",") if isinstance(written, str) else written
            if not isinstance(two, list | tuple) or len(two) != 2:
                raise ValueError(f'write two voltages, ["2.5 V", "4.25 V"], not {written!r}')
            return _plain(two[0], self, units), _plain(two[1], self, units)
        if self.kind is Kind.CHOICE:
            for text, option in zip(self.choices, self.options, strict=True):
                if option == written:
                    return text
            raise ValueError(f"{written!r} is not among {', '.join(self.choices)}")
        if self.kind is Kind.LIST and isinstance(written, list | tuple):
            return ", ".join(_plain(part, self, units) for part in written)
        return _plain(written, self, units)


def _typed(kind: Kind, text: str) -> object:
    if kind is Kind.INTEGER and _WHOLE.fullmatch(text):
        return int(text)
    if kind is Kind.NUMBER:
        try:
            number = float(text)
        except ValueError:
            return text
        return number if math.isfinite(number) else text
    return text


def _plain(written: object, one: Field, units: bool) -> str:
    if isinstance(written, str):
        return written.strip() if one.kind is Kind.WINDOW else written
    if isinstance(written, bool) or not isinstance(written, int | float):
        raise ValueError(f"{written!r} does not fit here; write it as in {one.example!r}")
    text = f"{written:.15g}" if isinstance(written, float) else str(written)
    return f"{text} {one.unit}" if units and one.unit else text


def fields_of(schema: Mapping[str, object]) -> tuple[Field, ...]:
    """The fields of a JSON schema in its order; what it does not say is a text."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return ()
    required = schema.get("required")
    names = set(required) if isinstance(required, list | tuple) else set()
    definitions = schema.get("$defs")
    known = definitions if isinstance(definitions, Mapping) else {}
    return tuple(_field(name, entry, name in names, known) for name, entry in properties.items())


def _field(
    name: str, entry: Mapping[str, object], required: bool, known: Mapping[str, object]
) -> Field:
    kind_of, optional = _resolved(entry, known)
    kind, items = _kind(kind_of, known)
    inner = kind_of
    if kind is Kind.WINDOW:
        prefix = kind_of["prefixItems"]
        assert isinstance(prefix, list | tuple)
        inner = prefix[0]
    elif kind is Kind.LIST:
        of_items = kind_of.get("items")
        inner, _ = _resolved(of_items, known) if isinstance(of_items, Mapping) else (entry, False)
    examples = entry.get("examples") or inner.get("examples")
    unit, quantity = _text(inner.get("unit")), _text(inner.get("quantity"))
    options = kind_of.get("enum")
    values = tuple(options) if isinstance(options, list | tuple) else ()
    meaning = _text(entry.get("description"))
    return Field(
        key=f"parameters.{name}",
        title=_title(_text(entry.get("title")) or name.replace("_", " ")),
        kind=kind,
        default=_default(entry.get("default"), kind, unit, quantity),
        unit=unit,
        quantity=quantity,
        meaning=meaning[:1].upper() + meaning[1:],
        example=str(examples[0]) if isinstance(examples, list | tuple) and examples else "",
        choices=tuple(map(str, values)),
        options=values,
        required=required,
        optional=optional,
        empty="none" if optional else "",
        items=items,
    )


def _resolved(
    entry: Mapping[str, object], known: Mapping[str, object]
) -> tuple[Mapping[str, object], bool]:
    """What a reference or "this or nothing" stands for, and whether it may be nothing."""
    reference = _text(entry.get("$ref"))
    target = known.get(reference.removeprefix("#/$defs/")) if reference else None
    if isinstance(target, Mapping):
        return _resolved({**target, **{k: v for k, v in entry.items() if k != "$ref"}}, known)
    either = entry.get("anyOf")
    if isinstance(either, list | tuple) and "quantity" not in entry:
        real = [one for one in either if isinstance(one, Mapping) and one.get("type") != "null"]
        if len(real) == 1:
            inner, _ = _resolved(real[0], known)
            return inner, len(real) < len(either)
    return entry, False


def _kind(entry: Mapping[str, object], known: Mapping[str, object]) -> tuple[Kind, Kind]:
    if "quantity" in entry:
        return Kind.QUANTITY, Kind.TEXT
    if "enum" in entry:
        return Kind.CHOICE, Kind.TEXT
    simple = {
        "boolean": Kind.BOOLEAN,
        "integer": Kind.INTEGER,
        "number": Kind.NUMBER,
        "string": Kind.TEXT,
    }
    type_ = _text(entry.get("type"))
    if type_ in simple:
        return simple[type_], Kind.TEXT
    if type_ == "array":
        two = entry.get("prefixItems")
        if isinstance(two, list | tuple) and len(two) == 2 and all("quantity" in x for x in two):
            return Kind.WINDOW, Kind.QUANTITY
        items = entry.get("items")
        if isinstance(items, Mapping):
            inner, _ = _resolved(items, known)
            return Kind.LIST, _kind(inner, known)[0]
        return Kind.LIST, Kind.TEXT
    return Kind.TEXT, Kind.TEXT


def _default(default: object, kind: Kind, unit: str, quantity: str) -> Value:
    if kind is Kind.BOOLEAN:
        return default is True
    if kind is Kind.WINDOW:
        if isinstance(default, list | tuple) and len(default) == 2:
            first, second = (_written(part, unit, quantity) for part in default)
            return first, second
        return "", ""
    if isinstance(default, list | tuple):
        return ", ".join(_written(part, unit, quantity) for part in default)
    return _written(default, unit, quantity)


def _written(value: object, unit: str, quantity: str) -> str:
    """A default for people; an SI number of a quantity gets a unit that reads back exactly."""
    if value is None:
        return ""
    if not quantity or isinstance(value, str) or not isinstance(value, int | float):
        return str(value)
    dimension = C_RATE if quantity == "a C-rate" else parse_unit(unit).dimension
    try:
        return exact_text(value, dimension, difference="difference" in quantity)
    except BadInputError:
        return str(value)


def _title(text: str) -> str:
    words = [word.upper() if word in _ABBREVIATIONS else word for word in text.split()]
    joined = " ".join(words)
    return joined[:1].upper() + joined[1:]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


SETTINGS: tuple[Field, ...] = (
    Field(
        "poll.interval", "Read every", Kind.QUANTITY, "1 s", "s", "a time",
        "Time between two readings of an instrument. Limits see every reading.", "1 s",
        empty="1 s",
    ),
    Field(
        "record.every", "Record every", Kind.QUANTITY, "10 s", "s", "a time",
        "Longest time between two recorded rows. Step ends and trips are always recorded.",
        "10 s", empty="every reading",
    ),
    Field(
        "record.on_change.voltage", "Voltage change", Kind.QUANTITY, "5 mV", "V",
        "a voltage", "Change of voltage since the last recorded row that is recorded at once.",
        "5 mV", empty="not used",
    ),
    Field(
        "record.on_change.pressure", "Pressure change", Kind.QUANTITY, "", "Pa",
        "a pressure",
        "Change of stack pressure since the last recorded row that is recorded at once.",
        "20 kPa", empty="not used",
    ),
    Field(
        "preflight.open_circuit", "Accepted at rest", Kind.WINDOW, ("", ""), "V", "a voltage",
        "Voltages between which the cell must be found before the first step. Empty: the "
        "protocol's own window, widened.", "2.3 V", empty="auto",
    ),
    Field(
        "preflight.override.open_circuit", "Start at any voltage, because", Kind.TEXT, "",
        meaning="The reason for which a cell with another voltage at rest is driven all the same. "
        "It is recorded. Empty: the run is refused.",
    ),
    Field("title", "Title", Kind.TEXT, "", meaning="What the run is called."),
    Field("notes", "Notes", Kind.PROSE, "", meaning="Kept in the record."),
)  # fmt: skip
"""Fields of every run. Reading is not recording: each reading feeds the limits."""
