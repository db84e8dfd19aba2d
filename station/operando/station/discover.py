"""`operando discover`: what is connected, who it is where that can be asked safely, and a bench
file to begin with.

Nothing is written to a port whose instrument is not known by its USB ids: some instruments
calibrate or tare on a stray letter. Bluetooth sensors are known by what they advertise.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from operando.instruments.clock import Clock
from operando.instruments.errors import AddressInUseError, OperandoError
from operando.instruments.locks import AddressLock
from operando.instruments.registry import DISCOVERY, DRIVERS, available, load
from operando.instruments.roles import DriverInfo, Expect
from operando.instruments.sightings import Sighting, Sightings
from operando.station.assembly import build_instrument, driver_info

PATIENCE = 5.0
"""s for which a known instrument may think about who it is."""


BEGINNINGS = ("ble:name:", "ble:data:")
"""Signs of which a driver writes how they begin."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """A sighting and what is known of it.

    driver: that knows its signs, "" for none. model, serial, firmware: what it answered, "" where
    it was not asked or did not say. remark: why it was not asked, or did not answer.
    """

    sighting: Sighting
    driver: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    remark: str = ""


async def discover(*, bluetooth: bool = True) -> tuple[tuple[Discovered, ...], tuple[str, ...]]:
    """Look around and ask those that are known and free who they are.

    Gives what was found, and where nothing could be seen and why.
    """
    look = cast("Callable[..., Awaitable[Sightings]]", load(DISCOVERY, "default"))
    found = await look(bluetooth=bluetooth)
    infos = [driver_info(name) for name in available(DRIVERS)]
    clock = Clock()
    known = [await identified(one, infos, clock) for one in found.seen]
    return tuple(known), found.blind


async def identified(sighting: Sighting, infos: Iterable[DriverInfo], clock: Clock) -> Discovered:
    """Ask one instrument who it is, if a driver knows its signs and nobody else holds it."""
    driver = driver_of(sighting, infos)
    if not driver:
        return Discovered(sighting, remark="unknown: nothing was said to it")
    if sighting.address.startswith("ble:"):
        return Discovered(sighting, driver, remark="known by what it advertises")
    try:
        with AddressLock(sighting.address):
            instrument = build_instrument(
                driver,
                sighting.address,
                clock,
                name="discovered",
                expect=Expect(),
                settings={},
                where="discover",
            )
            try:
                async with asyncio.timeout(PATIENCE):
                    identity = await instrument.connect()
            finally:
                await instrument.close()
    except AddressInUseError as error:
        return Discovered(sighting, driver, remark=f"in use: {error}")
    except TimeoutError:
        return Discovered(sighting, driver, remark=f"said nothing within {PATIENCE:g} s")
    except OperandoError as error:
        return Discovered(sighting, driver, remark=str(error))
    return Discovered(sighting, driver, identity.model, identity.serial, identity.firmware)


def driver_of(sighting: Sighting, infos: Iterable[DriverInfo]) -> str:
    """The one driver that knows a sighting by its signs; "" for none, or for several."""
    names = {
        info.name for info in infos for sign in info.signs if _shows(sighting.signs, sign.lower())
    }
    return names.pop() if len(names) == 1 else ""


def _shows(signs: Iterable[str], wanted: str) -> bool:
    if wanted.startswith(BEGINNINGS):
        return any(sign.lower().startswith(wanted) for sign in signs)
    return any(sign.lower() == wanted for sign in signs)


def skeleton(found: Iterable[Discovered]) -> str:
    """A bench file of what was found: known instruments as tables, the rest as remarks."""
    lines = ["# Written by `operando discover`. Name the instruments as you do in the laboratory,"]
    lines += ["# give each channel its own, and check what is only a remark.", ""]
    taken: dict[str, int] = {}
    for one in found:
        if not one.driver:
            lines += [f"# {one.sighting.address}: {one.sighting.what or 'unknown'}", ""]
            continue
        stem = re.sub(r"[^a-z0-9]+", "-", one.driver.lower()).strip("-")
        taken[stem] = taken.get(stem, 0) + 1
        lines += [f"[instruments.{stem}-{taken[stem]}]", f'driver = "{one.driver}"']
        lines += [f"address = {_quoted(one.sighting.address)}"]
        if one.serial:
            lines += [f"expect.serial = {_quoted(one.serial)}"]
        if one.remark:
            lines += [f"# {one.remark}"]
        lines += [""]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def as_data(found: Iterable[Discovered], blind: Iterable[str]) -> Mapping[str, object]:
    """The same as plain data."""
    return {
        "found": [
            {
                "address": one.sighting.address,
                "what": one.sighting.what,
                "signs": sorted(one.sighting.signs),
                "driver": one.driver,
                "model": one.model,
                "serial": one.serial,
                "firmware": one.firmware,
                "remark": one.remark,
            }
            for one in found
        ],
        "blind": list(blind),
    }
