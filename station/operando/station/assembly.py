"""From entries of a bench to driver objects, by entry points alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operando.instruments.bench import Bench, InstrumentEntry
from operando.instruments.ble import SCHEME, GattLink
from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError
from operando.instruments.parameters import parameters_from
from operando.instruments.registry import BENCHES, DRIVERS, PROTOCOLS, TRANSPORTS, load
from operando.instruments.roles import ROLES, DriverInfo, Expect, Instrument
from operando.instruments.wires import Switchboard, Wire
from operando.protocols import ProtocolFunction


def driver_info(name: str, where: str = "") -> DriverInfo:
    """What the driver of this name states about itself. Raises BadInputError if there is none.

    where: place of the name, for the message.
    """
    driver: Any = _load(DRIVERS, name, where)
    info: DriverInfo = driver.INFO
    return info


def protocol_function(name: str, where: str = "") -> ProtocolFunction:
    """The protocol of this name. Raises BadInputError if there is none.

    where: place of the name, for the message.
    """
    function = _load(PROTOCOLS, name, where)
    if not isinstance(function, ProtocolFunction):
        raise BadInputError(f"'{name}' is an entry point of protocols, but not a protocol")
    return function


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
