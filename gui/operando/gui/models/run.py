"""What the page of one run shows beside its curves: steps, journal, loops, cycles. No Qt here.

`RunModel` asks the station for them when something may have changed, and never so often that the
station works for the page alone: a loop is read from the whole record.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from operando.gui.models.channel import AROUND, GLYPHS, TONES, ChannelView
from operando.gui.models.traces import Link, Stretch
from operando.gui.models.units import (
    UNKNOWN,
    charge_text,
    duration_text,
    number_text,
    significant_text,
)
from operando.gui.theme import Tone
from operando.instruments.recorder import Entry
from operando.station.client import (
    UNDER_WAY,
    ChannelStatus,
    CycleRow,
    JournalLine,
    LimitInfo,
    Loop,
    RunDetail,
    StationClient,
    StepInfo,
)

T = TypeVar("T")

PLOTTED = ("voltage", "current", "pressure", "charge")
"""Quantities of the cell, each with a plot against time, from top to bottom."""

LEAST_PERIOD = 1.0
"""Wall s between two questions for the same thing."""

SHARE = 10.0
"""So many times as long as an answer took, nothing is asked again."""

JOURNAL_PERIOD = 5.0
"""Wall s after which steps, journal and cycles of a run under way are read again in any case."""

LOOP_POINTS = 600
"""Points of a half cycle: more than its plot has pixels across."""

MOST_LOOPS = 40
"""Cycles drawn in one plot; of more, some between the first and the newest are left out."""

NEWEST = 5
"""Of these, the newest are always drawn."""


@dataclass(slots=True)
class _Asking(Generic[T]):
    """When to ask for something: not while it is asked for, and not too often."""

    key: str
    work: Callable[[StationClient, str], T]
    dirty: bool = True
    waiting: bool = False
    asked: float = -math.inf
    cost: float = 0.0
    answer: T | None = None
    serial: int = 0

    def due(self, now: float) -> bool:
        """Whether to ask at `now`, wall s."""
        pause = max(LEAST_PERIOD, SHARE * self.cost)
        return self.dirty and not self.waiting and now - self.asked >= pause


@dataclass(slots=True)
class _Seen:
    """What was last seen of the channel that drives the run."""

    marks: tuple[object, ...] = ()
    rows: int = -1
    journal_at: float = field(default=-math.inf)


class RunModel:
    """Steps, journal, loops and cycles of one run.

    changed: called with "detail", "loops" or "cycles" when an answer came, "failed" when none did.
    """

    def __init__(self, link: Link, changed: Callable[[str], None], *, key: str = "page") -> None:
        self._link = link
        self._changed = changed
        self._key = key
        self.run: str | None = None
        self._failures: dict[str, str] = {}
        self.show(None)

    @property
    def failure(self) -> str:
        """Why something could not be read, "" when all is well."""
        return next(iter(self._failures.values()), "")

    @property
    def detail(self) -> RunDetail | None:
        """Steps, journal, gaps, limits; None until known."""
        return self._detail.answer

    @property
    def loops(self) -> Sequence[Loop]:
        """Half cycles in order."""
        return self._loops.answer or ()

    @property
    def cycles(self) -> Sequence[CycleRow]:
        """Cycles in order."""
        return self._cycles.answer or ()

    @property
    def gaps(self) -> tuple[Stretch, ...]:
        """Times that were not observed, s."""
        return tuple((gap.start, gap.end) for gap in self.detail.gaps) if self.detail else ()

    @property
    def pauses(self) -> tuple[Stretch, ...]:
        """Times in which the run was paused or held, s; see `pauses_of`."""
        return pauses_of(self.detail) if self.detail else ()

    @property
    def active_mass(self) -> float | None:
        """kg, None if not known."""
        return self.detail.cell.active_mass if self.detail and self.detail.cell else None

    def show(self, run: str | None) -> None:
        """Show another run, or none. Nothing of the one before remains."""
        self.run = run
        self._failures = {}
        self._seen = _Seen()
        self._detail: _Asking[RunDetail] = _Asking(
            f"{self._key}-detail", lambda client, run: client.run(run)
        )
        self._cycles: _Asking[list[CycleRow]] = _Asking(
            f"{self._key}-cycles", lambda client, run: client.cycles(run)
        )
        self._loops: _Asking[list[Loop]] = _Asking(
            f"{self._key}-loops", lambda client, run: client.loops(run, points=LOOP_POINTS)
        )

    def note(self, status: ChannelStatus, now: float) -> None:
        """See what its channel does: an end of a step or cycle is an occasion to ask."""
        if status.run != self.run:
            return
        marks = (status.state, status.step_index, status.cycle, status.reason)
        if marks != self._seen.marks:
            self._seen.marks = marks
            self.renew()
        elif status.rows != self._seen.rows:
            self._loops.dirty = True
        if status.state in UNDER_WAY and now - self._seen.journal_at >= JOURNAL_PERIOD:
            self._seen.journal_at = now
            self._detail.dirty = self._cycles.dirty = True
        self._seen.rows = status.rows

    def renew(self, *, lost: bool = False) -> None:
        """Ask for everything again at the next `tick`. lost: what was asked is not answered."""
        for asking in (self._detail, self._cycles, self._loops):
            asking.dirty = True
            if lost:
                asking.waiting = False

    def tick(self, now: float) -> None:
        """Ask what is due. now: `time.monotonic()`, s."""
        if self.run is None:
            return
        if self._detail.due(now):
            self._ask("detail", self._detail, now, self.run)
        if self._loops.due(now):
            self._ask("loops", self._loops, now, self.run)
        if self._cycles.due(now):
            self._ask("cycles", self._cycles, now, self.run)

    def _ask(self, kind: str, asking: _Asking[T], now: float, run: str) -> None:
        asking.dirty, asking.waiting, asking.asked = False, True, now
        asking.serial += 1
        serial, cost = asking.serial, [0.0]

        def work(client: StationClient) -> T:
            begin = time.monotonic()
            answer = asking.work(client, run)
            cost[0] = time.monotonic() - begin
            return answer

        def current() -> bool:
            return run == self.run and asking.serial == serial and asking.waiting

        def then(answer: T) -> None:
            if current():
                asking.waiting, asking.answer, asking.cost = False, answer, cost[0]
                self._failures.pop(kind, None)
                self._changed(kind)

        def failed(error: Exception) -> None:
            if current():
                asking.waiting, asking.dirty = False, True
                self._failures[kind] = str(error)
                self._changed("failed")

        self._link.ask(asking.key, work, then, failed)


def pauses_of(detail: RunDetail) -> tuple[Stretch, ...]:
    """Times in which a run was paused or held with its output off, s, as its journal tells.

    A pause that goes on has no end: infinity. That of a run which died in it ends with its last
    reading.
    """
    found: list[Stretch] = []
    since: float | None = None
    for line in detail.journal:
        if line.time is None:
            continue
        if since is None:
            since = line.time if line.kind == Entry.PAUSED.value else None
        elif line.kind in (Entry.RESUMED.value, Entry.RUN_ENDED.value):
            found.append((since, line.time))
            since = None
    if since is not None:
        last = since if detail.end is None else max(since, detail.end)
        found.append((since, math.inf if detail.summary.state in UNDER_WAY else last))
    return tuple(found)


# What is shown, as texts


@dataclass(frozen=True, slots=True)
class StepLine:
    """A step as a row of its table, ready to show."""

    index: str
    cycle: str
    label: str
    setpoint: str
    started: str
    duration: str
    charge: str
    ended: str
    running: bool


def step_line(step: StepInfo, *, now: float | None = None, live: bool = False) -> StepLine:
    """A row of the table of steps. now: time of the newest reading, s. live: the run goes on."""
    running = step.end is None
    lasted = step.duration
    if running and lasted is None and now is not None:
        lasted = max(0.0, now - step.start)
    ended = step.condition or step.reason or ("running" if live else "no outcome")
    if live and running:
        ended = "running"
    return StepLine(
        index=str(step.index),
        cycle=str(step.cycle),
        label=step.label or step.kind,
        setpoint=step.setpoint or UNKNOWN,
        started=duration_text(step.start),
        duration=duration_text(lasted),
        charge=charge_text(step.charge) if step.charge is None or abs(step.charge) > 1e-9 else "0",
        ended=ended,
        running=running and live,
    )


_TONES: dict[str, Tone] = {
    Entry.ALARM.value: "bad",
    Entry.GAP.value: "notice",
    Entry.PAUSED.value: "notice",
    Entry.RESUMED.value: "active",
    Entry.EDIT.value: "notice",
}


def journal_tone(line: JournalLine) -> Tone:
    """How an entry of the journal is marked."""
    if line.kind == Entry.LIMIT.value:
        return "notice" if "(warn)" in line.text else "bad"
    if line.kind == Entry.SAFE.value:
        return "bad" if line.text.startswith("NOT") else "idle"
    if line.kind == Entry.RUN_ENDED.value:
        words = {str(state): tone for state, tone in TONES.items()}
        return next((tone for word, tone in words.items() if f"run {word}" in line.text), "idle")
    return _TONES.get(line.kind, "idle")


def chosen_cycles(numbers: Sequence[int]) -> list[int]:
    """Cycles to draw: all, or the first, the newest and some evenly between. Ascending."""
    every = sorted(set(numbers))
    if len(every) <= MOST_LOOPS:
        return every
    newest, rest = every[-NEWEST:], every[:-NEWEST]
    places = MOST_LOOPS - NEWEST
    step = (len(rest) - 1) / (places - 1)
    return sorted({rest[round(place * step)] for place in range(places)} | set(newest))


def cycle_text(row: CycleRow) -> str:
    """A cycle in words, for a readout: capacities, efficiency, what speaks against it."""
    parts = [f"cycle {row.cycle}"]
    for word, value in (("charge", row.charge_capacity), ("discharge", row.discharge_capacity)):
        if value is not None:
            parts.append(f"{word} {significant_text(value / 3.6)} mAh")
    if row.coulombic_efficiency is not None and is_whole(row):
        parts.append(f"CE {number_text(100.0 * row.coulombic_efficiency, 2)} %")
    return "  ".join(parts) + (f"  ({', '.join(row.flags)})" if row.flags else "")


def is_whole(row: CycleRow) -> bool:
    """Whether both halves of a cycle came to their end, so that its efficiency says something."""
    return "incomplete" not in row.flags and row.coulombic_efficiency is not None


def limits_of(status: ChannelStatus | None, detail: RunDetail | None) -> tuple[LimitInfo, ...]:
    """Limits in force: of a run under way the channel's, else those of the record if it is read."""
    if status is not None and status.state in UNDER_WAY and status.limits:
        return status.limits
    if detail is not None and detail.limits:
        return detail.limits
    return status.limits if status is not None else ()


