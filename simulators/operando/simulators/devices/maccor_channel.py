"""One channel of a simulated Maccor tester: its state, its test, and what it does by itself."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from operando.simulators.devices.device import Options
from operando.simulators.devices.maccor_procedures import Procedure, ProcedureRun
from operando.simulators.devices.maccor_stage import REST, ChannelStage, Output, Safety
from operando.simulators.devices.ports import Site


class Stat(enum.IntEnum):
    """State of a channel in the tester's software, function (4, 1)."""

    AVAILABLE = 0
    SELECTED = 1
    ACTIVE = 2
    SUSPENDED = 3
    COMPLETED = 4
    PROBLEM = 5
    POWER_FAIL = 9
    STARTING = 12


CHARGE, DISCHARGE, RESTING, PROBLEM, SUSPENDED, COMPLETE = 1, 2, 4, 29, 30, 31
"""Reason codes RF1: what the controller does."""
START_OF_STEP, BY_OPERATOR, NORMAL_END = 0, 192, 193
"""Reason codes RF2: why the last record was made."""

OK = 0
SHORTEST_INTERVAL = 0.1
"""Between direct outputs, s: function (6, 8), 100 ms."""
VARIABLES = 15
TICK = 0.01
"""Readings are renewed this often, s: function (6, 8) tells of 10 ticks in 100 ms."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Of the tester's software, s. scan: between looks at limits and ends of steps (assumed).

    start: from a start command to an active channel (assumed). watchdog: longest pause between
    direct outputs, `MacNetDirectModeWD`; 0 is off. record: between records of a procedure.
    """

    scan: float = 0.5
    start: float = 0.3
    watchdog: float = 10.0
    record: float = 10.0


@dataclass(slots=True)
class DirectMode:
    """A test under direct control. active: set points that were in range when it began.

    fed: when the last output was set, s. increments: of time (s), voltage (V), current (A)
    between records; 0 is off.
    """

    active: frozenset[str]
    output: Output
    fed: float
    increments: tuple[float, float, float] = (0.0, 0.0, 0.0)
    set_at: float = float("-inf")


