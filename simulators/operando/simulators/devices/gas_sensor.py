"""What simulated sensors of a room's gas share: the room, the lag, ageing and the serial line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from operando.instruments.clock import Clock
from operando.instruments.wires import Line
from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.ports import RoomPort, Site
from operando.simulators.faults import Fault
from operando.simulators.rooms import Laboratory

ZERO_CELSIUS = 273.15  # K, exact by definition (SI brochure, 9th edition)

BAR = 1e5  # Pa, exact by definition

YEAR = 365.25 * 86_400.0  # s, Julian year (IAU)

LN_ICE = (-6024.5282, 29.32707, 1.0613868e-2, -1.3198825e-5, -0.49382577)
LN_WATER = (-6096.9385, 21.2409642, -2.711193e-2, 1.673952e-5, 2.433502)
"""a/T + b + c T + d T2 + e ln T is the logarithm of the saturation vapour pressure in Pa, T in K:
D. Sonntag, Meteorologische Zeitschrift 3 (1994) 51-66, as quoted in M. Helten et al., J. Geophys.
Res. 104 (1999) 26087-26096."""

TRIPLE_POINT = 273.16  # K, of water


def _logarithm(form: tuple[float, ...], temperature: float) -> float:
    a, b, c, d, e = form
    return (
        a / temperature
        + b
        + c * temperature
        + d * temperature * temperature
        + e * math.log(temperature)
    )


def saturation_pressure(temperature: float) -> float:
    """Pressure of saturated water vapour, Pa, at a temperature (K): over ice when it freezes."""
    form = LN_ICE if temperature < TRIPLE_POINT else LN_WATER
    return math.exp(_logarithm(form, temperature))


def dew_point(vapour_pressure: float) -> float:
    """Frost point, above 0 degC dew point, K, of a vapour pressure (Pa)."""
    wanted = math.log(max(vapour_pressure, 1e-6))
    form = LN_ICE if wanted < _logarithm(LN_ICE, TRIPLE_POINT) else LN_WATER
    _, _, c, d, e = form
    # Newton in 1/T, in which the logarithm is nearly a straight line.
    inverse = 1.0 / 250.0
    for _ in range(30):
        temperature = 1.0 / inverse
        slope = form[0] - temperature * (temperature * (c + 2.0 * d * temperature) + e)
        step = (wanted - _logarithm(form, temperature)) / slope
        inverse += step
        if abs(step) < 1e-15:
            break
    return 1.0 / inverse


class Lag:
    """A sensor that follows what it senses with a time constant.

    Between two looks the input is taken as linear, so that the output does not depend on how often
    it is looked at.
    """

    def __init__(self) -> None:
        self._begin = self._end = float("-inf")
        self._input = self._output = self._slope = self._time = 0.0
        self._last_input = self._last_output = 0.0

    def forget(self) -> None:
        """Take the next look's input as if it had been there for ever."""
        self._end = float("-inf")

    @property
    def output(self) -> float:
        """Output at the last look."""
        return self._last_output

    def look(self, now: float, value: float, time_constant: float) -> float:
        """Output at laboratory time `now` (s) when the input is `value`; time constant in s."""
        if self._end == float("-inf"):
            self._begin = self._end = now
            self._input = self._output = value
            self._slope = 0.0
        elif now > self._end:
            self._begin, self._input, self._output = self._end, self._last_input, self._last_output
            self._slope = (value - self._input) / (now - self._begin)
            self._end = now
        self._time = time_constant
        self._last_input = value
        self._last_output = self.at(now)
        return self._last_output

    def at(self, time: float) -> float:
        """Output at a time (s) between the last two looks."""
        elapsed = min(max(time, self._begin), self._end) - self._begin
        present = self._input + self._slope * elapsed
        if self._time <= 0.0:
            return present
        # Response of a first-order lag to a ramp.
        behind = self._slope * self._time
        kept = self._output - self._input + behind
        return present - behind + kept * math.exp(-elapsed / self._time)


class RoomSensor(Device):
    """A sensor on a serial line, in the room of its site or in laboratory air.

    Options of all: baud, response_time (s), powered_for (s before the simulation starts), age (s
    in use before that), seed.
    """

    misbehaviours = frozenset({"overload", "nak", "reboot", "unplug"})
    default_baud: ClassVar[float] = 9600.0
    default_response_time: ClassVar[float] = 0.01

    def __init__(
        self,
        name: str,
        *,
        site: Site,
        clock: Clock,
        options: Mapping[str, object],
    ) -> None:
        """Switched on for a while, in the room of `site`. options: see the reference page."""
        super().__init__(name, clock)
        now = clock.now()
        own = Options(name, options)
        self.room: RoomPort = site.room or Laboratory(Options("[rooms.laboratory]", {}), now)
        baud = own.number("baud", self.default_baud, low=300.0, high=115_200.0)
        self._byte_time = 10.0 / baud
        self._response_time = own.number(
            "response_time", self.default_response_time, low=0.0, high=10.0
        )
        self.powered_at = now - own.number("powered_for", 5400.0, low=0.0)
        self._new_at = self.powered_at - own.number("age", 0.0, low=0.0)
        self.gauss = noise_stream(name, own.whole("seed", 0)).gauss
        self.plugged = True
        self._take_own_options(own)
        own.finish()

    def _take_own_options(self, options: Options) -> None:
        """Options of one model."""

    def age(self, now: float) -> float:
        """Years in use at laboratory time `now` (s)."""
        return (now - self._new_at) / YEAR

    def misbehave(self, fault: Fault, now: float) -> None:
        """Begin a fault, or carry out one that is an event."""
        if fault.kind == "unplug":
            self.plugged = False
        else:
            super().misbehave(fault, now)

    def behave(self, now: float) -> None:
        """End every fault that lasts."""
        super().behave(now)
        self.plugged = True

    def _reply(self, line: Line, body: bytes, asked: int, now: float) -> None:
        """Answer a request of `asked` bytes: one answer after the other through the line."""
        begin = max(now + asked * self._byte_time, self.busy_until)
        self.busy_until = begin + self._response_time + len(body) * self._byte_time
        line.send(body, self.busy_until)
