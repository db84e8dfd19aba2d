"""Simulated sensor with the Environmental Sensing Service of the Bluetooth SIG.

Written from the service's characteristics in the GATT Specification Supplement and the service's
specification 1.0. What is assumed where they are silent stands in
`docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import math

from operando.simulators.devices.ambient import SHT4X, Air
from operando.simulators.devices.bluetooth import BluetoothSensor, make_services
from operando.simulators.devices.device import Options
from operando.simulators.devices.gas_sensor import ZERO_CELSIUS

ENVIRONMENTAL_SENSING, BATTERY_SERVICE, DEVICE_INFORMATION = 0x181A, 0x180F, 0x180A
PRESSURE, TEMPERATURE, HUMIDITY = 0x2A6D, 0x2A6E, 0x2A6F
BATTERY_LEVEL = 0x2A19
MODEL, SERIAL, FIRMWARE, HARDWARE, SOFTWARE, MAKER = range(0x2A24, 0x2A2A)
USER_DESCRIPTION, VALID_RANGE, MEASUREMENT, TRIGGER = 0x2901, 0x2906, 0x290C, 0x290D

UNKNOWN = {TEMPERATURE: b"\x00\x80", HUMIDITY: b"\xff\xff", PRESSURE: b"\xff" * 4}
"""GATT Specification Supplement, "value is not known", for the first two; it gives none for a
pressure (assumed: 429 MPa, which no sensor shows)."""

READABLE, NOTIFYING = ("read",), ("read", "notify")


def encode(kind: int, value: float) -> bytes:
    """A value as its characteristic holds it: K, relative humidity (1 is saturated) or Pa.

    What does not fit is shown as the end of what the supplement allows.
    """
    if kind == TEMPERATURE:
        hundredths = min(max(math.floor((value - ZERO_CELSIUS) * 100.0 + 0.5), -27315), 32767)
        return hundredths.to_bytes(2, "little", signed=True)
    if kind == HUMIDITY:
        return min(max(math.floor(value * 1e4 + 0.5), 0), 10_000).to_bytes(2, "little")
    return min(max(math.floor(value * 10.0 + 0.5), 0), 2**32 - 1).to_bytes(4, "little")


class SimulatedESS(BluetoothSensor):
    """Temperature, humidity and, where fitted, pressure, to be read and notified.

    Options: those of `BluetoothSensor`; sampling_interval (s), notify_interval (s; 0.0 for never),
    pressure_fitted, serial, local_name.
    """

    grade = SHT4X
    default_loss = 0.1
    service_numbers = (ENVIRONMENTAL_SENSING,)

    def _take_own_options(self, options: Options) -> None:
        self._sampling = options.number("sampling_interval", 1.0, low=0.01, high=3600.0)
        self._notifying = options.number("notify_interval", 1.0, low=0.0, high=86_400.0)
        self._serial = options.text("serial", "0001")
        self.local_name = options.text("local_name", "ESS")
        with_pressure = options.flag("pressure_fitted", True)
        self._sample = -1
        self._air = Air(0.0, 0.0, 0.0)
        measurement = self._measurement()
        trigger = b"\x01" + min(max(round(self._notifying), 0), 2**24 - 1).to_bytes(3, "little")

        def described(words: str, low: bytes, high: bytes) -> tuple[tuple[int, bytes], ...]:
            return (
                (MEASUREMENT, measurement),
                (TRIGGER, trigger),
                (USER_DESCRIPTION, words.encode()),
                (VALID_RANGE, low + high),
            )

        ranges = {
            TEMPERATURE: ("Temperature", 233.15, 398.15),  # SHT4x: -40 to 125 degC
            HUMIDITY: ("Humidity", 0.0, 1.0),
            PRESSURE: ("Pressure", 26e3, 126e3),  # assumed: a common barometer's
        }
        if not with_pressure:
            del ranges[PRESSURE]
        self.services = make_services(
            {
                DEVICE_INFORMATION: dict.fromkeys((MAKER, MODEL, SERIAL, FIRMWARE), (READABLE, ())),
                BATTERY_SERVICE: {BATTERY_LEVEL: (NOTIFYING, ())},
                ENVIRONMENTAL_SENSING: {
                    kind: (NOTIFYING, described(words, encode(kind, low), encode(kind, high)))
                    for kind, (words, low, high) in ranges.items()
                },
            }
        )

    def _measurement(self) -> bytes:
        """The descriptor ES Measurement: specification 1.0 of the service, section 3.1.2.1.

        Flags, sampling function (1: instantaneous), measurement period and update interval (s),
        application (1: air), uncertainty (0xFF: not available).
        """
        every = min(max(round(self._sampling), 1), 2**24 - 1).to_bytes(3, "little")
        return b"\x00\x00\x01" + b"\x00\x00\x00" + every + b"\x01\xff"

    def value(self, number: int, now: float) -> bytes:
        """The value of a kind of characteristic."""
        if number in UNKNOWN:
            if self._overloads and self._overloaded():
                return UNKNOWN[number]
            if not self.plugged and number != PRESSURE:
                return UNKNOWN[number]
            air = self._look(now)
            shown = {
                TEMPERATURE: air.temperature,
                HUMIDITY: air.humidity,
                PRESSURE: air.pressure,
            }
            return encode(number, shown[number])
        if number == BATTERY_LEVEL:
            # 2 V is empty, 3 V is full (assumed).
            return bytes([round(100.0 * min(max(self.battery(now) - 2.0, 0.0), 1.0))])
        texts = {
            MAKER: "operando",
            MODEL: "simulated ESS",
            SERIAL: self.identity or self._serial,
            FIRMWARE: "1.0",
        }
        return texts[number].encode()

    def notify_interval(self, number: int) -> float:
        """Time between two notifications, s; 0.0 for never."""
        return 60.0 * self._notifying if number == BATTERY_LEVEL else self._notifying

    def _look(self, now: float) -> Air:
        """The newest sample: between two of them the sensor shows the same."""
        number = int((now - self._on_since) / self._sampling)
        if number != self._sample:
            self._sample = number
            at = self._on_since + number * self._sampling
            self._air = self._measure("sample", number, now, at)
        return self._air

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Lose power at `now` (s)."""
        super().power_cycle(now, boot_time)
        self._sample = -1
