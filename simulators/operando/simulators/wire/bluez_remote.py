"""A sensor as bluetoothd exports it: what was heard of it, its connection and its attributes.

Written from BlueZ' manual pages org.bluez.Device(5), org.bluez.GattCharacteristic(5) and what its
src/gatt-client.c does where they are silent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from dbus_fast import Message, Variant

from operando.instruments.ble import Advertisement
from operando.instruments.clock import Clock
from operando.instruments.errors import ReportedError
from operando.simulators.devices.bluetooth import Characteristic, Service, assigned
from operando.simulators.radio import FaultyPeripheral
from operando.simulators.timing import set_timer
from operando.simulators.wire.bluez_objects import (
    CHARACTERISTIC,
    DESCRIPTOR,
    DEVICE,
    SERVICE,
    BusError,
    ObjectTree,
    unknown_method,
)

RSSI_STEP = 8
"""Smaller changes of the signal's strength are not told, dB: RSSI_THRESHOLD of src/device.c."""

TEMPORARY_TIMEOUT = 30.0
"""A device that was not heard for this long is forgotten, s of the event loop: main.conf."""

LOOK = 0.25
"""How often a sensor that is silent is looked at again, s of the event loop."""

CONNECT_TIMEOUT = 20.0
"""An LE connection that does not come about is given up, s of the event loop (Linux:
HCI_LE_CONN_TIMEOUT)."""

ATT_TIMEOUT = 30.0
"""A request without an answer ends the connection, s of the event loop: Core Specification,
volume 3, part F, section 3.3.3."""

CONFIGURATION = 0x2902
"""Client Characteristic Configuration."""

ATT_ERRORS = {
    0x02: ("NotPermitted", "Read not permitted"),
    0x03: ("NotPermitted", "Write not permitted"),
    0x05: ("NotPermitted", "Not paired"),
    0x06: ("NotSupported", "Operation is not supported"),
    0x07: ("InvalidArguments", "Invalid offset"),
    0x08: ("NotAuthorized", "Operation Not Authorized"),
    0x0C: ("NotPermitted", "Not paired"),
    0x0D: ("InvalidArguments", "Invalid Length"),
    0x0F: ("NotPermitted", "Not paired"),
}
"""How ATT errors are told: create_gatt_dbus_error of src/gatt-client.c."""


def att_error(code: int) -> BusError:
    """What an ATT error becomes on the bus."""
    if code in ATT_ERRORS:
        return BusError(*ATT_ERRORS[code])
    return BusError("Failed", f"Operation failed with ATT error: 0x{code:02x}")


NOT_CONNECTED = BusError("Failed", "Not connected")
IN_PROGRESS = BusError("InProgress", "Operation already in progress")


