"""Recipes: a TOML file that names a protocol, its parameters, limits and what is recorded."""

from __future__ import annotations

import inspect
import math
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
    together: names of those that are read at the same moments as the potentiostat.
    """

    interval: float = 1.0
    instruments: Mapping[str, float] = field(default_factory=dict)
    together: tuple[str, ...] = ()

    def of(self, instrument: str) -> float:
        """Interval of one instrument, s."""
        return self.instruments.get(instrument, self.interval)


_RANGES = {
    "open_circuit": (Quantity("V", "a voltage", "2.3 V"), '["2.3 V", "3.0 V"]', "voltage"),
    "contact": (
        Quantity("ohm", "a resistance", "35 ohm", lowest=0.0, above=True),
        '["1 ohm", "200 ohm"]',
        "resistance",
    ),
    "pressure": (Quantity("Pa", "a pressure", "5 MPa"), '["3 MPa", "8 MPa"]', "pressure"),
}
_BOUNDS = {
    "o2": Quantity("1", "a mole fraction", "1 ppm", lowest=0.0, above=True),
    "h2o": Quantity("1", "a mole fraction", "1 ppm", lowest=0.0, above=True),
    "dew_point": Quantity(
        "K", "a temperature", "-60 degC", lowest=0.0, above=True, numbers=(100.0, math.inf)
    ),
}

CHECKS = (
    "calibration",
    "disk",
    "clock",
    "readings",
    "o2",
    "h2o",
    "dew_point",
    "pressure",
    "connection",
    "polarity",
    "open_circuit",
    "contact",
)
"""Names of what is looked at before the first step, in the order in which it is."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What must be found before the first step, `[preflight]`. None: asked by nobody.

    open_circuit: V, lowest and highest voltage of the cell at rest; None leaves them to the
    chemistry of the cell or to the protocol's window. contact: ohm, lowest and highest real part
    of a short spectrum. pressure: Pa, lowest and highest stack pressure. o2, h2o: highest mole
    fractions, dew_point: K, highest. override: why a problem of a check does not keep the run
    from starting, by the name of the check, see `CHECKS`.
    """

    open_circuit: tuple[float, float] | None = None
    contact: tuple[float, float] | None = None
    pressure: tuple[float, float] | None = None
    o2: float | None = None
    h2o: float | None = None
    dew_point: float | None = None
    override: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to run. path: the file it came from. protocol: entry point of its protocol.

    preflight: what must be found before the first step. twin: folder of the record of a dry run,
    relative to the recipe: `residual` is counted from its voltage.
    parameters: as written; `arguments` validates them. source: text of the file, for the manifest.
    lines: line of each key in it.
    """

    path: Path
    protocol: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    record: RecordConditions = field(default_factory=RecordConditions)
    poll: Poll = field(default_factory=Poll)
    preflight: Preflight = field(default_factory=Preflight)
    title: str = ""
    twin: str = ""
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
    tables = ("parameters", "limits", "record", "poll", "preflight")
    root = Section(document, (), ("protocol", "title", "notes", "twin", *tables))
    if not root.text("protocol"):
        raise root.missing("protocol", 'protocol = "cccv"')
    limits = parse_limits(
        root.mapping("limits"), lambda key: document.label("limits", *key.split(".", 1))
    )
    return Recipe(
        path=document.path,
        protocol=root.text("protocol"),
        parameters=root.mapping("parameters"),
        limits=limits,
        record=_record(document),
        poll=_poll(document),
        preflight=_preflight(document),
        title=root.text("title"),
        twin=root.text("twin"),
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
    table = Section(document, ("poll",), ("interval", "instruments", "together"))
    own = Section(document, ("poll", "instruments"), table.mapping("instruments"))
    return Poll(
        table.quantity("interval", _INTERVAL, 1.0),
        {name: own.quantity(name, _INTERVAL, 1.0) for name in own.table},
        _names(table, "together"),
    )


def _names(table: Section, key: str) -> tuple[str, ...]:
    """A list of names of instruments."""
    written = table.table.get(key, [])
    if not isinstance(written, list) or not all(isinstance(name, str) for name in written):
        raise table.error(key, f'write names of instruments, ["load1"], not {written!r}')
    return tuple(written)


def _preflight(document: TomlDocument) -> Preflight:
    table = Section(document, ("preflight",), (*_RANGES, *_BOUNDS, "override"))
    written = table.mapping("override")
    own = Section(document, ("preflight", "override"), CHECKS)
    override: dict[str, str] = {}
    for name in written:
        override[name] = own.text(name).strip()
        if not override[name]:
            raise own.error(name, 'say why, such as "the cell is discharged on purpose"')
    bounds = {
        name: table.quantity(name, quantity, 0.0) if name in table else None
        for name, quantity in _BOUNDS.items()
    }
    return Preflight(
        open_circuit=_range(table, "open_circuit"),
        contact=_range(table, "contact"),
        pressure=_range(table, "pressure"),
        o2=bounds["o2"],
        h2o=bounds["h2o"],
        dew_point=bounds["dew_point"],
        override=override,
    )


def _range(table: Section, name: str) -> tuple[float, float] | None:
    """A lower and an upper bound of one kind."""
    if name not in table:
        return None
    kind, example, word = _RANGES[name]
    written = table.table[name]
    if not isinstance(written, list) or len(written) != 2:
        raise table.error(name, f"write two {word}s, {example}, not {written!r}")
    try:
        low, high = (kind.parse(value) for value in written)
    except BadInputError as error:
        raise table.error(name, str(error)) from None
    if not low < high:
        raise table.error(name, f"the lower {word} comes first, found {written!r}")
    return low, high
