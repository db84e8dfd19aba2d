"""What simulated Bluetooth Low Energy sensors share: advertising, loss, battery and connections.

Times and words of the radio: Bluetooth Core Specification 5.4, volume 6, part B, section 4.4.2.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from operando.instruments.ble import Advertisement, Central
from operando.instruments.ble import Characteristic as NeutralCharacteristic
from operando.instruments.clock import Clock
from operando.instruments.errors import ReportedError
from operando.instruments.wires import Line
from operando.simulators.devices.ambient import Air, AmbientSensor, Grade
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.gas_sensor import YEAR
from operando.simulators.devices.ports import RoomPort, Site
from operando.simulators.faults import Fault
from operando.simulators.rooms import Laboratory

ADVERTISING_DELAY = 0.01
"""Each interval is longer by a random time up to this, s: Core Specification, advDelay."""

CELL_LIFE = 4.0 * YEAR
"""A lithium coin cell falls from 3 V to 2 V in this time (assumed, linear; a RuuviTag is said to
run for 4 years), s."""

READ_NOT_PERMITTED, INVALID_HANDLE, UNLIKELY_ERROR = 0x02, 0x01, 0x0E
"""ATT errors: Core Specification, volume 3, part F, section 3.4.1.1."""


def assigned(number: int) -> str:
    """The UUID, in small letters, of a number that the Bluetooth SIG assigned."""
    return f"0000{number:04x}-0000-1000-8000-00805f9b34fb"


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One characteristic. number: assigned to its kind. properties: "read", "notify".

    descriptors: assigned numbers and values. Client Characteristic Configuration, which BlueZ
    keeps for itself, is not among them.
    """

    handle: int
    number: int
    properties: tuple[str, ...] = ("read",)
    descriptors: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """One service and its characteristics; their handles follow its own."""

    handle: int
    number: int
    characteristics: tuple[Characteristic, ...]


def make_services(
    described: Mapping[int, Mapping[int, tuple[tuple[str, ...], tuple[tuple[int, bytes], ...]]]],
) -> tuple[Service, ...]:
    """Services with handles. described: service, characteristic: properties and descriptors."""
    services, handle = [], 0x000A  # below it lie the services of every sensor, which BlueZ hides
    for number, parts in described.items():
        own = handle
        handle += 1
        found = []
        for kind, (properties, descriptors) in parts.items():
            found.append(Characteristic(handle, kind, properties, descriptors))
            # Its declaration, its value, its configuration where it notifies.
            handle += 2 + ("notify" in properties) + len(descriptors)
        services.append(Service(own, number, tuple(found)))
    return tuple(services)


