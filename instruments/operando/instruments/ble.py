"""Bluetooth Low Energy between drivers and sensors, neutral to both.

What `wires` is for bytes: a driver holds a `GattLink`; a simulated sensor is a `Peripheral`. In
memory, for virtual time, a `MemoryLink` joins the two through the switchboard; over the air a
transport does.

ble:CB:B8:33:4C:88:4F                          the sensor with this address, on the first adapter
ble:CB:B8:33:4C:88:4F?adapter=hci1             on another adapter (Linux)
ble:CB:B8:33:4C:88:4F?bus=ports/bluez          on a BlueZ of one's own, at this D-Bus socket
ble:2A3C7A1E-5B0C-4D43-9C39-0D5D1B9D2E11       macOS shows a number of its own instead
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from operando.instruments.clock import Clock
from operando.instruments.errors import BadInputError, LinkLostError, ReplyTimeoutError
from operando.instruments.parameters import unknown_key
from operando.instruments.wires import Line, Switchboard

SCHEME = "ble:"

_MAC = re.compile(r"[0-9A-F]{2}(?::[0-9A-F]{2}){5}")
_UUID = re.compile(r"[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}")
_ADAPTER = re.compile(r"hci[0-9]{1,3}")
_FORMS = (
    'write "ble:CB:B8:33:4C:88:4F", with "?adapter=hci1" behind it for another adapter than the '
    "first"
)


@dataclass(frozen=True, slots=True)
class BleAddress:
    """A parsed address. text: as written, a relative path resolved.

    device: address of the sensor in capitals. adapter: of this computer, "" for the first. bus:
    path of the D-Bus socket at which a BlueZ of one's own answers, "" for that of the system.
    """

    text: str
    device: str
    adapter: str = ""
    bus: str = ""

    @property
    def is_mac(self) -> bool:
        """Whether it is the sensor's own address, not a number that this computer made up."""
        return _MAC.fullmatch(self.device) is not None

    @property
    def is_private(self) -> bool:
        """Whether it is on a BlueZ of one's own, where no real sensor can be."""
        return bool(self.bus)

    @property
    def key(self) -> str:
        """The same for every way of writing one sensor; the adapter does not count."""
        return f"{SCHEME}{self.device}"


def parse_ble_address(text: str, folder: Path | None = None) -> BleAddress:
    """Parse an address that begins with "ble:". folder: what a relative bus path is relative to.

    Raises BadInputError with the forms that exist.
    """
    device, mark, query = text.removeprefix(SCHEME).partition("?")
    capitals = device.upper()
    known = _MAC.fullmatch(capitals) or _UUID.fullmatch(capitals)
    if not text.startswith(SCHEME) or not text.isprintable() or not known:
        raise BadInputError(f"{text!r} is not an address of a Bluetooth sensor; {_FORMS}")
    found: dict[str, str] = {}
    for part in query.split("&") if mark else []:
        key, _, value = part.partition("=")
        if key in found:
            raise BadInputError(f'"{text}": {key} is given twice')
        if key not in ("adapter", "bus"):
            raise BadInputError(f'"{text}": {key}: {unknown_key(key, ["adapter", "bus"])}')
        found[key] = value
    adapter = found.get("adapter", "")
    if "adapter" in found and not _ADAPTER.fullmatch(adapter):
        raise BadInputError(f'"{text}": adapter must be a name such as hci1, not "{adapter}"')
    bus = found.get("bus", "")
    # These characters end a path in D-Bus' own spelling of addresses.
    if "bus" in found and (not bus or bus.endswith("/") or set(bus) & set(",;=%")):
        raise BadInputError(f'"{text}": bus must be the path of a socket, not "{bus}"')
    if bus and folder is not None and not Path(bus).is_absolute():
        bus = os.path.normpath(folder.absolute() / bus)
        found["bus"] = bus
        text = f"{SCHEME}{device}?" + "&".join(f"{key}={value}" for key, value in found.items())
    return BleAddress(text, capitals, adapter, bus)


