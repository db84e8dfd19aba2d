"""The analogue half of a channel of a simulated Neware cabinet: source, relay, converters."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from operando.simulators.devices.device import Options, noise_stream
from operando.simulators.devices.neware_xml import single
from operando.simulators.devices.ports import CellPort

RANGES = (1.0, 0.1, 0.01, 0.001)
"""Current ranges as shares of the largest (assumed)."""
CURRENT_NOISE, CURRENT_STEP = 1e-6, 1e-7
"""Of a range: standard deviation, and resolution (captured rows repeat within 2e-6 of 1 mA)."""
VOLTAGE_NOISE, VOLTAGE_STEP = 4e-6, 1e-6
"""Of the voltage range: standard deviation, and resolution (assumed)."""
OVERLOAD = 1.1
"""What an overloaded converter shows, as a share of its range."""


class Reading(NamedTuple):
    """V, A (positive charges), and whether the source holds its voltage."""

    volts: float
    amps: float
    held: bool


class FrontEnd:
    """Source, relay and converters of a channel on a cell.

    overloaded: tells, once a reading, whether a fault overloads it.
    """

    def __init__(
        self, name: str, cell: CellPort | None, own: Options, overloaded: Callable[[], bool]
    ) -> None:
        number = own.number
        self._cell = cell
        self._overloaded = overloaded
        self.highest = number("voltage_range", 5.0, low=0.1, high=1000.0)
        self.lowest = number("lowest_voltage", 0.0, low=-1000.0, high=1000.0)
        self.full_scale = number("current_range", 0.1, low=1e-6, high=1000.0)
        self._noise = number("noise", 1.0, low=0.0, high=1e3)
        self._voltage_offset = number("voltage_offset", 0.0, low=-0.1, high=0.1)
        self._voltage_drift = number("voltage_drift", 0.0, low=-1e-6, high=1e-6)
        self._current_gain = 1.0 + number("current_gain_error", 0.0, low=-0.5, high=0.5)
        self._current_offset = number("current_offset", 0.0, low=-0.1, high=0.1)
        self._warm_up_offset = number("warm_up_offset", 50e-6, low=-0.1, high=0.1)
        self._warm_up_time = number("warm_up_time", 1200.0, low=1.0, high=1e6)
        seed = own.whole("seed", 0)
        # Polls have a stream of their own: what is stored does not depend on who asks.
        self.own_stream = noise_stream(name, seed)
        self.poll_stream = noise_stream(f"{name} polls", seed)
        self.closed = False
        self.plugged = True
        self._since = 0.0
        self._range = self.full_scale
        self._level = self._limit = 0.0

    @property
    def least_current(self) -> float:
        """Current that is still well above the noise of the range in use, A."""
        return 1e3 * CURRENT_STEP * self._range

    def power_on(self, now: float) -> None:
        """Start cold, with the relay open."""
        self._since = now
        self.open(now)

    def _error(self, now: float) -> float:
        """What is shown too much, V: calibration, warm-up, ageing."""
        on = max(now - self._since, 0.0)
        warming = self._warm_up_offset * math.exp(-on / self._warm_up_time)
        return self._voltage_offset + warming + self._voltage_drift * on

    def open(self, now: float) -> None:
        """Open the relay."""
        self.closed = False
        self._range = RANGES[-1] * self.full_scale
        if self._cell is not None and self.plugged:
            self._cell.open_circuit(now)

    def source(self, now: float, level: float, limit: float | None) -> None:
        """Close the relay on a voltage source: V, and A at most either way; None: all there is."""
        self._limit = self.full_scale if limit is None else limit
        self._level = level
        self._range = min(
            (share * self.full_scale for share in RANGES if self._limit <= share * self.full_scale),
            default=self.full_scale,
        )
        self.closed = True
        self._drive(now)

    def move(self, now: float, level: float) -> None:
        """Let the source go to another voltage, V."""
        self._level = level
        self._drive(now)

    def _drive(self, now: float) -> None:
        if self._cell is not None and self.plugged:
            self._cell.source_voltage(
                now, self._level - self._error(now), self._limit / self._current_gain
            )

    def plug(self, now: float, plugged: bool) -> None:
        """Pull the leads off the cell, or put them back."""
        if self._cell is not None and self.plugged:
            self._cell.open_circuit(now)
        self.plugged = plugged
        if self.closed:
            self._drive(now)

    def exact(self, now: float) -> Reading:
        """What is at the terminals, without noise; with nothing there, what the source holds."""
        if self._cell is None or not self.plugged:
            return Reading(self._level if self.closed else 0.0, 0.0, self.closed)
        terminal = self._cell.terminal(now)
        held = self.closed and terminal.regulation.value == "voltage"
        current = terminal.current * self._current_gain if self.closed else 0.0
        return Reading(terminal.voltage + self._error(now), current, held)

    def read(self, now: float, random: Random) -> Reading:
        """Measure with the converters."""
        volts, amps, held = self.exact(now)
        if self._overloaded():
            return Reading(OVERLOAD * self.highest, amps, held)
        scale, noise = self._range, self._noise
        volts += random.gauss(0.0, 1.0) * noise * VOLTAGE_NOISE * self.highest
        step = VOLTAGE_STEP * self.highest
        volts = round(volts / step) * step
        if self.closed:
            amps += self._current_offset + random.gauss(0.0, 1.0) * noise * CURRENT_NOISE * scale
            step = CURRENT_STEP * scale
            amps = round(amps / step) * step
        return Reading(single(volts), single(amps), held)
