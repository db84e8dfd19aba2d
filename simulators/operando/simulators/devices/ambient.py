"""Temperature, humidity and pressure as a small ambient sensor shows them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

from operando.simulators.devices.device import Options
from operando.simulators.devices.gas_sensor import LN_WATER, YEAR, Lag
from operando.simulators.devices.ports import RoomPort


class Air(NamedTuple):
    """What is shown. temperature: K. humidity: relative, 0 to 1. pressure: absolute, Pa."""

    temperature: float
    humidity: float
    pressure: float


@dataclass(frozen=True, slots=True)
class Grade:
    """What one make of sensor is like; the bench file may change each.

    *_noise: standard deviation of one sample, K, of 1 and Pa. temperature_response,
    humidity_response: time constants, s. *_drift: change a year of use, K, of 1 and Pa.
    """

    temperature_noise: float
    humidity_noise: float
    pressure_noise: float
    temperature_response: float
    humidity_response: float
    temperature_drift: float
    humidity_drift: float
    pressure_drift: float


SHT4X = Grade(0.013, 2.7e-4, 1.0, 2.0, 4.0, 0.03, 2e-3, 20.0)
"""A good sensor of humidity such as Sensirion's SHT4x, with a barometer beside it. All assumed, of
the order that data sheets of its class state: 0.04 K and 0.08 % for three deviations, a few s,
0.03 K and 0.2 % a year. In a housing the response is slower."""

BME280 = Grade(0.005, 2e-4, 0.2, 15.0, 15.0, 0.0, 5e-3, 100.0)
"""Bosch's BME280 in a RuuviTag: 0.2 Pa of noise (data sheet BST-BME280-DS002, low-pass filtered).
Ruuvi states a step response of about 60 s for firmware 1.2.12: four time constants of 15 s. Noise
of temperature and humidity and the drifts are assumed: 0.5 % and 1 hPa a year."""


def saturation_over_water(temperature: float) -> float:
    """Vapour pressure (Pa) over liquid water at a temperature (K), also below freezing.

    Relative humidity refers to it at every temperature, as meteorology defines it (WMO-No. 8).
    """
    a, b, c, d, e = LN_WATER
    return math.exp(
        a / temperature
        + b
        + c * temperature
        + d * temperature * temperature
        + e * math.log(temperature)
    )


class AmbientSensor:
    """Senses a room. Options: see `Grade`, and *_offset, self_heating, warm_up_time, age.

    start: laboratory time at which it was switched on, s.
    """

    def __init__(self, room: RoomPort, options: Options, start: float, grade: Grade) -> None:
        self._room = room
        self._noise = Air(
            options.number("temperature_noise", grade.temperature_noise, low=0.0, high=10.0),
            options.number("humidity_noise", grade.humidity_noise, low=0.0, high=1.0),
            options.number("pressure_noise", grade.pressure_noise, low=0.0, high=1e4),
        )
        self._offset = Air(
            options.number("temperature_offset", 0.0, low=-50.0, high=50.0),
            options.number("humidity_offset", 0.0, low=-1.0, high=1.0),
            options.number("pressure_offset", 0.0, low=-1e5, high=1e5),
        )
        self._drift = Air(
            options.number("temperature_drift", grade.temperature_drift, low=-10.0, high=10.0),
            options.number("humidity_drift", grade.humidity_drift, low=-1.0, high=1.0),
            options.number("pressure_drift", grade.pressure_drift, low=-1e4, high=1e4),
        )
        self._temperature_response = options.number(
            "temperature_response", grade.temperature_response, low=0.0, high=3600.0
        )
        self._humidity_response = options.number(
            "humidity_response", grade.humidity_response, low=0.0, high=3600.0
        )
        self._heating = options.number("self_heating", 0.0, low=0.0, high=20.0)
        self._warm_up = options.number("warm_up_time", 300.0, low=1.0)
        self._new_at = start - options.number("age", 0.0, low=0.0)
        self._on_since = start
        self._temperature, self._humidity, self._pressure = Lag(), Lag(), Lag()

    def switch_on(self, now: float) -> None:
        """It has power from laboratory time `now` (s) and is as warm as the room."""
        self._on_since = now

    def sense(self, now: float, at: float, noise: random.Random) -> Air:
        """What it measured at a laboratory time `at` (s), when it is looked at at `now` (s)."""
        temperature = self._room.temperature(now)
        pressure = self._room.pressure(now)
        vapour = pressure * self._room.fraction("h2o", now)
        on_for = max(now - self._on_since, 0.0)
        temperature += self._heating * (1.0 - math.exp(-on_for / self._warm_up))
        self._temperature.look(now, temperature, self._temperature_response)
        self._humidity.look(
            now, vapour / saturation_over_water(temperature), self._humidity_response
        )
        self._pressure.look(now, pressure, 0.0)
        years = (at - self._new_at) / YEAR
        true = Air(self._temperature.at(at), self._humidity.at(at), self._pressure.at(at))
        shown = (
            value + offset + drift * years + scatter * noise.gauss(0.0, 1.0)
            for value, offset, drift, scatter in zip(
                true, self._offset, self._drift, self._noise, strict=True
            )
        )
        shown_temperature, humidity, shown_pressure = shown
        return Air(shown_temperature, min(max(humidity, 0.0), 1.0), max(shown_pressure, 0.0))