class Advertisement(NamedTuple):
    """One advertisement.

    time: laboratory time at which it was heard, s. rssi: received signal strength, dBm.
    manufacturer_data: by company, without the company's number. service_data: by UUID of 128 bits
    in small letters. name: "" where it gives none. services: UUIDs of those that it announces.
    """

    time: float
    rssi: int
    manufacturer_data: Mapping[int, bytes]
    service_data: Mapping[str, bytes] = MappingProxyType({})
    name: str = ""
    services: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One characteristic of a connected sensor.

    handle: its number, by which it is read: there may be several of one kind. uuid, service: 128
    bits in small letters. properties: "read", "notify".
    """

    handle: int
    uuid: str
    service: str
    properties: frozenset[str] = field(default_factory=frozenset)


class GattLink(Protocol):
    """A driver's end of the air to one sensor.

    Time-outs are seconds of wall time (virtual seconds in virtual time). Errors carry no
    instrument name: the driver adds it.
    """

    @property
    def address(self) -> str:
        """Address as the bench file writes it."""
        ...

    @property
    def device(self) -> str:
        """Address of the sensor itself, in capitals."""
        ...

    async def listen(self) -> None:
        """Begin to listen for its advertisements. Raises LinkLostError without a radio."""
        ...

    async def advertisement(self, after: float, timeout: float) -> Advertisement:
        """The newest advertisement heard after laboratory time `after` (s), else the next one.

        Raises ReplyTimeoutError, and LinkLostError when nobody listens.
        """
        ...

    async def connect(self, timeout: float) -> tuple[Characteristic, ...]:
        """Connect and find its characteristics, sorted by handle. Raises LinkLostError."""
        ...

    async def read_gatt_char(self, handle: int, timeout: float) -> bytes:
        """Read a characteristic.

        Raises ReplyTimeoutError, LinkLostError, and ReportedError with the number of an ATT error.
        """
        ...

    async def start_notify(
        self, handle: int, heard: Callable[[bytes, float], None], timeout: float
    ) -> None:
        """Call `heard` with each value that it sends by itself and its laboratory time (s)."""
        ...

    async def close(self) -> None:
        """Disconnect and stop listening; idempotent."""
        ...


class Central(Protocol):
    """A host's end of one connection, as the sensor sees it."""

    def notify(self, handle: int, data: bytes, at: float) -> None:
        """Deliver a value that was subscribed to, at laboratory time `at` (s)."""
        ...

    def drop(self) -> None:
        """Break the connection."""
        ...


@runtime_checkable
class Peripheral(Protocol):
    """A sensor that is heard and read over the air.

    `now` is laboratory time, s. It needs no timers: it is asked what it would have sent.
    """

    def advertisement(self, now: float) -> Advertisement | None:
        """The newest advertisement that reached the host until `now`, None before the first."""
        ...

    def next_advertisement(self, now: float) -> float:
        """When the one after `now` will be heard, s; infinity while it is silent or connected."""
        ...

    def connect(self, central: Central, now: float) -> float:
        """A host connects. When it is connected, s; infinity when it never will be."""
        ...

    def characteristics(self) -> tuple[Characteristic, ...]:
        """What it has."""
        ...

    def read(self, handle: int, now: float) -> tuple[bytes, float]:
        """The value of a characteristic and when it arrives, s; infinity when it never does.

        Raises ReportedError with the number of an ATT error.
        """
        ...

    def subscribe(self, handle: int, now: float) -> None:
        """Begin to notify a characteristic through the `Central`."""
        ...

    def disconnected(self, central: Central, now: float) -> None:
        """The host disconnected, or gave up connecting."""
        ...


class _OnSwitchboard:
    """A sensor among the byte pipes; who calls it for bytes is refused."""

    def __init__(self, peripheral: Peripheral) -> None:
        self.peripheral = peripheral

    def connected(self, line: Line, now: float) -> None:
        line.drop()

    def receive(self, line: Line, data: bytes, now: float) -> None:
        line.drop()

    def disconnected(self, line: Line, now: float) -> None:
        pass


def attach_peripheral(switchboard: Switchboard, address: str, peripheral: Peripheral) -> None:
    """Make a sensor reachable in memory at an address."""
    switchboard.attach(parse_ble_address(address).key, _OnSwitchboard(peripheral))


