"""Steps that the instrument carries out by itself while the run looks on.

Limits act on live readings as ever. A step ends when the instrument says so, and its sums and rows
are then those of the instrument's own memory, so that a lost link costs neither the steps nor their
data. What an operator or a limit interrupts is stopped, and the rest of it is stepped by software.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from operando.instruments.clock import Clock
from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE, Comparison, Condition
from operando.instruments.errors import CommunicationError, InstrumentError, LinkLostError
from operando.instruments.on_board import Progress, Sequencer, Stage, StoredReading
from operando.instruments.recorder import JSON, Entry
from operando.instruments.roles import Potentiostat
from operando.instruments.samples import Reading, Status
from operando.protocols.actuator_steps import ActuatorStep
from operando.protocols.entries import UNSEEN, gap_entry
from operando.protocols.protocol import Outcome
from operando.protocols.run import RunSettings, current_bound
from operando.protocols.steps import Impedance, Rest, Step, VoltageSweep
from operando.protocols.tally import Tally

OUT_OF_SIGHT: Final = 300.0
"""s for which steps may go on on board unseen, within the bounds that they carry and the patience
of the run's other limits. Then the run ends and the instrument is pursued until it is off."""

COLLECTED: Final = 60.0
"""s between two downloads while a step goes on, so that little is left to fetch at its end."""

QUIET: Final = 6.0
"""s after the end of a schedule in which its last row should have come; later ones are waited for
as long as none meets a condition of the last step. ASSUMPTION, from the 5 s in which the documents
of a cycler promise a look at the device."""

LATE: Final = 60.0
"""s for which the last rows of a step that is over are waited for."""

LAG: Final = 1.0
"""s by which the last row of a step may lie before it was told to stop: clocks differ."""

WENT_ON: Final = "no reading: the instrument went on by itself"

BETWEEN: Final = Rest((ELAPSED >= 0.0,), label="between two steps")
"""What a reading is judged by while the last rows of a step are still on their way."""


class Host(Protocol):
    """The run, as steps on board need it."""

    tally: Tally

    def judge(self, reading: Reading, step: Step) -> None:
        """Take a reading and let limits act on it."""
        ...

    async def unobserved(
        self, start: float, end: float, slept: float, highest: float | None
    ) -> None:
        """Journal that nothing was observed between two laboratory times, and hold."""
        ...

    async def begin_step(self, step: Step) -> None:
        """Journal that a step begins."""
        ...

    async def end_step(self) -> Outcome:
        """Journal how the step ended."""
        ...

    async def note(self, entry: Entry, data: Mapping[str, JSON]) -> None:
        """Append to the journal."""
        ...


