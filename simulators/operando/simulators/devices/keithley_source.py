"""The analogue half of a simulated source meter: source, limits, relay, sense, digitiser."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from operando.simulators.devices.device import Options
from operando.simulators.devices.keithley_models import (
    MEASURE_RESOLUTION,
    NOISE,
    SOURCE_RESOLUTION,
    SourceMeterModel,
)
from operando.simulators.devices.ports import CellPort

OVERFLOW = 9.9e37

AUTO_DELAY = 1e-3
"""Automatic source delay, s; the true one depends on the range (general knowledge)."""

OTHER = {"VOLT": "CURR", "CURR": "VOLT"}


@dataclass(slots=True)
class SourceSettings:
    """Settings of one source function. Levels and ranges in V or A, times in s.

    range: a fixed one, or None for automatic. limit: of the other quantity, a magnitude.
    """

    limit: float
    level: float = 0.0
    range: float | None = None
    read_back: bool = True
    delay: float = 0.0
    delay_auto: bool = True
    high_capacitance: bool = False
    off_state: str = "NORM"


@dataclass(slots=True)
class SenseSettings:
    """Settings of one measure function. Ranges in V, A or ohm; None is automatic."""

    lowest: float
    highest: float
    range: float | None = None
    nplc: float = 1.0
    four_wire: bool = False
    auto_zero: bool = True
    filter: bool = False
    filter_count: int = 10
    filter_kind: str = "REP"
    extra: dict[str, str] = field(default_factory=dict)


Scale = tuple[list[float], list[tuple[float, float]]]
"""Largest magnitude of each range, and its noise and resolution."""


@dataclass(slots=True)
class Arrangement:
    """What a reading needs, worked out once for a set of settings.

    aperture, duration: s. source: programmed value, when read-back is off.
    """

    voltage: Scale
    current: Scale
    connected: bool
    lead: float
    sees_nothing: bool
    read_back: bool
    source: float
    source_is_voltage: bool
    reads: str
    aperture: float
    duration: float


class SourceStage:
    """Source and sense of one instrument, wired to one cell.

    cell: None or leads = "open" is an instrument with nothing connected.
    defer: calls a function at a laboratory time (s), later.
    """

    def __init__(
        self,
        model: SourceMeterModel,
        cell: CellPort | None,
        random: Random,
        options: Options,
        defer: Callable[[float, Callable[[float], None]], None],
    ) -> None:
        self.model = model
        self._cell = cell
        self._gauss = random.gauss
        self._defer = defer
        number = options.number
        self._lead = number("lead_resistance", 0.0, low=0.0, high=1e6)
        self._leads = options.text("leads", "normal", ("normal", "reversed", "open", "sense open"))
        self._wired = options.text("terminals", "either", ("either", "front", "rear"))
        self._noise = number("noise", NOISE, low=0.0, high=1.0)
        self._relay_time = number("relay_time", 5e-3, low=0.0, high=1.0)
        self._settling_time = number("settling_time", 5e-4, low=0.0, high=10.0)
        self.line_frequency = number("line_frequency", 50.0, low=50.0, high=60.0)
        self._overhead = number("overhead", 0.04, low=0.0, high=10.0)
        self._reading_time = number("reading_time", 0.0, low=0.0, high=100.0)
        self._off_at_once = options.flag("off_state_acts_at_once", True)
        self._power_on_off_state = {"normal": "NORM", "high impedance": "HIMP"}[
            options.text("power_on_off_state", "high impedance", ("high impedance", "normal"))
        ]
        self.relay_closed = False
        self.plugged = True
        self.powered = True
        self.pending: tuple[float, bool] | None = None
        self._arrangement: Arrangement | None = None
        self._changed = self._quiet_after = float("-inf")
        self._before = (0.0, 0.0)
        self.settled_at = float("-inf")
        self.reset_settings()

    # -- settings

    def reset_settings(self) -> None:
        """Factory settings, output off; does not touch the cell."""
        model = self.model
        self.function = "VOLT"
        self.sense = "CURR"
        self.output = False
        self.terminals = "FRON"
        self.protection: int | None = None
        self.source = {
            "VOLT": SourceSettings(limit=model.default_current_limit),
            "CURR": SourceSettings(limit=model.default_voltage_limit),
        }
        self.senses = {
            "VOLT": SenseSettings(model.voltage_ranges[0], model.voltage_ranges[-1]),
            "CURR": SenseSettings(model.current_ranges[0], model.current_ranges[-1]),
            "RES": SenseSettings(2.0, 2e8),
        }
        self._arrangement = None

    def power_on(self, now: float) -> None:
        """Wake up with power-on settings; the off state decides about the relay."""
        self.reset_settings()
        for settings in self.source.values():
            settings.off_state = self._power_on_off_state
        self.powered = True
        self.relay_closed = self._power_on_off_state != "HIMP"
        self._apply(now)

    def power_off(self, now: float) -> None:
        """Lose power: the relay opens."""
        self.reset_settings()
        self.pending = None
        self.powered = False
        self.relay_closed = False
        self._apply(now)

    def rearrange(self) -> None:
        """A setting of the measurement changed."""
        self._arrangement = None

    def source_range(self, function: str) -> float:
        """The range that the source is on, V or A."""
        settings = self.source[function]
        if settings.range is not None:
            return settings.range
        return self.model.range_for(function, settings.level) or self.model.ranges(function)[-1]

    def measure_range(self, function: str) -> float | None:
        """The range a function is measured on, V or A; None when it follows the value."""
        return (
            self.source_range(function)
            if function == self.function
            else (self.senses[function].range)
        )

    def current_range(self) -> float:
        """The present current range, A."""
        if self.function == "CURR":
            return self.source_range("CURR")
        fixed = self.senses["CURR"].range if self.sense == "CURR" else None
        return fixed or self.model.range_for("CURR", self.source["VOLT"].limit) or 1.0

    def voltage_range(self) -> float:
        """The present voltage range, V."""
        if self.function == "VOLT":
            return self.source_range("VOLT")
        fixed = self.senses["VOLT"].range if self.sense == "VOLT" else None
        return fixed or self.model.range_for("VOLT", self.source["CURR"].limit) or 20.0

    @property
    def four_wire(self) -> bool:
        """Whether source and measurement use the sense leads; off with the output off."""
        return self.output and self.senses[self.sense].four_wire

    # -- output

    def switch(self, on: bool, now: float) -> float:
        """Switch the output; returns when it has happened, s."""
        if on == self.output:
            return now
        self.output = on
        return self._close_relay(now) if on else self._rest(now)

    def change_function(self, function: str, now: float) -> float:
        """Select the source function, which switches the output off; returns when, s."""
        if function == self.function:
            return now
        self.output = False
        self.function = function
        self._arrangement = None
        return self._rest(now)

    def change_terminals(self, terminals: str, now: float) -> float:
        """Select front or rear, which switches the output off; returns when, s."""
        if terminals == self.terminals:
            return now
        self.output = False
        self.terminals = terminals
        return self._rest(now)

    def off_state_changed(self, now: float) -> float:
        """The off state of the present function changed; returns when it acts, s."""
        return self._rest(now) if not self.output and self._off_at_once else now

    def reset(self, now: float) -> float:
        """`*RST`: factory settings and the normal off state; returns when done, s."""
        self.reset_settings()
        return self._rest(now)

    def source_changed(self, now: float) -> None:
        """A level, limit or range of the source changed: it acts at once."""
        if self.output:
            self._apply(now)
        else:
            self._arrangement = None

    def catch_up(self, now: float) -> None:
        """Let the relay move if its time has come."""
        if self.pending is not None and now >= self.pending[0]:
            _, self.relay_closed = self.pending
            self.pending = None
            self._apply(now)

    def _rest(self, now: float) -> float:
        """Go to the off state of the present function."""
        if self.source[self.function].off_state != "HIMP":
            return self._close_relay(now)
        if self.relay_closed or self.pending is not None:
            return self._move_relay(False, now)
        self._apply(now)
        return now

    def _close_relay(self, now: float) -> float:
        if self.relay_closed and self.pending is None:
            self._apply(now)
            return now
        return self._move_relay(True, now)

    def _move_relay(self, closed: bool, now: float) -> float:
        """Begin to move the relay; until it has, the terminals stay as they are."""
        at = now + self._relay_time
        self._arrangement = None
        self.pending = (at, closed)
        if self._relay_time == 0.0:
            self.catch_up(now)
        else:
            self._defer(at, self.catch_up)
        return at

    # -- at the terminals

    @property
    def _connected(self) -> bool:
        wired = self._wired == "either" or self._wired[0].upper() == self.terminals[0]
        leads = self.plugged and self._leads != "open"
        return self._cell is not None and self.relay_closed and leads and wired

    def plug(self, now: float, plugged: bool) -> None:
        """Pull the leads off the cell, or put them back."""
        if self._cell is not None and not plugged:
            self._cell.open_circuit(now)
        self.plugged = plugged
        self._apply(now)

    def drive(self) -> tuple[str, float, float]:
        """What the terminals are driven with: function, level and limit of the other quantity.

        In V and A; over-voltage protection and the step of the source included.
        """
        model = self.model
        if not self.output:
            state = self.source[self.function].off_state
            if state == "GUAR":
                return "CURR", 0.0, 0.1 * self.voltage_range()
            share = 1.0 if state == "ZERO" else 0.1
            return "VOLT", 0.0, share * self.current_range()
        settings = self.source[self.function]
        protection = float("inf") if self.protection is None else float(self.protection)
        step = SOURCE_RESOLUTION[self.function] * self.source_range(self.function)
        level = round(settings.level / step) * step
        if self.function == "CURR":
            return "CURR", level, min(settings.limit, protection)
        if self._leads == "sense open" and self.four_wire:
            # The source sees nothing at its sense leads and pushes as far as it may.
            level = math.copysign(model.reach("VOLT", self.source_range("VOLT")), level)
        return "VOLT", max(-protection, min(level, protection)), settings.limit

    def _apply(self, now: float) -> None:
        """Drive the cell as the settings say, from now on."""
        self._arrangement = None
        self._before = self._observe(now, self.arrangement())
        self._changed = now
        tau = self._settling_time * self._sluggishness()
        self._quiet_after = now + 20.0 * tau
        delay = self.source[self.function]
        self.settled_at = now + (AUTO_DELAY if delay.delay_auto else delay.delay)
        cell = self._cell
        if cell is None:
            return
        if not self._connected:
            cell.open_circuit(now)
            return
        function, level, limit = self.drive()
        if self._leads == "reversed":
            level = -level
        if function == "CURR":
            cell.source_current(now, level, limit)
        else:
            cell.source_voltage(now, level, limit, 0.0 if self.four_wire else self._lead)

    def _sluggishness(self) -> float:
        """Small currents settle slowly: three times slower for each decade under 1 mA."""
        scale = self.current_range()
        return 3.0 ** max(0.0, math.log10(1e-3 / scale)) if scale < 1e-3 else 1.0

    def in_limit(self, now: float) -> bool:
        """Whether the source is held by its limit at this moment."""
        if not self.output:
            return False
        function, level, limit = self.drive()
        if not self._connected or self._cell is None:
            return function == "CURR" and level != 0.0 and limit > 0.0
        held = self._cell.terminal(now).regulation.value
        return bool(held == ("current" if function == "VOLT" else "voltage"))

    def protecting(self, now: float) -> bool:
        """Whether the over-voltage protection holds the source back at this moment."""
        if self.protection is None or not self.output:
            return False
        settings = self.source[self.function]
        if self.function == "VOLT":
            pushes = self._leads == "sense open" and self.four_wire
            return pushes or abs(settings.level) > self.protection
        return settings.limit > self.protection and self.in_limit(now)

    # -- readings

    def arrangement(self) -> Arrangement:
        """What a reading needs with the present settings."""
        found = self._arrangement
        if found is None:
            found = self._arrangement = self._arrange()
        return found

    def _arrange(self) -> Arrangement:
        sense = self.senses[self.sense]
        settings = self.source[self.function]
        cycle = sense.nplc / self.line_frequency
        # An auto-zeroed reading is three conversions: signal, reference, zero (general knowledge).
        conversions = 3.0 if sense.auto_zero else 1.0
        if sense.filter:
            conversions *= sense.filter_count
        return Arrangement(
            voltage=self._scale("VOLT", sense.nplc),
            current=self._scale("CURR", sense.nplc),
            connected=self._connected,
            lead=0.0 if self.four_wire else self._lead,
            sees_nothing=self._leads == "sense open" and self.four_wire,
            read_back=settings.read_back,
            source=settings.level,
            source_is_voltage=self.function == "VOLT",
            reads=self.sense,
            aperture=cycle,
            duration=self._reading_time or conversions * cycle + self._overhead,
        )

    def _scale(self, function: str, nplc: float) -> Scale:
        model = self.model
        fixed = self.measure_range(function)
        sense = self.senses[function]
        if fixed is not None:
            ranges = [fixed]
        else:
            ranges = [r for r in model.ranges(function) if sense.lowest <= r <= sense.highest]
        noise = self._noise / math.sqrt(nplc)
        return (
            [model.reach(function, r) for r in ranges],
            [(noise * r, MEASURE_RESOLUTION[function] * r) for r in ranges],
        )

    def _observe(self, now: float, how: Arrangement) -> tuple[float, float]:
        """Voltage (V) and current (A) at the instrument, before it digitises them."""
        cell = self._cell
        if cell is None or not how.connected:
            return self._observe_nothing()
        terminal = cell.terminal(now)
        current = terminal.current
        voltage = terminal.voltage + current * how.lead
        if self._leads != "normal":
            if how.sees_nothing:
                voltage = 0.0
            elif self._leads == "reversed":
                voltage, current = -voltage, -current
        return voltage, current

    def _observe_nothing(self) -> tuple[float, float]:
        if not self.relay_closed:
            return 0.0, 0.0
        function, level, limit = self.drive()
        if function == "VOLT":
            return level, 0.0
        return (math.copysign(limit, level) if level else 0.0), 0.0

    def measure(self, now: float, how: Arrangement) -> tuple[float, float]:
        """Take a reading: the source element and the reading, V, A or ohm."""
        voltage, current = self._observe(now, how)
        if now < self._quiet_after:
            tau = self._settling_time * self._sluggishness()
            if tau > 0.0:
                share = math.exp(-(now - self._changed + 0.5 * how.aperture) / tau)
                voltage += (self._before[0] - voltage) * share
                current += (self._before[1] - current) * share
        reads = how.reads
        if reads == "CURR":
            reading = self._digitise(current, how.current)
        elif reads == "VOLT":
            reading = self._digitise(voltage, how.voltage)
        else:
            reading = self._resistance(voltage, current, how)
        if not how.read_back:
            return how.source, reading
        if how.source_is_voltage:
            if reads == "VOLT":
                return reading, reading
            return self._digitise(voltage, how.voltage), reading
        if reads == "CURR":
            return reading, reading
        return self._digitise(current, how.current), reading

    def _digitise(self, value: float, scale: Scale) -> float:
        limits, entries = scale
        at = bisect_left(limits, value if value >= 0.0 else -value)
        if at == len(limits):
            return OVERFLOW if value > 0.0 else -OVERFLOW
        noise, resolution = entries[at]
        return round((value + noise * self._gauss(0.0, 1.0)) / resolution) * resolution

    def _resistance(self, voltage: float, current: float, how: Arrangement) -> float:
        volts = self._digitise(voltage, how.voltage)
        amps = self._digitise(current, how.current)
        if amps == 0.0 or abs(volts) >= OVERFLOW or abs(amps) >= OVERFLOW:
            return OVERFLOW
        return volts / amps
