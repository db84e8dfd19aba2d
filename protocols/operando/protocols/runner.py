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
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import replace
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
from operando.instruments.limits import Action, Firing, LimitMonitor
from operando.instruments.recorder import JSON, Entry, Recorder
from operando.instruments.roles import (
    OpenCircuit,
)
from operando.instruments.safety import secure
from operando.instruments.samples import AuxReading, Reading, Status
from operando.protocols.entries import cut_short_entry, ended_entry, firing_entry, started_entry
from operando.protocols.monitors import readings_of, watch
from operando.protocols.preflight import OpenCircuitWindow, judge_open_circuit
from operando.protocols.protocol import Outcome, Plan
from operando.protocols.run import Channel, RunResult, RunSettings, RunState, current_bound
from operando.protocols.steps import Step
from operando.protocols.tally import ELECTRICAL, Tally

MISSED_READINGS = 2
"""Consecutive failed readings that are repeated before the run counts as faulted."""

SETTLED = 1e-3
"""Two readings of an open circuit that agree within this are the cell's, V."""

SETTLING_READINGS = 20

READING_TIME = 2.0
"""Wall s that a reading may take before its quantity can count as stale: time-out and repeats."""


_RANK = {
    RunState.PAUSED: 1,
    RunState.HELD: 2,
    RunState.ABORTED: 3,
    RunState.TRIPPED: 4,
    RunState.REFUSED: 5,
    RunState.FAULTED: 6,
}
"""When several interruptions meet, the gravest decides the state of the run."""

_FINAL = frozenset(_RANK) - {RunState.PAUSED, RunState.HELD}


class _Interrupted(Exception):  # noqa: N818 - it is not an error
    """The present step was interrupted."""


