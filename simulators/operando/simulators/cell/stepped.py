"""Stepping of small cells: a few slow numbers behind two terminals.

As in `SimulatedCell` the grid of steps starts anew at every change of control and nowhere else, a
poll interpolates inside the running step, and a change of control repeats it with a shorter
length. So the trajectory does not depend on who asks, nor how often.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

from operando.simulators.cell.control import (
    LONGEST_LIFE,
    check_source,
    check_start,
    check_temperature,
)
from operando.simulators.cell.state import Regulation, Source, Terminal

Values = tuple[float, ...]
"""The inner state of a cell; what each number is, its class says."""

FIRST_STEP = 1e-3
"""Length of the first step after a change of control, s."""
LONGEST_STEP = 600.0
"""s. Beyond it a step may be as long as 1 % of the time since the last change of control."""
SHORTEST_STEP = 1e-6
"""s; and 0.1 % of the time since the last change of control, so that the work stays bounded."""
MOST_WIDENINGS = 30
"""Times that a bracket of current is widened fourfold. A cell whose voltage does not reach a limit
with what that gives (more than 1e6 A) is taken at that current."""


class SteppedCell(ABC):
    """A cell whose response over a step is a rising function of its current."""

    area: float
    """Electrode area, m2."""
    assembled_at: float
    """Laboratory time of assembly, s."""

    def __init__(
        self, values: Values, *, area: float, temperature: float, start: float = 0.0
    ) -> None:
        """Take the state as assembled; start: laboratory time of assembly, s."""
        check_start(start)
        self.area = area
        self.assembled_at = start
        self._temperature = temperature
        self._now = 0.0
        self._source = Source(Regulation.OPEN)
        self._begin_time = self._end_time = self._engaged = 0.0
        self._begin = self._end = values
        # Voltage (V), current (A), net and absolute charge (C) at both ends of the step.
        self._begin_seen = self._end_seen = (0.0, 0.0, 0.0, 0.0)
        self._regulation = self._end_regulation = Regulation.OPEN
        self._length = FIRST_STEP
        self._set_temperature(temperature)
        self._engage()

    # -- what a cell is made of

    @abstractmethod
    def _respond(self, values: Values, current: float, length: float) -> tuple[float, Values]:
        """Return voltage (V) and state at the end of a step (s) at a current (A).

        The voltage must rise with the current. A length of 0 is the response at once.
        """

    @abstractmethod
    def _change(self, begin: Values, end: Values) -> float:
        """Return how far a step went, in units of what one step may."""

    @abstractmethod
    def _set_temperature(self, kelvin: float) -> None:
        """Set everything that depends on temperature, K."""

    # -- electrical port

    def open_circuit(self, now: float) -> None:
        """Disconnect whatever is connected."""
        self._control(now, Source(Regulation.OPEN))

    def source_voltage(
        self, now: float, level: float, current_limit: float, resistance: float = 0.0
    ) -> None:
        """Connect a voltage source: level in V, limit in A (a magnitude), leads in ohm."""
        source = Source(Regulation.VOLTAGE, level, abs(current_limit), resistance)
        self._control(now, source)

    def source_current(self, now: float, level: float, voltage_limit: float) -> None:
        """Connect a current source: level in A, limit in V (a magnitude)."""
        self._control(now, Source(Regulation.CURRENT, level, abs(voltage_limit)))

    def terminal(self, now: float) -> Terminal:
        """Return voltage (V), current (A) and regulation at the terminals."""
        self.advance(now)
        voltage, current, _, _ = self._seen()
        return Terminal(voltage, current, self._regulation)

    def advance(self, now: float) -> None:
        """Make the state valid up to a time; every other method does so by itself."""
        now -= self.assembled_at
        if not now >= self._now:
            raise ValueError(
                f"time must not decrease: asked for {self.assembled_at + now!r} s after "
                f"{self.assembled_at + self._now!r} s"
            )
        if now > LONGEST_LIFE:
            raise ValueError(f"a cell is followed for {LONGEST_LIFE:g} s after its assembly")
        while self._end_time < now:
            self._take_step()
        self._now = now

    @property
    def time(self) -> float:
        """Laboratory time the cell has reached, s."""
        return self.assembled_at + self._now

    @property
    def temperature(self) -> float:
        """Temperature of the whole cell, K."""
        return self._temperature

    def set_temperature(self, now: float, kelvin: float) -> None:
        """Set the temperature of the whole cell, K."""
        check_temperature(kelvin)
        if kelvin == self._temperature:
            self.advance(now)
            return
        self._cut(now)
        self._temperature = kelvin
        self._set_temperature(kelvin)
        self._engage()

    def charge_passed(self, now: float) -> float:
        """Return the net charge since assembly, C; positive charged the cell."""
        self.advance(now)
        return self._seen()[2]

    def throughput(self, now: float) -> float:
        """Return the absolute charge passed since assembly, C."""
        self.advance(now)
        return self._seen()[3]

    # -- inside the running step

    def _share(self) -> float:
        length = self._end_time - self._begin_time
        return 1.0 if length <= 0.0 else (self._now - self._begin_time) / length

    def _seen(self) -> tuple[float, float, float, float]:
        """Return voltage, current, net and absolute charge at the present time."""
        s = self._share()
        v, i, q, a = (
            begin + (end - begin) * s
            for begin, end in zip(self._begin_seen, self._end_seen, strict=True)
        )
        return v, i, q, a

    def _values(self) -> Values:
        """Return the inner state at the present time."""
        s = self._share()
        return tuple(b + (e - b) * s for b, e in zip(self._begin, self._end, strict=True))

    # -- control

    def _control(self, now: float, source: Source) -> None:
        check_source(source)
        if source == self._source:
            self.advance(now)
            return
        self._cut(now)
        self._source = source
        self._engage()

    def _cut(self, now: float) -> None:
        """End the running step at a time, as if it had been planned so."""
        self.advance(now)
        if self._begin_time < self._now < self._end_time:
            self._finish(self._now - self._begin_time)
        elif self._now == self._begin_time:
            self._end_time = self._begin_time
            self._end, self._end_seen = self._begin, self._begin_seen

    def _engage(self) -> None:
        """Start the grid anew with the present source, at the end of the last step."""
        self._engaged = self._begin_time = self._end_time
        self._begin = self._end
        current, voltage, _, regulation = self._settle(self._begin, 0.0)
        _, _, charge, throughput = self._end_seen
        self._begin_seen = self._end_seen = (voltage, current, charge, throughput)
        self._regulation = self._end_regulation = regulation
        self._length = FIRST_STEP

    # -- grid

    def _take_step(self) -> None:
        self._begin_time, self._begin = self._end_time, self._end
        self._begin_seen, self._regulation = self._end_seen, self._end_regulation
        elapsed = self._begin_time - self._engaged
        # Within the model's life the clock still tells such a step from none.
        shortest = max(SHORTEST_STEP, 1e-3 * elapsed)
        longest = max(LONGEST_STEP, 0.01 * elapsed)
        length = min(max(self._length, shortest), longest)
        while True:
            values, regulation = self._settle(self._begin, length)[2:]
            change = self._change(self._begin, values)
            if change <= 1.0 or length <= shortest:
                break
            length = max(length * max(0.2, 0.8 / change), shortest)
        self._length = length * min(2.0, max(0.5, 0.7 / max(change, 1e-9)))
        if regulation is not self._regulation:
            length = self._switch_after(length)
        self._finish(length)

    def _switch_after(self, length: float) -> float:
        """Return the shortest step (s) at whose end the source has changed what it holds."""
        low, high = 0.0, length
        while high - low > 1e-6 * length + 1e-9:
            middle = 0.5 * (low + high)
            if self._settle(self._begin, middle)[3] is self._regulation:
                low = middle
            else:
                high = middle
        return high

    def _finish(self, length: float) -> None:
        """Make the running step this long (s)."""
        current, voltage, values, regulation = self._settle(self._begin, length)
        _, _, charge, throughput = self._begin_seen
        # The implicit step held this current from its beginning.
        moved = current * length
        self._end_time = self._begin_time + length
        self._end = values
        self._end_seen = (voltage, current, charge + moved, throughput + abs(moved))
        self._end_regulation = regulation

    def _settle(self, values: Values, length: float) -> tuple[float, float, Values, Regulation]:
        """Return current, voltage, state and regulation at the end of a step with the source."""
        source = self._source
        if source.regulation is Regulation.OPEN:
            voltage, after = self._respond(values, 0.0, length)
            return 0.0, voltage, after, Regulation.OPEN
        lead, limit = source.resistance, source.limit
        if source.regulation is Regulation.CURRENT:
            current = source.level
            voltage, after = self._respond(values, current, length)
            if abs(voltage) <= limit:
                return current, voltage, after, Regulation.CURRENT
            level, low, high = math.copysign(limit, voltage), current, current
            reach = max(abs(current), 1e-9)
            for _ in range(MOST_WIDENINGS):
                if voltage > level:
                    if self._respond(values, low, length)[0] <= level:
                        break
                    low, reach = low - reach, 4.0 * reach
                else:
                    if self._respond(values, high, length)[0] >= level:
                        break
                    high, reach = high + reach, 4.0 * reach
        else:
            level, low, high = source.level, -limit, limit
            for current, sign in ((limit, 1.0), (-limit, -1.0)):
                voltage, after = self._respond(values, current, length)
                if sign * (voltage + current * lead - level) <= 0.0:
                    return current, voltage, after, Regulation.CURRENT

        def excess(trial: float) -> float:
            return self._respond(values, trial, length)[0] + trial * lead - level

        current = _root(excess, low, high)
        voltage, after = self._respond(values, current, length)
        return current, voltage, after, Regulation.VOLTAGE


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function crosses zero between two arguments.

    Illinois variant of the secant rule, with a bisection where it is slow.
    """
    below, above = function(low), function(high)
    if below >= 0.0:
        return low
    if above <= 0.0:
        return high
    side, width = 0, high - low
    for k in range(200):
        middle = high - above * (high - low) / (above - below)
        if not low < middle < high or (k % 8 == 7 and high - low > 0.5 * width):
            middle = 0.5 * (low + high)
        if k % 8 == 7:
            width = high - low
        value = function(middle)
        if value == 0.0 or high - low <= 1e-15 + 1e-13 * max(abs(low), abs(high)):
            return middle
        if value > 0.0:
            high, above = middle, value
            below *= 0.5 if side > 0 else 1.0
            side = 1
        else:
            low, below = middle, value
            above *= 0.5 if side < 0 else 1.0
            side = -1
        if abs(value) < 1e-13:
            return middle
    return 0.5 * (low + high)