class MemoryLink:
    """A link that asks the sensor directly; for virtual time and tests."""

    def __init__(self, switchboard: Switchboard, address: str, clock: Clock) -> None:
        self._switchboard = switchboard
        self._place = parse_ble_address(address)
        self._clock = clock
        self._listening = False
        self._connection: _MemoryConnection | None = None

    @property
    def address(self) -> str:
        """Address as the bench file writes it."""
        return self._place.text

    @property
    def device(self) -> str:
        """Address of the sensor itself."""
        return self._place.device

    async def listen(self) -> None:
        """Begin to listen. Nothing happens until something is asked for."""
        self._peripheral()
        self._listening = True

    async def advertisement(self, after: float, timeout: float) -> Advertisement:
        """The newest advertisement heard after `after`, else the next one."""
        if not self._listening:
            raise LinkLostError(f"nobody listens to {self.address}")
        peripheral, clock = self._peripheral(), self._clock
        deadline = clock.now() + timeout
        while True:
            now = clock.now()
            found = peripheral.advertisement(now)
            if found is not None and found.time > after:
                return found
            if now >= deadline:
                raise ReplyTimeoutError(f"nothing was heard within {timeout:g} s")
            await clock.sleep_until(min(peripheral.next_advertisement(now), deadline))

    async def connect(self, timeout: float) -> tuple[Characteristic, ...]:
        """Connect and find its characteristics."""
        await self._disconnect()
        peripheral, clock = self._peripheral(), self._clock
        deadline = clock.now() + timeout
        connection = self._connection = _MemoryConnection()
        due = peripheral.connect(connection, clock.now())
        try:
            await connection.wait(clock, due, deadline)
        except ReplyTimeoutError:
            await self._disconnect()
            raise LinkLostError(
                f"the sensor at {self.address} did not connect within {timeout:g} s"
            ) from None
        return tuple(sorted(peripheral.characteristics(), key=lambda found: found.handle))

    async def read_gatt_char(self, handle: int, timeout: float) -> bytes:
        """Read a characteristic."""
        connection, clock = self._connected(), self._clock
        deadline = clock.now() + timeout
        data, due = self._peripheral().read(handle, clock.now())
        await connection.wait(clock, due, deadline)
        return data

    async def start_notify(
        self, handle: int, heard: Callable[[bytes, float], None], timeout: float
    ) -> None:
        """Call `heard` with each value that it sends by itself."""
        self._connected().heard[handle] = heard
        self._peripheral().subscribe(handle, self._clock.now())

    async def close(self) -> None:
        """Disconnect and stop listening; idempotent."""
        self._listening = False
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.alive:
            connection.drop()
            self._peripheral().disconnected(connection, self._clock.now())

    def _connected(self) -> _MemoryConnection:
        if self._connection is None or not self._connection.alive:
            raise LinkLostError(f"there is no connection to {self.address}")
        return self._connection

    def _peripheral(self) -> Peripheral:
        peer = self._switchboard.peer(self._place.key)
        if not isinstance(peer, _OnSwitchboard):
            raise LinkLostError(f"what is attached at {self.address} is no Bluetooth sensor")
        return peer.peripheral


class _MemoryConnection:
    def __init__(self) -> None:
        self.alive = True
        self.heard: dict[int, Callable[[bytes, float], None]] = {}
        self._waiting: asyncio.Future[None] | None = None

    def notify(self, handle: int, data: bytes, at: float) -> None:
        if self.alive and handle in self.heard:
            self.heard[handle](data, at)

    def drop(self) -> None:
        self.alive = False
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self, clock: Clock, due: float, deadline: float) -> None:
        """Until `due`. Raises ReplyTimeoutError at `deadline`, LinkLostError when it breaks."""
        end = min(due, deadline)
        if self.alive and end > clock.now():
            loop = asyncio.get_running_loop()
            waiting = self._waiting = loop.create_future()
            timer = loop.call_at(end, self._wake)
            try:
                await waiting
            finally:
                timer.cancel()
                self._waiting = None
        if not self.alive:
            raise LinkLostError("the connection broke")
        if due > deadline:
            raise ReplyTimeoutError("no answer came within the time-out")