class Runner:
    """Runs one plan on one channel."""

    def __init__(
        self,
        channel: Channel,
        plan: Plan,
        settings: RunSettings,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._channel = channel
        self._plan = plan
        self._settings = settings
        self._recorder = recorder
        self._clock = clock
        # A reading may be on its way for as long as a time-out, which is wall time.
        patience = clock.lab(READING_TIME)
        self._limits = LimitMonitor(
            replace(limit, stale_after=max(limit.stale_after, patience))
            for limit in settings.limits
        )
        self._journalling = asyncio.Lock()
        self._watchers: list[asyncio.Task[None]] = []
        self._polling: asyncio.Task[None] | None = None
        self._securing: asyncio.Task[SafeStateError | None] | None = None
        self._observed_until = -math.inf
        self._driven = False
        self._step_is_open = False
        self._checked = settings.open_circuit is None
        self._opened_at = clock.now()
        self._interruption: tuple[RunState, str] | None = None
        self._interrupted = asyncio.Event()
        self._resumed = asyncio.Event()
        self._output_may_be_on = True
        self.state = RunState.PREPARING
        self.reason = ""
        self.tally = Tally(clock.now(), clock.utc() - clock.now(), settings.record, recorder)

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
            await self._unobserved(now - seconds, now)

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
        if self._interruption is None or _RANK[state] > _RANK[self._interruption[0]]:
            self._interruption = (state, reason)
        self._interrupted.set()
        self._resumed.clear()  # what comes later outranks a resume that was not acted on yet
        # The way to the safe state begins here and waits for nobody: whatever the run is doing,
        # it may ask for nothing more, and off jumps the queue.
        if self._polling is not None:
            self._polling.cancel()
        self._begin_securing()

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
            unsafe = await self._make_safe()
            if unsafe is not None:
                error.add_note(str(unsafe))
                print(unsafe, file=sys.stderr)
            raise
        finally:
            await self._end_watchers()

    def _on_error(self, error: Exception) -> None:
        """Whatever went wrong ends the run, unless the run was being ended already."""
        if self._interruption is not None and self._interruption[0] in _FINAL:
            return
        if isinstance(error, BadInputError) and not self._driven:
            self._interrupt(RunState.REFUSED, str(error))
        elif isinstance(error, RecordError):
            self._interrupt(RunState.FAULTED, f"the record failed: {error}")
        elif isinstance(error, OperandoError):
            self._interrupt(RunState.FAULTED, str(error))
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename} line {frame.lineno}"
            self._interrupt(RunState.FAULTED, f"{type(error).__name__}: {error} ({where})")

    async def _prepare(self) -> None:
        settings, potentiostat = self._settings, self._channel.potentiostat
        await self._note(Entry.RUN_STARTED, {"channel": self._channel.name})
        for name, monitor in self._channel.monitors.items():
            for found in await readings_of(monitor):
                if found.status not in {Status.OK, Status.UNSTABLE} or math.isnan(found.value):
                    raise BadInputError(
                        f"channel {self._channel.name}: {name} gives no valid {found.quantity} "
                        f"({found.status.value}); nothing was switched on. Check the sensor, or "
                        "take it out of the channel."
                    )
                self._on_aux(found)
        await potentiostat.prepare(settings.protection)
        if settings.open_circuit is None:
            await self._note(Entry.NOTE, {"open circuit": "not checked, as the recipe asks"})

    async def _check_open_circuit(self, window: OpenCircuitWindow) -> None:
        """Find the cell at zero current before anything drives it."""
        potentiostat = self._channel.potentiostat
        if not self._interrupted.is_set():
            self._output_may_be_on = True
            try:
                await potentiostat.apply(OpenCircuit(self._rest_limit))
                reading = await self._settled()
            except OperandoError:
                if not self._interrupted.is_set():
                    raise
        if self._interrupted.is_set():
            # Opened under the check, which judges nothing then and is made again.
            await self._stop_driving()
        self.tally.rest_voltage = reading.voltage
        finding: dict[str, JSON] = {"open circuit voltage": reading.voltage, "unit": "V"}
        problem = judge_open_circuit(reading, window)
        await self._note(Entry.NOTE, finding | {"problem": problem})
        if problem is not None:
            raise BadInputError(f"channel {self._channel.name}: {problem}")
        self._checked = True

    async def _settled(self) -> Reading:
        """Read an open circuit until two readings agree, and return the last.

        A zero-current source on its lowest range takes tenths of a second to charge what hangs on
        it; those readings are the instrument's, not the cell's, and are not kept.
        """
        reading = await self._channel.potentiostat.measure()
        for _ in range(SETTLING_READINGS):
            before, reading = reading, await self._channel.potentiostat.measure()
            if abs(reading.voltage - before.voltage) < SETTLED:
                break
        return reading

    def _start_watchers(self) -> None:
        self._watchers = [
            asyncio.create_task(
                watch(name, monitor, self._settings.poll.of(name), self._clock, self)
            )
            for name, monitor in self._channel.monitors.items()
        ]
        if self._settings.limits:
            self._watchers.append(asyncio.create_task(self._watch_staleness()))

    async def _end_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for task in watchers:
            task.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    async def _carry_out(self) -> None:
        program = self._plan.steps(self._channel.cell)
        step_ids: dict[tuple[str, str], int] = {}
        window = self._settings.open_circuit
        while window is not None and not self._checked:
            try:
                await self._check_open_circuit(window)
            except _Interrupted:
                if not await self._held():
                    raise
        self.state = RunState.RUNNING
        try:
            step = next(program)
            while True:
                step_id = step_ids.setdefault((type(step).__name__, step.label), len(step_ids) + 1)
                outcome = await self._step(step, step_id)
                step = program.send(outcome)
        except StopIteration:
            return
        finally:
            program.close()

    async def _step(self, step: Step, step_id: int) -> Outcome:
        tally = self.tally
        tally.begin_step(step, step_id)
        await self._note(Entry.STEP_STARTED, started_entry(step, tally))
        self._step_is_open = True
        while True:
            try:
                await self._attempt(step)
                break
            except _Interrupted:
                if not await self._held():
                    raise
        outcome = tally.outcome()
        self._step_is_open = False
        await self._note(Entry.STEP_ENDED, ended_entry(outcome, tally))
        return outcome

    async def _attempt(self, step: Step) -> None:
        """Drive the step until it ends; raise _Interrupted if something else ends it."""
        if not self._interrupted.is_set():
            self._polling = asyncio.create_task(self._poll(step))
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
        interval, recorder = self._settings.poll.interval, self._recorder
        setpoint = step.setpoint(self._rest_limit)
        resting = isinstance(setpoint, OpenCircuit)
        self._output_may_be_on = self._driven = True
        asked = clock.now()
        await potentiostat.apply(setpoint)
        # The set-point before ended when the relay opened for a rest, else when the new one came.
        tally.begin_attempt(asked if resting else clock.now(), current_bound(setpoint))
        if resting:
            await self._settled()
        suspended = clock.suspended()
        patience = 5.0 * interval + clock.lab(READING_TIME)
        missed = 0
        due = clock.now()
        while True:
            await clock.sleep_until(due)
            recorder.check()
            try:
                reading = await potentiostat.measure()
            except LinkLostError:
                raise
            except CommunicationError as error:
                # Reading again is harmless; writing again would not be.
                missed += 1
                if missed > MISSED_READINGS:
                    raise
                await self._note(
                    Entry.ALARM, {"what": "reading failed, repeated", "why": str(error)}
                )
                continue
            missed = 0
            slept, suspended = clock.suspended() - suspended, clock.suspended()
            if slept > 1.0 or reading.time - tally.last_time > patience:
                await self._unobserved(tally.last_time, reading.time, slept)
                return
            if self._on_reading(reading, step):
                return
            due = tally.next_due(due, interval, clock.now())

    def _on_reading(self, reading: Reading, step: Step) -> bool:
        """Take a reading; whether it ended the step. Limits act before anything else."""
        tally = self.tally
        tally.take(reading)
        wrong = tally.wrong_direction(reading, step) or tally.stopped_flowing(reading, step)
        if wrong:
            self._interrupt(RunState.TRIPPED, wrong)
        elif reading.status is Status.OVERLOAD:
            self._interrupt(
                RunState.TRIPPED,
                "the reading is beyond its range (overflow): voltage or current are not known. "
                "Check the contacts and the ranges.",
            )
        elif reading.status is Status.FAULT:
            self._interrupt(
                RunState.FAULTED,
                "the instrument's output went off although it had been on: its front panel, an "
                "interlock or a loss of power. Look at the instrument before going on.",
            )
        if self._interrupted.is_set():
            tally.record_last()
            return False
        fired = self._limits.update(tally.time, tally.values, ELECTRICAL)
        if fired:
            self._act(fired)
            tally.record_last()
        if self._interrupted.is_set():
            return False
        return tally.step_ended(reading)

    def on_aux(self, reading: AuxReading) -> None:
        """Take a reading of a monitor; called by its watcher."""
        self._on_aux(reading)

    def _on_aux(self, reading: AuxReading) -> None:
        tally = self.tally
        tally.take_aux(reading)
        if reading.status is Status.OVERLOAD and self._is_limited(reading.quantity):
            self._interrupt(
                RunState.TRIPPED,
                f"{reading.source} reports overload: {reading.quantity} is beyond its range, and a "
                "limit watches it",
            )
            tally.record_aux(reading)
            return
        fired = self._limits.update(reading.time - tally.start, tally.values, (reading.quantity,))
        if fired:
            self._act(fired)
            tally.record_aux(reading)

    def _is_limited(self, quantity: str) -> bool:
        return any(
            quantity in limit.when.quantities and limit.action is not Action.WARN
            for limit in self._settings.limits
        )

    async def on_monitor_failure(self, name: str, why: str) -> None:
        """Journal that a monitor cannot be read; its limits act when it is stale."""
        await self._note(Entry.ALARM, {"what": f"{name} cannot be read", "why": why})

    def on_crash(self, name: str, why: str) -> None:
        """A watcher died of a bug: end the run rather than go on blind."""
        self._interrupt(RunState.FAULTED, f"watching {name} failed: {why}")

    def _act(self, fired: Iterable[Firing]) -> None:
        for firing in fired:
            self.tally.fired.append(firing)
            if firing.action is Action.TRIP:
                self._interrupt(RunState.TRIPPED, str(firing))
            elif firing.action is Action.HOLD:
                self._interrupt(RunState.HELD, str(firing))

    async def _watch_staleness(self) -> None:
        shortest = min(limit.stale_after for limit in self._limits.limits)
        period = max(self._clock.lab(0.1), shortest / 4.0)
        try:
            while True:
                await self._clock.sleep(period)
                if self.state is RunState.RUNNING:
                    now = self._clock.now()
                    ages = self.tally.ages(now)
                    self._act(self._limits.check_stale(now - self.tally.start, ages))
                await self._journal_fired()
        except Exception as error:
            self.on_crash("the limits", f"{type(error).__name__}: {error}")
            raise

    async def _journal_fired(self) -> None:
        """Journal the limits that acted; one task at a time, each exactly once."""
        async with self._journalling:
            while self.tally.fired:
                await self._note(Entry.LIMIT, firing_entry(self.tally.fired[0]))
                self.tally.fired.pop(0)

    async def _unobserved(self, start: float, end: float, slept: float = 0.0) -> None:
        """Say that nothing was seen between two laboratory times, and hold.

        slept: wall s for which the computer was suspended, which its clock did not count.
        """
        lasted = end - start + self._clock.lab(slept)
        self._interrupt(RunState.HELD, f"nothing was observed for {lasted:.1f} s")
        start = max(start, self._observed_until)  # a stretch is told once
        if end <= start:
            return
        self._observed_until = end
        tally = self.tally
        bound = tally.current_bound * (end - start + self._clock.lab(slept))
        tally.skip_gap(end, self._clock.utc(end) - end)
        await self._note(
            Entry.GAP,
            {
                "start": start - tally.start,
                "end": end - tally.start,
                "suspended": slept,
                "reason": "no reading: this process or its computer stood still",
                "charge_bound": bound,
            },
        )

    # ---- holding and ending --------------------------------------------------------------

    async def _held(self) -> bool:
        """After an interruption: wait for the operator; False when the run is to end."""
        assert self._interruption is not None
        state, reason = self._interruption
        if state in _FINAL:
            return False
        assert not self._output_may_be_on
        self.tally.end_attempt(self._opened_at)
        self.state, self.reason = state, reason
        self._interruption = None
        self._interrupted.clear()
        self._resumed.clear()
        self._securing = None
        await self._journal_fired()
        await self._note(
            Entry.PAUSED,
            {"state": state.value, "reason": reason, "elapsed": self.tally.elapsed,
             "step_charge": self.tally.step_charge},
        )  # fmt: skip
        if not await self._wait_for_operator():
            return False
        await self._note(Entry.RESUMED, {"elapsed": self.tally.elapsed})
        self._limits.reset(self._clock.now() - self.tally.start)
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
            if self._interruption is not None and self._interruption[0] in _FINAL:
                return False
            # Paused or held while paused: the circuit is open already. A resume that came before
            # it does not count, see `_interrupt`.
            self._interruption = None
            self._interrupted.clear()
        return True

    async def _finish(self) -> RunResult:
        unsafe = await self._make_safe()
        tally, now = self.tally, self._clock.now()
        await self._end_watchers()
        if self._interruption is not None and self._interruption[0] in _FINAL:
            self.state, self.reason = self._interruption
        if unsafe is not None:
            self.state = RunState.FAULTED
            self.reason = f"{self.reason}; {unsafe}" if self.reason else str(unsafe)
        try:
            # Unless the circuit was found open, nobody knows when the step ended.
            after = 0.0 if unsafe is not None else tally.end_attempt(self._opened_at)
            await self._journal_fired()
            if self._step_is_open and unsafe is None:
                await self._note(Entry.STEP_ENDED, cut_short_entry(self.state.value, tally))
            verdict = "verified" if unsafe is None else str(unsafe)
            # charge_after: passed between the last reading and the opening of the circuit
            how = {"reason": self.reason, "potentiostat": verdict}
            await self._note(Entry.SAFE, how | {"charge_after": after})
            await self._note(Entry.RUN_ENDED, {"state": self.state.value, "reason": self.reason})
        except RecordError as error:
            # The cell is safe already; the caller learns that the record's end is missing.
            self.state = RunState.FAULTED
            self.reason = f"{self.reason}; the record failed: {error}"
        return RunResult(
            state=self.state,
            reason=self.reason,
            safe=unsafe is None,
            duration=now - tally.start,
            charge=tally.charge,
            steps=tally.step_count,
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

    async def _note(self, entry: Entry, data: Mapping[str, JSON]) -> None:
        await self._recorder.journal(entry, self._clock.now() - self.tally.start, data)
