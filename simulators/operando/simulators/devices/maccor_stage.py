"""The analogue half of a simulated Maccor channel: output, ranges, rails, readings.

Every channel is one charge and one discharge regulator behind a relay; voltage, current, power and
resistance limit each other. The example readings of the vendor's help are multiples of
Vmax/131070: that is the resolution here, of currents too (assumed).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from operando.instruments.errors import BadInputError
from operando.simulators.devices.device import Options
from operando.simulators.devices.ports import CellPort, Site

READING_STEPS = 131070.0
"""Steps of the digitiser in one full scale, see above."""
SETTING_STEPS = 65535.0
"""Steps of a set point in one full scale (assumed)."""
NOISE = 1e-5
"""Of a reading, as a share of the full scale, rms (assumed)."""
DRIFT_PERIOD = 86_400.0
"""Period of the temperature drift, s: a day."""
WARM_UP_TIME = 1800.0
"""Time constant with which a cold tester warms up, s (assumed)."""
AUX_UNITS = ("C", "V", "MPa")
"""Auxiliary inputs that can be assigned: room temperature, cell voltage, stack pressure."""
LABORATORY = 298.15
"""Temperature around a channel that is in no room, K (assumed)."""
REDRIVE = 1e-3
"""Relative change of a limit that is worth a new setting."""


@dataclass(frozen=True, slots=True)
class Specification:
    """What a channel can do; V, A, W. ranges: full scales 1 to 4, the same in both directions.

    Defaults are the example of the vendor's help, function (3, 1).
    """

    vmax: float = 10.0
    vmin: float = 0.0
    ranges: tuple[float, float, float, float] = (150e-6, 5e-3, 0.15, 5.0)
    power: float = 50.0

    @classmethod
    def chosen(cls, own: Options) -> Specification:
        """From the options of a channel."""
        usual = cls()
        vmax = own.number("max_voltage", usual.vmax, low=0.1, high=1000.0)
        vmin = own.number("min_voltage", usual.vmin, low=-vmax, high=0.99 * vmax)
        first = own.number("range_1", usual.ranges[0], low=1e-9, high=1e4)
        second = own.number("range_2", max(usual.ranges[1], first), low=first, high=1e4)
        third = own.number("range_3", max(usual.ranges[2], second), low=second, high=1e4)
        fourth = own.number("range_4", max(usual.ranges[3], third), low=third, high=1e4)
        power = own.number("max_power", usual.power, low=1e-6, high=1e6)
        return cls(vmax, vmin, (first, second, third, fourth), power)


@dataclass(frozen=True, slots=True)
class Safety:
    """What ends a test at once: V, A, W. A power of 0 is not watched (assumed)."""

    vmax: float
    vmin: float
    charge: float
    discharge: float
    charge_power: float
    discharge_power: float


@dataclass(frozen=True, slots=True)
class Output:
    """Set points of a channel. mode: "C", "D" or "R". range: 1 to 4. None: no limit."""

    mode: str
    current: float | None = None
    voltage: float | None = None
    power: float | None = None
    resistance: float | None = None
    range: int = 4


REST = Output("R")


class ChannelStage:
    """Drives the cell of one channel and reads it. Times are laboratory time, s."""

    def __init__(self, name: str, site: Site, random: Random, own: Options) -> None:
        self._site = site
        self._cell: CellPort | None = site.cell
        if own.text("leads", "normal", ("normal", "open")) == "open":
            self._cell = None
        self._gauss = random.gauss
        self.spec = Specification.chosen(own)
        number = own.number
        self._noise = number("noise", NOISE, low=0.0, high=0.1)
        self._voltage_offset = number("voltage_offset", 0.0, low=-1.0, high=1.0)
        self._voltage_gain = 1.0 + number("voltage_gain_error", 0.0, low=-0.1, high=0.1)
        self._current_offset = number("current_offset", 0.0, low=-0.1, high=0.1)
        self._current_gain = 1.0 + number("current_gain_error", 0.0, low=-0.1, high=0.1)
        self._drift = number("drift", 0.0, low=0.0, high=1.0)
        self._warm_up = number("warm_up", 0.0, low=-1.0, high=1.0)
        self.aux = _inputs(name, own.text("aux", "C" if site.room is not None else ""))
        self._aux_offset = number("aux_offset", 0.0, low=-100.0, high=100.0)
        self._aux_noise = number("aux_noise", 0.02, low=0.0, high=10.0)
        self.safety = self.safety_of_specification()
        self.plugged = True
        self.output = REST
        self.closed = False
        self._blocked = False
        self._railed = False
        self._limit = 0.0
        self._on_since = float("-inf")

    def safety_of_specification(self) -> Safety:
        """Safety limits as wide as the channel."""
        spec = self.spec
        full = spec.ranges[3]
        return Safety(spec.vmax, spec.vmin, full, full, spec.power, spec.power)

    def power_on(self, now: float) -> None:
        """Wake up cold."""
        self._on_since = now

    # -- driving

    @property
    def full_scale(self) -> float:
        """Of the present current range, A."""
        return self.spec.ranges[self.output.range - 1]

    def off(self, now: float) -> None:
        """Open the relay."""
        self.output = REST
        self._disconnect(now)

    def drive(self, now: float, output: Output) -> None:
        """Follow set points from now on; mode "R" opens the relay."""
        self.output = output
        if output.mode == "R":
            self._disconnect(now)
            return
        self.closed = True
        self._settle(now)

    def plug(self, now: float, plugged: bool) -> None:
        """Pull the leads off the cell, or put them back."""
        if self._cell is not None and not plugged:
            self._cell.open_circuit(now)
        self.plugged = plugged
        if plugged and self.closed:
            self._settle(now)

    def _disconnect(self, now: float) -> None:
        if self.closed and self.plugged and self._cell is not None:
            self._cell.open_circuit(now)
        self.closed = self._blocked = self._railed = False
        self._limit = 0.0

    def _level(self) -> float:
        """Voltage that the regulator goes to, V; a set point beyond the safety stops at it."""
        output, spec, safety = self.output, self.spec, self.safety
        if output.mode == "C":
            rail = min(spec.vmax, safety.vmax)
            wanted = rail if output.voltage is None else output.voltage
            self._railed = output.voltage is None or wanted > rail
            level = min(wanted, rail)
        else:
            rail = max(spec.vmin, safety.vmin)
            wanted = rail if output.voltage is None else output.voltage
            self._railed = output.voltage is None or wanted < rail
            level = max(wanted, rail)
        return level

    def _magnitude(self, voltage: float) -> float:
        """Largest current that the set points allow at a voltage (V), A."""
        output = self.output
        full = self.full_scale
        limit = full if output.current is None else min(output.current, full)
        if output.power is not None:
            limit = min(limit, output.power / max(abs(voltage), 1e-3))
        if output.resistance:
            limit = min(limit, abs(voltage) / output.resistance)
        return limit

    def _settle(self, now: float) -> None:
        """Set the source anew. A regulator pushes one way only: else it waits, without current."""
        cell = self._cell
        if cell is None or not self.plugged:
            return
        level = self._level()
        before = cell.terminal(now)
        limit = self._magnitude(before.voltage)
        cell.open_circuit(now)
        sign = 1.0 if self.output.mode == "C" else -1.0
        self._limit = limit
        self._blocked = sign * (level - cell.terminal(now).voltage) <= 0.0
        step = self.full_scale / SETTING_STEPS
        set_current = round(limit / step) * step
        offset = sign * self._current_offset * self.full_scale
        true_current = max(0.0, (set_current - offset) / self._current_gain)
        if not self._blocked and true_current > 0.0:
            step = self.spec.vmax / SETTING_STEPS
            true_voltage = self._true_voltage(round(level / step) * step, now)
            cell.source_voltage(now, true_voltage, true_current)

    def look(self, now: float) -> bool:
        """Regulate again what the cell's port cannot do by itself: power, resistance, one way.

        Returns whether something changed.
        """
        cell = self._cell
        if cell is None or not self.closed or not self.plugged:
            return False
        seen = cell.terminal(now)
        sign = 1.0 if self.output.mode == "C" else -1.0
        if self._blocked:
            due = sign * (self._level() - seen.voltage) > 0.0
        else:
            backwards = sign * seen.current < -1e-6 * self.full_scale
            moved = abs(self._magnitude(seen.voltage) - self._limit)
            due = backwards or moved > REDRIVE * self._limit
        if due:
            self._settle(now)
        return due

    def held(self, now: float) -> bool:
        """Whether the voltage set point is reached and holds the current back."""
        cell = self._cell
        if not self.closed:
            return False
        if cell is None or not self.plugged or self._blocked:
            return True
        return bool(cell.terminal(now).regulation.value == "voltage")

    def trips(self, now: float) -> int:
        """Safety that is exceeded at this moment, as a reason code (RF2); 0: none."""
        voltage, current = self.observe(now)
        safety = self.safety
        margin = 1e-6 * self.spec.vmax
        if self.closed and self._railed and self.held(now):
            return 253
        if voltage > safety.vmax + margin or voltage < safety.vmin - margin:
            return 253
        most = safety.charge if current > 0.0 else safety.discharge
        if abs(current) > most + 1e-3 * self.full_scale:
            return 252
        power = safety.charge_power if current > 0.0 else safety.discharge_power
        if power > 0.0 and abs(voltage * current) > 1.001 * power:
            return 252
        return 0

    # -- readings

    def observe(self, now: float) -> tuple[float, float]:
        """True voltage (V) and current (A, positive charges) at the channel's terminals."""
        cell = self._cell
        if cell is None or not self.plugged:
            return (self._level() if self.closed else 0.0), 0.0
        seen = cell.terminal(now)
        # Another instrument may drive the same cell while this relay is open.
        return seen.voltage, seen.current if self.closed else 0.0

    def measure(self, now: float) -> tuple[float, float]:
        """A reading: V, and A (positive charges; exactly 0 with the relay open)."""
        voltage, current = self.observe(now)
        voltage = voltage * self._voltage_gain + self._error(now)
        voltage = self._digitise(voltage, self.spec.vmax)
        if not self.closed:
            return voltage, 0.0
        full = self.full_scale
        return voltage, self._digitise(
            current * self._current_gain + self._current_offset * full, full
        )

    def auxiliary(self, now: float) -> list[float]:
        """Readings of the auxiliary inputs, in the units of `aux`."""
        values = []
        for unit in self.aux:
            if unit == "C":
                room = self._site.room
                kelvin = LABORATORY if room is None else room.temperature(now)
                value = kelvin - 273.15 + self._aux_offset
                value = round(value + self._aux_noise * self._gauss(0.0, 1.0), 2)
            elif unit == "V":
                value = self._digitise(self.observe(now)[0], self.spec.vmax)
            else:
                frame = self._site.frame
                value = 0.0 if frame is None else frame.force(now) / frame.area * 1e-6
                value = round(value + 0.1 * self._aux_noise * self._gauss(0.0, 1.0), 3)
            values.append(value)
        return values

    def _error(self, now: float) -> float:
        """What a voltage reading is too high, V."""
        error = self._voltage_offset
        if self._drift:
            error += self._drift * math.sin(2.0 * math.pi * now / DRIFT_PERIOD)
        if self._warm_up:
            error += self._warm_up * math.exp(-max(0.0, now - self._on_since) / WARM_UP_TIME)
        return error

    def _true_voltage(self, level: float, now: float) -> float:
        """Where a regulator with these errors really goes, V."""
        return (level - self._error(now)) / self._voltage_gain

    def _digitise(self, value: float, full: float) -> float:
        step = full / READING_STEPS
        noisy = value + self._noise * full * self._gauss(0.0, 1.0)
        return max(-full, min(round(noisy / step) * step, full))


def _inputs(name: str, text: str) -> tuple[str, ...]:
    """Units of the auxiliary inputs. Raises BadInputError."""
    units = tuple(part.strip() for part in text.split(",") if part.strip())
    if not set(units) <= set(AUX_UNITS):
        raise BadInputError(
            f"[instruments.{name}.simulated] aux = {text!r}: write some of "
            + ", ".join(AUX_UNITS)
            + ", with commas between them"
        )
    return units
