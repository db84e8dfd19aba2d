"""Voltage against charge, half cycle by half cycle, for plots of one against the other.

Such a loop is not a function of its abscissa, so it is never reduced to lowest and highest values
of bins. Rows are chosen along the curve itself.

Half cycles are found as evaluation finds them: a step belongs to the charge of its cycle if it
passed net positive charge, to the discharge if negative; rests and steps at open circuit belong to
neither. A constant-voltage part counts with its half cycle, and so does a pause within a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from operando.records.charge import increments
from operando.records.reader import Columns, Gap

Floats: TypeAlias = npt.NDArray[np.float64]

REST: Final = "Rest"
"""Class of the steps that never belong to a half cycle."""


@dataclass(frozen=True, slots=True, eq=False)
class HalfLoop:
    """Voltage against charge of one half cycle, in order of time.

    cycle: from 1. charging: direction. charge: C passed in that direction since the half cycle
    began. voltage: V; NaN where a line must break, at rows that are not valid and where nothing was
    observed.
    """

    cycle: int
    charging: bool
    charge: Floats
    voltage: Floats


class LoopRows(NamedTuple):
    """Rows of a record as loops need them. time: s. charge: net of the run, C. voltage: V."""

    time: Floats
    charge: Floats
    voltage: Floats


class Source(Protocol):
    """Where the rows of a record are read again, by their position in order of time."""

    def loop_rows(self, first: int, stop: int) -> LoopRows:
        """Rows first <= position < stop."""
        ...

    def cycles_of(self, positions: Sequence[int]) -> list[int]:
        """Cycles of rows."""
        ...

    def driven(self, spans: Sequence[tuple[int, int]]) -> list[bool]:
        """Whether any row of first <= position < stop was not at open circuit, span by span."""
        ...


def thinned(charge: Floats, voltage: Floats, points: int) -> npt.NDArray[np.int64]:
    """Which rows of a loop to keep so that it still looks the same, ascending.

    points: at most so many, 8 at least. The curve is measured in units of its height and width and
    cut into (points - 6) // 2 pieces of equal length, and the first and the last row of each are
    kept: no row that is left out is further from the line that is drawn than half a piece. Those of
    the lowest and highest voltage and charge are always kept.
    charge, voltage: finite.
    """
    points = max(points, 8)
    count = len(voltage)
    if count <= points:
        return np.arange(count)
    across, up = _scaled(charge), _scaled(voltage)
    length = np.zeros(count)
    np.cumsum(np.hypot(np.diff(across), np.diff(up)), out=length[1:])
    pieces = (points - 6) // 2
    piece = np.minimum(length * (pieces / (length[-1] or 1.0)), pieces - 1).astype(np.int64)
    # The first and the last row of each piece: a jump from one piece to another keeps both ends.
    lasts = np.flatnonzero(np.diff(piece, append=pieces))
    extremes = [int(find(values)) for find in (np.argmin, np.argmax) for values in (across, up)]
    return np.unique(np.concatenate(([0], lasts, lasts[:-1] + 1, extremes)))


def _scaled(values: Floats) -> Floats:
    low, high = values.min(), values.max()
    span = high - low
    return (values - low) / span if span > 0.0 else np.zeros(len(values))


@dataclass(slots=True)
class _Run:
    """Consecutive rows of one step. before, after: net charge of the run known there, C."""

    first: int
    stop: int
    before: float
    after: float


class _Half:
    """The rows of a half cycle as far as they were read."""

    def __init__(self) -> None:
        self.time: Floats = np.empty(0)
        self.passed: Floats = np.empty(0)
        self.voltage: Floats = np.empty(0)
        self._read: list[tuple[int, int]] = []
        self._charge = 0.0

    def extend(self, runs: Sequence[_Run], source: Source) -> None:
        """Read what is new. runs: see `continues_with`."""
        parts = [(self.time, self.passed, self.voltage)]
        before = 0.0
        for number, run in enumerate(runs):
            if number == len(self._read):
                self._read.append((run.first, run.first))
                self._charge = run.before
            first = self._read[number][1]
            if first < run.stop:
                rows = source.loop_rows(first, run.stop)
                filled = carried(rows.charge, self._charge)
                parts.append((rows.time, before + (filled - run.before), rows.voltage))
                self._read[number] = (run.first, run.stop)
                self._charge = run.after
            before += run.after - run.before
        self.time, self.passed, self.voltage = (np.concatenate(c) for c in zip(*parts, strict=True))

    def continues_with(self, runs: Sequence[_Run]) -> bool:
        """Whether rows were only added at the end of what was read."""
        spans = [(run.first, run.stop) for run in runs]
        if not self._read:
            return True
        *finished, (first, stop) = self._read
        last = len(finished)
        return (
            last < len(spans)
            and finished == spans[:last]
            and spans[last][0] == first
            and spans[last][1] >= stop
        )


class Loops:
    """The half cycles of a record that grows. Finished ones are read once."""

    def __init__(self) -> None:
        self.counted = False
        """Whether the record holds the runner's own count of charge."""
        self._runs: dict[int, list[_Run]] = {}
        self._step = -1
        self._charge = 0.0
        self._cycles: dict[int, int] = {}
        self._driven: set[int] = set()
        self._newest: tuple[tuple[int, bool], _Half] | None = None
        # By points, cycle and direction: rows and number of gaps that it was made from, and it.
        self._drawn: dict[tuple[int, int, bool], tuple[list[tuple[int, int]], int, HalfLoop]] = {}

    def add(self, position: int, steps: npt.NDArray[np.int64], charge: Floats) -> None:
        """Take note of new rows. position: of the first. steps: running number of each row's step.
        charge: net charge of the run, C.
        """
        if len(steps) == 0:
            return
        self.counted = self.counted or bool(np.isfinite(charge).any())
        filled = carried(charge, self._charge)
        starts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
        for start, stop in pairwise(starts):
            step = int(steps[start])
            after = float(filled[stop - 1])
            runs = self._runs.setdefault(step, [])
            if runs and step == self._step:
                runs[-1].stop, runs[-1].after = position + stop, after
            else:
                before = float(filled[start - 1]) if start else self._charge
                runs.append(_Run(position + start, position + stop, before, after))
            self._step, self._charge = step, after

    def half_cycles(
        self, source: Source, kinds: Mapping[int, str], gaps: Sequence[Gap], points: int
    ) -> list[HalfLoop]:
        """The half cycles in order of their start. kinds: class of each step by its number."""
        passed = {
            step: sum(run.after - run.before for run in runs)
            for step, runs in sorted(self._runs.items())
            if kinds.get(step) != REST
        }
        self._learn([step for step, charge in passed.items() if charge != 0.0], source)
        halves: dict[tuple[int, bool], list[_Run]] = {}
        for step, charge in passed.items():
            if charge != 0.0 and step in self._driven:
                halves.setdefault((self._cycles[step], charge > 0.0), []).extend(self._runs[step])
        ordered = sorted(halves.items(), key=lambda item: item[1][0].first)
        return [
            self._loop(key, runs, source, gaps, points, newest=n == len(ordered) - 1)
            for n, (key, runs) in enumerate(ordered)
        ]

    def _learn(self, steps: Sequence[int], source: Source) -> None:
        """Ask about steps what is not known yet."""
        unknown = [step for step in steps if step not in self._cycles]
        cycles = source.cycles_of([self._runs[step][0].first for step in unknown])
        self._cycles.update(zip(unknown, cycles, strict=True))
        runs = [(s, run) for s in steps if s not in self._driven for run in self._runs[s]]
        driven = source.driven([(run.first, run.stop) for _, run in runs])
        self._driven.update(step for (step, _), is_so in zip(runs, driven, strict=True) if is_so)

    def _loop(
        self,
        key: tuple[int, bool],
        runs: list[_Run],
        source: Source,
        gaps: Sequence[Gap],
        points: int,
        *,
        newest: bool,
    ) -> HalfLoop:
        cycle, charging = key
        spans = [(run.first, run.stop) for run in runs]
        drawn = self._drawn.get((points, cycle, charging))
        if drawn is not None and drawn[:2] == (spans, len(gaps)):
            return drawn[2]
        half = _Half()
        if self._newest is not None and self._newest[0] == key:
            half = self._newest[1] if self._newest[1].continues_with(runs) else half
        half.extend(runs, source)
        charge = half.passed if charging else -half.passed
        loop = loop_of(cycle, charging, half.time, charge, half.voltage, gaps, points)
        self._drawn[points, cycle, charging] = spans, len(gaps), loop
        if newest:
            self._newest = key, half
        return loop


