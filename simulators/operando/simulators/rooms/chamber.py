"""A temperature chamber and the cells in it.

Air and cells follow closed forms between two set-points. A cell is told its temperature in steps at
times that follow from those forms alone, before it is asked for anything else: what it does depends
neither on how often it is asked nor on whether anybody asks the chamber.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from numpy.typing import ArrayLike

from operando.instruments.errors import BadInputError
from operando.simulators.cell.elements import Complex
from operando.simulators.cell.port import Cell
from operando.simulators.cell.simulated import SimulatedCell
from operando.simulators.cell.spectrum import Spectral
from operando.simulators.cell.spectrum import impedance as spectrum_of
from operando.simulators.cell.state import Terminal
from operando.simulators.devices.device import Options
from operando.simulators.devices.ports import CellPort, FramePort
from operando.simulators.rooms.laboratory import STANDARD_PRESSURE, WATER_IN_AIR, air
from operando.simulators.rooms.mixing import overlap

HEATING, COOLING = 0.05, 0.025
"""Fastest change of the air, K/s: 3 and 1.5 K/min (assumed; 1 to 5 and 0.5 to 3 K/min for small
chambers with a single compressor)."""

RESPONSE = 60.0
"""Time constant with which the air nears the target after a ramp, s (assumed; 20 to 300)."""

IDLE = 7200.0
"""Time constant with which a chamber that is off takes the temperature around it, s (assumed; 1 to
5 h for 100 mm of insulation and 100 kg of steel)."""

CELL = 600.0
"""Time constant with which a cell in its load frame follows the air, s: 1 kg of steel (500 J/K),
0.03 m2, 25 W/(m2 K) of moving air (assumed; 100 for a bare pouch to 3000 for a heavy frame)."""

LOWEST, HIGHEST = 233.15, 423.15
"""Reach of the machine, K (assumed: -40 to 150 degC)."""

STEP = 0.1
"""Largest difference between a cell and what it was told, K (ours). 0.1 K moves a conductivity of
0.4 eV by 0.5 %."""

SETTLED = 2e-3
"""Closer than this to the temperature it will have at last, a cell is told that one, K (ours)."""


@dataclass(frozen=True, slots=True)
class Course:
    """Air and cell from one change to the next: air = base + slope t + swing exp(-rate t).

    start, end: laboratory time, s. base, swing: K. slope: K/s. rate: 1/s, where there is a swing.
    cell: temperature of the cells at the start, K. lag: their time constant, s.
    """

    start: float
    end: float
    base: float
    slope: float
    swing: float
    rate: float
    cell: float
    lag: float

    def air_at(self, time: float) -> float:
        """K, a time (s) after the start."""
        return self.base + self.slope * time + self.swing * math.exp(-self.rate * time)

    def cell_at(self, time: float) -> float:
        """K, a time (s) after the start."""
        follow = 1.0 / self.lag
        straight = self.base + self.slope * (time - self.lag)
        kept = (self.cell - self.base + self.slope * self.lag) * math.exp(-follow * time)
        return straight + kept + self.swing * follow * overlap(self.rate, follow, time)

    def fastest(self, time: float) -> float:
        """Bound of the cell's rate of change from a time on, K/s: its own and that of the air."""
        air = abs(self.slope - self.rate * self.swing * math.exp(-self.rate * time))
        return max(air, abs(self.air_at(time) - self.cell_at(time)) / self.lag)


