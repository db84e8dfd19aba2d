"""`operando drivers`: what is installed, and one driver with all that can be set."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from operando.instruments.parameters import descriptions, parameters_schema
from operando.instruments.quantities import Quantity
from operando.instruments.registry import DRIVERS, SIMULATORS, available, load
from operando.instruments.roles import DriverInfo
from operando.instruments.units import exact_text, parse_unit
from operando.station.assembly import driver_info

PIPED = 100
"""Columns where nobody's terminal says how many there are."""


KINDS = {
    "boolean": "true, false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
}
"""What a setting takes, by its type in JSON schema."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting in words. default: as a bench file may write it. takes: unit, choices, bounds."""

    name: str
    default: str
    takes: str
    meaning: str


def drivers(
    name: Annotated[
        str | None, typer.Argument(help="One driver, with its settings; all in short if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the drivers and what they state about themselves, or tell all of one."""
    if name is not None:
        _tell(driver_info(name), as_json)
        return
    infos = [driver_info(name) for name in available(DRIVERS)]
    if as_json:
        print(json.dumps([dataclasses.asdict(info) for info in infos]))
        return
    console = _console()
    for info in infos:
        console.print(_title(info))
        console.print(f"  roles: {', '.join(info.roles)}")
        console.print(f"  identified by: {info.identification}")
        console.print(f"  safe state: {info.safe_state}", markup=False)
        console.print(f"  written from: {info.document}", style="dim", markup=False)
    console.print("operando drivers NAME tells the settings and more of one.", style="dim")


def _tell(info: DriverInfo, as_json: bool) -> None:
    driver: Any = load(DRIVERS, info.name)
    settings = settings_of(driver.Settings)
    simulated = info.name in available(SIMULATORS)
    if as_json:
        rows = [dataclasses.asdict(one) for one in settings]
        print(json.dumps({**dataclasses.asdict(info), "settings": rows, "simulated": simulated}))
        return
    console = _console()
    console.print(_title(info))
    facts = Table.grid(padding=(0, 2))
    electrical = ("voltage", "current") if {"potentiostat", "cycler"} & {*info.roles} else ()
    twin = "there is one; the reference of simulated instruments has its options"
    for what, said in (
        ("written from", info.document),
        ("roles", ", ".join(info.roles)),
        ("identified by", info.identification),
        ("safe state", info.safe_state),
        ("measures", ", ".join((*electrical, *info.measures))),
        ("discovered by", ", ".join(info.signs)),
        ("simulated twin", twin if simulated else "none"),
        *(("" if number else "notes", note) for number, note in enumerate(info.notes)),
    ):
        if said:
            facts.add_row(Text(f"  {what}"), Text(said))
    console.print(facts)
    if not settings:
        return
    console.print("\nsettings, \\[instruments.NAME.settings] of the bench file:")
    table = Table("setting", "default", "takes", "meaning")
    table.columns[0].no_wrap = True
    for one in settings:
        table.add_row(*map(Text, dataclasses.astuple(one)))
    console.print(table)


def _title(info: DriverInfo) -> Text:
    return Text.assemble((info.name, "bold"), f": {info.maker} {', '.join(info.models)}")


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED)


def settings_of(settings: type, within: str = "") -> tuple[Setting, ...]:
    """What can be set, from a dataclass and its docstring; a table in it as "table.key".

    within: what stands before each name.
    """
    hints = get_type_hints(settings, include_extras=True)
    properties = parameters_schema(settings)["properties"]
    meanings = descriptions(settings.__doc__ or "", hints)
    found: list[Setting] = []
    for field in dataclasses.fields(settings):
        hint, meaning = hints[field.name], meanings.get(field.name, "")
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            inner = settings_of(hint, f"{within}{field.name}.")
            found += [
                one if one.meaning else dataclasses.replace(one, meaning=meaning) for one in inner
            ]
            continue
        default = "must be given"
        if field.default is not dataclasses.MISSING:
            default = _text(field.default, hint)
        takes = _takes(hint, properties[field.name])
        found.append(Setting(within + field.name, default, takes, meaning))
    return tuple(found)


def _quantities(hint: Any) -> tuple[Quantity, ...]:
    """The quantity that a setting is, or each of a pair; none for other settings."""
    own = tuple(part for part in get_args(hint)[1:] if isinstance(part, Quantity))
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if own or get_origin(inner) is not tuple:
        return own
    return tuple(found for part in get_args(inner) for found in _quantities(part))


def _text(default: Any, hint: Any) -> str:
    """A default as a bench file may write it, without quotes."""
    if isinstance(default, bool):
        return str(default).lower()
    values = default if isinstance(default, tuple) else (default,)
    quantities = _quantities(hint)
    if len(quantities) != len(values) or not all(map(math.isfinite, values)):
        return ", ".join(str(value).removesuffix(".0") for value in values) or '""'
    return ", ".join(
        exact_text(value, parse_unit(one.unit).dimension, difference=one.difference)
        for value, one in zip(values, quantities, strict=True)
    )


def _takes(hint: Any, schema: dict[str, Any]) -> str:
    """What may be written: a unit, choices, or bounds."""
    quantities = _quantities(hint)
    if quantities:
        first = quantities[0]
        what = first.meaning if first.si_unit == "1" else f"{first.meaning}, {first.si_unit}"
        return what if len(quantities) == 1 else f"{len(quantities)}, each {what}"
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"{low:g} or more"
    return KINDS.get(schema.get("type", ""), "")
