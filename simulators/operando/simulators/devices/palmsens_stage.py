"""The analogue half of a simulated MethodSCRIPT instrument: source, relay, ranges, converters."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from random import Random
from typing import cast

from operando.simulators.cell.spectrum import Spectral
from operando.simulators.cell.spectrum import impedance as spectrum_of
from operando.simulators.devices.device import Options
from operando.simulators.devices.palmsens_models import (
    GALVANOSTAT,
    LOW_SPEED,
    MAX_RANGE,
    OFF,
    POLY_WE,
    PotentiostatModel,
    Range,
)
from operando.simulators.devices.palmsens_packages import (
    OVERLOAD,
    OVERLOAD_WARNING,
    UNDERLOAD,
    Variable,
)
from operando.simulators.devices.palmsens_script import ScriptFault
from operando.simulators.devices.ports import CellPort

BAD_POTENTIAL = 0x000F
NOT_A_NUMBER = 0x0010
BAD_FREQUENCY = 0x0011
BAD_AMPLITUDE = 0x0012
NOT_SUPPORTED = 0x001B
BAD_MODE = 0x0021
NOT_IN_THIS_MODE = 0x0023
NO_RANGES = 0x0084
OUT_OF_BOUNDS = 0x4205

CURRENT, POTENTIAL, APPLIED_CURRENT, APPLIED_POTENTIAL = "ba", "ab", "db", "da"

NEARLY_OVERLOADED = 0.95
"""Share of a range above which a reading warns, and from which autoranging goes up (assumed)."""
COMFORTABLE = 0.8
"""Share of the lower range below which autoranging goes down (assumed)."""
UNDERLOADED = 0.01
"""Share of a range's name below which a reading is underloaded. PalmSens' captures show the
status at 0.01 % of a range and not at 5 %."""
RANGE_CHANGE_TIME = 0.02
"""Time that one change of range takes, s (assumed)."""
IMPEDANCE_NOISE = 1e-5
"""Of current and potential over one period, as a share of what the range reaches (assumed)."""
LARGEST_AMPLITUDE = 1.0
"""Of impedance, V rms (assumed)."""


class _Ranging:
    """The range of one quantity that is in use, and between which ones it may move by itself."""

    def __init__(self) -> None:
        self.wanted: float | None = None
        self.bounds: tuple[float, float] | None = None
        self.ranges: tuple[Range, ...] = ()
        self.at = self.low = self.high = 0

    def use(self, ranges: tuple[Range, ...]) -> None:
        """Work with these ranges, lowest first; the settings stay."""
        self.ranges = ranges
        top = len(ranges) - 1
        self.at = top if self.wanted is None else self._for(self.wanted)
        self.low = self.high = self.at
        if self.bounds is not None:
            low, high = sorted(self._for(bound) for bound in self.bounds)
            self.low, self.high = low, high
            self.at = min(max(self.at, low), high)

    def _for(self, value: float) -> int:
        """The lowest range that holds a value; the highest when none does."""
        for at, one in enumerate(self.ranges):
            if abs(value) <= one.reach * (1.0 + 1e-9):
                return at
        return len(self.ranges) - 1

    @property
    def present(self) -> Range:
        """The range in use."""
        return self.ranges[self.at]

    @property
    def most(self) -> float:
        """What the highest range that may be used reaches."""
        return self.ranges[max(self.high, self.at)].reach

    def follow(self, magnitude: float, changes: int) -> None:
        """Move towards the range for a magnitude, by no more than so many changes."""
        for _ in range(changes):
            if self.at < self.high and magnitude > NEARLY_OVERLOADED * self.present.reach:
                self.at += 1
            elif self.at > self.low and magnitude < COMFORTABLE * self.ranges[self.at - 1].reach:
                self.at -= 1
            else:
                return

    def status(self, magnitude: float) -> int:
        """Status of a reading on the present range."""
        here = self.present
        if magnitude >= here.reach:
            return OVERLOAD
        if magnitude > NEARLY_OVERLOADED * here.reach:
            return OVERLOAD_WARNING
        if self.at > 0 and magnitude < UNDERLOADED * here.nominal:
            return UNDERLOAD
        return 0


class PotentiostatStage:
    """Potentiostat, galvanostat and frequency response analyser on a cell.

    overloaded: tells, once a reading, whether a fault overloads it. Levels in V and A; a positive
    current is anodic at the working electrode and charges a cell whose positive terminal that is.
    """

    def __init__(
        self,
        model: PotentiostatModel,
        cell: CellPort | None,
        random: Random,
        own: Options,
        overloaded: Callable[[], bool],
    ) -> None:
        self.model = model
        self._cell = cell
        self._random = random
        self._overloaded = overloaded
        self._noise = own.number("noise", 1.0, low=0.0, high=1e3) * model.noise
        self._impedance_noise = (
            own.number("impedance_noise", 1.0, low=0.0, high=1e3) * IMPEDANCE_NOISE
        )
        self._potential_offset = own.number("potential_offset", 0.0, low=-0.1, high=0.1)
        self._potential_drift = own.number("potential_drift", 0.0, low=-1e-6, high=1e-6)
        self._warm_up_offset = own.number("warm_up_offset", 20e-6, low=-0.1, high=0.1)
        self._warm_up_time = own.number("warm_up_time", 900.0, low=1.0, high=1e6)
        self._current_gain = 1.0 + own.number("current_gain_error", 0.0, low=-0.5, high=0.5)
        self._lead = own.number("lead_resistance", 0.0, low=0.0, high=1e6)
        self._inductance = own.number("stray_inductance", 0.2e-6, low=0.0, high=1e-3)
        self._capacitance = own.number("stray_capacitance", 10e-12, low=0.0, high=1e-6)
        self._range_delay = own.number("range_delay", 2e-9, low=0.0, high=1e-3)
        spread = own.number("range_gain_error", 5e-4, low=0.0, high=0.1)
        ranges = (*model.currents.values(), model.galvanostat)
        indices = sorted({one.index for group in ranges for one in group})
        self._range_gain = {index: 1.0 + random.gauss(0.0, 1.0) * spread for index in indices}
        self.plugged = True
        self.closed = False
        self.mode = OFF
        self._on_since = 0.0
        self._forget()

    def _forget(self) -> None:
        """Settings as after power on."""
        self.channel = 0
        self.bandwidth = 0.0
        self.potential = self.current = 0.0
        self._window: tuple[float, float] | None = None
        self._ranging = {kind: _Ranging() for kind in (CURRENT, POTENTIAL, APPLIED_CURRENT)}
        self._use_ranges()

    def _use_ranges(self) -> None:
        model = self.model
        currents = model.currents.get(self.mode) or model.currents[LOW_SPEED]
        applied = model.galvanostat or currents
        self._ranging[CURRENT].use(applied if self.mode == GALVANOSTAT else currents)
        self._ranging[APPLIED_CURRENT].use(applied)
        if model.potentials:
            self._ranging[POTENTIAL].use(model.potentials)
        else:
            top = max(abs(v) for w in model.windows.values() for v in (w.lowest, w.highest))
            self._ranging[POTENTIAL].use((Range(-1, top, 1.05 * top),))

    # -- power and relay

    def power_on(self, now: float) -> None:
        """Start cold, with the relay open."""
        self._on_since = now
        self.power_off(now)

    def power_off(self, now: float) -> None:
        """The relay opens without power."""
        self.mode = OFF
        self._forget()
        self.closed = False
        self._apply(now)

    def begin_script(self) -> None:
        """Forget the settings of the script before, unless the cell is still on (assumed)."""
        if not self.closed:
            self.mode = OFF
            self._forget()

    def plug(self, now: float, plugged: bool) -> None:
        """Pull the leads off the cell, or put them back."""
        self.plugged = plugged
        if self._cell is not None and not plugged:
            self._cell.open_circuit(now)
        self._apply(now)

    def cell_on(self, now: float, start: float | None = None) -> None:
        """Close the relay. start: potential to begin at, V; None: the level that is set."""
        if self.mode == OFF:
            raise ScriptFault(NOT_IN_THIS_MODE)
        if self.mode != GALVANOSTAT:
            self._check_potential(self.potential if start is None else start)
            self.potential = self.potential if start is None else start
        self.closed = True
        self._apply(now)

    def cell_off(self, now: float) -> None:
        """Open the relay."""
        self.closed = False
        self._apply(now)

    # -- settings

    def set_mode(self, now: float, mode: int) -> None:
        """Select a mode. Another mode than the present one opens the relay (assumed)."""
        supported = mode in self.model.currents or mode == OFF
        if self.channel:
            # The second channel is a second working electrode; it can only be left unused.
            if mode not in (OFF, POLY_WE):
                raise ScriptFault(BAD_MODE)
            return
        if not supported:
            raise ScriptFault(BAD_MODE)
        if mode != self.mode:
            self.mode = mode
            self.closed = False
            self._use_ranges()
            self._apply(now)

    def need(self, galvanostat: bool) -> None:
        """Raise ScriptFault unless the mode is right."""
        if self.mode == OFF or (self.mode == GALVANOSTAT) is not galvanostat:
            raise ScriptFault(NOT_IN_THIS_MODE)

    def set_range(self, now: float, kind: str, value: float) -> None:
        """Use the lowest range that holds a value (A or V)."""
        if kind == APPLIED_POTENTIAL:
            self.set_window(value, value)
            return
        self._ranging_of(kind).wanted = value
        self._ranges_changed(now)

    def set_autoranging(self, now: float, kind: str, low: float, high: float) -> None:
        """Let the range follow the reading between two values (A or V)."""
        if kind != APPLIED_POTENTIAL:
            self._ranging_of(kind).bounds = (low, high)
            self._ranges_changed(now)

    def set_range_minmax(self, now: float, kind: str, low: float, high: float) -> None:
        """Prepare for values between two (A or V)."""
        if kind == APPLIED_POTENTIAL:
            self.set_window(low, high)
        else:
            self.set_range(now, kind, max(abs(low), abs(high)))

    def set_window(self, low: float, high: float) -> None:
        """Prepare for potentials between two (V)."""
        low, high = min(low, high), max(low, high)
        window = self.model.windows.get(self.mode)
        if window is not None and not window.holds(low, high):
            raise ScriptFault(BAD_POTENTIAL)
        self._window = (low, high)

    def _ranging_of(self, kind: str) -> _Ranging:
        try:
            return self._ranging[kind]
        except KeyError:
            raise ScriptFault(NO_RANGES) from None

    def _ranges_changed(self, now: float) -> None:
        self._use_ranges()
        if self.closed:
            self._apply(now)

    def check_scan(self, low: float, high: float) -> None:
        """Raise ScriptFault unless potentials between two (V) can be applied."""
        self._check_potential(low)
        self._check_potential(high)
        if not self.model.windows[self.mode].holds(low, high):
            raise ScriptFault(BAD_POTENTIAL)

    def _check_potential(self, volts: float) -> None:
        if not math.isfinite(volts):
            raise ScriptFault(NOT_A_NUMBER)
        window = self.model.windows.get(self.mode) or self.model.windows[MAX_RANGE]
        inside = window.holds(volts, volts)
        if inside and self._window is not None:
            # The window is laid around what was announced, as wide as the mode allows.
            middle = 0.5 * sum(self._window)
            inside = abs(volts - middle) <= 0.5 * window.span + 1e-9
        if not inside:
            raise ScriptFault(BAD_POTENTIAL)

    def set_potential(self, now: float, volts: float) -> float:
        """Set the level of the potentiostat; returns what the source can do, V.

        A published script sets it before the mode, so the level outlives a change of mode.
        """
        if self.mode == GALVANOSTAT:
            raise ScriptFault(NOT_IN_THIS_MODE)
        self._check_potential(volts)
        step = self.model.potential_step
        self.potential = round(volts / step) * step
        self._apply(now)
        return self.potential

    def set_current(self, now: float, amps: float) -> float:
        """Set the level of the galvanostat; returns what the source can do, A."""
        self.need(galvanostat=True)
        if not math.isfinite(amps):
            raise ScriptFault(NOT_A_NUMBER)
        ranging = self._ranging[APPLIED_CURRENT]
        if abs(amps) > ranging.present.reach * (1.0 + 1e-9):
            raise ScriptFault(OUT_OF_BOUNDS)
        step = self.model.current_step * ranging.present.nominal
        self.current = round(amps / step) * step
        self._apply(now)
        return self.current

    def _apply(self, now: float) -> None:
        cell = self._cell
        if cell is None or not self.plugged:
            return
        if not self.closed:
            cell.open_circuit(now)
        elif self.mode == GALVANOSTAT:
            cell.source_current(now, self.current / self._current_gain, self.model.compliance)
        else:
            limit = min(self._ranging[CURRENT].most, self.model.largest_current)
            level = self.potential - self._offset(now)
            cell.source_voltage(now, level, limit, self._lead)

    # -- readings

    def _offset(self, now: float) -> float:
        """Error of the reference at a time, V: calibration, warm-up, ageing."""
        on = max(now - self._on_since, 0.0)
        warming = self._warm_up_offset * math.exp(-on / self._warm_up_time)
        return self._potential_offset + warming + self._potential_drift * on

    def _observe(self, now: float) -> tuple[float, float]:
        """Potential (V) and current (A) before the converters."""
        if self._cell is None or not self.plugged:
            # Nothing holds the reference electrode: the amplifier goes to its end.
            return math.copysign(self.model.compliance, self.current or 1.0), 0.0
        terminal = self._cell.terminal(now)
        current = terminal.current if self.closed else 0.0
        return terminal.voltage + current * self._lead, current

    def read_current(self, now: float, patience: float) -> Variable:
        """Measure the current; patience: time there is for changes of range, s."""
        current = self._observe(now)[1] * self._current_gain
        return self._read(CURRENT, self._in_use(), current, patience)

    def _in_use(self) -> str:
        """Which setting chooses the range of the current: a galvanostat has that of its source."""
        return APPLIED_CURRENT if self.mode == GALVANOSTAT else CURRENT

    def read_potential(self, now: float, patience: float) -> Variable:
        """Measure the potential of the working electrode; patience as of `read_current`."""
        potential = self._observe(now)[0] + self._offset(now)
        return self._read(POTENTIAL, POTENTIAL, potential, patience)

    def _read(self, kind: str, of: str, value: float, patience: float) -> Variable:
        ranging = self._ranging[of]
        ranging.follow(abs(value), 1 + int(patience / RANGE_CHANGE_TIME))
        here = ranging.present
        status = ranging.status(abs(value))
        if of == POTENTIAL:
            # A cell near 0 V is no fault of the range, and limits of a source are.
            status &= ~UNDERLOAD
        if self._overloaded():
            status, value = OVERLOAD, math.copysign(here.reach, value)
        value += self._noise * here.reach * self._random.gauss(0.0, 1.0)
        value = min(max(value, -here.reach), here.reach)
        count = 2.0 * here.reach / self.model.counts
        return Variable(
            round(value / count) * count, kind, status, here.index if here.index >= 0 else None
        )

    # -- impedance

    def check_frequency(self, hertz: float) -> None:
        """Raise ScriptFault for a frequency (Hz) that the analyser does not have."""
        low, high = self.model.frequencies
        if not low * (1.0 - 1e-9) <= hertz <= high * (1.0 + 1e-9):
            raise ScriptFault(BAD_FREQUENCY)

    def check_amplitude(self, rms: float, galvanostatic: bool) -> None:
        """Raise ScriptFault for an amplitude (V or A rms) that the source does not have."""
        most = self._ranging[APPLIED_CURRENT].most if galvanostatic else LARGEST_AMPLITUDE
        if not 0.0 < rms <= most:
            raise ScriptFault(BAD_AMPLITUDE)

    def read_impedance(
        self, now: float, hertz: float, rms: float, periods: float, galvanostatic: bool
    ) -> tuple[Variable, Variable]:
        """Measure at one frequency, over some periods; rms in V or A. Returns Z' and Z'', ohm."""
        omega = 2.0 * math.pi * hertz
        z = self._spectrum(now, hertz) + self._lead + 1j * omega * self._inductance
        z = z / (1.0 + 1j * omega * self._capacitance * z)
        current, potential = (rms, rms * abs(z)) if galvanostatic else (rms / abs(z), rms)
        direct = abs(self._observe(now)[1])
        by_current = self._ranging[self._in_use()]
        by_potential = self._ranging[POTENTIAL]
        peaks = (direct + math.sqrt(2.0) * current, math.sqrt(2.0) * potential)
        for ranging, peak in zip((by_current, by_potential), peaks, strict=True):
            ranging.follow(peak, len(ranging.ranges))
        here, there = by_current.present, by_potential.present
        # Each range has its own gain and delay, so a spectrum has a small step where it changes.
        delay = self._range_delay * (len(by_current.ranges) - 1 - by_current.at)
        z *= self._range_gain[here.index] * cmath.exp(-1j * omega * delay)
        status = by_current.status(peaks[0]) | (by_potential.status(peaks[1]) & ~UNDERLOAD)
        if self._overloaded():
            status = OVERLOAD
        if status & OVERLOAD:
            z *= max(peaks[0] / here.reach, 1.0)
        average = math.sqrt(max(periods, 1.0))
        error = self._impedance_noise / average
        spread = math.hypot(error * here.reach / current, error * there.reach / potential)
        gauss = self._random.gauss
        z *= 1.0 + spread * complex(gauss(0.0, 0.7), gauss(0.0, 0.7))
        # The Pico repeats its current range with Z''; it has no ranges of potential.
        second = there.index if there.index >= 0 else here.index
        return (
            Variable(z.real, "cc", status, here.index),
            Variable(z.imag, "cd", status, second),
        )

    def _spectrum(self, now: float, hertz: float) -> complex:
        cell = self._cell
        if cell is None or not self.plugged:
            return complex(1e12)
        try:
            return complex(spectrum_of(cast("Spectral", cell), hertz, now))
        except AttributeError:
            raise ScriptFault(NOT_SUPPORTED) from None