class Remote:
    """One sensor, whether it is exported or not; the host's end of its connection."""

    def __init__(
        self,
        tree: ObjectTree,
        adapter: str,
        sensor: FaultyPeripheral,
        clock: Clock,
        temporary_timeout: float = TEMPORARY_TIMEOUT,
    ) -> None:
        self.sensor = sensor
        self.address = sensor.sensor.address
        self.path = f"{adapter}/dev_{self.address.replace(':', '_')}"
        self.connected = False
        self._tree = tree
        self._adapter = adapter
        self._clock = clock
        self._temporary = clock.lab(temporary_timeout)
        self._wanted: Callable[[frozenset[str], int], bool] = lambda uuids, rssi: True
        self._repeats = False
        self._listening: asyncio.TimerHandle | None = None
        self._heard_at = -math.inf
        self._seen_at = -math.inf
        self._forgetting: asyncio.TimerHandle | None = None
        self._connecting: Message | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._reads: dict[str, Message] = {}
        self._notified: dict[str, set[str]] = {}

    @property
    def exported(self) -> bool:
        """Whether it is known to bluetoothd."""
        return self.path in self._tree.objects

    # -- discovery

    def listen(self, wanted: Callable[[frozenset[str], int], bool], repeats: bool) -> None:
        """Listen from now on. wanted: by UUIDs and dBm. repeats: tell also what has not changed."""
        self._wanted, self._repeats = wanted, repeats
        if self._listening is None:
            self._heard_at = self._clock.now()
            self._look()

    def be_deaf(self) -> None:
        """Stop listening: signal strengths are forgotten at once."""
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        if self.exported:
            self._tree.change(self.path, DEVICE, {}, ("RSSI", "TxPower"))

    def _look(self) -> None:
        now = self._clock.now()
        heard = self.sensor.advertisement(now)
        if heard is not None and heard.time > self._heard_at:
            self._heard_at = heard.time
            self._report(heard, now)
        due = min(self.sensor.next_advertisement(now), now + self._clock.lab(LOOK))
        self._listening = set_timer(self._clock, due, self._look)

    def _report(self, heard: Advertisement, now: float) -> None:
        uuids = [assigned(number) for number in self.sensor.sensor.service_numbers]
        if not self._wanted(frozenset(uuids), heard.rssi):
            return
        self._seen_at = now
        told = {
            "RSSI": Variant("n", heard.rssi),
            "ManufacturerData": Variant(
                "a{qv}",
                {
                    company: Variant("ay", bytes(data))
                    for company, data in heard.manufacturer_data.items()
                },
            ),
        }
        if not heard.manufacturer_data:
            del told["ManufacturerData"]
        if not self.exported:
            self._export(heard.name, uuids, told)
            return
        known = self._tree.objects[self.path][DEVICE]
        if not self._repeats:
            told = {name: value for name, value in told.items() if _differs(known.get(name), value)}
        self._tree.change(self.path, DEVICE, told)

    def _export(self, name: str, uuids: list[str], told: dict[str, Variant]) -> None:
        properties = {
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", "random"),
            "Alias": Variant("s", name or self.address.replace(":", "-")),
            "Adapter": Variant("o", self._adapter),
            "UUIDs": Variant("as", uuids),
            "AdvertisingFlags": Variant("ay", b"\x06"),  # LE only, generally discoverable
            **{
                word: Variant("b", False)
                for word in ("Paired", "Bonded", "Trusted", "Blocked", "LegacyPairing")
            },
            "Connected": Variant("b", False),
            "ServicesResolved": Variant("b", False),
            **told,
        }
        if name:
            properties["Name"] = Variant("s", name)
        self._tree.add(self.path, {DEVICE: properties})
        self._watch()

    def _watch(self) -> None:
        """Forget it some time after it was last heard."""
        now = self._clock.now()
        due = self._seen_at + self._temporary
        if now >= due and not self.connected and self._connecting is None:
            self._forgetting = None
            self._remove()
            return
        due = max(due, now + self._clock.lab(LOOK))
        self._forgetting = set_timer(self._clock, due, self._watch)

    # -- the device

    def call(self, message: Message) -> None:
        """A call of org.bluez.Device1. Raises BusError."""
        if message.member == "Connect" and not message.signature:
            self._connect(message)
        elif message.member == "Disconnect" and not message.signature:
            self.disconnect()
            self._tree.reply(message)
        else:
            raise unknown_method(message)

    def _connect(self, message: Message) -> None:
        if self.connected:
            raise BusError("AlreadyConnected", "Already Connected")
        if self._connecting is not None:
            raise IN_PROGRESS
        self._connecting = message
        self._after(CONNECT_TIMEOUT, self._give_up)
        self._try()

    def _try(self) -> None:
        """Ask the sensor to connect, again and again while it does not hear."""
        due = self.sensor.connect(self, self._clock.now())
        if math.isinf(due):
            self._after(LOOK, self._try)
        else:
            self._at(due, self._established)

    def _give_up(self) -> None:
        message, self._connecting = self._connecting, None
        self._part()
        assert message is not None
        self._tree.refuse(message, BusError("Failed", "le-connection-abort-by-local"))

    def _established(self) -> None:
        message, self._connecting = self._connecting, None
        assert message is not None
        self._forget_timers()
        self.connected = True
        self._tree.change(self.path, DEVICE, {"Connected": Variant("b", True)})
        self._tree.reply(message)
        # A round trip for each thing that is found.
        services = self.sensor.sensor.services
        things = sum(1 + len(service.characteristics) for service in services)
        trip = self.sensor.sensor.connection_interval
        self._at(self._clock.now() + things * trip, self._resolve)

    def _resolve(self) -> None:
        services = self.sensor.sensor.services
        for service in services:
            path = f"{self.path}/service{service.handle:04x}"
            if path not in self._tree.objects:
                self._add_service(path, service)
        for path in self._notified:
            # Who was notified when the connection broke is so again.
            self.sensor.subscribe(_handle(path), self._clock.now())
        self._tree.change(
            self.path,
            DEVICE,
            {
                "UUIDs": Variant("as", [assigned(service.number) for service in services]),
                "ServicesResolved": Variant("b", True),
            },
        )

    def _add_service(self, path: str, service: Service) -> None:
        self._tree.add(
            path,
            {
                SERVICE: {
                    "UUID": Variant("s", assigned(service.number)),
                    "Device": Variant("o", self.path),
                    "Primary": Variant("b", True),
                    "Includes": Variant("ao", []),
                }
            },
        )
        for found in service.characteristics:
            self._add_characteristic(path, found)

    def _add_characteristic(self, service: str, found: Characteristic) -> None:
        path = f"{service}/char{found.handle:04x}"
        properties = {
            "UUID": Variant("s", assigned(found.number)),
            "Service": Variant("o", service),
            "Flags": Variant("as", list(found.properties)),
            "MTU": Variant("q", 247),
        }
        descriptors = list(found.descriptors)
        if "notify" in found.properties:
            properties["Notifying"] = Variant("b", False)
            descriptors.insert(0, (CONFIGURATION, b"\x00\x00"))
        self._tree.add(path, {CHARACTERISTIC: properties})
        for place, (number, value) in enumerate(descriptors, found.handle + 2):
            self._tree.add(
                f"{path}/desc{place:04x}",
                {
                    DESCRIPTOR: {
                        "UUID": Variant("s", assigned(number)),
                        "Characteristic": Variant("o", path),
                        "Value": Variant("ay", value),
                    }
                },
            )

    def disconnect(self) -> None:
        """The host ends the connection, or its attempt."""
        message, self._connecting = self._connecting, None
        self._part()
        if message is not None:
            self._tree.refuse(message, BusError("Failed", "le-connection-abort-by-local"))

    def _part(self) -> None:
        self.sensor.disconnected(self, self._clock.now())
        self._lose()

    def _lose(self) -> None:
        """The connection is gone; its attributes stay, as main.conf's `Cache = always` has it."""
        self._forget_timers()
        reads, self._reads = self._reads, {}
        for message in reads.values():
            self._tree.refuse(message, att_error(0x0E))
        if self.connected:
            self.connected = False
            self._seen_at = self._clock.now()
            self._tree.change(
                self.path,
                DEVICE,
                {"ServicesResolved": Variant("b", False), "Connected": Variant("b", False)},
            )

    def _remove(self) -> None:
        """Take back the device and all that lies below it."""
        self._notified.clear()
        below = [path for path in self._tree.objects if path.startswith(f"{self.path}/")]
        for path in sorted(below, reverse=True):
            self._tree.remove(path)
        self._tree.remove(self.path)

    # -- the sensor's view: a `Central`

    def notify(self, handle: int, data: bytes, at: float) -> None:
        """A value arrives at laboratory time `at` (s)."""
        self._at(at, lambda: self._notify(handle, data))

    def _notify(self, handle: int, data: bytes) -> None:
        for path in tuple(self._notified):
            if path.endswith(f"/char{handle:04x}"):
                self._tree.change(path, CHARACTERISTIC, {"Value": Variant("ay", data)})

    def drop(self) -> None:
        """The connection breaks."""
        if self._connecting is not None:
            self._forget_timers()
            self._after(CONNECT_TIMEOUT, self._give_up)
            self._try()
        else:
            self._lose()

    # -- attributes

    def call_characteristic(self, path: str, message: Message) -> None:
        """A call of org.bluez.GattCharacteristic1. Raises BusError."""
        form = (message.member, message.signature)
        if form == ("ReadValue", "a{sv}"):
            self._read(path, message)
        elif form == ("StartNotify", ""):
            self._start_notify(path, message)
        elif form == ("StopNotify", ""):
            self._stop_notify(path, message)
        elif form == ("WriteValue", "aya{sv}"):
            raise BusError("NotSupported", "Operation is not supported")
        else:
            raise unknown_method(message)

    def call_descriptor(self, path: str, message: Message) -> None:
        """A call of org.bluez.GattDescriptor1. Raises BusError."""
        form = (message.member, message.signature)
        if form == ("ReadValue", "a{sv}"):
            value = self._tree.value(path, DESCRIPTOR, "Value").value
            self._tree.reply(message, "ay", [value])
        elif form == ("WriteValue", "aya{sv}"):
            raise BusError(*ATT_ERRORS[0x03])
        else:
            raise unknown_method(message)

    def _read(self, path: str, message: Message) -> None:
        if not self.connected:
            raise NOT_CONNECTED
        if path in self._reads:
            raise IN_PROGRESS
        try:
            data, due = self.sensor.read(_handle(path), self._clock.now())
        except ReportedError as error:
            raise att_error(error.code) from error
        self._reads[path] = message
        if math.isinf(due):
            self._after(ATT_TIMEOUT, self._part)
        else:
            self._at(due, lambda: self._answer(path, message, data))

    def _answer(self, path: str, message: Message, data: bytes) -> None:
        if self._reads.get(path) is message:
            del self._reads[path]
            # Whoever is notified of the value hears of one that was read, too.
            self._tree.change(path, CHARACTERISTIC, {"Value": Variant("ay", data)})
            self._tree.reply(message, "ay", [data])

    def _start_notify(self, path: str, message: Message) -> None:
        flags = self._tree.value(path, CHARACTERISTIC, "Flags").value
        if "notify" not in flags:
            raise BusError("NotSupported", "Operation is not supported")
        if not self.connected:
            raise NOT_CONNECTED
        clients = self._notified.setdefault(path, set())
        if message.sender in clients:
            raise IN_PROGRESS
        if not clients:
            self.sensor.subscribe(_handle(path), self._clock.now())
            self._tree.change(path, CHARACTERISTIC, {"Notifying": Variant("b", True)})
        clients.add(message.sender or "")
        self._tree.reply(message)

    def _stop_notify(self, path: str, message: Message) -> None:
        if message.sender not in self._notified.get(path, ()):
            raise BusError("Failed", "No notify session started")
        self._end_notify(path, message.sender or "")
        self._tree.reply(message)

    def _end_notify(self, path: str, client: str) -> None:
        clients = self._notified[path]
        clients.discard(client)
        if not clients:
            del self._notified[path]
            self.sensor.unsubscribe(_handle(path), self._clock.now())
            self._tree.change(path, CHARACTERISTIC, {"Notifying": Variant("b", False)})

    def client_left(self, client: str) -> None:
        """A client of the bus is gone, and with it what it was notified of."""
        for path in tuple(self._notified):
            if client in self._notified[path]:
                self._end_notify(path, client)

    # -- timers

    def close(self) -> None:
        """Take it back: disconnect, stop listening, forget."""
        self.be_deaf()
        self.forget()

    def forget(self) -> None:
        """Disconnect and take its object back; it comes again when it is heard again."""
        self.disconnect()
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
        self._remove()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` after a time of the event loop (s), unless the connection changes."""
        self._at(self._clock.now() + self._clock.lab(seconds), action)

    def _at(self, due: float, action: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            action()

        if due <= self._clock.now():
            action()
            return
        timer = set_timer(self._clock, due, fire)
        self._timers.add(timer)

    def _forget_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _handle(path: str) -> int:
    return int(path[-4:], 16)


def _differs(known: Variant | None, told: Variant) -> bool:
    if known is None:
        return True
    if told.signature == "n":
        return abs(int(told.value) - int(known.value)) >= RSSI_STEP
    return bool(known != told)
