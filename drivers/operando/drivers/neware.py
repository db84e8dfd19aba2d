"""Neware battery cyclers behind BTS 8: one driver a channel, XML over TCP.

Documents: see neware_xml.py and neware_steps.py. What they leave open is a setting or a constant
marked ASSUMPTION.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final, NoReturn, TypeAlias

from operando.drivers.neware_channel import (
    ON_BOARD,
    REFRESH,
    SETTLING,
    STOOD_STILL,
    STOP_TIME,
    BTSChannel,
    NewareSettings,
    TestClock,
    own_bounds,
    span,
)
from operando.drivers.neware_program import DRIVES, WORDS, Reel, natives, schedule, unsayable
from operando.drivers.neware_session import URGENT_TIMEOUT
from operando.drivers.neware_steps import CurrentStep, RestStep, Step, VoltageStep, bounds_of
from operando.drivers.neware_xml import (
    IDLE,
    Live,
    backup_item,
    list_body,
    start_item,
)
from operando.instruments.capabilities import Capabilities, WhenHostIsSilent
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    InstrumentError,
    ReportedError,
    SafeStateError,
    UnsupportedError,
)
from operando.instruments.on_board import Progress, Stage, StoredReading
from operando.instruments.roles import (
    DriverInfo,
    Expect,
    Galvanostatic,
    OpenCircuit,
    Potentiostatic,
    Protection,
    SetPoint,
)
from operando.instruments.samples import Reading, Regulation, Status
from operando.instruments.wires import Wire

START_TIME: Final = 10.0
"""s from the acceptance of a start until the channel must be seen working. ASSUMPTION: the API
protocol promises no more than one look at the device every 5 s."""

SAFE_STOP_TIME: Final = 6.0
"""s from a stop until `safe` must have seen the channel idle. The API protocol promises a look at
the device every 5 s, so that the state may be that old."""

REST_MARGIN: Final = 0.6
"""V above the highest voltage that the limit of an open circuit may lie; the relay is open."""

BEYOND: Final = 0.55
"""Spans of the channel from the middle of it beyond which a voltage is none of its readings."""


@dataclass(frozen=True, slots=True)
class _Test:
    """What the driver started. drives: a set-point, which must not end by itself."""

    barcode: str
    drives: bool
    regulations: tuple[Regulation, ...] = ()
    reel: Reel | None = None


class NewareBTS8(BTSChannel):
    """One channel of a BTS 8 server. Its address ends in #device-unit-channel, such as #21-1-2.

    A set-point is a test of its own, run on board: constant current to the cut-off, which is then
    held. When the host falls silent it goes on, within the protection of its step file, until
    `settings.longest` has passed. Between two set-points the circuit is open for a moment.
    """

    INFO: ClassVar[DriverInfo] = DriverInfo(
        name="neware-bts8",
        maker="NEWARE",
        models=("BTS 8",),
        document="aurora-neware and aurora-unicycler (Empa), with replies captured from BTS 8.0",
        roles=("potentiostat", "cycler"),
        identification="model",
        safe_state="test stopped (circuit open), the channel's state read back",
        notes=(
            "goes on when the computer dies, to the end of the steps that it was given: the "
            "protection of the step file bounds voltage and current, `settings.longest` the time",
            "ranges and limits of the channel are not told by the server: set them",
            "the server's computer must be able to read `step_folder`; what the channel made of a "
            "step file cannot be read back, only that it runs",
            "a test that was started elsewhere is stopped by `safe` alone",
        ),
    )
    Settings: TypeAlias = NewareSettings

    def __init__(
        self,
        wire: Wire,
        clock: Clock,
        *,
        name: str = "",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: NewareSettings = NewareSettings(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(wire, clock, name, expect, settings)
        self._stem = re.sub(r"[^A-Za-z0-9]+", "_", settings.barcode or self.name)
        self._lock = asyncio.Lock()
        self._calls_for_safety = 0
        self._protection: Protection | None = None
        self._test: _Test | None = None
        self._program = ""
        self._start_sent = -math.inf
        self._test_clock = TestClock()

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities from the settings. fastest_sampling, off_time are ASSUMPTIONS."""
        settings = self._settings
        return Capabilities(
            voltage=settings.voltage,
            current=(-settings.current, settings.current),
            fastest_sampling=settings.record_every,
            off_time=SAFE_STOP_TIME + 2.0 * URGENT_TIMEOUT,
            reading_age=REFRESH,
            on_board=ON_BOARD,
            when_host_is_silent=WhenHostIsSilent.STAYS_ON,
            bounds=own_bounds(settings),
        )

    # Set-points ----------------------------------------------------------------------------

    def check(self, setpoint: SetPoint) -> None:
        """Raise UnsupportedError if the instrument cannot do it. Touches nothing."""
        match setpoint:
            case Galvanostatic(current=current, cutoff=voltage):
                self._check_pair(voltage, abs(current))
            case Potentiostatic(voltage=voltage, current_limit=current):
                self._check_pair(voltage, current)
            case OpenCircuit(voltage_limit=voltage):
                highest = max(map(abs, self._settings.voltage)) + REST_MARGIN
                if not 0.0 < voltage <= highest:
                    self._refuse(f"a voltage limit of {voltage:g} V is beyond {highest:g} V")

    def _check_pair(self, voltage: float, current: float) -> None:
        settings, protection = self._settings, self._protection
        if not settings.voltage[0] <= voltage <= settings.voltage[1]:
            self._refuse(f"{voltage:g} V is outside its {span(settings.voltage)}")
        if not 1e-6 <= current <= settings.current:
            self._refuse(
                f"{current:g} A is outside 1 uA, below which a step file is too coarse, to "
                f"{settings.current:g} A"
            )
        if protection is not None:
            low, high = protection.voltage
            if current > protection.current * (1.0 + 1e-9) or not low <= voltage <= high:
                self._refuse(
                    f"{voltage:g} V with {current:g} A lies outside what the run was prepared for: "
                    f"{span(protection.voltage)} and {protection.current:g} A"
                )

    async def prepare(self, protection: Protection) -> None:
        """Take the bounds of the run, which go into each step file; circuit open, read back.

        Refuses a channel on which somebody else's test runs.
        """
        low, high = protection.voltage
        settings = self._settings
        if not settings.voltage[0] <= low < high <= settings.voltage[1]:
            self._refuse(f"a window of {span(protection.voltage)} is outside its "
                         f"{span(settings.voltage)}")  # fmt: skip
        if not 0.0 < protection.current <= settings.current:
            self._refuse(f"{protection.current:g} A is beyond its {settings.current:g} A")
        async with self._lock:
            with self._named():
                self._test = None
                await self._clear(await self._look())
                self._protection = protection

    async def apply(self, setpoint: SetPoint) -> None:
        """Run a set-point on board; returns when the channel has been read back working on it.

        What ran before is stopped first, so the circuit is open in between.
        """
        protection = self._protection
        if protection is None:
            self._refuse("the run's window is not known yet; prepare() comes first")
        self.check(setpoint)
        barcode = self._unique(mark_of(setpoint, protection))
        calls = self._calls_for_safety
        async with self._lock:
            with self._named():
                live = await self._look()
                self._test = None
                await self._clear(live)
                steps = self._steps(setpoint, live.voltage)
                every = self._settings.record_every
                written = self._written(steps, protection, live.voltage, barcode, every)
                test = _Test(barcode, True, (Regulation.OPEN,) if len(steps) == 1 else DRIVES)
                await self._run(written, test, calls)

    def _unique(self, mark: str) -> str:
        """A name for a test: the channel's, what it does, and a number of its own."""
        return f"{self._stem}_{mark}_{int(self._clock.utc() * 1e3) & 0xFFFF:04x}"

    def _mark_in(self, barcode: str) -> str:
        """What a test of this driver does; "" for one that it did not start."""
        found = re.fullmatch(rf"{self._stem}_([0-9a-f]{{6}})_[0-9a-f]{{4}}", barcode)
        return found[1] if found else ""

    def _steps(self, setpoint: SetPoint, present: float) -> tuple[Step, ...]:
        """The steps of a set-point. present: V, tells which way a held voltage is reached."""
        longest = self._settings.longest
        match setpoint:
            case OpenCircuit():
                return (RestStep(longest),)
            case Galvanostatic(current=current, cutoff=voltage):
                pass
            case Potentiostatic(voltage=voltage, current_limit=limit):
                if math.isnan(present):
                    self._refuse("it tells no voltage, so the sign of the current is not known")
                current = math.copysign(limit, voltage - present)
        return (
            CurrentStep(current, voltage, longest),
            VoltageStep(voltage, current > 0.0, current_limit=abs(current), longest=longest),
        )

    def _written(
        self, steps: Sequence[Step], protection: Protection, present: float, name: str, every: float
    ) -> str:
        """The step file. present: V. name: of the test. every: s between two rows."""
        settings = self._settings
        return schedule(
            steps,
            protection,
            present,
            margin=settings.protection_margin,
            delay=settings.protection_delay,
            charge=settings.protection_charge,
            every=every,
            date=datetime.fromtimestamp(self._clock.utc(), UTC).strftime("%Y%m%d%H%M%S"),
            remark=name,
        )

    async def _clear(self, live: Live) -> None:
        """Stop a test of ours; refuse to touch anybody else's. Idle afterwards, read back."""
        if live.state in IDLE:
            return
        if not self._mark_in(live.barcode):
            self._refuse(
                f"the test {live.barcode!r} is on this channel ({live.state}), which was not "
                "started here; stop it in BTS Client, or bring the channel to its safe state"
            )
        await self._tell("stop")
        state = await self._settled(STOP_TIME, IDLE)
        if state not in IDLE:
            self._not_verified("after stop", "idle", state)

    async def _run(self, written: str, test: _Test, calls: int) -> None:
        """Start a schedule on an idle channel and see it run."""
        before = await self._stored()
        session, place = await self._ready()
        path = self._save(written, place)
        self._stop_if_unsafe(calls)
        backup = backup_item(self._settings.backup_folder)
        body = list_body("start", [start_item(place, test.barcode, path)], backup)
        with self._starting():
            root = await session.ask("start", body)
        if not self._accepted(session, root, "start", place):
            self._start_sent = -math.inf
            await self._complain("start")
        await self._see_running(test, calls)
        after = await self._stored()
        if test.reel is not None:
            test.reel.test = after.test
        self._expect_rows(1 if after.test != before.test else before.rows + 1, test.reel)
        self._test_clock = TestClock()
        if calls != self._calls_for_safety:
            # `safe` was asked for while the channel was being started.
            await self._make_safe()
        self._stop_if_unsafe(calls)
        self._test = test

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Keep in mind that the channel may start, whatever comes back, and for a while after."""
        self._start_sent = math.inf
        try:
            yield
        finally:
            self._start_sent = self._clock.now()

    async def _see_running(self, test: _Test, calls: int) -> None:
        live = await self._look()
        deadline = self._clock.now() + self._clock.lab(START_TIME)
        # A channel calls itself working before it closes its circuit; then its clock runs.
        while (live.state, live.barcode) != ("working", test.barcode) or not live.total_time > 0.0:
            if self._clock.now() >= deadline or calls != self._calls_for_safety:
                break
            await self._clock.sleep(self._clock.lab(SETTLING))
            live = await self._look()
        else:
            self._start_sent = -math.inf
            return
        self._stop_if_unsafe(calls)
        if live.state == "protect":
            raise ReportedError(
                live.code,
                f"its protection acted at once, at {live.voltage:g} V",
                instrument=self.INFO.name,
                address=self._wire.address,
            )
        self._not_verified(
            "after start",
            f"working on {test.barcode} with its clock running",
            f"{live.state} on {live.barcode!r} at {live.total_time:g} s",
        )

    def _stop_if_unsafe(self, calls: int) -> None:
        if calls != self._calls_for_safety:
            raise self._error(
                InstrumentError, "was asked for its safe state; the set-point was given up"
            )

    # Adopting ------------------------------------------------------------------------------

    async def adopt(self, setpoint: SetPoint, protection: Protection) -> bool:
        """Whether the channel works on exactly this set-point, which then counts as applied.

        For a computer that comes back: the channel went on meanwhile. Writes nothing.
        """
        self.check(setpoint)
        mark = mark_of(setpoint, protection)
        async with self._lock:
            with self._named():
                live = await self._look()
                if (live.state, self._mark_in(live.barcode)) != ("working", mark):
                    return False
                self._protection = protection
                resting = isinstance(setpoint, OpenCircuit)
                regulations = (Regulation.OPEN,) if resting else DRIVES
                self._test = _Test(live.barcode, True, regulations)
                self._expect_rows(0)
                self._test_clock = TestClock()
                return True

    async def running(self) -> Live:
        """Read what the channel does: state, step, cycle, and the name of its test."""
        with self._named():
            return await self._look()

    async def output_is_on(self) -> bool:
        """Read whether a test is on the channel: unless it is idle its circuit may be closed."""
        with self._named():
            return await self._state() not in IDLE

    # Stages --------------------------------------------------------------------------------

    def why_not(self, stages: Sequence[Stage]) -> str:
        """Why it cannot run exactly these stages by itself, in words; "" if it can."""
        try:
            for stage in stages:
                self.check(stage.setpoint)
        except UnsupportedError as error:
            return error.reason
        return unsayable(stages)

    async def begin(self, stages: Sequence[Stage], every: float) -> None:
        """Run stages on board, one test for all; returns when it has been read back working.

        every: longest time between two stored rows, s; `settings.record_every` if that is less.
        """
        protection = self._protection
        if protection is None:
            self._refuse("the run's window is not known yet; prepare() comes first")
        if reason := self.why_not(stages):
            self._refuse(reason)
        steps = natives(stages, longest=self._settings.longest)
        name = self._unique(mark_of(tuple(stages), protection))
        every = min(every, self._settings.record_every)
        calls = self._calls_for_safety
        async with self._lock:
            with self._named():
                self._expect_rows(0)
                live = await self._look()
                self._test = None
                await self._clear(live)
                written = self._written(
                    [one.step for one in steps], protection, live.voltage, name, every
                )
                held = tuple(one.regulation for one in steps)
                await self._run(written, _Test(name, False, held, Reel(steps)), calls)

    async def progress(self) -> Progress:
        """Read where the stages are. Status FAULT when they ended otherwise than by their end."""
        async with self._lock:
            with self._named():
                reel, test = self._reel, self._test
                if reel is None:
                    self._refuse("no stages were begun")
                reading, live = await self._measured()
                if test is None:
                    reading = reading._replace(status=Status.FAULT)
                native, elapsed = reel.at(live)
                done = live.state == "finish" and reading.status is not Status.FAULT
                stage = reel.stages if done else 0 if native is None else native.stage
                return Progress(reading, stage, elapsed)

    async def collect(self) -> list[StoredReading]:
        """Download what was stored of the stages since the last call, in order."""
        async with self._lock:
            with self._named():
                reel = self._reel
                if reel is None:
                    self._refuse("no stages were begun")
                await self._wind(reel)
                return reel.hand_out()

    # Schedules as text ---------------------------------------------------------------------

    async def load(self, program: str) -> None:
        """Take a step file (its text) for `start`. Nothing is sent yet.

        Raises BadInputError for none, or one without bounds of its own; UnsupportedError for
        bounds beyond the channel.
        """
        bounds, settings = bounds_of(program), self._settings
        low, high = settings.voltage
        margin = settings.protection_margin
        if not low - margin <= bounds.lowest < bounds.highest <= high + margin:
            self._refuse(
                f"its protection at {span((bounds.lowest, bounds.highest))} is outside "
                f"{span(settings.voltage)}"
            )
        if not 0.0 < bounds.current <= 1.1 * settings.current:
            self._refuse(f"its protection at {bounds.current:g} A is beyond {settings.current:g} A")
        self._program = program

    async def start(self) -> None:
        """Start the loaded schedule on an idle channel; returns when it has been read working."""
        program = self._program
        if not program:
            self._refuse("no schedule is loaded; load() comes first")
        calls = self._calls_for_safety
        async with self._lock:
            with self._named():
                self._test = None
                await self._clear(await self._look())
                test = _Test(self._unique(mark_of(program)), False)
                await self._run(program, test, calls)

    async def stop(self) -> None:
        """Stop whatever is on the channel; returns when it has been read back idle."""
        await self.safe()

    async def carry_on(self) -> None:
        """Continue a paused test; returns when the channel has been read back working.

        The form of the command is the API protocol's, seen in one public client only.
        """
        calls = self._calls_for_safety
        async with self._lock:
            with self._named():
                live = await self._look()
                if live.state != "pause":
                    self._refuse(f"only a paused test can be continued, this one is {live.state}")
                self._stop_if_unsafe(calls)
                with self._starting():
                    accepted = await self._tell("continue")
                if not accepted:
                    self._start_sent = -math.inf
                    await self._complain("continue")
                test = self._test or _Test(live.barcode, False)
                await self._see_running(test, calls)
                if calls != self._calls_for_safety:
                    await self._make_safe()
                self._stop_if_unsafe(calls)
                self._test = test

    # Measuring -----------------------------------------------------------------------------

    async def measure(self) -> Reading:
        """Measure voltage (V) and current (A): the newest live data, at their time.

        They may come with another channel's reading, up to `settings.sharing` old. Small currents
        are taken from the newest stored row of the step where it agrees with the live one, which
        has steps of 0.1 mA; NaN and UNSTABLE until a step has its first row. Status is FAULT when
        a set-point ended although nobody ended it, or its test stood still meanwhile. When the
        live data of a working channel stand still the reading keeps their old time, and after
        30 s CommunicationError is raised.
        """
        async with self._lock:
            with self._named():
                return (await self._measured())[0]

    async def _measured(self) -> tuple[Reading, Live]:
        session, _ = await self._ready()
        watch, test = self._watch, self._test
        assert watch is not None
        sighting = await session.look(watch)
        live = sighting.live
        time = self._test_clock.seen(sighting)
        regulation, status = self._judged(live, test)
        if self._test_clock.stood_still(max(STOOD_STILL, self._clock.lab(1.0))):
            status = Status.FAULT
        current = live.current
        drives = live.state == "working" and regulation is not Regulation.OPEN
        if drives and status is not Status.FAULT:
            current = await self._refined(live)
        if status is Status.OK:
            lowest, highest = self._settings.voltage
            if math.isnan(current) or math.isnan(live.voltage):
                status = Status.UNSTABLE
            elif not abs(live.voltage - 0.5 * (lowest + highest)) <= BEYOND * (highest - lowest):
                status = Status.OVERLOAD
        if status is Status.FAULT:
            self._test = None
        reading = Reading(time, sighting.uncertainty, live.voltage, current, regulation, status)
        return reading, live

    def _judged(self, live: Live, test: _Test | None) -> tuple[Regulation, Status]:
        """What the channel regulates, and whether it still does what it was told."""
        ours = test is None or test.barcode == live.barcode
        if live.state in IDLE:
            # A schedule comes to its end; a set-point does not, and neither end in protection.
            expected = test is None or (ours and not test.drives and live.state == "finish")
            return Regulation.OPEN, Status.OK if expected else Status.FAULT
        if live.state == "pause":
            expected = ours and (test is None or not (test.drives or test.reel))
            return Regulation.OPEN, Status.OK if expected else Status.FAULT
        if live.state != "working":
            return Regulation.UNKNOWN, Status.OK if ours else Status.FAULT
        regulation = WORDS.get(live.step_type)
        if regulation is None and test is not None and 0 < live.step <= len(test.regulations):
            regulation = test.regulations[live.step - 1]
        return regulation or Regulation.UNKNOWN, Status.OK if ours else Status.FAULT

    # Safe state ----------------------------------------------------------------------------

    async def safe(self) -> None:
        """Stop whatever is on the channel; returns when its state has been read back idle.

        Idempotent, works in any state, does not wait for a set-point that is being started.
        Raises SafeStateError or CommunicationError.
        """
        self._calls_for_safety += 1
        self._test = None
        with self._named():
            try:
                await self._make_safe()
            except CommunicationError:
                await self._stop_blindly()
                raise

    async def _make_safe(self) -> None:
        # First of all and in any state: what the server says of the channel may be seconds old.
        stopped = await self._tell("stop", urgent=True)
        state = await self._settled(SAFE_STOP_TIME, IDLE, urgent=True)
        if state not in IDLE:
            self._not_safe(f"the channel is {state} after stop")
        if stopped:
            self._start_sent = -math.inf
        elif self._may_start():
            self._not_safe(f"it is {state}, but a start that was sent may still come into effect")

    def _may_start(self) -> bool:
        """Whether a start is on its way that has not been seen in effect."""
        return self._start_sent > self._clock.now() - self._clock.lab(START_TIME)

    def _not_safe(self, why: str) -> NoReturn:
        raise self._error(
            SafeStateError,
            f"{why}. ASSUME THAT ITS CIRCUIT IS CLOSED: stop it in BTS Client or disconnect the "
            "cell.",
        )


def mark_of(*what: object) -> str:
    """Six digits that stand for a set-point and the bounds of its run, or for a schedule."""
    return hashlib.sha256(repr(what).encode()).hexdigest()[:6]
