"""Simulated RuuviTag that advertises in data format 5 (RAWv2).

Written from Ruuvi's Data format 5, and its page on Bluetooth advertisements for the interval. What
is assumed where they are silent stands in `docs/reference/simulated-instruments.md`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

from operando.simulators.devices.ambient import BME280, Air
from operando.simulators.devices.bluetooth import BluetoothSensor
from operando.simulators.devices.device import Options
from operando.simulators.devices.gas_sensor import ZERO_CELSIUS

COMPANY = 0x0499
"""Ruuvi Innovations Ltd."""

GRAVITY = 9.80665
"""Standard gravity, m/s2 (CGPM 1901)."""

FORMAT = 5
NO_TEMPERATURE = NO_ACCELERATION = -0x8000
NO_HUMIDITY = NO_PRESSURE = NO_SEQUENCE = 0xFFFF
NO_VOLTAGE, NO_POWER, NO_MOVEMENTS = 2047, 31, 255
NO_ADDRESS = b"\xff" * 6


def frame(
    *,
    temperature: float | None,
    humidity: float | None,
    pressure: float | None,
    acceleration: tuple[float, float, float] | None,
    voltage: float | None,
    power: float | None,
    movements: int | None,
    sequence: int | None,
    address: str,
) -> bytes:
    """The 24 bytes behind the company's number; None is what is missing.

    temperature: K. humidity: relative, 1 is saturated. pressure: Pa. acceleration: m/s2. voltage:
    V. power: of the transmitter, dBm. address: "CB:B8:33:4C:88:4F", "" when missing. What does not
    fit a field is shown as its end.
    """
    axes = (None, None, None) if acceleration is None else acceleration
    sent = _field(None if power is None else (power + 40.0) / 2.0, 0, 30, NO_POWER)
    supply = _field(None if voltage is None else voltage * 1e3 - 1600.0, 0, 2046, NO_VOLTAGE)
    return struct.pack(
        ">BhHHhhhHBH6s",
        FORMAT,
        _field(
            None if temperature is None else (temperature - ZERO_CELSIUS) / 0.005,
            -32767,
            32767,
            NO_TEMPERATURE,
        ),
        _field(None if humidity is None else humidity * 100.0 / 0.0025, 0, 65534, NO_HUMIDITY),
        _field(None if pressure is None else pressure - 50_000.0, 0, 65534, NO_PRESSURE),
        *(
            _field(None if axis is None else axis / GRAVITY * 1e3, -32767, 32767, NO_ACCELERATION)
            for axis in axes
        ),
        supply << 5 | sent,
        NO_MOVEMENTS if movements is None else movements % 255,
        NO_SEQUENCE if sequence is None else sequence % 65535,
        bytes.fromhex(address.replace(":", "")) if address else NO_ADDRESS,
    )


def _field(value: float | None, low: int, high: int, missing: int) -> int:
    return missing if value is None else min(max(math.floor(value + 0.5), low), high)


class SimulatedRuuviTag(BluetoothSensor):
    """A RuuviTag: it advertises and nothing else.

    Options: those of `BluetoothSensor`; acceleration_x, acceleration_y, acceleration_z (m/s2),
    acceleration_noise (m/s2), power (dBm), movements, sequence (the first).
    """

    grade = BME280
    default_interval = 1.285
    connectable = False

    def _take_own_options(self, options: Options) -> None:
        self._acceleration = (
            options.number("acceleration_x", 0.0, low=-320.0, high=320.0),
            options.number("acceleration_y", 0.0, low=-320.0, high=320.0),
            options.number("acceleration_z", GRAVITY, low=-320.0, high=320.0),
        )
        self._shaking = options.number("acceleration_noise", 0.03, low=0.0, high=100.0)
        self._power = options.number("power", 4.0, low=-40.0, high=20.0)
        self._movements = options.whole("movements", 0, high=254)
        self._first = options.whole("sequence", 0, high=65534)

    def manufacturer_data(self, number: int, at: float, now: float) -> Mapping[int, bytes]:
        """Each advertisement has a measurement of its own and counts it."""
        air: Air = self._measure("sample", number, now, at)
        missing = bool(self._overloads) and self._overloaded()
        noise = self._stream("acceleration", number)
        x, y, z = (part + self._shaking * noise.gauss(0.0, 1.0) for part in self._acceleration)
        # Temperature, humidity and pressure are of one chip, acceleration of another.
        there = self.plugged and not missing
        data = frame(
            temperature=air.temperature if there else None,
            humidity=air.humidity if there else None,
            pressure=air.pressure if there else None,
            acceleration=None if missing else (x, y, z),
            voltage=self.battery(at),
            power=self._power,
            movements=self._movements,
            sequence=self._first + number,
            address=self.identity or self.address,
        )
        return {COMPANY: data}

    def value(self, number: int, now: float) -> bytes:
        """It has no characteristics."""
        raise AssertionError("a RuuviTag that only advertises is never read")

    def power_cycle(self, now: float, boot_time: float) -> None:
        """Its counters begin at zero."""
        super().power_cycle(now, boot_time)
        self._movements = self._first = 0
