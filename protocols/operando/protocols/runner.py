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
from operando.instruments.conditions import Condition
from operando.instruments.errors import (
    BadInputError,
    OperandoError,
    RecordError,
    UnsupportedError,
)
from operando.instruments.limits import Limit
from operando.instruments.recorder import JSON, Entry, Recorder
from operando.instruments.samples import AuxReading, Reading, Status
from operando.protocols.actuators import VERIFIED, Actuators, OnActuator
from operando.protocols.circuit import Circuit
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
from operando.protocols.limit_watch import LimitWatch
from operando.protocols.monitors import Watchers
from operando.protocols.on_board import OnBoard, on_board
from operando.protocols.polling import poll
from operando.protocols.preparation import Preparation
from operando.protocols.protocol import Groups, Outcome, Plan
from operando.protocols.replay import Resumption, count_on, go_on_with
from operando.protocols.run import (
    FINAL,
    GRAVITY,
    POTENTIOSTAT,
    Channel,
    RunResult,
    RunSettings,
    RunState,
)
from operando.protocols.steps import Impedance, Step
from operando.protocols.synchrony import Synchrony
from operando.protocols.tally import ELECTRICAL, Tally
from operando.protocols.techniques import Spectra, check_kind


class _Interrupted(Exception):  # noqa: N818 - it is not an error
    """The present step was interrupted."""