class OnBoard:
    """A group of steps on board. ended: how many have ended. outcome: of the last that has."""

    def __init__(
        self,
        sequencer: Sequencer,
        steps: Sequence[Step],
        stages: Sequence[Stage],
        settings: RunSettings,
        clock: Clock,
        host: Host,
    ) -> None:
        self._sequencer = sequencer
        self._steps = tuple(steps)
        self._bounds = tuple(current_bound(stage.setpoint) for stage in stages)
        self._stages = tuple(stages)
        self._settings = settings
        self._clock = clock
        self._host = host
        self._rows: list[StoredReading] = []
        self._progress: Progress | None = None
        self._began = (0.0, 0.0)
        self._earliest = 0.0
        self._due = 0.0
        self._seen = 0.0
        self._suspended = 0.0
        self._collected = 0.0
        self._ran = -math.inf
        self._over_since: float | None = None
        self._begun = self._blind = self._lost = self._rows_lost = False
        self._unseen: list[tuple[float, float]] = []
        self.ended = 0
        self.outcome: Outcome | None = None

    @property
    def over(self) -> bool:
        """Whether all steps have ended."""
        return self.ended == len(self._steps)

    # ---- looking on ----------------------------------------------------------------------

    async def begin(self) -> None:
        """Start the schedule."""
        asked = self._clock.now()
        every = max(self._settings.poll.interval, self._settings.record.every)
        await self._sequencer.begin(self._stages, every)
        now = self._clock.now()
        self._due = self._seen = self._collected = now
        self._suspended = self._clock.suspended()
        self._begun = True
        self._begin_stage(now)
        self._earliest = asked

    async def watch(self) -> None:
        """Look on until a step has ended. Raises CommunicationError after OUT_OF_SIGHT."""
        clock, tally, interval = self._clock, self._host.tally, self._settings.poll.interval
        while True:
            await clock.sleep_until(self._due)
            progress = await self._look()
            self._due = tally.next_due(self._due, interval, clock.now())
            if progress is None:
                continue
            slept, self._suspended = clock.suspended() - self._suspended, clock.suspended()
            if slept > 1.0:
                highest = max(self._bounds[self.ended :])
                await self._host.unobserved(tally.last_time, progress.reading.time, slept, highest)
                return
            self._progress = progress
            # The judgement comes before any download, which must not hold up a limit.
            if progress.stage == self.ended or progress.reading.status is Status.FAULT:
                self._anchor(progress)
                self._host.judge(progress.reading, self._steps[self.ended])
                if clock.now() - self._collected >= COLLECTED:
                    await self._fetch()
                continue
            self._host.judge(progress.reading, BETWEEN)
            self._over_since = self._over_since or clock.now()
            if await self._fetch() and self._is_complete():
                return
            if clock.now() - self._over_since > LATE:
                return

    async def _look(self) -> Progress | None:
        """Where the schedule is; None when that could not be read now."""
        now = self._clock.now()
        try:
            if self._lost:
                await self._sequencer.reconnect()
                self._lost = False
            progress = await self._sequencer.progress()
            if progress.stage < self.ended and progress.reading.status is not Status.FAULT:
                raise CommunicationError(
                    f"the schedule is said to be at step {progress.stage + 1} of "
                    f"{len(self._steps)}, after {self.ended} have ended"
                )
        except CommunicationError as error:
            self._lost = isinstance(error, LinkLostError) or self._lost
            self._over_since = None
            if not self._blind:
                self._blind = True
                await self._alarm("cannot be read; the instrument goes on by itself", error)
            if now - self._seen > OUT_OF_SIGHT:
                raise
            return None
        if self._blind:
            await self._see_again(progress.reading.time)
        self._seen = progress.reading.time
        return progress

    async def _see_again(self, now: float) -> None:
        """What passed unseen is not guessed from the readings around it."""
        self._blind = False
        self._unseen.append((self._seen, now))
        self._host.tally.skip_gap(now, self._clock.utc(now) - now)
        # A program that dies before the download leaves this as a gap.
        missing = self._gap(self._seen, now)
        await self._host.note(Entry.NOTE, {"what": UNSEEN} | missing)

    def _gap(self, start: float, end: float) -> dict[str, JSON]:
        times = start - self._host.tally.start, end - self._host.tally.start
        bound = max(self._bounds[self.ended :]) * (end - start)
        return gap_entry(*times, suspended=0.0, charge_bound=bound, why=WENT_ON)

    async def _fetch(self) -> bool:
        """Download what was stored; whether that could be done."""
        try:
            await self._collect()
        except CommunicationError as error:
            self._lost = isinstance(error, LinkLostError) or self._lost
            if not self._rows_lost:
                self._rows_lost = True
                await self._alarm("stored rows cannot be downloaded; it is tried again", error)
            return False
        self._rows_lost = False
        return True

    async def _collect(self) -> None:
        self._rows += await self._sequencer.collect()
        self._collected = self._clock.now()

    async def _alarm(self, what: str, why: Exception) -> None:
        await self._host.note(Entry.ALARM, {"what": what, "why": str(why)})

    def _anchor(self, progress: Progress) -> None:
        """Find when the stage began, by our clock: a reading may be late, it is never early."""
        reading, elapsed = progress.reading, progress.elapsed
        if reading.status is Status.FAULT:
            return
        self._ran = reading.time
        began = max(self._earliest, reading.time - elapsed)
        if began < self._began[0]:
            self._began = began, reading.uncertainty

    # ---- steps ---------------------------------------------------------------------------

    async def turn(self) -> None:
        """End the steps that the instrument has ended, and begin the one that it is at."""
        progress = self._progress
        assert progress is not None
        while self.ended < progress.stage:
            await self._end_stage()
        if not self.over:
            self._host.judge(progress.reading, self._steps[self.ended])

    def _begin_stage(self, earliest: float) -> None:
        """earliest: laboratory time at which the stage before ended, s."""
        progress, began = self._progress, earliest
        self._earliest = earliest
        if progress is not None and progress.stage == self.ended:
            seen = progress.reading.time - progress.elapsed
            began = seen if seen > earliest else earliest  # NaN is neither
        self._began = began, 0.0 if progress is None else progress.reading.uncertainty
        self._host.tally.begin_attempt(began, self._bounds[self.ended])
        self._over_since = None

    def _of_stage(self) -> list[StoredReading]:
        """The rows of the step under way."""
        return [row for row in self._rows if row.stage == self.ended]

    def _is_complete(self) -> bool:
        """Whether the last row of the step under way has come."""
        if any(row.stage > self.ended for row in self._rows):
            return True
        rows, step = self._of_stage(), self._steps[self.ended]
        if self.ended + 1 < len(self._steps) or not rows or self._over_since is None:
            return False
        # Nothing follows the last step by which its last row could be told.
        quiet = self._clock.now() - self._over_since > QUIET
        return any(
            _shortfall(condition, rows[-1]) <= (1.0 if quiet else 0.0) for condition in step.until
        )

    async def _end_stage(self) -> None:
        step, tally, rows = self._steps[self.ended], self._host.tally, self._of_stage()
        condition = ended_by(step, rows[-1]) if rows else None
        if rows:
            self._take(rows)
            tally.end_on_board(rows[-1], condition, cutoff=condition == step.cutoff)
            self._unseen.clear()  # what passed unseen has been downloaded
        else:
            await self._tell_of_gaps()
        self.outcome = await self._host.end_step()
        self._rows = [row for row in self._rows if row.stage > self.ended]
        if not rows:
            raise InstrumentError(
                f"step '{step.label}' ended on board, and why is not known: no row of it could be "
                f"downloaded within {LATE:g} s"
            )
        if condition is None:
            last = f"{rows[-1].voltage:.4f} V, {rows[-1].current:.3e} A"
            raise InstrumentError(
                f"step '{step.label}' ended on board although none of its conditions was met "
                f"(its last stored row: {last})"
            )
        end = self._began[0] + tally.elapsed
        self.ended += 1
        if not self.over:
            await self._host.begin_step(self._steps[self.ended])
            self._begin_stage(end)

    def _take(self, rows: Sequence[StoredReading], *, sums_alone: bool = False) -> None:
        """Let the instrument's own account replace what was counted from readings."""
        tally, last = self._host.tally, rows[-1]
        tally.settle(last.charge, last.energy, last.elapsed)
        if not sums_alone:
            tally.record_stored(rows, *self._began)

    async def cut_short(self, at: float, *, for_good: bool) -> None:
        """The schedule has been stopped in a step: take what the instrument stored until then.

        at: laboratory time at which it was told to stop, s. for_good: the step does not go on.
        Else its polled rows stay, for more will follow them.
        """
        if not self._begun:
            return
        if self._blind:
            await self._see_again(self._clock.now())
        try:
            reached = await self._last_rows(at)
        except InstrumentError as error:
            await self._alarm("stored rows cannot be downloaded", error)
            await self._tell_of_gaps()
            return
        while any(row.stage > self.ended for row in self._rows):
            await self._end_stage()
        rows = self._of_stage()
        if rows and reached:
            self._take(rows, sums_alone=not for_good)
            if for_good:
                self._unseen.clear()
        await self._tell_of_gaps()

    async def _last_rows(self, at: float) -> bool:
        """Download until the rows reach the stop, for a while; whether they do."""
        wanted, deadline = at - self._began[0] - LAG, self._clock.now() + 2.0 * QUIET
        known, reached = -1, False
        while not (reached and len(self._rows) == known):  # one look more brings nothing new
            if self._clock.now() >= deadline:
                return reached or self._ended_unseen()
            if known >= 0:
                await self._clock.sleep(1.5)
            known = len(self._rows)
            await self._collect()
            rows = self._rows
            reached = bool(rows) and (rows[-1].stage > self.ended or rows[-1].elapsed >= wanted)
        return True

    def _ended_unseen(self) -> bool:
        """Whether the instrument stopped by itself before `at`, and its rows go on to there."""
        if self._progress is None or self._progress.reading.status is not Status.FAULT:
            return False
        rows, ran = self._of_stage(), self._ran - self._began[0] - LAG
        return bool(rows) and rows[-1].elapsed >= ran

    async def _tell_of_gaps(self) -> None:
        """Say when nothing was seen of the schedule, and what may have passed at most."""
        unseen, self._unseen = self._unseen, []
        for start, end in unseen:
            await self._host.note(Entry.GAP, self._gap(start, end))


