"""Curves of a run against time as a window holds them: what its pixels can show, and no more.

No Qt here. A `Viewport` says which stretch of time is looked at and follows the newest reading;
`Traces` keeps the curves of that stretch as the station answered them, appends the rows that were
committed since, and asks again when the picture would no longer be exact.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from operando.station.client import Curve, Rows, StationClient, number

Floats = npt.NDArray[np.float64]
Stretch = tuple[float, float]
"""Start and end, s since the start of the run."""

T = TypeVar("T")

OF_THE_POTENTIOSTAT = frozenset({"voltage", "current", "charge", "step_charge"})
"""Quantities that are not measured while a run is paused: its potentiostat is disconnected."""

ALL: float = float("inf")
"""Span of a viewport that follows the whole run."""

HEADROOM = 0.04
"""Part of the viewport that is kept free for readings to come, so that it moves in steps."""

LEAST_SPAN = 1e-3
"""Shortest viewport, s: below the resolution of any time stamp."""

TAIL = 2
"""Rows a pixel that are appended before bins are asked for again."""

_EMPTY: Floats = np.empty(0)


class Link(Protocol):
    """What is needed of a `StationLink`."""

    def ask(
        self,
        key: str,
        work: Callable[[StationClient], T],
        then: Callable[[T], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """See `operando.gui.link.StationLink.ask`."""
        ...


def pieces(
    time: Floats, value: Floats, gaps: Iterable[Stretch] = (), pauses: Iterable[Stretch] = ()
) -> list[tuple[int, int]]:
    """Index ranges within which a line may be drawn: no reading that is NaN, nothing over a gap.

    time: ascending. Adjacent readings on both sides of a gap belong to different pieces, and so
    do those on both sides of the beginning and of the end of a pause; it may have no end yet.
    """
    count = len(time)
    if count == 0:
        return []
    breaks: list[int] = []
    for start, end in gaps:
        before = int(np.searchsorted(time, start, side="right"))
        if 0 < before < count and time[before] >= end:
            breaks.append(before)
    for start, end in pauses:
        edges = np.searchsorted(time, start, side="right"), np.searchsorted(time, end)
        breaks += [int(edge) for edge in edges if 0 < edge < count]
    valid = np.isfinite(value)
    if valid.all():
        if not breaks:
            return [(0, count)]
        bounds = [0, *sorted(set(breaks)), count]
        return list(itertools.pairwise(bounds))
    bounds = sorted({0, count, *breaks, *(np.flatnonzero(np.diff(valid)) + 1).tolist()})
    return [(a, b) for a, b in itertools.pairwise(bounds) if valid[a]]


class Viewport:
    """The stretch of time that is looked at.

    start, end: s. span: what is followed: `ALL`, so many seconds up to the newest reading, or None
    when somebody chose the stretch by hand.
    """

    def __init__(self) -> None:
        self.start = 0.0
        self.end = 60.0
        self.span: float | None = ALL
        self._anew = True

    @property
    def follows(self) -> bool:
        """Whether it moves with the newest reading."""
        return self.span is not None

    @property
    def wanted(self) -> Stretch:
        """The stretch to ask for, s; infinite where it is all that there is or will be."""
        if self.span is None:
            return self.start, self.end
        return (-np.inf if self.span == ALL else self.start), np.inf

    def follow(self, span: float) -> None:
        """Follow the newest `span` seconds from now on; `advance` then moves there."""
        self.span = span
        self._anew = True

    def choose(self, start: float, end: float) -> None:
        """Look at this stretch and stay there."""
        middle, half = 0.5 * (start + end), max(0.5 * (end - start), 0.5 * LEAST_SPAN)
        self.start, self.end, self.span = middle - half, middle + half, None

    def advance(self, first: float, last: float, *, live: bool) -> bool:
        """Move so that the newest reading is in view; True if the stretch changed.

        first, last: times of the first and the newest reading, s. live: readings will come, so
        some room is kept for them and the view moves in steps, when it is used up.
        """
        if self.span is None or not first <= last:
            return False
        whole = last - first <= self.span
        length = max(last - first, 10.0 if live else LEAST_SPAN) if whole else self.span
        margin = (HEADROOM if live else 0.01) * length
        if whole:
            start, end = first - (0.0 if live else margin), first + length + margin
            kept = self.start == start
        else:
            start, end = last + margin - length, last + margin
            kept = abs(self.end - self.start - length) < 1e-6 * length
        if kept and live and not self._anew and last <= self.end <= last + 3 * margin:
            return False
        self._anew = False
        changed = (start, end) != (self.start, self.end)
        self.start, self.end = start, end
        return changed


class Trace:
    """Readings of one quantity in and around the viewport. Grows in place.

    exact: every reading of the stretch that was asked for is here; False: of each bin the lowest
    and the highest.
    """

    def __init__(
        self, time: Floats = _EMPTY, value: Floats = _EMPTY, *, exact: bool = True
    ) -> None:
        self._time, self._value, self._count = time, value, len(time)
        self.exact = exact

    @property
    def time(self) -> Floats:
        """s since the start of the run, ascending. A view, valid until the next change."""
        return self._time[: self._count]

    @property
    def value(self) -> Floats:
        """SI, NaN where not valid. A view, valid until the next change."""
        return self._value[: self._count]

    @property
    def last(self) -> float:
        """Time of the newest reading, s; minus infinity without one."""
        return float(self._time[self._count - 1]) if self._count else -np.inf

    def append(self, time: Floats, value: Floats) -> int:
        """Take readings that are newer than the last; returns how many those were."""
        new = int(np.searchsorted(time, self.last, side="right"))
        count = len(time) - new
        if count <= 0:
            return 0
        need = self._count + count
        if need > len(self._time):
            room = max(2 * need, 1024)
            self._time = np.concatenate((self.time, np.empty(room - self._count)))
            self._value = np.concatenate((self.value, np.empty(room - self._count)))
        self._time[self._count : need] = time[new:]
        self._value[self._count : need] = value[new:]
        self._count = need
        return count

    def nearest(self, time: float) -> tuple[float, float] | None:
        """Time and value of the valid reading that is nearest in time; None without one."""
        valid = np.flatnonzero(np.isfinite(self.value))
        if len(valid) == 0:
            return None
        times = self.time[valid]
        after = int(np.searchsorted(times, time))
        found = min(after, len(times) - 1)
        if after > 0 and (after == len(times) or time - times[after - 1] <= times[after] - time):
            found = after - 1
        return float(times[found]), float(self.value[valid[found]])


@dataclass(frozen=True, slots=True)
class _View:
    """start, end: s, infinite for what there is or will be. pixels: width of the plot."""

    start: float
    end: float
    pixels: int


@dataclass(frozen=True, slots=True)
class _Question:
    serial: int
    run: str
    quantities: tuple[str, ...]
    view: _View


@dataclass(slots=True)
class _Base:
    """What the last answer covers.

    start, end: s, infinite where it goes to the end of the record. bin: width of its bins, s;
    0 when every reading is there.
    """

    quantities: frozenset[str]
    start: float
    end: float
    bin: float


class Traces:
    """The curves of one run in one viewport.

    link: where to ask. key: of its questions, one for each `Traces` of a link. wake: called in
    the link's thread when an answer is there; the window may then call `take` at once instead of
    waiting until it drains the link. changed: called when an answer has been taken.

    first, last: times of the first and the newest reading that is known, s; infinite without one.
    """

    def __init__(
        self,
        link: Link,
        *,
        key: str = "curves",
        wake: Callable[[], None] | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self._link = link
        self._key = key
        self._wake = wake
        self._changed = changed
        self._lock = threading.Lock()
        self._arrived: list[tuple[_Question, Mapping[str, Curve]]] = []
        self._serial = 0
        self.show(None, ())

    # What is shown

    @property
    def run(self) -> str | None:
        """Identifier of the run."""
        return self._run

    @property
    def quantities(self) -> tuple[str, ...]:
        """What is asked for."""
        return self._quantities

    @property
    def waiting(self) -> bool:
        """Whether a question has not been answered."""
        return self._asked is not None

    @property
    def reaches_the_end(self) -> bool:
        """Whether what is drawn goes up to the newest reading, so that new ones are appended."""
        return self._base is not None and self._base.end == np.inf

    def trace(self, quantity: str) -> Trace:
        """The readings of a quantity; empty if there are none."""
        return self._traces.get(quantity) or Trace()

    # What happens

    def show(self, run: str | None, quantities: Sequence[str]) -> None:
        """Show another run, or none. Nothing of the run before remains."""
        self._run, self._quantities = run, tuple(quantities)
        self._traces: dict[str, Trace] = {}
        self._fresh: dict[str, Trace] = {}
        self._streamed: dict[str, float] = {}
        self._tail = 0
        self._base: _Base | None = None
        self._asked: _Question | None = None
        self._view: _View | None = None
        self._again = False
        self._failed = False
        self._unsure = True
        self.first, self.last = np.inf, -np.inf

    def want(self, quantities: Sequence[str]) -> None:
        """Ask for these quantities from now on; what is there of them stays."""
        if set(quantities) != set(self._quantities):
            self._quantities = tuple(quantities)
            self._ask(replace=True)

    def look(self, start: float, end: float, pixels: int) -> bool:
        """Look at a stretch on a plot so many pixels wide; True if that asked for new bins.

        start, end: s; minus infinity is the start of the record, infinity the newest reading,
        whatever comes.
        """
        self._view = _View(start, end, max(int(pixels), 2))
        if self._asked is not None or self._suffices():
            return False
        return self._ask()

    def apply(self, rows: Rows) -> bool:
        """Take newly committed rows; True if something was appended that is drawn."""
        if rows.run != self._run:
            return False
        again = rows.skipped or self._unsure or self._failed
        self._unsure = False
        arrays: dict[str, tuple[Floats, Floats]] = {}
        for quantity, (times, values) in rows.quantities.items():
            if times:
                time = np.array(times, dtype=np.float64)
                arrays[quantity] = time, np.array([number(each) for each in values])
                # Rows that an instrument handed over later take the place of polled ones.
                again |= bool(time[0] < self._streamed.get(quantity, -np.inf))
                self._streamed[quantity] = float(time[-1])
                self.first, self.last = min(self.first, time[0]), max(self.last, time[-1])
        if again:
            # Something may lie between what is drawn and these rows: no line until it is known.
            if self._base is not None and self._base.end == np.inf:
                self._base.end = max((each.last for each in self._traces.values()), default=-np.inf)
            self._ask()
        appended = False
        for quantity, (time, value) in arrays.items():
            if quantity not in self._quantities:
                continue
            if self._asked is not None:
                self._fresh.setdefault(quantity, Trace()).append(time, value)
            if self.reaches_the_end:
                grown = self._traces.setdefault(quantity, Trace()).append(time, value)
                self._tail += grown
                appended |= grown > 0
        if self._view is not None and self._asked is None and self._long():
            self._ask()
        return appended

    def refresh(self) -> None:
        """Ask again: the connection is back, the run ended, the page came into view.

        A station may answer before it takes up the stream, so that rows committed in between are
        in neither: the first message after this asks once more.
        """
        self._unsure = True
        self._ask(replace=True)

    def take(self) -> bool:
        """Take an answer that has arrived; True if there was one."""
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for question, curves in arrived:
            if question == self._asked:
                self._asked = None
                self._use(question, curves)
                if self._again or (question.view != self._view and not self._suffices()):
                    self._ask()
                if self._changed is not None:
                    self._changed()
                return True
        return False

    # ---- below -----------------------------------------------------------------------------

    def _long(self) -> bool:
        assert self._view is not None
        return self._tail > TAIL * self._view.pixels * max(len(self._quantities), 1)

    def _suffices(self) -> bool:
        """Whether what is here draws the view exactly."""
        base, view = self._base, self._view
        if view is None:
            return True
        if base is None or self._failed or not base.quantities >= set(self._quantities):
            return False
        if view.start < base.start or view.end > base.end:
            return False
        return base.bin == 0.0 or self._bin(view) >= 0.97 * base.bin

    def _bin(self, view: _View) -> float:
        """Width of a pixel, s."""
        return (min(view.end, self.last) - max(view.start, self.first)) / view.pixels

    def _ask(self, *, replace: bool = False) -> bool:
        if self._view is None or self._run is None or not self._quantities:
            return False
        if self._asked is not None and not replace:
            # One question at a time: a drag that asks faster than the station answers would
            # otherwise replace every question before its answer is there.
            self._again = True
            return False
        self._serial += 1
        question = _Question(self._serial, self._run, self._quantities, self._view)
        self._asked, self._again, self._failed, self._fresh = question, False, False, {}
        start, end = question.view.start, question.view.end

        def work(client: StationClient) -> None:
            answer = client.curves(
                question.run,
                question.quantities,
                start=start if np.isfinite(start) else None,
                end=end if np.isfinite(end) else None,
                bins=question.view.pixels,
            )
            with self._lock:
                self._arrived.append((question, answer))
            if self._wake is not None:
                self._wake()

        def then(_: None) -> None:
            self.take()

        def failed(_: Exception) -> None:
            if question == self._asked:
                self._asked, self._failed = None, True

        self._link.ask(self._key, work, then, failed)
        return True

    def _use(self, question: _Question, curves: Mapping[str, Curve]) -> None:
        view = question.view
        traces = {
            name: Trace(curves[name].time, curves[name].value, exact=curves[name].exact)
            if name in curves
            else Trace()
            for name in question.quantities
        }
        starts = [trace.time[0] for trace in traces.values() if len(trace.time)]
        ends = [trace.last for trace in traces.values() if len(trace.time)]
        self.first, self.last = min([self.first, *starts]), max([self.last, *ends])
        # A reading on either side of the stretch comes along if there is one: where none came,
        # the answer goes to the end of the record.
        start = -np.inf if all(each >= view.start for each in starts) else view.start
        end = np.inf if all(each <= view.end for each in ends) else view.end
        exact = all(trace.exact for trace in traces.values())
        self._tail = 0
        if end == np.inf:
            for quantity, fresh in self._fresh.items():
                trace = traces.setdefault(quantity, Trace())
                self._tail += trace.append(fresh.time, fresh.value)
        self._fresh = {}
        self._base = _Base(frozenset(question.quantities), start, end, 0.0)
        if not exact:
            self._base.bin = self._bin(view)
        self._traces = traces