class Runner:
    """Runs one plan on one channel.

    guard: puts an actuator under guard, by its name, before this run drives it. resumption: of a
    run whose program died; the recorder is then that of its record. started: laboratory time at
    which the run began, s; now, if None.
    """

    def __init__(
        self,
        channel: Channel,
        plan: Plan,
        settings: RunSettings,
        recorder: Recorder,
        clock: Clock,
        guard: OnActuator | None = None,
        resumption: Resumption | None = None,
        started: float | None = None,
    ) -> None:
        self._channel = channel
        self._plan = plan
        self._settings = settings
        self._recorder = recorder
        self.clock = clock
        self._watchers = Watchers(clock)
        self.synchrony = Synchrony(settings.poll.together, clock)
        self._polling: asyncio.Task[None] | None = None
        self._observed_until = -math.inf
        self._driven = False
        self._step_is_open = False
        self._program: Groups | None = None
        self._cut = -1
        self._waits = True
        self._step_ids: dict[tuple[str, str], int] = {}
        self._circuit = Circuit(channel.potentiostat, clock)
        self._interruption: tuple[RunState, str] | None = None
        self._interrupted = asyncio.Event()
        self._interrupted_at = clock.now()
        self._resumed = asyncio.Event()
        self._actuators = Actuators(channel, self.note, guard, self._watchers.stop, self.hold)
        self.state = RunState.PREPARING
        self.reason = ""
        self._resumption = resumption
        self.tally = Tally(
            clock.now() if started is None else started,
            clock.utc() - clock.now(),
            settings.record,
            recorder,
        )
        self.tally.predicted = settings.predicted
        self._spectra = Spectra(channel.potentiostat, recorder, clock, self)
        self._limits = LimitWatch(settings, clock, self.tally, self._interrupt, self.note)
        self._preparation = Preparation(channel, settings, self.tally, self.note, self.on_aux)

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

    async def cut_step(self, by: str) -> None:
        """End the present step at once; the protocol goes on with the next. by: who asked.

        Raises BadInputError when no step is running.
        """
        may_go_on = (RunState.RUNNING, RunState.PAUSED)
        if self.state not in may_go_on or not self._step_is_open:
            raise BadInputError(f"channel {self._channel.name}: no step is running")
        number, label = self.tally.step_count, self.tally.label
        edit: dict[str, JSON] = {"what": "step", "index": number, "label": label, "by": by}
        await self.note(Entry.EDIT, edit | {"old": "until its conditions", "new": "ended"})
        if number == self.tally.step_count:
            # What runs is stopped, and taken up again without it: by nobody, unless something else
            # wanted the circuit open too.
            waits = self._interrupted.is_set() or self.state not in may_go_on
            self._cut = number
            self._interrupt(RunState.PAUSED, f"step '{label}' was ended by {by}")
            self._waits = waits

    async def change_limit(self, name: str, when: Condition, by: str) -> None:
        """Let a limit act at another value of the same quantities. Raises BadInputError."""
        old, new = self._limits.change(name, when)
        edit: dict[str, JSON] = {"what": "limit", "name": name, "by": by}
        await self.note(Entry.EDIT, edit | {"old": old, "new": new})

    async def stood_still(self, seconds: float) -> None:
        """Say that this process was stopped for `seconds` of laboratory time, and hold."""
        if self.state is RunState.RUNNING:
            now = self.clock.now()
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
        return not self._circuit.may_be_closed

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits in force, those that an operator changed among them."""
        return self._limits.limits

    @property
    def interrupted(self) -> bool:
        """Whether what is being done is to be left, because the circuit is on its way to open."""
        return self._interrupted.is_set()

    @property
    def rest_limit(self) -> float:
        """Compliance of a zero-current source: clear of the window, so that it never acts, V."""
        low, high = self._settings.protection.voltage
        return max(abs(low), abs(high)) + 0.5

    def _interrupt(self, state: RunState, reason: str) -> None:
        if self._interruption is None or GRAVITY[state] > GRAVITY[self._interruption[0]]:
            self._interruption = (state, reason)
        if not self._interrupted.is_set():
            self._interrupted_at = self.clock.now()
        self._interrupted.set()
        self._waits = True
        self._resumed.clear()  # what comes later outranks a resume that was not acted on yet
        # The way to the safe state begins here and waits for nobody: whatever the run is doing,
        # it may ask for nothing more, and off jumps the queue.
        if self._polling is not None:
            self._polling.cancel()
        self._circuit.begin_opening()
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
            await self._watchers.stop()

    def _on_error(self, error: Exception) -> None:
        """Whatever went wrong ends the run, unless the run was being ended already."""
        if self._interruption is not None and self._interruption[0] in FINAL:
            return
        refused = isinstance(error, BadInputError) and not self._driven
        self._interrupt(RunState.REFUSED if refused else RunState.FAULTED, in_words(error))

    async def _prepare(self) -> None:
        if self._resumption is None:
            await self.note(Entry.RUN_STARTED, {"channel": self._channel.name})
        else:
            await self._take_up(self._resumption)
        await self._preparation.around()

    async def _take_up(self, resumption: Resumption) -> None:
        """Open the circuit, say what was not seen until then, and count on from the record."""
        if (unsafe := await self._circuit.opened()) is not None:
            raise unsafe
        self._circuit.forget()
        tally, now = self.tally, self._circuit.opened_at
        gap = count_on(resumption, tally, now)
        for number, step in enumerate(resumption.driven, start=1):
            self._step_id(step)
            await self._actuators.recall(step, number)
        self._spectra.count = resumption.history.spectra
        for one in (*resumption.history.unseen, gap):
            await self.note(Entry.GAP, one)
        tally.skip_gap(now, self.clock.utc(now) - now)
        self._limits.repeat(resumption.history.edits)
        await self.note(Entry.RESUMED, {"steps over": len(resumption.over)})

    async def _look_at_rest(self) -> None:
        """Find the cell at zero current before anything drives it."""
        self._circuit.may_be_closed = True
        await self._preparation.at_rest(self.rest_limit)

    def _start_watchers(self) -> None:
        channel, poll = self._channel, self._settings.poll
        self._watchers.start(channel.monitors, poll, self, self.synchrony)
        if self._settings.limits:
            # On the way to an open circuit nothing is read, and nothing is stale.
            watching = self._limits.watch(
                lambda: self.state is RunState.RUNNING and not self._interrupted.is_set(),
                self.on_crash,
            )
            self._watchers.add("", watching)

    async def _carry_out(self) -> None:
        resumption, cell = self._resumption, self._channel.cell
        program = self._plan.groups(cell) if resumption is None else resumption.program
        self._program = program
        while not self._preparation.done:
            try:
                # Opened under the check, it judges nothing and is made again.
                await self._attempt(self._look_at_rest())
                await self._preparation.judge()
            except _Interrupted:
                if not await self._held():
                    raise
        self.state = RunState.RUNNING
        try:
            if resumption is None:
                group, begun = next(program), False
            else:
                group, begun = resumption.group, resumption.begun
            while group:
                try:
                    outcome = await self._group(group, begun=begun)
                except UnsupportedError as error:
                    program.throw(error)  # says which line asked for it
                group, begun = program.send(outcome), False
        except StopIteration:
            return

    async def _group(self, steps: Sequence[Step], *, begun: bool) -> Outcome:
        """Carry steps out, on board as far as that goes; the outcome of the last.

        begun: the first has been, by a program that died.
        """
        potentiostat, limit = self._channel.potentiostat, self.rest_limit
        for step in steps:
            check_kind(step, potentiostat)  # also what no preview foresaw
        if begun:
            assert self._resumption is not None
            go_on_with(self._resumption, steps[0], self._step_id(steps[0]), self.tally)
            self._step_is_open = True
            outcome = await self._step(steps[0], begun=True)
            steps = steps[1:]
        while steps and (
            schedule := on_board(potentiostat, steps, limit, self._settings, self.clock, self)
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
        self._limits.on_board = self._circuit.may_be_closed = self._driven = True
        try:
            await self._attempt(schedule.begin())
            while not schedule.over:
                await self._attempt(schedule.watch())
                await schedule.turn()
        except (_Interrupted, OperandoError) as error:
            if isinstance(error, OperandoError):
                self._on_error(error)
                await self._circuit.opened()
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
        while self._cut != self.tally.step_count:
            try:
                await self._attempt(self._drive(step))
                break
            except _Interrupted:
                if not await self._held():
                    raise
        if self._cut == self.tally.step_count:
            self.tally.end("operator")
        return await self.end_step()

    async def begin_step(self, step: Step) -> None:
        """Journal the intent to carry a step out, and count from here."""
        self._spectra.facts = {}
        self.tally.begin_step(step, self._step_id(step))
        await self.note(Entry.STEP_STARTED, started_entry(step, self.tally))
        self._step_is_open = True

    def _step_id(self, step: Step) -> int:
        return self._step_ids.setdefault((type(step).__name__, step.label), len(self._step_ids) + 1)

    async def end_step(self) -> Outcome:
        """Journal how the step ended."""
        outcome = self.tally.outcome()
        self._step_is_open = False
        await self.note(Entry.STEP_ENDED, ended_entry(outcome, self.tally, self._spectra.facts))
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
        unsafe = await self._circuit.opened()
        if unsafe is not None:
            self._interrupt(RunState.FAULTED, str(unsafe))
        raise _Interrupted

    async def _drive(self, step: Step) -> None:
        """Let the instrument do what a step asks for, and look on until it has ended."""
        self._actuators.begin(step, self.tally.step_count)
        self._circuit.may_be_closed = self._driven = True
        if isinstance(step, Impedance):
            await self._spectra.measure(step, self.rest_limit, self._limits.unread)
        else:
            await poll(step, self._channel.potentiostat, self._settings.poll.interval, self)
        if not self._interrupted.is_set():
            await self._actuators.told(step)

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
        self.synchrony.other(reading.source, reading.time)
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
        lasted = end - start + self.clock.lab(slept)
        self._interrupt(RunState.HELD, f"nothing was observed for {lasted:.1f} s")
        start = max(start, self._observed_until)  # a stretch is told once
        if end <= start:
            return
        self._observed_until = end
        tally = self.tally
        highest = tally.current_bound if highest is None else highest
        bound = highest * (end - start + self.clock.lab(slept))
        tally.skip_gap(end, self.clock.utc(end) - end)
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
        assert not self._circuit.may_be_closed
        self.tally.end_attempt(self._circuit.opened_at)
        self.state, self.reason = state, reason
        self._interruption = None
        self._interrupted.clear()
        self._resumed.clear()
        self._circuit.forget()
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
        while self._waits and not self._resumed.is_set():
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
        if self._program is not None:  # its code may take its time: now nothing is on any more
            self._program.close()
        unsafe, tally, now = self._circuit.may_be_closed, self.tally, self.clock.now()
        await self._watchers.stop()
        if self._interruption is not None and self._interruption[0] in FINAL:
            self.state, self.reason = self._interruption
        if problems:
            self.state = RunState.FAULTED
            self.reason = "; ".join(filter(None, (self.reason, *problems)))
        try:
            # Unless the circuit was found open, nobody knows when the step ended.
            after = 0.0 if unsafe else tally.end_attempt(self._circuit.opened_at)
            await self._limits.journal()
            if self._step_is_open and not unsafe:
                await self.note(Entry.STEP_ENDED, cut_short_entry(self.state.value, tally))
            if skews := self.synchrony.summary():
                await self.note(Entry.NOTE, {"read together": skews})
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

    async def _make_all_safe(self) -> list[str]:
        """The cell's circuit first, with it what was driven around it; what is wrong, in words."""
        self._circuit.begin_opening()
        self._actuators.begin_securing()
        unsafe = await self._circuit.opened()
        verdicts = await self._actuators.secured()
        problems = [] if unsafe is None else [str(unsafe)]
        return problems + [f"{name}: {one}" for name, one in verdicts.items() if one != VERIFIED]

    async def note(self, entry: Entry, data: Mapping[str, JSON]) -> None:
        """Append to the journal at this time."""
        await self._recorder.journal(entry, self.clock.now() - self.tally.start, data)
