"""Misbehaviour of sensors that are heard and read over the air."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from operando.instruments.ble import Advertisement, Central, Characteristic
from operando.instruments.clock import Clock
from operando.instruments.wires import Line
from operando.simulators.devices.bluetooth import BluetoothSensor
from operando.simulators.faults import FaultyPeer


class _WatchedCentral:
    """A connection as the sensor sees it, with the faults of the air in between."""

    def __init__(self, owner: FaultyPeripheral, central: Central) -> None:
        self.central = central
        self._owner = owner

    def notify(self, handle: int, data: bytes, at: float) -> None:
        """Deliver a value, unless a fault is on."""
        arrived = self._owner.carry(data, at)
        if arrived is not None:
            self.central.notify(handle, *arrived)

    def drop(self) -> None:
        """Break the connection."""
        self.central.drop()


class FaultyPeripheral(FaultyPeer):
    """A Bluetooth sensor that can be told to misbehave; to a host it is a `Peripheral` itself.

    Faults of the line are faults of each advertisement, notification and read: `silence` and
    `mute` lose them, `garbage`, `truncated` and `late` change what they carry and when. `drop`
    takes the sensor out of range: its connection breaks, and for the time nothing is heard of it.
    """

    def __init__(
        self,
        device: BluetoothSensor,
        clock: Clock,
        *,
        name: str = "sensor",
        start: float | None = None,
        charge: Callable[[str, float], float] | None = None,
    ) -> None:
        super().__init__(device, clock, name=name, start=start, charge=charge)
        self.sensor = device
        self._central: _WatchedCentral | None = None
        self._seen = -math.inf
        self._heard: Advertisement | None = None
        self._delayed: deque[Advertisement] = deque()

    def carry(self, data: bytes, at: float) -> tuple[bytes, float] | None:
        """What arrives of bytes that are sent at `at` (s), and when; None for nothing."""
        if self.well:
            return data, at
        if self._swallows(at):
            return None
        for active in tuple(self._faults):
            fault = active.fault
            self._spend(active)
            if fault.kind == "mute":
                return None
            if fault.kind == "garbage":
                data = self._random.randbytes(len(data))
            elif fault.kind == "truncated":
                data = data[: len(data) // 2]
            elif fault.kind == "late":
                at += self._clock.lab(fault.seconds)
        return data, at

    # -- what a host sees

    def advertisement(self, now: float) -> Advertisement | None:
        """The newest advertisement that reached the host until `now`, None before the first."""
        sent = self.sensor.advertisement(now)
        if sent is not None and sent.time > self._seen:
            self._seen = sent.time
            arrived = self._carry_advertisement(sent)
            if arrived is not None:
                self._delayed.append(arrived)
        while self._delayed and self._delayed[0].time <= now:
            self._heard = self._delayed.popleft()
        return self._heard

    def next_advertisement(self, now: float) -> float:
        """When the next one may be heard, s."""
        self.advertisement(now)
        due = self.sensor.next_advertisement(now)
        return min(due, self._delayed[0].time) if self._delayed else due

    def _carry_advertisement(self, sent: Advertisement) -> Advertisement | None:
        if sent.time < self._refuse_until:
            return None
        at, data = sent.time, {}
        for company, payload in sent.manufacturer_data.items() or ((None, b""),):
            arrived = self.carry(payload, sent.time)
            if arrived is None:
                return None
            at = arrived[1]
            if company is not None:
                data[company] = arrived[0]
        return sent._replace(time=at, manufacturer_data=data)

    def connect(self, central: Central, now: float) -> float:
        """A host connects. When it is connected, s; infinity when it never will be."""
        if now < self._refuse_until or (not self.well and self._swallows(now)):
            return math.inf
        watched = _WatchedCentral(self, central)
        due = self.sensor.connect(watched, now)
        if not math.isinf(due):
            self._central = watched
        return due

    def characteristics(self) -> tuple[Characteristic, ...]:
        """What it has."""
        return self.sensor.characteristics()

    def read(self, handle: int, now: float) -> tuple[bytes, float]:
        """The value of a characteristic and when it arrives, s; infinity when it never does."""
        if not self.well and self._swallows(now):
            return b"", math.inf
        data, at = self.sensor.read(handle, now)
        return self.carry(data, at) or (b"", math.inf)

    def subscribe(self, handle: int, now: float) -> None:
        """Begin to notify a characteristic."""
        if self.well or not self._swallows(now):
            self.sensor.subscribe(handle, now)

    def unsubscribe(self, handle: int, now: float) -> None:
        """Stop to notify a characteristic."""
        self.sensor.unsubscribe(handle, now)

    def disconnected(self, line: Central | Line, now: float) -> None:
        """The host disconnected, or gave up connecting."""
        watched = self._central
        if watched is not None and watched.central is line:
            self._central = None
            self.sensor.disconnected(watched, now)

    def _drop(self, now: float) -> None:
        watched, self._central = self._central, None
        if watched is not None:
            self.sensor.disconnected(watched, now)
            watched.drop()