class Chamber:
    """Laboratory air, heated and cooled.

    Options: temperature (K, of air and cells at the start), surroundings (K), pressure (Pa),
    h2o (mole fraction), heating_rate, cooling_rate (K/s), response_time, idle_time, cell_time (s),
    lowest, highest (K).
    """

    def __init__(self, options: Options, start: float, name: str = "chamber") -> None:
        self._around = options.number("surroundings", 296.15, low=250.0, high=330.0)
        self._low = options.number("lowest", LOWEST, low=160.0, high=310.0)
        self._high = options.number("highest", HIGHEST, low=self._low + 1.0, high=590.0)
        begin = options.number("temperature", self._around, low=self._low, high=self._high)
        self._pressure = options.number("pressure", STANDARD_PRESSURE, low=5e4, high=1.2e5)
        self._fractions = air(options.number("h2o", WATER_IN_AIR, low=0.0, high=0.2))
        self._heating = options.number("heating_rate", HEATING, low=1e-6, high=10.0)
        self._cooling = options.number("cooling_rate", COOLING, low=1e-6, high=10.0)
        self._response = options.number("response_time", RESPONSE, low=0.1, high=1e5)
        self._idle = options.number("idle_time", IDLE, low=1.0, high=1e7)
        self._lag = options.number("cell_time", CELL, low=0.1, high=1e6)
        self._name = name
        self._target: float | None = None
        self._rate = math.inf
        self.told: list[tuple[float, float]] = [(start, begin)]
        """Laboratory time (s) and temperature (K) of everything that cells are told."""
        self._course = self._plan(start, begin, begin)
        # Cells are followed up to here; it follows from the courses, not from who asks.
        self._cursor = start

    # -- what instruments see

    def temperature(self, now: float) -> float:
        """Of the air, K."""
        self.follow(now)
        return self._course.air_at(max(now - self._course.start, 0.0))

    def cell_temperature(self, now: float) -> float:
        """Of the cells, K; what they are told is within `STEP` of it."""
        self.follow(now)
        return self._course.cell_at(max(now - self._course.start, 0.0))

    def pressure(self, now: float) -> float:
        """Absolute, Pa."""
        return self._pressure

    def surrounding_pressure(self, now: float) -> float:
        """Absolute pressure outside, Pa."""
        return self._pressure

    def fraction(self, gas: str, now: float) -> float:
        """Mole fraction of a gas; water that freezes out is not followed."""
        return self._fractions[gas]

    def inject(self, text: str, now: float) -> None:
        """Refused, except "none": what happens to a chamber, its controller does."""
        if text.strip() not in {"", "none"}:
            raise BadInputError(f"[rooms.{self._name}]: no events happen here, not {text!r}")

    # -- what controllers do

    def regulate(self, now: float, target: float | None, rate: float = math.inf) -> None:
        """Go to a temperature (K) at no more than a rate (K/s); None: switch the machine off.

        The machine's own rates and reach hold beside it.
        """
        if target is not None and not math.isfinite(target):
            raise ValueError(f"a chamber needs a finite target, not {target!r}")
        if not rate > 0.0:
            raise ValueError(f"a rate must be positive, not {rate!r}")
        if target is not None:
            target = min(max(target, self._low), self._high)
        if (target, rate) == (self._target, self._rate):
            return
        self.follow(now)
        course = self._course
        now = max(now, course.start, self.told[-1][0])
        time = now - course.start
        air_now, cell_now = course.air_at(time), course.cell_at(time)
        self._target, self._rate = target, rate
        self._course = self._plan(now, air_now, cell_now)
        self._cursor = now

    # -- what cells are told

    def occupy(self, cell: Cell, now: float) -> CellPort:
        """Put a cell into the chamber; it has the temperature of those that are there."""
        self.follow(now)
        return Occupant(cell, self, now)

    def clamp(self, frame: FramePort, cell: CellPort) -> FramePort:
        """A frame that sees to it that its cell has the temperature of the moment."""
        assert isinstance(cell, Occupant)
        return OccupantFrame(frame, cell)

    def follow(self, now: float) -> None:
        """Extend `told` up to a laboratory time (s)."""
        while self._cursor <= now:
            course = self._course
            if course.end <= self._cursor:
                time = course.end - course.start
                course = self._plan(course.end, course.air_at(time), course.cell_at(time))
                self._course = course
            time = self._cursor - course.start
            kelvin, told = course.cell_at(time), self.told[-1][1]
            bound = course.fastest(time)
            if not course.slope and bound * max(self._lag, 1.0 / course.rate) < SETTLED:
                if told != course.base:
                    self.told.append((self._cursor, course.base))
                self._cursor = math.inf
                return
            moved = abs(kelvin - told)
            if moved >= 0.99 * STEP:
                self.told.append((self._cursor, kelvin))
                moved = 0.0
            # No sooner than this is the cell a step away from what it was told.
            pace = min((STEP - moved) / bound, self._lag, course.end - self._cursor)
            self._cursor += max(pace, 1e-6)

    # -- courses

    def _plan(self, now: float, air_now: float, cell_now: float) -> Course:
        """What air and cells do from a time on, until the air has to do something else."""
        if self._target is None:
            base, rate = self._around, 1.0 / self._idle
            return Course(now, math.inf, base, 0.0, air_now - base, rate, cell_now, self._lag)
        target, rate = self._target, 1.0 / self._response
        away = target - air_now
        fastest = min(self._rate, self._heating if away > 0.0 else self._cooling)
        straight = abs(away) / fastest - self._response
        if straight <= 1e-9 * self._response:
            return Course(now, math.inf, target, 0.0, -away, rate, cell_now, self._lag)
        slope = math.copysign(fastest, away)
        return Course(now, now + straight, air_now, slope, 0.0, 0.0, cell_now, self._lag)