class BluetoothSensor(Device, ABC):
    """A sensor of ambient air that advertises, and may be connected to; a `Peripheral`.

    Options of all: rssi (dBm), rssi_noise (dB), loss (share of advertisements that nobody hears),
    advertising_interval, connection_interval, connect_time (s), battery (V), battery_life (s from
    3 V to 2 V), brown_out (V), seed; those of `AmbientSensor`.
    """

    link_drops_on_reboot = True
    power_on_time = 2.0
    misbehaviours = frozenset({"overload", "nak", "reboot", "unplug", "identity"})
    grade: ClassVar[Grade]
    default_interval: ClassVar[float] = 1.0
    default_loss: ClassVar[float] = 0.3
    services: tuple[Service, ...] = ()
    service_numbers: tuple[int, ...] = ()
    """Services that its advertisements name."""
    local_name = ""
    connectable = True

    def __init__(
        self, name: str, *, site: Site, clock: Clock, options: Mapping[str, object]
    ) -> None:
        """Switched on when the simulation starts. options: see the reference page."""
        super().__init__(name, clock)
        now = clock.now()
        own = Options(name, options)
        self.seed = own.whole("seed", 0)
        stream = noise_stream(name, self.seed)
        # Two uppermost bits set: a static random address, as every sensor may give itself.
        first = 0xC0 | stream.randrange(64)
        rest = (stream.randrange(256) for _ in range(5))
        self.address = ":".join(f"{part:02X}" for part in (first, *rest))
        """Bluetooth address in capitals; set to what the bench file writes when it is served."""
        self._rssi = own.number("rssi", -65.0, low=-127.0, high=20.0)
        self._rssi_noise = own.number("rssi_noise", 3.0, low=0.0, high=50.0)
        self._loss = own.number("loss", self.default_loss, low=0.0, high=1.0)
        self._interval = own.number(
            "advertising_interval", self.default_interval, low=0.02, high=10.24
        )
        self.connection_interval = own.number("connection_interval", 0.05, low=0.0075, high=4.0)
        self._connect_time = own.number("connect_time", 0.3, low=0.0, high=60.0)
        self._battery = own.number("battery", 3.0, low=0.0, high=3.6)
        self._battery_life = own.number("battery_life", CELL_LIFE, low=1.0)
        self._brown_out = own.number("brown_out", 1.8, low=0.0, high=3.6)
        self._new_at = self._on_since = now
        self._boots = 0
        self._told = -1
        self._newest: Advertisement | None = None
        self._phase = stream.random() * self._interval
        self.room: RoomPort = site.room or Laboratory(Options("[rooms.laboratory]", {}), now)
        self.ambient = AmbientSensor(self.room, own, now, self.grade)
        self.plugged = True
        self.identity = ""
        """What it says instead of its own identity while that fault is on."""
        self._central: Central | None = None
        self._subscribed: dict[int, float] = {}
        self._take_own_options(own)
        own.finish()

    def _take_own_options(self, options: Options) -> None:
        """Options of one model."""

    # -- the battery

    def battery(self, now: float) -> float:
        """Voltage of the battery, V."""
        return self._battery - (now - self._new_at) / self._battery_life

    def _lives(self, now: float) -> bool:
        return now >= self._on_since and self.battery(now) > self._brown_out

    # -- advertising

    def advertisement(self, now: float) -> Advertisement | None:
        """The newest advertisement that reached the host until `now`, None before the first."""
        if self._central is None and self._lives(now):
            number = self._events_until(now)
            while number > self._told and self._is_lost(number):
                number -= 1
            if number > self._told:
                self._told = number
                self._newest = self._advertise(number, now)
        return self._newest

    def next_advertisement(self, now: float) -> float:
        """When the one after `now` will be heard, s; infinity while it is silent or connected."""
        if self._central is not None or self._loss >= 1.0 or self.battery(now) <= self._brown_out:
            return math.inf
        number = max(self._events_until(now) + 1, 0)
        while self._is_lost(number):
            number += 1
        return self._event_time(number)

    def manufacturer_data(self, number: int, at: float, now: float) -> Mapping[int, bytes]:
        """Data by company of the advertisement with this number, sent at `at` (s), asked `now`."""
        return {}

    def _advertise(self, number: int, now: float) -> Advertisement:
        at = self._event_time(number)
        rssi = self._rssi + self._rssi_noise * self._stream("rssi", number).gauss(0.0, 1.0)
        return Advertisement(
            at,
            round(min(max(rssi, -127.0), 20.0)),
            self.manufacturer_data(number, at, now),
            {},
            self.local_name,
        )

    def _stream(self, purpose: str, number: int) -> random.Random:
        """Random numbers of one event, which do not depend on which others were asked for."""
        return noise_stream(f"{self.name} {purpose} {self._boots} {number}", self.seed)

    def _event_time(self, number: int) -> float:
        """When an advertisement leaves, s; numbers count from power-on."""
        mean = self._interval + 0.5 * ADVERTISING_DELAY
        delay = (self._stream("delay", number).random() - 0.5) * ADVERTISING_DELAY
        return self._on_since + self._phase + 0.5 * ADVERTISING_DELAY + number * mean + delay

    def _events_until(self, now: float) -> int:
        """Number of the newest event, -1 before the first."""
        mean = self._interval + 0.5 * ADVERTISING_DELAY
        number = max(int((now - self._on_since - self._phase) / mean), -1) + 1
        while number >= 0 and self._event_time(number) > now:
            number -= 1
        return number

    def _is_lost(self, number: int) -> bool:
        return bool(self._loss) and self._stream("loss", number).random() < self._loss

    # -- a connection

    def connect(self, central: Central, now: float) -> float:
        """A host connects: in answer to an advertisement. When it is connected, s."""
        due = self.next_advertisement(now)
        if not self.connectable or self._central is not None or math.isinf(due):
            return math.inf
        self._central = central
        self.busy_until = due + self._connect_time
        return self.busy_until

    def disconnected(self, line: Central | Line, now: float) -> None:
        """The host disconnected, or gave up connecting: it advertises again."""
        if line is self._central:
            self._end_connection(now)

    def _end_connection(self, now: float) -> None:
        self._central = None
        self._subscribed.clear()
        self._told = self._events_until(now)
        self.close()

    def receive(self, line: Line, data: bytes, now: float) -> None:
        """It has no wire."""
        line.drop()

    def characteristics(self) -> tuple[NeutralCharacteristic, ...]:
        """What it has."""
        return tuple(
            NeutralCharacteristic(
                found.handle,
                assigned(found.number),
                assigned(service.number),
                frozenset(found.properties),
            )
            for service in self.services
            for found in service.characteristics
        )

    def read(self, handle: int, now: float) -> tuple[bytes, float]:
        """The value of a characteristic and when it arrives, s.

        The request leaves at one connection event, the answer at the next. Raises ReportedError
        with the number of an ATT error.
        """
        found = self._find(handle)
        if "read" not in found.properties:
            raise self._att_error(READ_NOT_PERMITTED, "read not permitted")
        if self._refusals and self._refusing():
            raise self._att_error(UNLIKELY_ERROR, "unlikely error")
        if not self._lives(now):
            return b"", math.inf
        self.busy_until = max(now, self.busy_until) + 2.0 * self.connection_interval
        return self.value(found.number, now), self.busy_until

    def subscribe(self, handle: int, now: float) -> None:
        """Begin to notify a characteristic through the `Central`."""
        found = self._find(handle)
        interval = self.notify_interval(found.number)
        if "notify" in found.properties and interval and handle not in self._subscribed:
            self._subscribed[handle] = now + interval
            self._later(now + interval, partial(self._notify, found))

    def unsubscribe(self, handle: int, now: float) -> None:
        """Stop to notify a characteristic."""
        self._subscribed.pop(handle, None)

    def _notify(self, found: Characteristic, now: float) -> None:
        due = self._subscribed.get(found.handle)
        # One that was ended and begun again has a later timer of its own.
        if due is None or due > now or self._central is None or not self._lives(now):
            return
        due = self._subscribed[found.handle] = due + self.notify_interval(found.number)
        self._later(due, partial(self._notify, found))
        self._central.notify(found.handle, self.value(found.number, now), now)

    @abstractmethod
    def value(self, number: int, now: float) -> bytes:
        """The value of a kind of characteristic."""

    def notify_interval(self, number: int) -> float:
        """Time between two notifications of a kind of characteristic, s; 0.0 for never."""
        return 0.0

    def _find(self, handle: int) -> Characteristic:
        for service in self.services:
            for found in service.characteristics:
                if found.handle == handle:
                    return found
        raise self._att_error(INVALID_HANDLE, "invalid handle")

    @staticmethod
    def _att_error(code: int, words: str) -> ReportedError:
        return ReportedError(code, f"ATT error: {words}")

    # -- misbehaviour

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event."""
        if fault.kind == "unplug":
            self.plugged = False
        elif fault.kind == "identity":
            self.identity = fault.text
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self.plugged = True
        self.identity = ""

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s): the connection is gone, numbers begin anew."""
        self._central = None
        self._subscribed.clear()
        self._boots += 1
        self._told = -1
        self._on_since = now + boot_time
        self.ambient.switch_on(self._on_since)

    def _measure(self, purpose: str, number: int, now: float, at: float) -> Air:
        """Sample `number`, taken at `at` (s) and looked at at `now` (s)."""
        return self.ambient.sense(now, at, self._stream(purpose, number))