def carried(charge: Floats, before: float) -> Floats:
    """A count of charge where a NaN stays where the count was. before: ahead of the first row."""
    known = np.isfinite(charge)
    if known.all():
        return charge
    last = np.maximum.accumulate(np.where(known, np.arange(len(charge)), -1))
    return np.where(last >= 0, charge[last], before)


def loop_of(
    cycle: int,
    charging: bool,
    time: Floats,
    charge: Floats,
    voltage: Floats,
    gaps: Iterable[Gap],
    points: int,
) -> HalfLoop:
    """A half cycle's rows, thinned and broken where a line would tell what was not observed.

    time: s, ascending. charge: C, magnitude. voltage: V. Breaks come on top of `points`.
    """
    valid = np.flatnonzero(np.isfinite(voltage) & np.isfinite(charge))
    if len(valid) == 0:
        return HalfLoop(cycle, charging, np.empty(0), np.empty(0))
    kept = valid[thinned(charge[valid], voltage[valid], points)]
    # A break before each kept row that follows another over rows that are not valid, or over a gap.
    skipped = np.cumsum(~np.isfinite(voltage))[kept]
    cuts = set((np.flatnonzero(np.diff(skipped)) + 1).tolist())
    times = time[kept]
    for gap in gaps:
        cut = int(np.searchsorted(times, 0.5 * (gap.start + gap.end)))
        if 0 < cut < len(kept):
            cuts.add(cut)
    at = sorted(cuts)
    return HalfLoop(
        cycle,
        charging,
        np.insert(charge[kept], at, charge[kept][at]),
        np.insert(voltage[kept], at, np.nan),
    )


def uncounted(
    samples: Columns, kinds: Mapping[int, str], gaps: Sequence[Gap], points: int
) -> list[HalfLoop]:
    """The half cycles of a record without a count of charge, by the trapezoid rule.

    samples: all of a record, in order of time.
    """
    passed = increments(samples, gaps).charge
    halves: dict[tuple[int, bool], list[npt.NDArray[np.int64]]] = {}
    for step in np.unique(samples["step_count"]):
        rows = np.flatnonzero(samples["step_count"] == step)
        charge = float(passed[rows].sum())
        at_open_circuit = bool(np.all(samples["regulation"][rows] == "open"))
        if charge == 0.0 or kinds.get(int(step)) == REST or at_open_circuit:
            continue
        halves.setdefault((int(samples["cycle"][rows[0]]), charge > 0.0), []).append(rows)
    found = []
    for (cycle, charging), parts in sorted(halves.items(), key=lambda item: item[1][0][0]):
        rows = np.concatenate(parts)
        magnitude = np.cumsum(passed[rows]) * (1.0 if charging else -1.0)
        time, voltage = samples["time"][rows], samples["voltage"][rows]
        found.append(loop_of(cycle, charging, time, magnitude, voltage, gaps, points))
    return found
