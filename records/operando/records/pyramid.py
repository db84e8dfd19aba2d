"""An append-only pyramid of one quantity against time: what a plot of any width needs, at once.

Battery data are not uniform: a pulse of a thousand readings beside a rest of three. Bins therefore
hold equal stretches of time and not equal numbers of rows. A bin keeps the lowest and the highest
of its readings with their times, so whatever is drawn was read; it never keeps a mean.

Readings are stored elsewhere, in order, and are read again where there are few: in a narrow
viewport, in bins that the viewport cuts, and in bins that hold less than four readings, which are
not kept. So a curve has the true extremes of its viewport, a rest is drawn in full beside a pulse,
and sparse data cost no more memory than dense data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

_Number = TypeVar("_Number", np.int64, np.float64)

FACTOR: Final = 4
"""Bins of a level that make one of the next."""
LEVELS: Final = 16
"""From bins of a few polls to bins of years."""
FEWEST: Final = 4
"""Readings that a bin must hold to be kept; it has room for two of them."""
READINGS_PER_BIN: Final = 12
"""Readings that the finest bins are meant to hold where the data are dense. Fewer cost memory: 80
bytes a bin."""
READINGS_PER_PIXEL: Final = 8
"""Readings up to which a viewport is read as it is. More cost reading."""
MOST_READ: Final = 200_000
"""Readings up to which a viewport is read as it is where the finest bins are wider than two pixels:
where readings came much faster than the bins were made for. A fifth of a second."""
POINTS_PER_PIXEL: Final = 4
_UNSETTLED: Final = 65_536
"""Readings that may wait for their bins."""


class Curve(NamedTuple):
    """A quantity against time, ready to draw: every point is a stored reading.

    time: s, ascending. value: SI; NaN where a line must break: at readings that are not valid.
    exact: every reading of the stretch is there; False: the lowest and the highest of each bin.
    The reading before and the one after the viewport are included.
    """

    time: Floats
    value: Floats
    exact: bool


Span: TypeAlias = tuple[int, int]
"""Rows first <= row < stop."""

Read: TypeAlias = Callable[[Sequence[Span]], tuple[Floats, Floats]]
"""Times and values of the readings in some spans, in order of row."""


class _Level:
    """The bins of one width in order of time, in arrays that grow. Columns are the second axis."""

    # index: of the bin, time / width. first, stop: span of rows that holds its readings.
    # before: readings before it. count: of its readings.
    INTEGERS = ("index", "first", "stop", "before", "count")
    # broken: time of the first reading that was not valid, NaN if all were. A bin without a valid
    # reading has NaN as its lowest and highest.
    REALS = ("low_time", "low", "high_time", "high", "broken")

    def __init__(self) -> None:
        self.kept = 0
        self._integers: Integers = np.empty((len(self.INTEGERS), 16), dtype=np.int64)
        self._reals: Floats = np.empty((len(self.REALS), 16))
        self._covered: Integers = np.zeros(17, dtype=np.int64)  # readings of the bins before
        # Finer bins, or readings, of the bin that is still open.
        self.open: tuple[Integers, Floats] = self._integers[:, :0], self._reals[:, :0]

    @property
    def integers(self) -> Integers:
        return self._integers[:, : self.kept]

    @property
    def reals(self) -> Floats:
        return self._reals[:, : self.kept]

    def find(self, index: int) -> int:
        """Position of the first bin from `index` on."""
        return int(np.searchsorted(self._integers[0, : self.kept], index))

    def covered(self, first: int, stop: int) -> int:
        """Readings that bins hold."""
        return int(self._covered[stop] - self._covered[first])

    def keep(self, integers: Integers, reals: Floats) -> None:
        needed = self.kept + integers.shape[1]
        if needed > self._reals.shape[1]:
            room = max(needed, 2 * self._reals.shape[1])
            self._integers = _with_room(self._integers, self.kept, room)
            self._reals = _with_room(self._reals, self.kept, room)
            self._covered = _with_room(self._covered, self.kept + 1, room + 1)
        self._integers[:, self.kept : needed] = integers
        self._reals[:, self.kept : needed] = reals
        covered = self._covered[self.kept] + np.cumsum(integers[4])
        self._covered[self.kept + 1 : needed + 1] = covered
        self.kept = needed


class _Cut(NamedTuple):
    """Bins of one level: first <= position < stop."""

    level: _Level
    first: int
    stop: int
    number: int

    def borders(self, width: float) -> Floats:
        """Times at which the bins end, s. width: of the finest bins, s."""
        index = self.level.integers[0, self.first : self.stop]
        borders: Floats = (index + 1) * (width * FACTOR**self.number)
        return borders

    @property
    def covered(self) -> int:
        return self.level.covered(self.first, self.stop)


class Pyramid:
    """The lowest and highest readings of one quantity in bins of `width` * 4^k, k = 0, 1, ...

    read: gives stored readings again, see `Read`. width: s, taken to the nearest power of two so
    that which bin a time belongs to is exact. `READINGS_PER_BIN` of the shortest intervals do well.

    Stamps are taken to ascend. One that lies before a stamp that came earlier (rounding at a step's
    end) is kept aside as it is and merged into every curve: it is neither lost nor moved.
    """

    def __init__(self, read: Read, width: float) -> None:
        if not (math.isfinite(width) and width > 0.0):
            raise ValueError(f"the width of a bin must be positive and finite, in s, not {width!r}")
        self._read = read
        self.width = 2.0 ** round(math.log2(width))
        self._levels = [_Level() for _ in range(LEVELS)]
        self._waiting: list[tuple[Integers, Floats, Floats]] = []  # rows, times, values
        self._waits = 0
        self._settled = 0  # of the arrays that wait
        self._count = 0  # readings in order of time
        self._rows: Span = (0, 0)
        self._first = self._last = math.nan
        self._strays: tuple[Integers, Floats, Floats] = (
            np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)
        )  # fmt: skip

    def __len__(self) -> int:
        """Readings that were appended and have a time."""
        return self._count + len(self._strays[0])

    @property
    def start(self) -> float:
        """Time of the first reading, s; NaN if there is none."""
        return float(min([self._first, *self._strays[1][:1]]))

    @property
    def end(self) -> float:
        """The latest time, s; NaN if there is none."""
        return self._last

    @property
    def bins(self) -> tuple[int, ...]:
        """Bins that are kept at each level, the finest first."""
        self._settle()
        return tuple(level.kept for level in self._levels)

    def append(self, rows: Integers, time: Floats, value: Floats) -> None:
        """Take readings that were stored after all that came before.

        rows: their numbers, ascending. time: s; a reading without a time cannot be drawn and is
        left out. value: SI; what is not finite counts as not valid. The arrays are kept: do not
        change them.
        """
        if not np.isfinite(time).all():
            known = np.isfinite(time)
            rows, time, value = rows[known], time[known], value[known]
        if len(rows) == 0:
            return
        if not np.isfinite(value).all():
            value = np.where(np.isfinite(value), value, np.nan)
        if (self._count and time[0] < self._last) or (time[1:] < time[:-1]).any():
            rows, time, value = self._without_strays(rows, time, value)
            if len(rows) == 0:
                return
        if self._count == 0:
            self._rows, self._first = (int(rows[0]), 0), float(time[0])
        self._rows, self._last = (self._rows[0], int(rows[-1]) + 1), float(time[-1])
        self._count += len(time)
        self._waiting.append((rows, time, value))
        self._waits += len(time)
        if self._waits >= _UNSETTLED:
            self._settle()

    def span(self, start: float, end: float) -> Span:
        """Rows among which all readings of start <= time <= end are. start, end: s."""
        first, stop, _ = self._around(start, end)
        rows, time, _ = self._strays
        rows = rows[(time >= start) & (time <= end)]
        if len(rows):
            first, stop = min(first, int(rows.min())), max(stop, int(rows.max()) + 1)
        return first, stop

    def curve(self, start: float = -math.inf, end: float = math.inf, bins: int = 1200) -> Curve:
        """What to draw between two times on a plot of `bins` pixels.

        start, end: s. All readings if there are at most four for each pixel, else the extremes,
        about four points a pixel. Raises ValueError if the viewport is not one.
        """
        if not start <= end or bins < 1:
            raise ValueError(f"expected start <= end and bins >= 1, not {start}, {end}, {bins}")
        if self._count == 0:
            return Curve(np.empty(0), np.empty(0), True)
        first, stop, inside = self._around(start, end)
        low, high = self._indices(start, end)
        cuts: list[_Cut] = []
        if inside > (READINGS_PER_PIXEL * bins if 2 * (high - low) >= bins else MOST_READ):
            cuts = self._cuts(low, high, inside, bins)
        exact = not any(cut.first < cut.stop for cut in cuts)
        time, value = self._points(cuts, first, stop)
        if len(self._strays[0]):
            time, value = np.append(time, self._strays[1]), np.append(value, self._strays[2])
            order = np.argsort(time, kind="stable")
            time, value = time[order], value[order]
        before = max(int(np.searchsorted(time, start, side="left")) - 1, 0)
        after = int(np.searchsorted(time, end, side="right")) + 1
        time, value = time[before:after], value[before:after]
        if len(time) > POINTS_PER_PIXEL * bins + 2:
            time, value = _thinned(time, value, start, end, bins)
            exact = False
        return Curve(time, value, exact)

    # Below: which bins

    def _indices(self, start: float, end: float) -> tuple[int, int]:
        """Finest bins that hold the first and the last moment of a viewport."""
        start = min(max(start, self._first), self._last)
        end = min(max(end, self._first), self._last)
        return math.floor(start / self.width), math.floor(end / self.width)

    @property
    def _open(self) -> int:
        """The finest bin that is open: that of the readings that wait once bins were made."""
        return math.floor(self._last / self.width)

    def _around(self, start: float, end: float) -> tuple[int, int, int]:
        """Rows of a viewport with a neighbour on either side, and the number of its readings.

        A few more, as far as bins tell.
        """
        self._settle()
        low, high = self._indices(start, end)
        first, before = self._rows[0], 0
        stop, after = self._rows[1], self._count
        if high < self._open:  # all of the bin that is open comes after it
            stop, after = int(self._waiting[0][0][0]) + 1, self._count - self._waits + 1
        for level in self._levels:
            # The last bin that ends before the viewport begins, the first that begins after it.
            if (position := level.find(low) - 1) >= 0:
                _, _, ends, ahead, count = level.integers[:, position].tolist()
                if ends - 1 > first:
                    first, before = ends - 1, ahead + count - 1
            if (position := level.find(high + 1)) < level.kept:
                _, begins, _, ahead, _ = level.integers[:, position].tolist()
                if begins + 1 < stop:
                    stop, after = begins + 1, ahead + 1
            low, high = low // FACTOR, high // FACTOR
        return first, stop, after - before

    def _cuts(self, low: int, high: int, inside: int, bins: int) -> list[_Cut]:
        """Bins strictly between two of the finest level: coarse ones, finer ones at both ends."""
        left: list[_Cut] = []
        right: list[_Cut] = []
        # Readings at either end that no bin can cover, however coarse: they are drawn one by one or
        # thinned, and must not make what lies between coarser.
        inside -= self._in_bin(low) + (self._in_bin(high) if high > low else 0)
        low += 1
        for number, level in enumerate(self._levels):
            middle = _Cut(level, level.find(low), level.find(high), number)
            cuts = [*left, middle, *reversed(right)]
            # Readings that no bin covers are drawn one by one.
            uncovered = inside - sum(cut.covered for cut in cuts)
            kept = sum(cut.stop - cut.first for cut in cuts)
            inner_low, inner_high = -(-low // FACTOR), high // FACTOR
            if 2 * kept + uncovered <= POINTS_PER_PIXEL * bins or inner_low >= inner_high:
                break
            left.append(_Cut(level, middle.first, level.find(inner_low * FACTOR), number))
            right.append(_Cut(level, level.find(inner_high * FACTOR), middle.stop, number))
            low, high = inner_low, inner_high
        return cuts

    def _in_bin(self, index: int) -> int:
        """Readings in a finest bin, without those of one that has too few to be kept."""
        finest = self._levels[0]
        if index == self._open:
            return self._waits
        position = finest.find(index)
        kept = position < finest.kept and int(finest.integers[0, position]) == index
        return int(finest.integers[4, position]) if kept else 0

    def _points(self, cuts: Sequence[_Cut], first: int, stop: int) -> tuple[Floats, Floats]:
        """Points of bins, and the readings among rows that the bins do not cover."""
        integers = [cut.level.integers[:, cut.first : cut.stop] for cut in cuts]
        if not any(part.shape[1] for part in integers):
            return self._stored([(first, stop)], [-math.inf])
        _, begins, ends, before, count = np.concatenate(integers, axis=1)
        between = np.flatnonzero(before[1:] > before[:-1] + count[:-1])
        spans = [(first, int(begins[0]))]
        spans += zip(ends[between].tolist(), begins[between + 1].tolist(), strict=True)
        spans.append((int(ends[-1]), stop))
        reals = np.concatenate([cut.level.reals[:, cut.first : cut.stop] for cut in cuts], axis=1)
        borders = np.concatenate([cut.borders(self.width) for cut in cuts])
        time, value = self._stored(spans, [-math.inf, *borders[between].tolist(), borders[-1]])
        drawn_time, drawn_value = _points(reals)
        time, value = np.append(drawn_time, time), np.append(drawn_value, value)
        order = np.argsort(time, kind="stable")
        return time[order], value[order]

    def _stored(self, spans: Sequence[Span], since: Sequence[float]) -> tuple[Floats, Floats]:
        """Readings of spans without strays. since: s; the readings of each span are not earlier."""
        if not len(self._strays[0]):
            spans = [span for span in spans if span[0] < span[1]]
            parts = [self._read(spans)] if spans else []
        else:
            parts = [
                _ascending(*self._read([span]), earliest)
                for span, earliest in zip(spans, since, strict=True)
                if span[0] < span[1]
            ]
        time = np.concatenate([np.empty(0), *(part[0] for part in parts)])
        value = np.concatenate([np.empty(0), *(part[1] for part in parts)])
        known = np.isfinite(time)
        if not known.all():
            time, value = time[known], value[known]
        return time, np.where(np.isfinite(value), value, np.nan)

    # Below: making bins

    def _settle(self) -> None:
        """Make bins of the readings that wait; those of the bin that is open go on waiting."""
        if len(self._waiting) == self._settled:
            return
        rows, time, value = (np.concatenate(c) for c in zip(*self._waiting, strict=True))
        index = np.floor(time / self.width).astype(np.int64)
        opened = int(index[-1])
        closed = int(np.searchsorted(index, opened))
        if closed:
            starts = _starts(index[:closed])
            stops = np.append(starts[1:], closed)
            before = self._count - self._waits + starts
            integers = np.stack(
                (index[starts], rows[starts], rows[stops - 1] + 1, before, stops - starts)
            )
            self._climb(integers, _merged(starts, *_as_bins(time[:closed], value[:closed])), opened)
            # Copies: a few readings must not keep a large array alive.
            rows, time, value = rows[closed:].copy(), time[closed:].copy(), value[closed:].copy()
        self._waiting, self._settled = [(rows, time, value)], 1
        self._waits = len(rows)

    def _climb(self, integers: Integers, reals: Floats, opened: int) -> None:
        """Take the finest bins that were closed. opened: index of the finest bin that is open."""
        for number, level in enumerate(self._levels):
            if number:
                opened //= FACTOR
                integers[0] //= FACTOR
                integers = np.concatenate((level.open[0], integers), axis=1)
                reals = np.concatenate((level.open[1], reals), axis=1)
                closed = int(np.searchsorted(integers[0], opened))
                level.open = integers[:, closed:].copy(), reals[:, closed:].copy()
                if not closed:
                    return
                starts = _starts(integers[0, :closed])
                reals = _merged(starts, *reals[:, :closed])
                integers = _grouped(starts, integers[:, :closed])
            enough = integers[4] >= FEWEST
            level.keep(integers[:, enough], reals[:, enough])

    def _without_strays(
        self, rows: Integers, time: Floats, value: Floats
    ) -> tuple[Integers, Floats, Floats]:
        latest = np.fmax(np.maximum.accumulate(time), self._last)
        stray = time < latest
        columns = (
            np.append(column, new[stray])
            for column, new in zip(self._strays, (rows, time, value), strict=True)
        )
        stray_rows, stray_time, stray_value = columns
        order = np.argsort(stray_time, kind="stable")
        self._strays = stray_rows[order], stray_time[order], stray_value[order]
        return rows[~stray], time[~stray], value[~stray]


def _with_room(array: npt.NDArray[_Number], used: int, room: int) -> npt.NDArray[_Number]:
    """The same with more room along the last axis."""
    new = np.zeros((*array.shape[:-1], room), dtype=array.dtype)
    new[..., :used] = array[..., :used]
    return new


def _ascending(time: Floats, value: Floats, earliest: float) -> tuple[Floats, Floats]:
    kept = time >= np.fmax(np.fmax.accumulate(time), earliest)
    return time[kept], value[kept]


def _starts(groups: Integers) -> Integers:
    """Positions at which consecutive equal numbers begin."""
    return np.append(0, np.flatnonzero(groups[1:] != groups[:-1]) + 1)


def _grouped(starts: Integers, integers: Integers) -> Integers:
    """Columns of `_Level.INTEGERS` of the bins that groups of bins make."""
    stops = np.append(starts[1:], integers.shape[1])
    index, first, stop, before, count = integers
    counts = np.add.reduceat(count, starts)
    return np.stack((index[starts], first[starts], stop[stops - 1], before[starts], counts))


def _as_bins(time: Floats, value: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Readings as bins of one each, as `_Level.REALS`."""
    return time, value, time, value, np.where(np.isnan(value), time, np.nan)


