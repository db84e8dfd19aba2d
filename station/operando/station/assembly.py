"""From entries of a bench to driver objects, by entry points alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from operando.instruments.bench import Bench, InstrumentEntry
from operando.instruments.ble import SCHEME, GattLink
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import parameters_from
from operando.instruments.registry import (
    BENCHES,
    DRIVERS,
    PROTOCOLS,
    TRANSPORTS,
    available,
    load,
)
from operando.instruments.roles import ROLES, DriverInfo, Expect, Instrument
from operando.instruments.wires import Switchboard, Wire
from operando.protocols import ProtocolFunction
from operando.protocols.script_files import (
    SUFFIX,
    is_script,
    load_script,
    protocols_in,
    split_name,
)


def driver_info(name: str, where: str = "") -> DriverInfo:
    """What the driver of this name states about itself. Raises BadInputError if there is none.

    where: place of the name, for the message.
    """
    driver: Any = _load(DRIVERS, name, where)
    info: DriverInfo = driver.INFO
    return info


def protocol_function(
    name: str, where: str = "", *, near: Path | None = None, scripts: Path | None = None
) -> ProtocolFunction:
    """The protocol of this name. Raises BadInputError if there is none.

    name: of an installed protocol, or of a script: "pulses.py", "pulses.py:slow". where: place of
    the name, for the message. near: folder of the recipe, in which a script is looked for.
    scripts: the bench's folder of scripts, in which it is looked for as well.
    """
    if is_script(name):
        try:
            file, protocol = split_name(name)
            return load_script(_script_path(file, near, scripts), protocol)
        except BadInputError as error:
            raise BadInputError(f"{where}: {error}" if where else str(error)) from error
    function = _load(PROTOCOLS, name, where)
    if not isinstance(function, ProtocolFunction):
        raise BadInputError(f"'{name}' is an entry point of protocols, but not a protocol")
    return function


def protocol_functions(
    scripts: Path | None,
) -> tuple[dict[str, ProtocolFunction], dict[str, str]]:
    """All installed protocols and those of a folder of scripts, by the names that recipes use.

    The second: why a script of the folder offers none, by its name.
    """
    found = {name: protocol_function(name) for name in available(PROTOCOLS)}
    wrong: dict[str, str] = {}
    for path in sorted(scripts.glob(f"*{SUFFIX}")) if scripts is not None else ():
        if path.name.startswith(("_", ".")):
            continue
        try:
            found |= protocols_of_file(path)
        except BadInputError as error:
            wrong[path.name] = str(error)
    return found, wrong


def protocols_of_file(path: Path) -> dict[str, ProtocolFunction]:
    """The protocols of a script by the names that recipes use. Raises BadInputError."""
    inside = protocols_in(path.absolute())
    if len(inside) == 1:
        return {path.name: next(iter(inside.values()))}
    return {f"{path.name}:{name}": function for name, function in inside.items()}


def _script_path(file: str, near: Path | None, scripts: Path | None) -> Path:
    """Where a script is. Raises BadInputError when it is nowhere, or in two places."""
    if Path(file).is_absolute():
        return Path(file).resolve()
    folders = dict.fromkeys(one.absolute() for one in (near, scripts) if one is not None)
    if not folders:
        raise BadInputError(
            f"{file}: where is it? Write its whole path, or put it into the bench's folder of "
            'scripts ([protocols] folder = "..." in the bench file)'
        )
    found = [path for folder in folders if (path := folder / file).is_file()]
    if not found:
        places = " nor in ".join(map(str, folders))
        raise BadInputError(f"there is no file {file} in {places}")
    if len(found) > 1 and not found[0].samefile(found[1]):
        raise BadInputError(
            f"there are two files {file}: {found[0]}, beside the recipe, and {found[1]}, in the "
            "bench's folder of scripts; write the whole path of the one that is meant"
        )
    return found[0].resolve()


def _load(group: str, name: str, where: str) -> object:
    try:
        return load(group, name)
    except BadInputError as error:
        raise BadInputError(f"{where}: {error}" if where else str(error)) from error


def _driver_key(where: str, instrument: str) -> str:
    return f"{where}: [instruments.{instrument}] driver"


def simulation_of(bench: Bench, clock: Clock) -> Any:
    """Make the simulated twin of a bench, see `instruments.simulation`. Raises BadInputError."""
    for entry in bench.instruments.values():
        if entry.simulated is not None:
            driver_info(entry.driver, _driver_key(entry.where, entry.name))
    return simulated_bench()(bench, clock)


def simulated_bench() -> Any:
    """The class that makes the simulated twin of a bench, see `instruments.simulation`."""
    return load(BENCHES, "simulated")


def build_instrument(
    driver: str,
    address: str,
    clock: Clock,
    *,
    name: str,
    expect: Expect,
    settings: Mapping[str, object],
    where: str,
    switchboard: Switchboard | None = None,
) -> Instrument:
    """Make a driver on its wire; nothing is opened. where: place named in errors."""
    factory: Any = _load(DRIVERS, driver, _driver_key(where, name))
    checked = parameters_from(factory.Settings, settings, f"{where} [instruments.{name}.settings]")
    kind = "ble" if address.startswith(SCHEME) else "default"
    make_wire: Any = load(TRANSPORTS, kind)
    wire: Wire | GattLink = make_wire(address, clock, switchboard=switchboard)
    instrument: Instrument = factory(wire, clock, name=name, expect=expect, settings=checked)
    return instrument


def instrument_of(
    entry: InstrumentEntry, clock: Clock, switchboard: Switchboard | None = None
) -> Instrument:
    """Make the driver that a bench entry asks for."""
    return build_instrument(
        entry.driver,
        entry.address,
        clock,
        name=entry.name,
        expect=entry.expect,
        settings=entry.settings,
        where=entry.where,
        switchboard=switchboard,
    )


def check_monitor(entry: InstrumentEntry, channel: str) -> None:
    """Refuse a shared instrument that drives a cell or measures nothing."""
    info = driver_info(entry.driver, _driver_key(entry.where, entry.name))
    if not info.measures or set(info.roles) & {"potentiostat", "cycler"}:
        raise BadInputError(
            f"{entry.where}: channel {channel} lists '{entry.name}' under shared, but the driver "
            f"{entry.driver} is: {', '.join(info.roles)}. Sensors and chambers can be shared"
        )


def check_role(role: str, entry: InstrumentEntry, channel: str) -> None:
    """Refuse an instrument that cannot fill a role."""
    info = driver_info(entry.driver, _driver_key(entry.where, entry.name))
    if role not in info.roles:
        raise BadInputError(
            f"{entry.where}: channel {channel} wants '{entry.name}' as {role}, but the driver "
            f"{entry.driver} is: {', '.join(info.roles)}"
        )
    assert role in ROLES
