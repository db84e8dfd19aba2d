"""Sweeps of the simulated source meters: the part of the trigger model that `:INIT` starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from operando.simulators.devices.scpi import ScpiError

if TYPE_CHECKING:
    from operando.simulators.devices.keithley_2450 import SimulatedKeithley2450

MOST_POINTS = 1_000_000
"""Points of one linear sweep (2450-901-01, `:SOUR:SWE`)."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A sweep that has been set up.

    function: "VOLT" or "CURR". levels: V or A. delay: s before each reading, None for automatic.
    buffer: where readings go. fixed: stay on one source range.
    """

    function: str
    levels: tuple[float, ...]
    delay: float | None
    buffer: str
    fixed: bool


class Sweep:
    """Runs beside the commands: `:INIT` returns at once, `*WAI` waits, `:ABOR` ends it."""

    def __init__(self, meter: SimulatedKeithley2450) -> None:
        self._meter = meter
        self.plan: SweepPlan | None = None
        self.running = False
        self.next_step = float("-inf")
        self._left: list[float] = []
        self._round = 0

    def start(self, now: float) -> None:
        """Start what has been set up; without a sweep, one scan of `:SENS:COUN` readings."""
        if self.running:
            raise ScpiError(-213)
        meter = self._meter
        self.running = True
        self._round += 1
        if self.plan is None:
            self._left = [0.0] * meter.scan_points()
            self._later(now, self._measure)
            return
        at = meter.stage.change_function(self.plan.function, now)
        meter.occupy(at)
        if at > now:
            self._later(at, self._switch_on)
        else:
            self._switch_on(now)

    def _switch_on(self, now: float) -> None:
        plan = self.plan
        assert plan is not None
        meter = self._meter
        stage = meter.stage
        stage.catch_up(now)
        self._left = list(plan.levels)
        source = stage.source[plan.function]
        source.level = self._left[0]
        if plan.fixed:
            source.range = meter.MODEL.range_for(plan.function, max(plan.levels, key=abs))
        else:
            source.range = None
        at = stage.switch(True, now)
        meter.occupy(at)
        self._later(at, self._point)

    def abort(self, now: float) -> None:
        """Stop; the output stays as it is."""
        self.running = False
        self._round += 1

    def forget(self, now: float) -> None:
        """Stop and forget what was set up."""
        self.abort(now)
        self.plan = None

    def _later(self, at: float, step: Callable[[float], None]) -> None:
        running = self._round
        self.next_step = at

        def act(now: float) -> None:
            if running == self._round:
                step(now)

        self._meter._later(at, act)

    def _point(self, now: float) -> None:
        plan = self.plan
        assert plan is not None
        stage = self._meter.stage
        stage.catch_up(now)
        stage.source[plan.function].level = self._left[0]
        stage.source_changed(now)
        at = stage.settled_at if plan.delay is None else now + plan.delay
        self._later(max(at, now), self._measure)

    def _measure(self, now: float) -> None:
        meter = self._meter
        name = "defbuffer1" if self.plan is None else self.plan.buffer
        buffer = meter.buffers.get(name)
        if buffer is None:
            self.abort(now)
            return
        meter.take(now, buffer)
        del self._left[0]
        done = now + meter.stage.arrangement().duration
        if not self._left:
            self._later(done, self._finish)
        else:
            self._later(done, self._measure if self.plan is None else self._point)

    def _finish(self, now: float) -> None:
        self.running = False
        if self.plan is not None:
            # The sweep's trigger model ends by switching the output off.
            self._meter.occupy(self._meter.stage.switch(False, now))


def linear(start: float, stop: float, points: int) -> tuple[float, ...]:
    """Equally spaced levels, both ends included."""
    if points < 2:
        raise ScpiError(-222)
    step = (stop - start) / (points - 1)
    return tuple(start + step * at for at in range(points))
