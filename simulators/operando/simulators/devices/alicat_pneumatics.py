"""The pneumatic half of a simulated dual-valve pressure controller: ramp, valves, actuator."""

from __future__ import annotations

import math
from dataclasses import dataclass

from operando.simulators.devices.device import Options

SETTLED = 1e-7
"""Share of full scale within which the pressure counts as being at its goal."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """How the set point moves. rate: Pa/s, 0 jumps. code: time unit it was written in.

    when: whether it ramps up, down, to zero, and after power-up.
    """

    rate: float = 0.0
    code: int = 4
    when: tuple[bool, bool, bool, bool] = (True, True, True, True)


class Pneumatics:
    """Pressure in an actuator between two valves, as the sensor shows it, gauge, Pa.

    The loop closes a share of the error in `loop_time`; the valves limit how fast. Between two
    changes everything is a closed expression, so that it does not matter how often it is asked.
    """

    def __init__(self, options: Options, now: float, pressure: float, full_scale: float) -> None:
        self._tau = options.number("loop_time", 0.2, low=1e-3, high=1e3)
        self._supply = options.number("supply_pressure", 1.2 * full_scale, low=0.0)
        self._exhaust = options.number("exhaust_pressure", 0.0, low=-1.1e5, high=1e8)
        self._fill = options.number("fill_rate", 0.5 * full_scale, low=1e-3)
        self._empty = options.number("exhaust_rate", 0.5 * full_scale, low=1e-3)
        self._leak = options.number("leak_rate", 0.0, low=0.0, high=1.0)
        self._resolution = SETTLED * full_scale
        self.ramp = Ramp()
        self.mode = "control"
        self.requested = pressure
        self._supplied = True
        self._time = now
        self._pressure = pressure
        self._point = pressure
        self._rate = 0.0

    # -- settings, each from a time `now` (s) on

    def steer(self, wanted: float, now: float) -> None:
        """Ask for a pressure, Pa."""
        self._advance(now)
        self.requested = wanted
        up, down, zero, _ = self.ramp.when
        ramps = zero if wanted == 0.0 else (up if wanted > self._point else down)
        self._begin_ramp(ramps)

    def set_ramp(self, ramp: Ramp, now: float) -> None:
        """Change the ramp; one that runs goes on with it."""
        self._advance(now)
        self.ramp = ramp
        if self._rate:
            self._begin_ramp(True)

    def _begin_ramp(self, ramps: bool) -> None:
        if not ramps or not self.ramp.rate:
            self._point, self._rate = self.requested, 0.0
        else:
            self._rate = math.copysign(self.ramp.rate, self.requested - self._point)
            if self.requested == self._point:
                self._rate = 0.0

    def enter(self, mode: str, now: float, *, after_power: bool = False) -> None:
        """Go to "control", "hold" (both valves closed) or "exhaust" (exhaust wide open)."""
        self._advance(now)
        self.mode = mode
        if after_power and self.ramp.when[3] and self.ramp.rate:
            self._point = self._pressure
            self._begin_ramp(True)

    def supply(self, present: bool, now: float) -> None:
        """Connect the supply, or take it away."""
        self._advance(now)
        self._supplied = present

    def shift(self, now: float) -> float:
        """Call the present pressure zero; returns what it was, Pa."""
        self._advance(now)
        shifted, self._pressure = self._pressure, 0.0
        return shifted

    # -- what it is at a time

    def pressure(self, now: float) -> float:
        """What the sensor shows, Pa."""
        self._advance(now)
        return self._pressure

    def set_point(self, now: float) -> float:
        """Set point that the loop follows now, Pa; on its way while it ramps."""
        self._advance(now)
        return self._point

    def moving(self, now: float) -> bool:
        """Whether the pressure is on its way."""
        self._advance(now)
        if self.mode == "hold":
            return self._leak > 0.0 and abs(self._pressure - self._exhaust) > self._resolution
        if self.mode == "control" and self._rate:
            return True
        return abs(self._goal() - self._pressure) > self._resolution

    def valves(self, now: float) -> tuple[float, float]:
        """Drive of inlet and exhaust valve, %."""
        self._advance(now)
        if self.mode == "hold":
            return 0.0, 0.0
        if self.mode == "exhaust":
            return 0.0, 100.0
        pull = (self._point - self._pressure) / self._tau
        if pull >= 0.0:
            return min(100.0 * pull / self._fill, 100.0), 0.0
        return 0.0, min(-100.0 * pull / self._empty, 100.0)

    # -- motion

    def _reach(self) -> tuple[float, float]:
        """Lowest and highest pressure that the valves can bring about now, Pa."""
        low = min(self._exhaust, self._pressure)
        high = self._supply if self._supplied else low
        return low, max(high, self._pressure)

    def _goal(self) -> float:
        """Where the pressure comes to rest, Pa."""
        low, high = self._reach()
        return min(max(self._exhaust if self.mode == "exhaust" else self._point, low), high)

    def _advance(self, now: float) -> None:
        """Bring the state to laboratory time `now` (s)."""
        left = now - self._time
        if left <= 0.0:
            return
        self._time = now
        if self._rate:
            arrival = (self.requested - self._point) / self._rate
            span = min(left, max(arrival, 0.0))
            self._move(span, self._rate)
            if arrival <= left:
                self._point, self._rate = self.requested, 0.0
            left -= span
        if left > 0.0:
            self._move(left, 0.0)

    def _move(self, span: float, rate: float) -> None:
        """Let `span` s pass with a set point that moves at `rate` Pa/s."""
        if self.mode == "hold":
            self._point += rate * span
            self._pressure = self._exhaust + (self._pressure - self._exhaust) * math.exp(
                -self._leak * span
            )
            return
        if self.mode == "exhaust":
            self._point += rate * span
            self._pressure = self._follow(self._exhaust, 0.0, span)
            return
        self._pressure = self._follow(self._point, rate, span)
        self._point += rate * span

    def _follow(self, goal: float, rate: float, span: float) -> float:
        """Pressure after `span` s behind a goal that moves at `rate` Pa/s."""
        low, high = self._reach()
        tau = self._tau
        lag = goal - self._pressure
        left = span
        # At most: saturated, following, saturated.
        for _ in range(4):
            if left <= 0.0:
                break
            most, least = self._fill * tau, -self._empty * tau
            filling = lag > most or (lag == most and rate > self._fill)
            emptying = lag < least or (lag == least and rate < -self._empty)
            if filling or emptying:
                bound = most if filling else least
                closing = rate - bound / tau
                away = bound - lag
                time = away / closing if away and closing and away / closing > 0.0 else math.inf
                step = min(left, time)
                lag = bound if step == time else lag + closing * step
            else:
                steady = rate * tau
                bound = most if steady > most else (least if steady < least else steady)
                time = math.inf
                if bound != steady and (steady - lag) != 0.0:
                    share = (steady - bound) / (steady - lag)
                    if 0.0 < share < 1.0:
                        time = -tau * math.log(share)
                step = min(left, time)
                lag = bound if step == time else steady + (lag - steady) * math.exp(-step / tau)
            left -= step
        return min(max(goal + rate * span - lag, low), high)