def _merged(
    starts: Integers,
    low_time: Floats,
    low: Floats,
    high_time: Floats,
    high: Floats,
    broken: Floats,
) -> Floats:
    """Bins, or readings, merged group by group: the columns of `_Level.REALS`.

    starts: where groups begin. Of equal extremes the first is kept.
    """
    merged = np.empty((5, len(starts)))
    lengths = np.diff(starts, append=len(low))
    some_invalid = bool(np.isnan(low).any())
    for number, (best, time, value, worst) in enumerate(
        ((np.minimum, low_time, low, np.inf), (np.maximum, high_time, high, -np.inf))
    ):
        comparable = np.where(np.isnan(value), worst, value) if some_invalid else value
        hits = np.flatnonzero(comparable == np.repeat(best.reduceat(comparable, starts), lengths))
        at = hits[np.searchsorted(hits, starts)]
        merged[2 * number], merged[2 * number + 1] = time[at], value[at]
    merged[4] = np.nan
    breaks = np.flatnonzero(~np.isnan(broken))
    if len(breaks):
        first = breaks[np.minimum(np.searchsorted(breaks, starts), len(breaks) - 1)]
        found = (first >= starts) & (first < starts + lengths)
        merged[4, found] = broken[first[found]]
    return merged


def _points(reals: Floats) -> tuple[Floats, Floats]:
    """Points of bins: each reading once, and a NaN where one was not valid; in no order."""
    low_time, low, high_time, high, broken = reals
    valid = ~np.isnan(low)
    twice = valid & (low != high)
    breaks = broken[~np.isnan(broken)]
    time = np.concatenate((low_time[valid], high_time[twice], breaks))
    value = np.concatenate((low[valid], high[twice], np.full(len(breaks), np.nan)))
    return time, value


def _thinned(
    time: Floats, value: Floats, start: float, end: float, bins: int
) -> tuple[Floats, Floats]:
    """Points binned anew, pixel by pixel; those outside of the viewport stay as they are."""
    first = int(np.searchsorted(time, start, side="left"))
    stop = int(np.searchsorted(time, end, side="right"))
    inner, values = time[first:stop], value[first:stop]
    span = inner[-1] - inner[0] or 1.0
    starts = _starts(np.floor((inner - inner[0]) / span * bins).astype(np.int64))
    drawn_time, drawn_value = _points(_merged(starts, *_as_bins(inner, values)))
    order = np.argsort(drawn_time, kind="stable")
    return (
        np.concatenate((time[:first], drawn_time[order], time[stop:])),
        np.concatenate((value[:first], drawn_value[order], value[stop:])),
    )