def recorded(detail: RunDetail | None, status: ChannelStatus | None) -> frozenset[str]:
    """Quantities that a run has recorded, as far as is known."""
    known: set[str] = set()
    if detail is not None:
        known |= set(detail.quantities)
    if status is not None and (detail is None or status.run == detail.summary.run):
        known |= set(status.latest)
    return frozenset(known)


def plotted(
    known: Collection[str], limits: Iterable[LimitInfo] = (), *, around: bool = False
) -> tuple[str, ...]:
    """Quantities to plot of those that are known, from top to bottom.

    Those of the cell, and what a limit watches around it. around: the voltage and all that is
    measured around the cell instead.
    """
    wanted: tuple[str, ...] = (PLOTTED[0], *AROUND)
    if not around:
        watched = {limit.quantity for limit in limits}
        wanted = (*PLOTTED, *(name for name in AROUND if name in watched))
    return tuple(name for name in wanted if name in known)


def record_view(detail: RunDetail, readings: dict[str, str]) -> ChannelView:
    """What the head of the page shows of a past record. readings: last values as texts."""
    summary = detail.summary
    state = summary.state
    words = {str(name): name for name in GLYPHS}
    known = words.get(state)
    last = detail.steps[-1] if detail.steps else None
    return ChannelView(
        name=summary.channel,
        cell=summary.cell,
        state_text=state,
        glyph=GLYPHS[known] if known else "?",
        tone=TONES[known] if known else "notice",
        reason=detail.reason,
        voltage=readings.get("voltage", UNKNOWN),
        current=readings.get("current", UNKNOWN),
        pressure=readings.get("pressure", UNKNOWN if "pressure" in detail.quantities else ""),
        charge=readings.get("charge", UNKNOWN),
        stale=False,
        age_text="",
        step=last.label if last else "",
        cycle=f"cycle {last.cycle}" if last else "",
        progress=None,
        progress_text="",
        time_left="",
        elapsed=duration_text(summary.duration),
        protocol=summary.protocol,
        attention=False,
        output_text="",
        can_start=False,
        can_pause=False,
        can_resume=False,
        can_stop=False,
        can_acknowledge=False,
        stopping=False,
        simulated=summary.simulated,
    )