@dataclass(slots=True)
class ChannelTest:
    """What a channel remembers of its test. Times s, capacity Ah, energy Wh."""

    name: str = ""
    procedure: str = ""
    comment: str = ""
    records: int = 0
    cycle: int = 0
    step: int = 0
    test_time: float = 0.0
    step_time: float = 0.0
    capacity: float = 0.0
    energy: float = 0.0
    ends: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that function (4, 7) tells; current positive in charge, A."""

    rf1: int
    rf2: int
    stat: int
    records: int
    cycle: int
    step: int
    test_time: float
    step_time: float
    capacity: float
    energy: float
    current: float
    voltage: float


@dataclass(slots=True)
class _Ledger:
    """Charge and energy are counted from here: laboratory time (s), V, A."""

    at: float = 0.0
    voltage: float = 0.0
    current: float = 0.0
    recorded: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))


class MaccorChannel:
    """A channel with its own output, test and memory. index: 0-based, as on the wire.

    archive: called with the name of a test whose data leave the channel.
    """

    def __init__(
        self,
        name: str,
        index: int,
        *,
        site: Site,
        random: Random,
        own: Options,
        timing: Timing,
        now: float,
        archive: Callable[[str], None],
    ) -> None:
        self.index = index
        self.stage = ChannelStage(name, site, random, own)
        self.stage.power_on(now)
        self.timing = timing
        self.stat = Stat.AVAILABLE
        self.rf1 = self.rf2 = 0
        self.test = ChannelTest()
        self.variables = [0.0] * VARIABLES
        self.direct: DirectMode | None = None
        self.run: ProcedureRun | None = None
        self.next_look = float("inf")
        self._archive = archive
        self._ready = float("inf")
        self._direction = "R"
        self._ledger = _Ledger(now)
        self._read_at = float("-inf")
        self._reading = (0.0, 0.0)

    # -- readings

    def reading(self, now: float) -> tuple[float, float]:
        """Voltage (V) and current (A, positive charges), renewed every tick."""
        if now >= self._read_at + TICK:
            self._reading = self.stage.measure(now)
            self._read_at = now
        return self._reading

    def snapshot(self, now: float) -> Snapshot:
        """State and readings at this moment; leaves no trace."""
        test = self.test
        passed, capacity, energy = self._since(now)
        voltage, current = self.reading(now)
        return Snapshot(
            self.rf1,
            self.rf2,
            self.stat,
            test.records,
            test.cycle,
            test.step,
            test.test_time + passed,
            test.step_time + passed,
            test.capacity + capacity,
            test.energy + energy,
            current,
            voltage,
        )

    def _since(self, now: float) -> tuple[float, float, float]:
        """Time (s), capacity (Ah) and energy (Wh) since the ledger was written; trapezoids."""
        if self.stat is not Stat.ACTIVE:
            return 0.0, 0.0, 0.0
        ledger = self._ledger
        passed = now - ledger.at
        voltage, current = self.stage.observe(now)
        hours = passed / 3600.0
        capacity = 0.5 * abs(current + ledger.current) * hours
        energy = 0.5 * abs(voltage * current + ledger.voltage * ledger.current) * hours
        return passed, capacity, energy

    def _count(self, now: float) -> None:
        """Write down what has passed until now."""
        passed, capacity, energy = self._since(now)
        test = self.test
        test.test_time += passed
        test.step_time += passed
        test.capacity += capacity
        test.energy += energy
        self._ledger.at = now
        self._ledger.voltage, self._ledger.current = self.stage.observe(now)

    def _changed(self, now: float) -> None:
        """The output is another one: count and read from here."""
        self._ledger.at = now
        self._ledger.voltage, self._ledger.current = self.stage.observe(now)
        self._read_at = float("-inf")

    # -- life of a test

    @property
    def free(self) -> bool:
        """Whether a test can be started."""
        return self.stat in (Stat.AVAILABLE, Stat.SELECTED)

    def start_direct(
        self, now: float, name: str, output: Output, increments: tuple[float, float, float]
    ) -> int:
        """Function (6, 7): a test under direct control; result code."""
        if not self.free:
            return 2
        given = {"current", "voltage", "power", "resistance"}
        active = frozenset(key for key in given if getattr(output, key) is not None)
        if len(active) == len(given):
            return 3
        self._begin(now, ChannelTest(name, "Direct mode", step=1))
        self.direct = DirectMode(active, output, now, increments)
        return OK

    def set_direct(self, now: float, output: Output) -> int:
        """Function (6, 8): other set points; result code."""
        direct = self.direct
        if direct is None and self.stat is Stat.ACTIVE:
            return 4
        if direct is None or self.stat not in (Stat.ACTIVE, Stat.STARTING):
            return 2
        if self.stat is Stat.STARTING:
            return 5
        if now - direct.set_at < SHORTEST_INTERVAL - 1e-9:
            return 3
        direct.set_at = direct.fed = now
        # What was out of range at the start stays without effect.
        active = direct.active
        output = replace(
            output,
            current=output.current if "current" in active else None,
            voltage=output.voltage if "voltage" in active else None,
            power=output.power if "power" in active else None,
            resistance=output.resistance if "resistance" in active else None,
        )
        if output != direct.output:
            direct.output = output
            self._drive(now, output)
        self._look_by(now)
        return OK

    def feed(self, now: float) -> int:
        """A direct output that changes nothing, as (6, 8) with "R" in JSON; result code."""
        return self.set_direct(now, REST if self.direct is None else self.direct.output)

    def start_procedure(
        self, now: float, test: ChannelTest, procedure: Procedure, capacity: float
    ) -> None:
        """Functions (6, 2) and (6, 13), when everything has been checked. capacity: Ah."""
        self.run = ProcedureRun(procedure, capacity, self.stage.spec.ranges)
        self._begin(now, test)

    def _begin(self, now: float, test: ChannelTest) -> None:
        self.test = test
        self._ledger = _Ledger(now)
        self._direction = "R"
        self.stat = Stat.STARTING
        self.rf1 = self.rf2 = 0
        self._ready = now + self.timing.start
        self.next_look = self._ready

    def select(self) -> None:
        """Function (6, 1): select or unselect."""
        if self.stat is Stat.AVAILABLE:
            self.stat = Stat.SELECTED
        elif self.stat is Stat.SELECTED:
            self.stat = Stat.AVAILABLE

    def suspend(self, now: float, why: int = BY_OPERATOR) -> bool:
        """Function (6, 3): open the relay, keep the test; whether that was possible."""
        if self.stat not in (Stat.ACTIVE, Stat.STARTING):
            return self.stat is Stat.SUSPENDED
        self._stop(now, Stat.SUSPENDED, SUSPENDED, why)
        return True

    def resume(self, now: float) -> bool:
        """Function (6, 4): go on with the test; whether that was possible."""
        if self.stat not in (Stat.SUSPENDED, Stat.POWER_FAIL):
            return False
        if self.direct is not None:
            self.direct.fed = now
        self._activate(now)
        return True

    def reset(self, now: float) -> bool:
        """Function (6, 5): end the test, whatever it does; its data are archived (assumed)."""
        self._stop(now, Stat.AVAILABLE, 0, 0)
        if self.test.name:
            self._archive(self.test.name)
        self.test = replace(self.test, name="", procedure="", comment="")
        self.direct = self.run = None
        return True

    def archive(self, now: float) -> bool:
        """Function (6, 6): clear a channel whose test is over; whether it was."""
        if self.stat not in (Stat.COMPLETED, Stat.PROBLEM):
            return False
        return self.reset(now)

    def fail(self, now: float, why: int) -> None:
        """Stop with a problem. why: reason code RF2."""
        self._stop(now, Stat.PROBLEM, PROBLEM, why)

    def lose_power(self, now: float) -> None:
        """The relay opens; a running test waits to be resumed."""
        if self.stat in (Stat.ACTIVE, Stat.STARTING):
            self._stop(now, Stat.POWER_FAIL, SUSPENDED, BY_OPERATOR)
        else:
            self.stage.off(now)

    def set_safety(self, now: float, safety: Safety) -> None:
        """Function (6, 10): act on the present output at once."""
        self.stage.safety = safety
        if self.stat is Stat.ACTIVE:
            self.look(now)
            if self.stage.closed:
                self._drive(now, self.stage.output)

    def _stop(self, now: float, stat: Stat, rf1: int, rf2: int) -> None:
        if self.stat is Stat.ACTIVE:
            self._count(now)
            self.test.records += 1
        self.stage.off(now)
        self.stat, self.rf1, self.rf2 = stat, rf1, rf2
        self.next_look = float("inf")
        self._changed(now)

    def _activate(self, now: float) -> None:
        """Begin, or go on, to drive."""
        self.stat = Stat.ACTIVE
        self._ledger.at = now
        self.test.records += 1
        self.rf2 = START_OF_STEP
        output = REST
        if self.direct is not None:
            output = self.direct.output
            self.direct.fed = now
        elif self.run is not None:
            output = self.run.output()
            self.test.step, self.test.cycle = self.run.at + 1, self.run.cycle
        self._drive(now, output)
        self.next_look = float("inf")
        self._look_by(now)

    def _look_by(self, now: float) -> None:
        """Look again with the next scan of all channels, and when the host's time is up."""
        scan = self.timing.scan
        self.next_look = min(self.next_look, (math.floor(now / scan + 1e-6) + 1.0) * scan)
        if self.direct is not None and self.timing.watchdog > 0.0:
            self.next_look = min(self.next_look, self.direct.fed + self.timing.watchdog)

    def _drive(self, now: float, output: Output) -> None:
        self._count(now)
        if output.mode not in ("R", self._direction):
            # Counted within a half cycle (assumed).
            self.test.capacity = self.test.energy = 0.0
            self._direction = output.mode
        self.stage.drive(now, output)
        self.rf1 = {"C": CHARGE, "D": DISCHARGE}.get(output.mode, RESTING)
        self._changed(now)

    # -- what it does by itself

    def look(self, now: float) -> None:
        """Do what is due: begin, end steps, watch limits and the host."""
        if self.stat is Stat.STARTING:
            if now >= self._ready - 1e-9:
                self._activate(now)
            return
        if self.stat is not Stat.ACTIVE:
            self.next_look = float("inf")
            return
        self.next_look = float("inf")
        self._look_by(now)
        self._count(now)
        if self.stage.look(now):
            self._changed(now)
        why = self.stage.trips(now)
        if why:
            self.fail(now, why)
        elif self.direct is not None:
            self._look_at_direct(now, self.direct)
        elif self.run is not None:
            self._look_at_procedure(now, self.run)

    def _look_at_direct(self, now: float, direct: DirectMode) -> None:
        watchdog = self.timing.watchdog
        if watchdog > 0.0 and now >= direct.fed + watchdog - 1e-9:
            self.suspend(now)
            return
        self._record(direct.increments)

    def _look_at_procedure(self, now: float, run: ProcedureRun) -> None:
        test, stage = self.test, self.stage
        why = run.ended(test.step_time, stage.held(now), stage.observe(now)[1])
        if why:
            test.records += 1
            run.follow()
            test.step_time = 0.0
            test.step, test.cycle = run.at + 1, run.cycle
            if run.step is None:
                test.ends = test.end = 1
                self._stop(now, Stat.COMPLETED, COMPLETE, NORMAL_END)
                return
            self.rf2 = START_OF_STEP
            self._drive(now, run.output())
        else:
            self._record((self.timing.record, 0.0, 0.0))
        left = max(run.time_left(test.step_time), TICK)
        self.next_look = min(self.next_look, now + left)

    def _record(self, increments: tuple[float, float, float]) -> None:
        """Count a record when time, voltage or current have gone on far enough."""
        ledger, time = self._ledger, self.test.test_time
        here = (time, ledger.voltage, ledger.current)
        for value, last, increment in zip(here, ledger.recorded, increments, strict=True):
            if increment > 0.0 and abs(value - last) >= increment:
                self.test.records += 1
                every = increments[0]
                # Time goes by the clock of the test, so that a late look shifts no later record.
                due = math.floor(time / every) * every if every > 0.0 else time
                ledger.recorded = (due, ledger.voltage, ledger.current)
                return
