"""Recipes: a TOML file that names a protocol, its parameters, limits and what is recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from operando.instruments.errors import BadInputError
from operando.instruments.limits import Limit, parse_limits
from operando.instruments.parameters import parameters_from, unknown_key
from operando.instruments.quantities import QUANTITIES, Quantity
from operando.instruments.toml_text import Section, TomlDocument

_EVERY = Quantity("s", "a time", "10 s", lowest=0.0)
_VOLTAGE = Quantity("V", "a voltage", "2.3 V")
_INTERVAL = Quantity("s", "a time", "1 s", lowest=0.0, above=True)


@dataclass(frozen=True, slots=True)
class RecordConditions:
    """Which polls are recorded. Step ends and trips always are.

    every: longest time between two recorded rows, s; 0.0 records every poll. on_change: quantity
    to the change (SI, positive) since the last recorded row that is recorded at once.
    """

    every: float = 0.0
    on_change: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Poll:
    """How often instruments are asked. interval: s between two polls.

    instruments: interval in s of instruments by their names on the bench, where it differs.
    """

    interval: float = 1.0
    instruments: Mapping[str, float] = field(default_factory=dict)

    def of(self, instrument: str) -> float:
        """Interval of one instrument, s."""
        return self.instruments.get(instrument, self.interval)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to run. path: the file it came from. protocol: entry point of its protocol.

    open_circuit: voltages (V) between which the cell must be found before the first step; None
    leaves them to the protocol's window. check_open_circuit: whether that is looked at.
    parameters: as written; `arguments` validates them. source: text of the file, for the manifest.
    lines: line of each key in it.
    """

    path: Path
    protocol: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    record: RecordConditions = field(default_factory=RecordConditions)
    poll: Poll = field(default_factory=Poll)
    open_circuit: tuple[float, float] | None = None
    check_open_circuit: bool = True
    title: str = ""
    notes: str = ""
    source: str = ""
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """Place of a parameter: "cccv.toml line 4: [parameters] rate"."""
        line = self.lines.get(("parameters", key)) or self.lines.get(("parameters",))
        place = f"{self.path.name} line {line}" if line else self.path.name
        return f"{place}: [parameters] {key}"

    def arguments(self, protocol: Callable[..., object] | inspect.Signature) -> dict[str, Any]:
        """Parameters validated against a protocol's signature; defaults filled in.

        Raises BadInputError naming the lines.
        """
        return parameters_from(protocol, self.parameters, self.where)


def load_recipe(path: Path | str) -> Recipe:
    """Read and check a recipe file. Raises BadInputError."""
    return _recipe(TomlDocument.read(Path(path).absolute()))


def parse_recipe(source: str, path: Path) -> Recipe:
    """Check the text of a recipe. path: what messages call it. Raises BadInputError."""
    return _recipe(TomlDocument(source, path))


def _recipe(document: TomlDocument) -> Recipe:
    root = Section(
        document,
        (),
        ("protocol", "title", "notes", "parameters", "limits", "record", "poll", "preflight"),
    )
    if not root.text("protocol"):
        raise root.missing("protocol", 'protocol = "cccv"')
    limits = parse_limits(
        root.mapping("limits"), lambda key: document.label("limits", *key.split(".", 1))
    )
    open_circuit, check = _preflight(document)
    return Recipe(
        path=document.path,
        protocol=root.text("protocol"),
        parameters=root.mapping("parameters"),
        limits=limits,
        record=_record(document),
        poll=_poll(document),
        open_circuit=open_circuit,
        check_open_circuit=check,
        title=root.text("title"),
        notes=root.text("notes"),
        source=document.source,
        lines=document.lines,
    )


def _record(document: TomlDocument) -> RecordConditions:
    table = Section(document, ("record",), ("every", "on_change"))
    changes: dict[str, float] = {}
    for name, written in table.mapping("on_change").items():
        key = ("record", "on_change", name)
        quantity = QUANTITIES.get(name)
        if quantity is None or not quantity.sources:
            known = [one for one, other in QUANTITIES.items() if other.sources]
            raise document.error(key, unknown_key(name, known).replace("key", "quantity"))
        kind = Quantity(quantity.unit, "a change", "2 mV", lowest=0.0, above=True, difference=True)
        try:
            changes[name] = kind.parse(written)
        except BadInputError as error:
            raise document.error(key, str(error)) from None
    return RecordConditions(table.quantity("every", _EVERY, 0.0), changes)


def _poll(document: TomlDocument) -> Poll:
    table = Section(document, ("poll",), ("interval", "instruments"))
    own = Section(document, ("poll", "instruments"), table.mapping("instruments"))
    return Poll(
        table.quantity("interval", _INTERVAL, 1.0),
        {name: own.quantity(name, _INTERVAL, 1.0) for name in own.table},
    )


def _preflight(document: TomlDocument) -> tuple[tuple[float, float] | None, bool]:
    table = Section(document, ("preflight",), ("open_circuit", "check_open_circuit"))
    check = table.table.get("check_open_circuit", True)
    if not isinstance(check, bool):
        raise table.error("check_open_circuit", f"must be true or false, found {check!r}")
    if "open_circuit" not in table:
        return None, check
    if not check:
        raise table.error("open_circuit", "stands beside check_open_circuit = false; take one out")
    written = table.table["open_circuit"]
    if not isinstance(written, list) or len(written) != 2:
        raise table.error(
            "open_circuit", f'write two voltages, ["2.3 V", "3.0 V"], not {written!r}'
        )
    try:
        low, high = (_VOLTAGE.parse(value) for value in written)
    except BadInputError as error:
        raise table.error("open_circuit", str(error)) from None
    if not low < high:
        raise table.error("open_circuit", f"the lower voltage comes first, found {written!r}")
    return (low, high), check