def on_board(
    potentiostat: Potentiostat,
    steps: Sequence[Step],
    rest_limit: float,
    settings: RunSettings,
    clock: Clock,
    host: Host,
) -> OnBoard | None:
    """The steps as a schedule of the instrument; None where they are stepped by software.

    rest_limit: see `Step.setpoint`.
    """
    by_software = ActuatorStep | Impedance | VoltageSweep  # a stage is a set-point, these are more
    if not isinstance(potentiostat, Sequencer) or any(isinstance(s, by_software) for s in steps):
        return None
    voltage, (low, high) = host.tally.rest_voltage, settings.protection.voltage
    # A cell outside of its window is led back step by step: bounds of a schedule hold for all.
    if not low <= voltage <= high:
        return None
    stages = [Stage(step.setpoint(rest_limit), step.until) for step in steps]
    if potentiostat.why_not(stages):
        return None
    return OnBoard(potentiostat, steps, stages, settings, clock, host)


def ended_by(step: Step, last: StoredReading) -> Condition | None:
    """Which condition a step's last row meets best, None when it meets none.

    An instrument measures more often than it stores, so a row may miss a bound by a little.
    """
    shortfalls = [(_shortfall(condition, last), condition) for condition in step.until]
    least, condition = min(shortfalls, key=lambda one: one[0])
    return condition if least <= 1.0 else None


def _shortfall(condition: Condition, last: StoredReading) -> float:
    """By how many tolerances a row misses a condition; 0 where it meets it."""
    if not isinstance(condition, Comparison):
        return float("inf")
    bound = condition.bound
    value, tolerance = {
        VOLTAGE: (last.voltage, 20e-3),
        abs(CURRENT): (abs(last.current), 0.5 * abs(bound) + 1e-9),
        ELAPSED: (last.elapsed, 1.0 + 1e-3 * abs(bound)),
    }.get(condition.operand, (float("nan"), 1.0))
    missing = bound - value if condition.operator.value.startswith(">") else value - bound
    return max(0.0, missing) / tolerance if missing == missing else float("inf")  # noqa: PLR0124