class Occupant:
    """A cell in a chamber, as seen from its terminals: told its temperature before it is asked."""

    def __init__(self, cell: Cell, chamber: Chamber, now: float) -> None:
        self.cell = cell
        self._chamber = chamber
        self._next = len(chamber.told)
        cell.set_temperature(now, chamber.told[-1][1])

    def settle(self, now: float) -> None:
        """Bring the cell to a laboratory time (s) through everything that it is told."""
        chamber = self._chamber
        chamber.follow(now)
        told = chamber.told
        while self._next < len(told) and told[self._next][0] <= now:
            at, kelvin = told[self._next]
            self._next += 1
            # A cell that somebody asked for a later time cannot be told what was earlier.
            self.cell.set_temperature(max(at, getattr(self.cell, "time", at)), kelvin)

    def open_circuit(self, now: float) -> None:
        """Disconnect whatever is connected."""
        self.settle(now)
        self.cell.open_circuit(now)

    def source_voltage(
        self, now: float, level: float, current_limit: float, resistance: float = 0.0
    ) -> None:
        """Connect a voltage source: level in V, limit in A, leads in ohm."""
        self.settle(now)
        self.cell.source_voltage(now, level, current_limit, resistance)

    def source_current(self, now: float, level: float, voltage_limit: float) -> None:
        """Connect a current source: level in A, limit in V (magnitude)."""
        self.settle(now)
        self.cell.source_current(now, level, voltage_limit)

    def terminal(self, now: float) -> Terminal:
        """What is seen at the terminals."""
        self.settle(now)
        return self.cell.terminal(now)

    def impedance(self, frequency: ArrayLike, now: float) -> Complex:
        """Impedance at frequencies (Hz) at a laboratory time (s), ohm."""
        self.settle(now)
        return spectrum_of(cast("SimulatedCell | Spectral", self.cell), frequency, now)


class OccupantFrame:
    """A load frame around a cell in a chamber."""

    def __init__(self, frame: FramePort, cell: Occupant) -> None:
        self._frame = frame
        self._cell = cell

    @property
    def area(self) -> float:
        """Area of the piston, m2."""
        return self._frame.area

    def force(self, now: float) -> float:
        """Force at a laboratory time (s), N."""
        self._cell.settle(now)
        return self._frame.force(now)

    def press(self, now: float, force: float) -> None:
        """Let an actuator bring the force to a value (N) at a time (s)."""
        self._cell.settle(now)
        self._frame.press(now, force)
