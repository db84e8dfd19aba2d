"""The runner: carries one plan out on one channel, forward only.

It asks the plan for a step, writes the intent to the journal, applies the set-point, polls until
a condition ends the step, commits the outcome and only then asks for the next. Limits act on
every reading at once. Whatever ends a run, the safe state is reached on a path of its own and
read back; a pause or hold keeps the time and charge that a step already has.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping

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
from operando.protocols.monitors import Monitor, watch
from operando.protocols.preflight import judge_open_circuit
from operando.protocols.protocol import Outcome, Plan
from operando.protocols.run import Channel, RunResult, RunSettings, RunState, current_bound
from operando.protocols.steps import Step, describe, step_hash
from operando.protocols.tally import ELECTRICAL, Tally

MISSED_READINGS = 2
"""Consecutive failed readings that are repeated before the run counts as faulted."""

SETTLED = 1e-3
"""Two readings of an open circuit that agree within this are the cell's, V."""

SETTLING_READINGS = 50


_RANK = {
    RunState.PAUSED: 1,
    RunState.HELD: 2,
    RunState.ABORTED: 3,
    RunState.TRIPPED: 4,
    RunState.REFUSED: 5,
    RunState.FAULTED: 6,
}
"""When several interruptions meet, the gravest decides the state of the run."""


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
        self._limits = LimitMonitor(settings.limits, started=0.0)
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

    async def stood_still(self, seconds: float) -> None:
        """Say that this process was stopped for `seconds` of laboratory time, and hold."""
        if self.state is RunState.RUNNING:
            now = self._clock.now()
            await self._unobserved(now - seconds, now)

    @property
    def _rest_limit(self) -> float:
        """Compliance of a zero-current source: clear of the window, so that it never acts, V."""
        low, high = self._settings.protection.voltage
        return max(abs(low), abs(high)) + 0.5

    def _interrupt(self, state: RunState, reason: str) -> None:
        if self._interruption is None or _RANK[state] > _RANK[self._interruption[0]]:
            self._interruption = (state, reason)
        self._interrupted.set()

    # ---- the run -------------------------------------------------------------------------

    async def run(self) -> RunResult:
        """Carry the plan out. Never raises for what happens to the run: read the result."""
        watchers: list[asyncio.Task[None]] = []
        try:
            try:
                await self._prepare()
                watchers = self._start_watchers()
                await self._carry_out()
                self.state, self.reason = RunState.COMPLETED, "the protocol came to its end"
            except _Interrupted:
                pass
            except BadInputError as error:
                self._interrupt(RunState.REFUSED, str(error))
            except RecordError as error:
                self._interrupt(RunState.FAULTED, f"the record failed: {error}")
            except OperandoError as error:
                self._interrupt(RunState.FAULTED, str(error))
            return await self._finish()
        except BaseException:
            # A bug or a cancelled task: the cell comes first, then the error goes on its way.
            await self._make_safe()
            raise
        finally:
            for task in watchers:
                task.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)

    async def _prepare(self) -> None:
        settings, potentiostat = self._settings, self._channel.potentiostat
        await self._note(Entry.RUN_STARTED, {"channel": self._channel.name})
        for name, monitor in self._channel.monitors.items():
            for found in await _readings(monitor):
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
            return
        await potentiostat.apply(OpenCircuit(self._rest_limit))
        reading = await self._settled()
        finding: dict[str, JSON] = {"open circuit voltage": reading.voltage, "unit": "V"}
        problem = judge_open_circuit(reading, settings.open_circuit)
        await self._note(Entry.NOTE, finding | {"problem": problem})
        if problem is not None:
            raise BadInputError(f"channel {self._channel.name}: {problem}")

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

    def _start_watchers(self) -> list[asyncio.Task[None]]:
        watchers = [
            asyncio.create_task(
                watch(name, monitor, self._settings.poll.of(name), self._clock, self)
            )
            for name, monitor in self._channel.monitors.items()
        ]
        if self._settings.limits:
            watchers.append(asyncio.create_task(self._watch_staleness()))
        return watchers

    async def _carry_out(self) -> None:
        program = self._plan.steps(self._channel.cell)
        step_ids: dict[tuple[str, str], int] = {}
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
        entry: dict[str, JSON] = {
            "index": tally.step_count,
            "step_id": step_id,
            "cycle": tally.cycle,
            "label": step.label,
            "kind": type(step).__name__,
            "step": describe(step),
            "hash": step_hash(step),
        }
        await self._note(Entry.STEP_STARTED, entry)
        while True:
            try:
                await self._attempt(step)
                break
            except _Interrupted:
                if not await self._held():
                    raise
        outcome = tally.outcome()
        condition = None if outcome.condition is None else str(outcome.condition)
        await self._note(
            Entry.STEP_ENDED,
            {
                "index": outcome.index,
                "reason": outcome.reason,
                "condition": condition,
                "duration": outcome.duration,
                "charge": outcome.charge,
                "energy": outcome.energy,
                # passed by the set-point before, after its last reading
                "charge_before": tally.charge_before,
            },
        )
        return outcome

    async def _attempt(self, step: Step) -> None:
        """Drive the step until it ends; raise _Interrupted if something else ends it."""
        if self._interrupted.is_set():
            raise _Interrupted
        poll = asyncio.create_task(self._poll(step))
        interruption = asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait({poll, interruption}, return_when=asyncio.FIRST_COMPLETED)
            if self._interrupted.is_set():
                # Cancelled first, so that it can ask for nothing more: off jumps the queue.
                poll.cancel()
                error = await self._make_safe()
                if error is not None:
                    self._interrupt(RunState.FAULTED, str(error))
                raise _Interrupted
            await poll
        finally:
            poll.cancel()
            interruption.cancel()
            await asyncio.gather(poll, interruption, return_exceptions=True)

    async def _poll(self, step: Step) -> None:
        clock, potentiostat, tally = self._clock, self._channel.potentiostat, self.tally
        interval, recorder = self._settings.poll.interval, self._recorder
        setpoint = step.setpoint(self._rest_limit)
        self._output_may_be_on = True
        await potentiostat.apply(setpoint)
        if isinstance(setpoint, OpenCircuit):
            await self._settled()
        # The output went on at some moment of the apply call; its end is the better estimate.
        start = clock.now()
        tally.begin_attempt(start, current_bound(setpoint))
        suspended = clock.suspended()
        patience = 5.0 * interval + clock.lab(1.0)
        missed = 0
        due = start
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
                await self._unobserved(tally.last_time, reading.time)
            if self._on_reading(reading, step):
                return
            due = tally.next_due(due, interval, clock.now())

    def _on_reading(self, reading: Reading, step: Step) -> bool:
        """Take a reading; whether it ended the step. Limits act before anything else."""
        tally = self.tally
        tally.take(reading)
        wrong = tally.wrong_direction(reading, step)
        if wrong:
            tally.record_last()
            self._interrupt(RunState.TRIPPED, wrong)
            return False
        if reading.status is Status.OVERLOAD:
            tally.record_last()
            self._interrupt(
                RunState.TRIPPED,
                "the reading is beyond its range (overflow): voltage or current are not known. "
                "Check the contacts and the ranges.",
            )
            return False
        if reading.status is Status.FAULT:
            tally.record_last()
            self._interrupt(
                RunState.FAULTED,
                "the instrument's output went off although it had been on: its front panel, an "
                "interlock or a loss of power. Look at the instrument before going on.",
            )
            return False
        fired = self._limits.update(tally.time, tally.values, ELECTRICAL)
        if fired:
            tally.record_last()
            self._act(fired)
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
            tally.record_aux(reading)
            self._interrupt(
                RunState.TRIPPED,
                f"{reading.source} reports overload: {reading.quantity} is beyond its range, and a "
                "limit watches it",
            )
            return
        fired = self._limits.update(reading.time - tally.start, tally.values, (reading.quantity,))
        if fired:
            tally.record_aux(reading)
            self._act(fired)

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
        shortest = min(limit.stale_after for limit in self._settings.limits)
        period = max(self._clock.lab(0.1), shortest / 4.0)
        while True:
            await self._clock.sleep(period)
            if self.state is RunState.RUNNING:
                now = self._clock.now()
                self._act(self._limits.check_stale(now - self.tally.start, self.tally.ages(now)))
            await self._journal_fired()

    async def _journal_fired(self) -> None:
        fired, self.tally.fired = self.tally.fired, []
        for firing in fired:
            values: dict[str, JSON] = {
                name: value if math.isfinite(value) else None
                for name, value in sorted(firing.values.items())
            }
            data: dict[str, JSON] = {
                "name": firing.limit.name,
                "when": str(firing.limit.when),
                "action": firing.action.value,
                "cause": firing.cause.value,
                "since": firing.since,
                "value": next(iter(values.values()), None),
                "values": values,
            }
            await self._note(Entry.LIMIT, data)

    async def _unobserved(self, start: float, end: float) -> None:
        """Say that nothing was seen between two times, and hold."""
        tally = self.tally
        bound = tally.current_bound * (end - start)
        await self._note(
            Entry.GAP,
            {
                "start": start - tally.start,
                "end": end - tally.start,
                "reason": "no reading: this process or its computer stood still",
                "charge_bound": bound,
            },
        )
        tally.skip_gap()
        self._interrupt(RunState.HELD, f"nothing was observed for {end - start:.1f} s")

    # ---- holding and ending --------------------------------------------------------------

    async def _held(self) -> bool:
        """After an interruption: wait for the operator; False when the run is to end."""
        assert self._interruption is not None
        state, reason = self._interruption
        if state not in {RunState.PAUSED, RunState.HELD}:
            return False
        self.tally.end_attempt()
        self.state, self.reason = state, reason
        self._interruption = None
        self._interrupted.clear()
        self._resumed.clear()
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
        waits = [
            asyncio.create_task(self._resumed.wait()),
            asyncio.create_task(self._interrupted.wait()),
        ]
        try:
            while True:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if not self._interrupted.is_set():
                    return True
                assert self._interruption is not None
                if self._interruption[0] not in {RunState.PAUSED, RunState.HELD}:
                    return False
                # Paused while paused: nothing changes.
                self._interruption = None
                self._interrupted.clear()
                waits[1] = asyncio.create_task(self._interrupted.wait())
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _finish(self) -> RunResult:
        safe_error = await self._make_safe()
        if self._interruption is not None:
            self.state, self.reason = self._interruption
        if safe_error is not None:
            self.state = RunState.FAULTED
            self.reason = f"{self.reason}; {safe_error}" if self.reason else str(safe_error)
        now = self._clock.now()
        self.tally.record_last()
        verdict = "verified" if safe_error is None else str(safe_error)
        result = RunResult(
            state=self.state,
            reason=self.reason,
            safe=safe_error is None,
            duration=now - self.tally.start,
            charge=self.tally.charge,
            steps=self.tally.step_count,
        )
        try:
            await self._journal_fired()
            await self._note(Entry.SAFE, {"reason": self.reason, "potentiostat": verdict})
            await self._note(Entry.RUN_ENDED, {"state": self.state.value, "reason": self.reason})
        except RecordError as error:
            # The cell is safe already; the caller learns that the record's end is missing.
            if self.state is not RunState.FAULTED:
                self.state = RunState.FAULTED
            self.reason = f"{self.reason}; the record failed: {error}"
            return RunResult(
                self.state, self.reason, result.safe, result.duration, result.charge, result.steps
            )
        return result

    async def _make_safe(self) -> SafeStateError | None:
        """Open the circuit and read it back; the error if that could not be verified."""
        if not self._output_may_be_on:
            return None
        task = asyncio.ensure_future(secure(self._channel.potentiostat))
        try:
            await asyncio.shield(task)
        except SafeStateError as error:
            return error
        except asyncio.CancelledError:
            # Cancelling the run must not cancel the way to the safe state.
            await asyncio.wait({task})
            raise
        self._output_may_be_on = False
        return None

    async def _note(self, entry: Entry, data: Mapping[str, JSON]) -> None:
        await self._recorder.journal(entry, self._clock.now() - self.tally.start, data)


async def _readings(monitor: Monitor) -> tuple[AuxReading, ...]:
    readings = await monitor.measure()
    return (readings,) if isinstance(readings, AuxReading) else readings
