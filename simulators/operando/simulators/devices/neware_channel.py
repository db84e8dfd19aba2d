"""One channel of a simulated Neware cabinet: it runs a schedule and stores rows by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from operando.simulators.devices.neware_front import OVERLOAD, FrontEnd, Reading
from operando.simulators.devices.neware_memory import Layer, Row, StoredTest
from operando.simulators.devices.neware_steps import Schedule, Step, StepFileRefusal

FINISH, STOP, PROTECT, WORKING = "finish", "stop", "protect", "working"

TEST_BEGINS, TEST_ENDS = 100_000, 100_001
RESTART = (100_215, 100_213, 100_007)
"""Log codes of a capture; it shows the last three around an interruption of the cabinet."""

PATIENCE = 0.5
"""Share of the expected time to a limit after which a channel looks again."""
CHANGE = 0.05
"""Change of the current, as a share, after which it looks again: charge is then right to 1e-4."""


class Pace(NamedTuple):
    """Times of a channel, s: shortest and longest between two samples, to start and to stop."""

    shortest: float
    longest: float
    start: float
    stop: float


class Live(NamedTuple):
    """What a channel shows of itself: its state; V and A; C and J of the step; s in test and step.

    step: None where no test runs.
    """

    state: str
    step: Step | None
    cycle: int
    barcode: str
    volts: float
    amps: float
    charge: float
    energy: float
    total: float
    elapsed: float


class NewareChannel:
    """One channel. later: calls with the laboratory time, not before a time (s).

    utc: Unix time (s) of a laboratory time. seen: what its server had from it at its last look;
    None where the server looks whenever it is asked.
    """

    def __init__(
        self,
        front: FrontEnd,
        pace: Pace,
        later: Callable[[float, Callable[[float], None]], None],
        utc: Callable[[float], float],
    ) -> None:
        self.front = front
        self._pace = pace
        self._later = later
        self._utc = utc
        self.state = FINISH
        self.light = self.flag = False
        self.tests: dict[int, StoredTest] = {}
        self.test: StoredTest | None = None
        self.seen: Live | None = None
        self.cycle = 1
        self._schedule: Schedule | None = None
        self._step: Step | None = None
        self._loops: dict[int, int] = {}
        self._ticket = 0
        self._stopping = self._running = False
        self._began = self._test_began = self._elapsed = self._total = 0.0
        self._at = 0.0
        self._last = Reading(0.0, 0.0, False)
        self._charge = self._energy = 0.0
        self._spent = False
        self._outside_since = math.inf
        self._records = 0
        self._interval = math.inf
        self._volts_kept = self._amps_kept = 0.0

    # -- commands

    def check(self, schedule: Schedule) -> None:
        """Raise StepFileRefusal for what this channel cannot do."""
        front = self.front
        for step in schedule.steps:
            for amps in (step.current, step.stop_current):
                if amps is not None and abs(amps) > front.full_scale * (1.0 + 1e-9):
                    raise StepFileRefusal(f"step {step.number}: {amps:g} A is out of range")
            levels = [] if step.stop_voltage is None else [step.stop_voltage]
            levels += [step.voltage] if step.kind in ("cv", "dv", "scan") else []
            if any(not front.lowest <= level <= front.highest for level in levels):
                raise StepFileRefusal(f"step {step.number}: {levels} V is out of range")

    def start(self, schedule: Schedule, test: StoredTest, now: float) -> None:
        """Begin a test; the relay closes a little later."""
        self.test = self.tests[test.number] = test
        self._schedule = schedule
        self._interval = max(schedule.recording.seconds, self._pace.shortest)
        self.state = WORKING
        self.flag = False
        self.cycle = 1
        self._loops.clear()
        self._step = None
        self._elapsed = self._total = self._charge = self._energy = 0.0
        test.note(TEST_BEGINS, self._utc(now))
        self._set_timer(now + self._pace.start, self._thaw)

    def stop(self, now: float) -> bool:
        """Stop the test, a little later. False where none runs."""
        if self.state != WORKING:
            return False
        if not self._stopping:
            self._stopping = True

            def stopped(then: float) -> None:
                if self._stopping:
                    self._end(STOP, then)

            self._later(now + self._pace.stop, stopped)
        return True

    def resume(self, now: float) -> bool:
        """Go on with a stopped test where it was. False where there is none."""
        if self.state != STOP or self._schedule is None or self.test is None:
            return False
        self.state = WORKING
        self.test.note(RESTART[-1], self._utc(now))
        self._set_timer(now + self._pace.start, self._thaw)
        return True

    def trip(self, now: float) -> None:
        """Break a test off, as a protection does."""
        if self.state == WORKING:
            self._end(PROTECT, now)
            self.flag = True

    def clear_flag(self) -> bool:
        """Forget the alarm of a protection. False where there is none."""
        raised, self.flag = self.flag, False
        return raised

    # -- power

    def power_off(self, now: float) -> None:
        """Lose power: the relay opens; the server remembers where the test was."""
        if self.state == WORKING:
            if self._stopping:
                self._end(STOP, now)
            else:
                self._freeze(now)
                if self.test is not None:
                    self.test.note(RESTART[0], self._utc(now))
        self.front.power_on(now)

    def power_on(self, now: float, resume: bool) -> None:
        """Power is back; a test goes on where it was, or is stopped."""
        if self.state != WORKING or self.test is None:
            return
        if resume:
            for code in RESTART[1:]:
                self.test.note(code, self._utc(now))
            self._set_timer(now, self._thaw)
        else:
            self._end(STOP, now)

    # -- what is seen of it

    @property
    def step(self) -> Step | None:
        """The step of a test that runs."""
        if self.state != WORKING:
            return None
        if self._step is None and self._schedule is not None:
            return self._schedule.step(1)
        return self._step

    def live(self, now: float) -> Live:
        """What it shows to whoever looks; leaves no trace in what the channel does."""
        volts, amps, _ = self.front.read(now, self.front.poll_stream)
        barcode = "" if self.test is None else self.test.barcode
        totals = self._totals(now, amps)
        return Live(self.state, self.step, self.cycle, barcode, volts, amps, *totals)

    def _totals(self, now: float, amps: float) -> tuple[float, float, float, float]:
        """Charge (C) and energy (J) of the step, time (s) in the test and in the step."""
        if self.state != WORKING:
            return 0.0, 0.0, 0.0, 0.0
        if not self._running:
            return abs(self._charge), abs(self._energy), self._total, self._elapsed
        since = now - self._at
        charge = self._charge + 0.5 * (self._last.amps + amps) * since
        energy = self._energy + 0.5 * (self._last.amps + amps) * self._last.volts * since
        return abs(charge), abs(energy), now - self._test_began, now - self._began

    # -- running

    def _set_timer(self, at: float, action: Callable[[float], None]) -> None:
        self._ticket += 1
        ticket = self._ticket

        def fire(now: float) -> None:
            if ticket == self._ticket:
                action(now)

        self._later(at, fire)

    def _freeze(self, now: float) -> None:
        """Halt where it is."""
        self._ticket += 1
        self._stopping = False
        if self._running:
            self._sample(now)
            self._elapsed = now - self._began
            self._total = now - self._test_began
        self._running = False
        self.front.open(now)

    def _thaw(self, now: float) -> None:
        """Go on where it was halted, or with the first step."""
        self._test_began = now - self._total
        self._running = True
        if self._step is None:
            self._enter(1, now)
            return
        self._began = now - self._elapsed
        assert self.test is not None
        if not self.test.layers or self.test.layers[-1].last:
            self.test.layers.append(Layer(self._step, self.cycle, len(self.test) + 1))
        self._connect(now)
        self._at, self._last = now, self.front.read(now, self.front.own_stream)
        self._store(now)
        self._set_timer(now + self._pace.shortest, self._tick)

    def _end(self, state: str, now: float) -> None:
        """Leave the test for good, or until it is resumed."""
        begun = self._running
        self._freeze(now)
        self.state = state
        if self.test is not None:
            if begun and state != FINISH:
                self._close_layer(now)
            self.test.note(TEST_ENDS, self._utc(now))
        if state != STOP:
            self._schedule = self._step = None

    def _enter(self, number: int, now: float) -> None:
        """Begin the step with a number, or what a loop there leads to."""
        assert self._schedule is not None
        assert self.test is not None
        step = self._schedule.step(number)
        while step.kind == "loop":
            rounds = self._loops.get(step.number, 1)
            if rounds < step.count:
                self._loops[step.number] = rounds + 1
                self.cycle += 1
                step = self._schedule.step(step.target)
            else:
                self._loops.pop(step.number, None)
                step = self._schedule.step(step.number + 1)
        if step.kind == "end":
            self._end(FINISH, now)
            return
        self._step = step
        self._began = self._at = now
        self._charge = self._energy = 0.0
        self._records = 0
        self._outside_since = math.inf
        self._connect(now)
        self._last = self.front.read(now, self.front.own_stream)
        self._volts_kept, self._amps_kept = self._last.volts, self._last.amps
        self.test.layers.append(Layer(step, self.cycle, len(self.test) + 1))
        self._store(now)
        self._set_timer(now + self._pace.shortest, self._tick)

    def _connect(self, now: float) -> None:
        """Set the source for the step. One that would drive its current the wrong way is over."""
        step, front = self._step, self.front
        assert step is not None
        self._spent = False
        if step.kind == "rest":
            front.open(now)
        elif step.kind == "scan":
            front.source(now, self._scanned(now), None)
        elif step.kind in ("cv", "dv"):
            front.source(now, step.voltage, step.current)
            self._spent = step.stop_current is not None and self._against(step, now)
        else:
            front.source(now, self._target(step), step.current)
            self._spent = self._against(step, now)
        if self._spent:
            front.open(now)

    def _against(self, step: Step, now: float) -> bool:
        """Whether the source would drive its current the wrong way."""
        return step.sign * self.front.exact(now).amps < 0.0

    def _target(self, step: Step) -> float:
        """Voltage that a step at constant current goes towards, V."""
        if step.stop_voltage is not None:
            return step.stop_voltage
        return self.front.highest if step.sign > 0 else self.front.lowest

    def _scanned(self, now: float) -> float:
        """Level of a scan at a time, V."""
        step = self._step
        assert step is not None
        assert step.stop_voltage is not None
        moved = min(step.rate * (now - self._began), abs(step.stop_voltage - step.voltage))
        return step.voltage + math.copysign(moved, step.stop_voltage - step.voltage)

    def _sample(self, now: float) -> Reading:
        """Measure, and count charge and energy up to now."""
        reading = self.front.read(now, self.front.own_stream)
        last, since = self._last, now - self._at
        self._charge += 0.5 * (last.amps + reading.amps) * since
        self._energy += 0.25 * (last.amps + reading.amps) * (last.volts + reading.volts) * since
        self._at, self._last = now, reading
        return reading

    def _tick(self, now: float) -> None:
        """Look at the cell: end the step, break the test off, or store a row and look again."""
        step = self._step
        assert step is not None
        assert self._schedule is not None
        before, since = self._last, now - self._at
        if step.kind == "scan":
            self.front.move(now, self._scanned(now))
        reading = self._sample(now)
        if self._unsafe(step, reading, now):
            self.trip(now)
        elif self._over(step, reading, now):
            self._close_layer(now)
            self._enter(step.number + 1, now)
        else:
            self._record(now, reading)
            self._set_timer(self._next_look(step, before, reading, now, since), self._tick)

    def _over(self, step: Step, reading: Reading, now: float) -> bool:
        if self._spent or now - self._began >= step.seconds - 1e-9:
            return True
        if step.kind in ("cc", "dc"):
            return step.stop_voltage is not None and reading.held
        if step.kind in ("cv", "dv") and step.stop_current is not None:
            return reading.held and step.sign * reading.amps <= step.stop_current
        return False

    def _unsafe(self, step: Step, reading: Reading, now: float) -> bool:
        """Whether a protection of the file or of the channel itself breaks the test off."""
        assert self._schedule is not None
        if abs(reading.volts) > 0.5 * (1.0 + OVERLOAD) * self.front.highest:
            return True
        if step.kind in ("cc", "dc") and step.stop_voltage is None and reading.held:
            return True  # at the end of what the channel can source
        protection = self._schedule.protection
        if not protection.violated(reading.volts, reading.amps, abs(self._charge)):
            self._outside_since = math.inf
            return False
        self._outside_since = min(self._outside_since, now)
        return now - self._outside_since >= protection.delay

    def _next_look(
        self, step: Step, before: Reading, here: Reading, now: float, since: float
    ) -> float:
        """When to measure next: the sooner, the nearer a limit may be."""
        assert self._schedule is not None
        pace, recording = self._pace, self._schedule.recording
        protection = self._schedule.protection
        wait = pace.longest if since <= 0.0 else min(2.0 * since, pace.longest)
        if step.kind == "scan" or self._outside_since < math.inf:
            wait = pace.shortest
        if since > 0.0:
            rise = (here.volts - before.volts) / since
            levels = [protection.lowest_voltage, protection.highest_voltage]
            levels += [self._volts_kept - recording.volts, self._volts_kept + recording.volts]
            if step.kind in ("cc", "dc"):
                levels.append(self._target(step))
            elif step.kind != "rest" and not here.held:
                levels.append(step.voltage)
            growth = (here.amps - before.amps) / since
            amps = [protection.lowest_current, protection.highest_current]
            amps += [self._amps_kept - recording.amps, self._amps_kept + recording.amps]
            if step.stop_current is not None:
                amps.append(step.sign * step.stop_current)
            for value, slope, targets in ((here.volts, rise, levels), (here.amps, growth, amps)):
                for target in targets:
                    if (target - value) * slope > 0.0:
                        wait = min(wait, PATIENCE * (target - value) / slope)
            if here.held and growth and abs(here.amps) > self.front.least_current:
                wait = min(wait, CHANGE * abs(here.amps / growth))
            if here.amps and protection.highest_charge < math.inf:
                left = max(protection.highest_charge - abs(self._charge), 0.0)
                wait = min(wait, left / abs(here.amps))
        wait = max(wait, pace.shortest)
        at = min(now + wait, self._began + step.seconds)
        if recording.seconds < math.inf:
            at = min(at, self._began + (self._records + 1) * self._interval)
        return at

    # -- memory

    def _record(self, now: float, reading: Reading) -> None:
        """Store a row where time or a change asks for one; the times lie on a grid of their own."""
        assert self._schedule is not None
        recording = self._schedule.recording
        due = False
        if recording.seconds < math.inf:
            passed = int((now - self._began) / self._interval + 1e-9)
            due = passed > self._records
            self._records = passed
        if abs(reading.volts - self._volts_kept) >= recording.volts:
            self._volts_kept, due = reading.volts, True
        if abs(reading.amps - self._amps_kept) >= recording.amps:
            self._amps_kept, due = reading.amps, True
        if due:
            self._store(now)

    def _store(self, now: float) -> None:
        assert self.test is not None
        last = self._last
        self.test.store(
            Row(
                len(self.test.layers) - 1,
                self.cycle,
                now - self._began,
                self._utc(now),
                last.volts,
                last.amps,
                abs(self._charge),
                abs(self._energy),
            )
        )

    def _close_layer(self, now: float) -> None:
        """The step is over: its last row is always stored."""
        assert self.test is not None
        layer = self.test.layers[-1]
        last = self.test.row(len(self.test) - 1)
        if last.utc != self._utc(now):
            self._store(now)
        layer.last = len(self.test)
