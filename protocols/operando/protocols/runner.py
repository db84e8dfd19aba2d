"""The runner: carries one plan out on one channel, forward only.

It asks the plan for a step, writes the intent to the journal, applies the set-point, polls until
a condition ends the step, commits the outcome and only then asks for the next. Limits act on
every reading at once. Whatever ends a run, the safe state is reached on a path of its own and
read back; a pause or hold keeps the time and charge that a step already has.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import NoReturn

from operando.instruments.clock import Clock
from operando.instruments.errors import (
    BadInputError,
    CommunicationError,
    LinkLostError,
    OperandoError,
    RecordError,
    SafeStateError,
)
from operando.instruments.recorder import JSON, Entry, Recorder
from operando.instruments.roles import OpenCircuit
from operando.instruments.safety import secure
from operando.instruments.samples import AuxReading, Reading, Status
from operando.protocols.actuators import VERIFIED, Actuators, OnActuator
from operando.protocols.entries import (
    OUT_OF_RANGE,
    WENT_OFF,
    beyond_range,
    cut_short_entry,
    ended_entry,
    gap_entry,
    in_words,
    safe_entry,
    started_entry,
)
from operando.protocols.limit_watch import READING_TIME, LimitWatch
from operando.protocols.monitors import readings_of, watch
from operando.protocols.on_board import OnBoard, on_board
from operando.protocols.preflight import (
    OpenCircuitWindow,
    judge_monitor,
    judge_open_circuit,
    settled,
)
from operando.protocols.protocol import Outcome, Plan
from operando.protocols.run import (
    FINAL,
    GRAVITY,
    POTENTIOSTAT,
    Channel,
    RunResult,
    RunSettings,
    RunState,
    current_bound,
)
from operando.protocols.steps import Step
from operando.protocols.tally import ELECTRICAL, Tally

MISSED_READINGS = 2
"""Consecutive failed readings that are repeated before the run counts as faulted."""


class _Interrupted(Exception):  # noqa: N818 - it is not an error
    """The present step was interrupted."""


class Runner:
    """Runs one plan on one channel.

    guard: puts an actuator under guard, by its name, before this run drives it.
    """

    def __init__(
        self,
        channel: Channel,
        plan: Plan,
        settings: RunSettings,
        recorder: Recorder,
        clock: Clock,
        guard: OnActuator | None = None,
    ) -> None:
        self._channel = channel
        self._plan = plan
        self._settings = settings
        self._recorder = recorder
        self._clock = clock
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._polling: asyncio.Task[None] | None = None
        self._securing: asyncio.Task[SafeStateError | None] | None = None
        self._observed_until = -math.inf
        self._driven = False
        self._step_is_open = False
        self._step_ids: dict[tuple[str, str], int] = {}
        self._checked = settings.open_circuit is None
        self._opened_at = clock.now()
        self._interruption: tuple[RunState, str] | None = None
        self._interrupted = asyncio.Event()
        self._interrupted_at = clock.now()
        self._resumed = asyncio.Event()
        self._output_may_be_on = True
        self._actuators = Actuators(channel, self.note, guard, self._stop_watching, self.hold)
        self.state = RunState.PREPARING
        self.reason = ""
        self.tally = Tally(clock.now(), clock.utc() - clock.now(), settings.record, recorder)
        self._limits = LimitWatch(settings, clock, self.tally, self._interrupt, self.note)

    # ---- what an operator can do, from the same event loop -------------------------------

    def abort(self, reason: str) -> None:
        """End the run in the safe state."""
        self._interrupt(RunState.ABORTED, reason)

    def pause(self, reason: str = "asked by the operator") -> None:
        """Open the circuit and wait for `resume`; the step keeps its time and charge."""
        self._interrupt(RunState.PAUSED, reason)

    def fault(self, reason: str) -> None:
        """End the run in the safe state because something outside the runner failed."""
        self._interrupt(RunState.FAULTED, reason)

    def resume(self) -> None:
        """Go on after a pause or hold."""
        self._resumed.set()

    def hold(self, reason: str) -> None:
        """Open the circuit and wait for an operator, because of something outside the runner."""
        if self.state is RunState.RUNNING:
            self._interrupt(RunState.HELD, reason)

    async def stood_still(self, seconds: float) -> None:
        """Say that this process was stopped for `seconds` of laboratory time, and hold."""
        if self.state is RunState.RUNNING:
            now = self._clock.now()
            await self.unobserved(now - seconds, now)

    def lost(self, name: str, why: str) -> None:
        """Somebody else switched an instrument: what this run drives is told again on resume."""
        if self._actuators.lost(name):
            self.hold(f"{name} was switched: {why}")

    def is_safe(self, name: str) -> bool:
        """Whether an actuator was never driven, or its safe state has been read back."""
        return self._actuators.is_safe(name)

    @property
    def verified_off(self) -> bool:
        """Whether the circuit has been read back open since anything was switched on."""
        return not self._output_may_be_on

    @property
    def _rest_limit(self) -> float:
        """Compliance of a zero-current source: clear of the window, so that it never acts, V."""
        low, high = self._settings.protection.voltage
        return max(abs(low), abs(high)) + 0.5

    def _interrupt(self, state: RunState, reason: str) -> None:
        if self._interruption is None or GRAVITY[state] > GRAVITY[self._interruption[0]]:
            self._interruption = (state, reason)
        if not self._interrupted.is_set():
            self._interrupted_at = self._clock.now()
        self._interrupted.set()
        self._resumed.clear()  # what comes later outranks a resume that was not acted on yet
        # The way to the safe state begins here and waits for nobody: whatever the run is doing,
        # it may ask for nothing more, and off jumps the queue.
        if self._polling is not None:
            self._polling.cancel()
        self._begin_securing()
        if state in FINAL:
            self._actuators.begin_securing()

    # ---- the run -------------------------------------------------------------------------

    async def run(self) -> RunResult:
        """Carry the plan out. Never raises for what happens to the run: read the result."""
        try:
            try:
                await self._prepare()
                self._start_watchers()
                await self._carry_out()
                self.state, self.reason = RunState.COMPLETED, "the protocol came to its end"
            except _Interrupted:
                pass
            except Exception as error:
                self._on_error(error)
            return await self._finish()
        except BaseException as error:
            # Cancelled from outside: the cell comes first, then the error goes on its way.
            for problem in await self._make_all_safe():
                error.add_note(problem)
                print(problem, file=sys.stderr)
            raise
        finally:
            await self._stop_watching(*self._watchers)

    def _on_error(self, error: Exception) -> None:
        """Whatever went wrong ends the run, unless the run was being ended already."""
        if self._interruption is not None and self._interruption[0] in FINAL:
            return
        refused = isinstance(error, BadInputError) and not self._driven
        self._interrupt(RunState.REFUSED if refused else RunState.FAULTED, in_words(error))

    async def _prepare(self) -> None:
        settings, potentiostat = self._settings, self._channel.potentiostat
        await self.note(Entry.RUN_STARTED, {"channel": self._channel.name})
        for name, monitor in self._channel.monitors.items():
            for found in await readings_of(monitor):
                if problem := judge_monitor(name, found):
                    raise BadInputError(f"channel {self._channel.name}: {problem}")
                self.on_aux(found)
        await potentiostat.prepare(settings.protection)
        if settings.open_circuit is None:
            await self.note(Entry.NOTE, {"open circuit": "not checked, as the recipe asks"})

    async def _check_open_circuit(self, window: OpenCircuitWindow) -> None:
        """Find the cell at zero current before anything drives it."""
        potentiostat = self._channel.potentiostat
        if not self._interrupted.is_set():
            self._output_may_be_on = True
            try:
                await potentiostat.apply(OpenCircuit(self._rest_limit))
                reading = await settled(potentiostat)
            except OperandoError:
                if not self._interrupted.is_set():
                    raise
        if self._interrupted.is_set():
            # Opened under the check, which judges nothing then and is made again.
            await self._stop_driving()
        self.tally.rest_voltage = reading.voltage
        finding: dict[str, JSON] = {"open circuit voltage": reading.voltage, "unit": "V"}
        problem = judge_open_circuit(reading, window)
        await self.note(Entry.NOTE, finding | {"problem": problem})
        if problem is not None:
            raise BadInputError(f"channel {self._channel.name}: {problem}")
        self._checked = True

    def _start_watchers(self) -> None:
        self._watchers = {
            name: asyncio.create_task(
                watch(name, monitor, self._settings.poll.of(name), self._clock, self)
            )
            for name, monitor in self._channel.monitors.items()
        }
        if self._settings.limits:
            # On the way to an open circuit nothing is read, and nothing is stale.
            watching = self._limits.watch(
                lambda: self.state is RunState.RUNNING and not self._interrupted.is_set(),
                self.on_crash,
            )
            self._watchers[""] = asyncio.create_task(watching)

    async def _stop_watching(self, *names: str) -> None:
        watchers = [self._watchers.pop(name) for name in names if name in self._watchers]
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    async def _carry_out(self) -> None:
        program = self._plan.groups(self._channel.cell)
        window = self._settings.open_circuit
        while window is not None and not self._checked:
            try:
                await self._check_open_circuit(window)
            except _Interrupted:
                if not await self._held():
                    raise
        self.state = RunState.RUNNING
        try:
            group = next(program)
            while True:
                group = program.send(await self._group(group))
        except StopIteration:
            return
        finally:
            program.close()

    async def _group(self, steps: Sequence[Step]) -> Outcome:
        """Carry steps out, on board as far as that goes; the outcome of the last."""
        potentiostat, limit = self._channel.potentiostat, self._rest_limit
        while steps and (
            schedule := on_board(potentiostat, steps, limit, self._settings, self._clock, self)
        ):
            await self._look_on(schedule, steps[0])
            if schedule.over and schedule.outcome is not None:
                return schedule.outcome
            # Interrupted: the rest of that step by software, and those behind it as a group again.
            outcome = await self._step(steps[schedule.ended], begun=True)
            steps = steps[schedule.ended + 1 :]
        for step in steps:
            outcome = await self._step(step)
        return outcome

    async def _look_on(self, schedule: OnBoard, first: Step) -> None:
        """Let the instrument run a schedule until it is over, or stopped and to be resumed."""
        await self.begin_step(first)
        self._limits.on_board = self._output_may_be_on = self._driven = True
        try:
            await self._attempt(schedule.begin())
            while not schedule.over:
                await self._attempt(schedule.watch())
                await schedule.turn()
        except (_Interrupted, OperandoError) as error:
            if isinstance(error, OperandoError):
                self._on_error(error)
                await self._make_safe()
            self._limits.on_board = False
            final = self._interruption is not None and self._interruption[0] in FINAL
            await schedule.cut_short(self._interrupted_at, for_good=final)
            if not await self._held():
                raise
        finally:
            self._limits.on_board = False

    async def _step(self, step: Step, *, begun: bool = False) -> Outcome:
        """Step by software. begun: its beginning has been journalled, and part of it is over."""
        if not begun:
            await self.begin_step(step)
        while True:
            try:
                await self._attempt(self._poll(step))
                break
            except _Interrupted:
                if not await self._held():
                    raise
        return await self.end_step()

    async def begin_step(self, step: Step) -> None:
        """Journal the intent to carry a step out, and count from here."""
        key = (type(step).__name__, step.label)
        self.tally.begin_step(step, self._step_ids.setdefault(key, len(self._step_ids) + 1))
        await self.note(Entry.STEP_STARTED, started_entry(step, self.tally))
        self._step_is_open = True

    async def end_step(self) -> Outcome:
        """Journal how the step ended."""
        outcome = self.tally.outcome()
        self._step_is_open = False
        await self.note(Entry.STEP_ENDED, ended_entry(outcome, self.tally))
        return outcome

    async def _attempt(self, driving: Coroutine[None, None, None]) -> None:
        """Drive until that comes to its end; raise _Interrupted if something else ends it."""
        if self._interrupted.is_set():
            driving.close()
        else:
            self._polling = asyncio.create_task(driving)
            try:
                await asyncio.wait({self._polling})
                if not self._polling.cancelled() and (error := self._polling.exception()):
                    raise error
            finally:
                self._polling.cancel()
                await asyncio.gather(self._polling, return_exceptions=True)
                self._polling = None
        if self._interrupted.is_set():
            await self._stop_driving()

    async def _stop_driving(self) -> NoReturn:
        """Wait for the open circuit, then leave what is being done."""
        unsafe = await self._make_safe()
        if unsafe is not None:
            self._interrupt(RunState.FAULTED, str(unsafe))
        raise _Interrupted

    async def _poll(self, step: Step) -> None:
        clock, potentiostat, tally = self._clock, self._channel.potentiostat, self.tally
        interval = self._settings.poll.interval
        self._actuators.begin(step, tally.step_count)
        setpoint = step.setpoint(self._rest_limit)
        resting = isinstance(setpoint, OpenCircuit)
        self._output_may_be_on = self._driven = True
        asked = clock.now()
        await potentiostat.apply(setpoint)
        # The set-point before ended when the relay opened for a rest, else when the new one came.
        tally.begin_attempt(asked if resting else clock.now(), current_bound(setpoint))
        if resting:
            await settled(potentiostat)
        suspended = clock.suspended()
        patience = 5.0 * interval + clock.lab(READING_TIME)
        missed, due = 0, clock.now()
        while True:
            await clock.sleep_until(due)
            try:
                reading = await potentiostat.measure()
            except LinkLostError:
                raise
            except CommunicationError as error:
                # Reading again is harmless; writing again would not be.
                missed += 1
                if missed > MISSED_READINGS:
                    raise
                await self.note(
                    Entry.ALARM, {"what": "reading failed, repeated", "why": str(error)}
                )
                continue
            missed = 0
            slept, suspended = clock.suspended() - suspended, clock.suspended()
            if slept > 1.0 or reading.time - tally.last_time > patience:
                await self.unobserved(tally.last_time, reading.time, slept)
                return
            self.judge(reading, step)
            if not self._interrupted.is_set() and tally.step_ended(reading):
                await self._actuators.told(step)
                return
            due = tally.next_due(due, interval, clock.now())

    def judge(self, reading: Reading, step: Step) -> None:
        """Take a reading and let limits act on it."""
        self._recorder.check()
        self._actuators.check()
        tally = self.tally
        tally.take(reading)
        wrong = tally.wrong_direction(reading, step) or tally.stopped_flowing(reading, step)
        if reading.status is Status.FAULT:  # without its output no current flows either
            self._interrupt(RunState.FAULTED, WENT_OFF)
        elif wrong:
            self._interrupt(RunState.TRIPPED, wrong)
        elif reading.status is Status.OVERLOAD:
            self._interrupt(RunState.TRIPPED, OUT_OF_RANGE)
        if self._interrupted.is_set():
            tally.record_last()
            return
        if self._limits.update(tally.time, ELECTRICAL):
            tally.record_last()

    def on_aux(self, reading: AuxReading) -> None:
        """Take a reading of a monitor; called by its watcher."""
        self._actuators.heard(reading.source)
        tally = self.tally
        tally.take_aux(reading)
        if reading.status is Status.OVERLOAD and self._limits.acts_on(reading.quantity):
            self._interrupt(RunState.TRIPPED, beyond_range(reading))
            tally.record_aux(reading)
            return
        if self._limits.update(reading.time - tally.start, (reading.quantity,)):
            tally.record_aux(reading)

    async def on_monitor_failure(self, name: str, why: str) -> None:
        """Journal that a monitor cannot be read; its limits act when it is stale."""
        self._actuators.lost(name)
        await self.note(Entry.ALARM, {"what": f"{name} cannot be read", "why": why})

    def on_monitor_back(self, name: str) -> None:
        """A monitor can be read again; one that is driven may have lost its set-point meanwhile."""
        if self.state is RunState.RUNNING:
            self._actuators.tell_again()

    def on_crash(self, name: str, why: str) -> None:
        """A watcher died of a bug: end the run rather than go on blind."""
        self._interrupt(RunState.FAULTED, f"watching {name} failed: {why}")

    async def unobserved(
        self, start: float, end: float, slept: float = 0.0, highest: float | None = None
    ) -> None:
        """Say that nothing was seen between two laboratory times, and hold.

        slept: wall s for which the computer was suspended, which its clock did not count. highest:
        current that may have flowed, A; that of the present set-point when None.
        """
        lasted = end - start + self._clock.lab(slept)
        self._interrupt(RunState.HELD, f"nothing was observed for {lasted:.1f} s")
        start = max(start, self._observed_until)  # a stretch is told once
        if end <= start:
            return
        self._observed_until = end
        tally = self.tally
        highest = tally.current_bound if highest is None else highest
        bound = highest * (end - start + self._clock.lab(slept))
        tally.skip_gap(end, self._clock.utc(end) - end)
        await self.note(
            Entry.GAP,
            gap_entry(start - tally.start, end - tally.start, suspended=slept, charge_bound=bound),
        )

    # ---- holding and ending --------------------------------------------------------------

    async def _held(self) -> bool:
        """After an interruption: wait for the operator; False when the run is to end."""
        assert self._interruption is not None
        state, reason = self._interruption
        if state in FINAL:
            return False
        assert not self._output_may_be_on
        self.tally.end_attempt(self._opened_at)
        self.state, self.reason = state, reason
        self._interruption = None
        self._interrupted.clear()
        self._resumed.clear()
        self._securing = None
        await self._limits.journal()
        await self.note(
            Entry.PAUSED,
            {"state": state.value, "reason": reason, "elapsed": self.tally.elapsed,
             "step_charge": self.tally.step_charge},
        )  # fmt: skip
        if not await self._wait_for_operator():
            return False
        await self.note(Entry.RESUMED, {"elapsed": self.tally.elapsed})
        self._limits.reset()
        self.state, self.reason = RunState.RUNNING, ""
        return True

    async def _wait_for_operator(self) -> bool:
        """Wait until an operator resumes; False when the run is to end."""
        while not self._resumed.is_set():
            waits = [
                asyncio.create_task(self._resumed.wait()),
                asyncio.create_task(self._interrupted.wait()),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
            if self._interruption is not None and self._interruption[0] in FINAL:
                return False
            # Paused or held while paused: the circuit is open already. A resume that came before
            # it does not count, see `_interrupt`.
            self._interruption = None
            self._interrupted.clear()
        return True

    async def _finish(self) -> RunResult:
        problems = await self._make_all_safe()
        unsafe, tally, now = self._output_may_be_on, self.tally, self._clock.now()
        await self._stop_watching(*self._watchers)
        if self._interruption is not None and self._interruption[0] in FINAL:
            self.state, self.reason = self._interruption
        if problems:
            self.state = RunState.FAULTED
            self.reason = "; ".join(filter(None, (self.reason, *problems)))
        try:
            # Unless the circuit was found open, nobody knows when the step ended.
            after = 0.0 if unsafe else tally.end_attempt(self._opened_at)
            await self._limits.journal()
            if self._step_is_open and not unsafe:
                await self.note(Entry.STEP_ENDED, cut_short_entry(self.state.value, tally))
            verdicts = problems[0] if unsafe else VERIFIED, self._actuators.verdicts
            await self.note(Entry.SAFE, safe_entry(self.reason, *verdicts, after))
            await self.note(Entry.RUN_ENDED, {"state": self.state.value, "reason": self.reason})
        except RecordError as error:
            # The cell is safe already; the caller learns that the record's end is missing.
            self.state = RunState.FAULTED
            self.reason = f"{self.reason}; the record failed: {error}"
        return RunResult(
            state=self.state,
            reason=self.reason,
            safe=not problems,
            duration=now - tally.start,
            charge=tally.charge,
            steps=tally.step_count,
            unsafe=(POTENTIOSTAT,) * unsafe + self._actuators.unsafe,
        )

    def _begin_securing(self) -> asyncio.Task[SafeStateError | None]:
        if self._securing is None or (self._securing.done() and self._output_may_be_on):
            self._securing = asyncio.create_task(self._secure())
        return self._securing

    async def _secure(self) -> SafeStateError | None:
        """Open the circuit and read it back; the error if that could not be verified."""
        if not self._output_may_be_on:
            return None
        try:
            await secure(self._channel.potentiostat)
        except SafeStateError as error:
            return error
        self._output_may_be_on = False
        self._opened_at = self._clock.now()
        return None

    async def _make_safe(self) -> SafeStateError | None:
        """Wait for the safe state, on its way already or not; cancelling does not stop it."""
        task = self._begin_securing()
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _make_all_safe(self) -> list[str]:
        """The cell's circuit first, with it what was driven around it; what is wrong, in words."""
        self._begin_securing()
        self._actuators.begin_securing()
        unsafe = await self._make_safe()
        verdicts = await self._actuators.secured()
        problems = [] if unsafe is None else [str(unsafe)]
        return problems + [f"{name}: {one}" for name, one in verdicts.items() if one != VERIFIED]

    async def note(self, entry: Entry, data: Mapping[str, JSON]) -> None:
        """Append to the journal at this time."""
        await self._recorder.journal(entry, self._clock.now() - self.tally.start, data)
