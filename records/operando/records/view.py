"""A record as a viewer follows it: what is new, and what any viewport needs, at once.

Only committed rows are seen, through connections that live for a moment, so that a viewer neither
hinders the writer nor keeps it from closing in order. What was read once is kept as pyramids; the
rows stay on disk and are read again where a viewport is narrow.

Rows downloaded from an instrument replace the polled ones of their step, as in `Record.samples`.
They come after the rows of later steps, so a view that meets them reads the samples anew, puts
them in order of step and time, and says that what was drawn is to be drawn again.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from operando.instruments.errors import RecordError
from operando.instruments.recorder import JSON, Entry
from operando.records import schema
from operando.records.loops import HalfLoop, LoopRows, Loops, uncounted
from operando.records.pyramid import READINGS_PER_BIN, Curve, Pyramid, Read, Span
from operando.records.reader import (
    VALID,
    Columns,
    Gap,
    Record,
    _arrays,
    in_order_of_time,
    last_value,
)

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

OF_SAMPLES: Final = ("voltage", "current", "charge", "step_charge")
"""Quantities of the samples that a view has curves of, as the fields of `Sample`."""
CHUNK: Final = 32_768
"""Rows read by one connection: a recorder that closes waits 0.1 s for viewers to let go."""
MANY: Final = 20_000
"""New readings above which an update no longer hands them out one by one."""
MAX_AGE: Final = 60.0
"""Age in s up to which a reading of another instrument is joined to a sample."""
USUAL_INTERVAL: Final = 1.0
"""Poll interval in s of a record that does not state its own."""

_COLUMN = {"record_index": "record_index"} | {
    name: column for name, (column, _) in schema.SAMPLE_COLUMNS.items()
}
_VALID = f"status IN ({', '.join(repr(status) for status in sorted(VALID))})"
_AUX_VALUE = f"CASE WHEN {_VALID} THEN value END"
# What is drawn of a sample. Charge is counted and not read: it stays valid.
_DRAWN = _COLUMN | {
    name: f"CASE WHEN {_VALID} THEN {_COLUMN[name]} END" for name in ("voltage", "current")
}
_SIGNED_STEP = "CASE origin WHEN 'instrument' THEN -step_count ELSE step_count END"


class Latest(NamedTuple):
    """The newest reading of a quantity. time: s. value: SI, NaN if it was not valid."""

    time: float
    value: float
    status: str


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """What an update found.

    count: samples that were committed since the update before. newest: latest stamp of the record,
    s; NaN while there is none. quantities: by name, times in s and values in SI of the readings
    since the update before, in order of time; NaN where a line must break.
    complete: whether they may be appended to what was drawn. False: there were too many, or
    something came in before the end (downloaded rows, a late gap or stamp); ask for curves again.
    """

    count: int
    newest: float
    quantities: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    complete: bool = True


class RecordView:
    """Follows one record. folder: need not hold a record yet.

    Nothing is read before the first `update`. Belongs to one thread at a time. Every call raises
    RecordError if the record cannot be read.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._record: Record | None = None
        self._seen = _Seen(0, 0, 0)
        # Position to record_index once downloaded rows replaced others; till then they are equal.
        self._order: Integers | None = None
        self._replaced: set[int] = set()
        self._rows = 0
        self._pyramids: dict[str, Pyramid] = {}
        self._sources: dict[str, tuple[str, str]] = {}
        self._latest: dict[str, Latest] = {}
        self._loops = Loops()
        self._kinds: dict[int, str] = {}
        self._gaps: list[Gap] = []
        self._new: dict[str, list[tuple[Floats, Floats]]] = {}
        self._complete = True
        self._asked: tuple[str, ...] = OF_SAMPLES
        self._again: dict[tuple[Span, ...], Floats] = {}

    # What there is

    @property
    def rows(self) -> int:
        """Samples that were seen, without those that downloaded ones replaced."""
        return self._rows

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what was read so far.

        "pressure" is that of the source that was seen first, "pressure@lc2" that of another.
        """
        return tuple(self._pyramids)

    @property
    def latest(self) -> Mapping[str, Latest]:
        """The newest reading of each quantity."""
        return MappingProxyType(self._latest)

    @property
    def start(self) -> float:
        """Time of the first reading, s; NaN if there is none."""
        return min((p.start for p in self._pyramids.values() if len(p)), default=math.nan)

    @property
    def end(self) -> float:
        """Time of the last reading, s; NaN if there is none."""
        return max((p.end for p in self._pyramids.values() if len(p)), default=math.nan)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Times in which nothing was observed, in order."""
        return tuple(self._gaps)

    # Following

    def update(self) -> Fresh:
        """Read what was committed since the last time."""
        record = self._opened()
        if record is None:
            return Fresh(0, math.nan)
        ends = {name: pyramid.end for name, pyramid in self._pyramids.items()}
        before, known = self._seen, len(self._gaps)
        more = True
        try:
            while more:
                with record._connection() as connection:
                    more = self._take(connection)
                if sum(len(time) for parts in self._new.values() for time, _ in parts) > MANY:
                    self._new, self._complete = {}, False
        except RecordError:
            self._new, self._complete = {}, False
            raise
        self._gaps, late = sorted(self._gaps, key=_middle), self._gaps[known:]
        if late and min(map(_middle, late)) < max(ends.values(), default=-math.inf):
            self._complete = False
        quantities = {name: self._handed_out(name, ends.get(name, math.nan)) for name in self._new}
        complete, self._new, self._complete = self._complete, {}, True
        return Fresh(self._seen.sample - before.sample, self.end, quantities, complete)

    def curves(
        self,
        quantities: Iterable[str],
        start: float | None = None,
        end: float | None = None,
        bins: int = 1200,
    ) -> dict[str, Curve]:
        """Quantities against time on a plot of `bins` pixels, see `Pyramid.curve`.

        start, end: s; None is the end of the record. Lines break (NaN) over gaps. A quantity that
        was not read so far has an empty curve. Raises ValueError if start lies after end.
        """
        names = tuple(quantities)
        low, high = _limits(start, end)
        self._asked = tuple(name for name in OF_SAMPLES if name in names)
        found = {}
        try:
            for name in names:
                if name in self._pyramids:
                    time, value, exact = self._pyramids[name].curve(low, high, bins)
                    found[name] = Curve(*with_breaks(time, value, self._gaps), exact)
                else:
                    found[name] = Curve(np.empty(0), np.empty(0), True)
        finally:
            self._again.clear()
        return found

    def loops(self, points: int = 1000) -> list[HalfLoop]:
        """Voltage against charge, half cycle by half cycle, in order of their start.

        points: rows of each that are kept at most. Finished half cycles are read once, of the
        newest one only the new rows.
        """
        record = self._opened()
        if record is None or not self._rows:
            return []
        if self._loops.counted:
            return self._loops.half_cycles(self, self._kinds, self._gaps, points)
        names = ("time", "voltage", "current", "charge", "energy", "step_count", "cycle")
        samples = record.samples(columns=[*names, "regulation"])
        return uncounted(samples, self._kinds, self._gaps, points)

    def rows_between(self, start: float | None = None, end: float | None = None) -> Columns:
        """All columns of the samples of a stretch, as `Record.samples`, for an export.

        start, end: s, both included; None is the end of the record. Quantities of other
        instruments are joined by name: the last valid value at most 60 s old, else NaN.
        """
        low, high = _limits(start, end)
        names = tuple(_COLUMN)
        parts = [_arrays(names, (), schema.SAMPLE_COLUMNS)]
        if "voltage" in self._pyramids:
            first, stop = self._pyramids["voltage"].span(low, high)
            for begin in range(first, stop, CHUNK):
                spans = self._spans([(begin, min(begin + CHUNK, stop))])
                rows = [row for span in spans for row in self._select(names, span)]
                part = _arrays(names, rows, schema.SAMPLE_COLUMNS)
                inside = (part["time"] >= low) & (part["time"] <= high)
                parts.append({name: values[inside] for name, values in part.items()})
        found = in_order_of_time(
            {name: np.concatenate([part[name] for part in parts]) for name in names}
        )
        for name in self._sources:
            found[name] = self._joined(name, found["time"])
        return found

    # Where loops read rows again

    def loop_rows(self, first: int, stop: int) -> LoopRows:
        """Rows first <= position < stop."""
        return LoopRows(*self._samples_at(("time", "charge", "voltage"), [(first, stop)]))

    def cycles_of(self, positions: Sequence[int]) -> list[int]:
        """Cycles of the rows at some positions."""
        spans = [(position, position + 1) for position in positions]
        return [int(cycle) for cycle in self._samples_at(("cycle",), spans)[0]] if spans else []

    def driven(self, spans: Sequence[Span]) -> list[bool]:
        """Whether any row of first <= position < stop was not at open circuit, span by span."""
        query = (
            "SELECT 1 FROM samples WHERE record_index BETWEEN ? AND ? AND regulation != 'open' "
            "LIMIT 1"
        )
        with self._known()._connection() as connection:
            return [
                any(connection.execute(query, part).fetchone() for part in self._spans([span]))
                for span in spans
            ]

    # Below: reading what is new

    def _opened(self) -> Record | None:
        if self._record is None:
            files = schema.MANIFEST, schema.DATABASE  # the manifest is written last
            if all((self.folder / name).is_file() for name in files):
                self._record = Record.open(self.folder)
        return self._record

    def _known(self) -> Record:
        record = self._opened()
        assert record is not None
        return record

    def _take(self, connection: sqlite3.Connection) -> bool:
        """Read a chunk; returns whether there is more."""
        newest = _Seen(
            *connection.execute(
                "SELECT IFNULL((SELECT MAX(record_index) FROM samples), 0), "
                "IFNULL((SELECT MAX(aux_index) FROM aux), 0), "
                "IFNULL((SELECT MAX(seq) FROM journal), 0)"
            ).fetchone()
        )
        # What was read is noted at once: a failure further down must not have it read twice.
        if newest.sample > self._seen.sample:
            stop = min(newest.sample, self._seen.sample + CHUNK)
            self._take_samples(connection, stop, newest.sample)
        if newest.aux > self._seen.aux:
            self._take_aux(connection, min(newest.aux, self._seen.aux + CHUNK))
        more = self._seen.sample < newest.sample or self._seen.aux < newest.aux
        # After the rows: a gap is committed before the rows that follow it.
        if not more and newest.entry > self._seen.entry:
            self._take_journal(connection)
        return more

    def _take_samples(self, connection: sqlite3.Connection, stop: int, newest: int) -> None:
        """Read samples up to `stop`, or all up to `newest` if there are downloaded ones."""
        rows, steps, time, values = self._read_samples(connection, (self._seen.sample + 1, stop))
        if np.any(steps < 0):
            self._start_again(connection, newest)
            return
        status = _status(connection, "samples", int(rows[-1])) if len(rows) else ""
        self._seen = self._seen._replace(sample=stop)
        if len(rows) and self._order is not None:
            self._order = np.append(self._order, rows)
            rows = np.arange(len(self._order) - len(rows), len(self._order))
        if len(rows):
            self._add(rows, steps, time, values, status)

    def _read_samples(
        self, connection: sqlite3.Connection, span: Span
    ) -> tuple[Integers, Integers, Floats, Floats]:
        """Samples with first <= record_index <= last: index, step, time, and `OF_SAMPLES`.

        The step of a downloaded row is negative: to ask for them apart would cost a tenth more.
        """
        names = ["time", *OF_SAMPLES, "step_count"]
        where = "record_index BETWEEN ? AND ?"
        if self._replaced:
            names.append("record_index")
            steps = ", ".join(map(str, sorted(self._replaced)))
            where += f" AND NOT (origin = 'poll' AND step_count IN ({steps}))"
        drawn = _DRAWN | {"step_count": _SIGNED_STEP}
        columns = ", ".join(drawn[name] for name in names)
        query = f"SELECT {columns} FROM samples WHERE {where} ORDER BY record_index"
        found = _numbers(connection, query, span, len(names))
        if self._replaced:
            rows = found[-1].astype(np.int64)
        else:
            self._check_all(span, found)
            rows = np.arange(span[0], span[1] + 1)
        width = 1 + len(OF_SAMPLES)
        return rows, found[width].astype(np.int64), found[0], found[1:width]

    def _check_all(self, span: Span, found: Floats) -> None:
        if found.shape[1] != span[1] + 1 - span[0]:
            raise RecordError(
                f"{self.folder}: expected rows {span[0]} to {span[1]}, found {found.shape[1]}. "
                "Rows were removed: verify the record."
            )

    def _start_again(self, connection: sqlite3.Connection, newest: int) -> None:
        """Read all samples anew: downloaded ones replace polled ones of the same step."""
        steps = connection.execute(
            "SELECT DISTINCT step_count FROM samples WHERE origin = 'instrument' "
            "AND record_index <= ?",
            (newest,),
        )
        self._replaced = {int(step) for (step,) in steps}
        parts = []
        for first in range(1, newest + 1, CHUNK):
            with self._known()._connection() as another:
                span = first, min(first + CHUNK - 1, newest)
                parts.append(self._read_samples(another, span))
        order, step, time = (np.concatenate([part[n] for part in parts]) for n in range(3))
        values = np.concatenate([part[3] for part in parts], axis=1)
        step = np.abs(step)
        sorting = np.lexsort((time, step))
        status = _status(connection, "samples", int(order[sorting[-1]]))
        self._seen = self._seen._replace(sample=newest)
        self._order, self._rows, self._loops = order[sorting], 0, Loops()
        self._new, self._complete = {}, False
        for name in OF_SAMPLES:
            self._pyramids[name] = Pyramid(self._reader(name), self._width())
        rows = np.arange(len(order))
        self._add(rows, step[sorting], time[sorting], values[:, sorting], status)

    def _add(
        self, rows: Integers, steps: Integers, time: Floats, values: Floats, status: str
    ) -> None:
        """Append samples at these positions. status: of the last."""
        for name, value in zip(OF_SAMPLES, values, strict=True):
            self._append(name, rows, time, value, status)
        self._loops.add(int(rows[0]), steps, values[OF_SAMPLES.index("charge")])
        self._rows += len(rows)

    def _take_aux(self, connection: sqlite3.Connection, stop: int) -> None:
        span = self._seen.aux + 1, stop
        which, time, value = self._read_aux(connection, span)
        if np.isnan(which).any():
            query = (
                "SELECT source, quantity FROM aux WHERE aux_index BETWEEN ? AND ? "
                "GROUP BY source, quantity ORDER BY MIN(aux_index)"
            )
            for source, quantity in connection.execute(query, span).fetchall():
                self._name(str(source), str(quantity))
            which, time, value = self._read_aux(connection, span)
        found = {name: np.flatnonzero(which == n) for n, name in enumerate(self._sources)}
        found = {name: positions for name, positions in found.items() if len(positions)}
        statuses = {
            name: _status(connection, "aux", span[0] + int(positions[-1]))
            for name, positions in found.items()
        }
        self._seen = self._seen._replace(aux=stop)
        for name, at in found.items():
            self._append(name, span[0] + at, time[at], value[at], statuses[name])

    def _read_aux(self, connection: sqlite3.Connection, span: Span) -> Floats:
        """Number in `_sources` (NaN if it is not there yet), time and value of each reading."""
        known = "".join(
            f"WHEN source = ? AND quantity = ? THEN {n} " for n in range(len(self._sources))
        )
        query = (
            f"SELECT {f'CASE {known}END' if known else 'NULL'}, test_time_second, {_AUX_VALUE} "
            "FROM aux WHERE aux_index BETWEEN ? AND ? ORDER BY aux_index"
        )
        found = _numbers(connection, query, (*chain(*self._sources.values()), *span), 3)
        self._check_all(span, found)
        return found

    def _name(self, source: str, quantity: str) -> None:
        if (source, quantity) not in self._sources.values():
            taken = quantity in (*OF_SAMPLES, *self._sources)
            self._sources[f"{quantity}@{source}" if taken else quantity] = source, quantity

    def _append(self, name: str, rows: Integers, time: Floats, value: Floats, status: str) -> None:
        if name not in self._pyramids:
            self._pyramids[name] = Pyramid(self._reader(name), self._width())
        self._pyramids[name].append(rows, time, value)
        self._latest[name] = Latest(float(time[-1]), float(value[-1]), status)
        if self._complete:
            self._new.setdefault(name, []).append((time, value))

    def _width(self) -> float:
        interval = self._known().manifest.get("poll_interval")
        if not (isinstance(interval, (int, float)) and 0.0 < interval < math.inf):
            interval = USUAL_INTERVAL
        return READINGS_PER_BIN * float(interval)

    def _take_journal(self, connection: sqlite3.Connection) -> None:
        query = (
            "SELECT seq, kind, data FROM journal WHERE seq > ? AND kind IN (?, ?) "
            "UNION ALL SELECT MAX(seq), '', '{}' FROM journal"
        )
        kinds = Entry.STEP_STARTED.value, Entry.GAP.value
        entries = connection.execute(query, (self._seen.entry, *kinds)).fetchall()
        for seq, kind, text in entries:
            try:
                data = json.loads(text)
            except ValueError as error:
                raise RecordError(
                    f"{self.folder}: journal entry {seq} cannot be read ({error}). "
                    "Verify the record: it is damaged."
                ) from error
            if kind == Entry.GAP.value:
                start, end, bound = (_number(data.get(k)) for k in ("start", "end", "charge_bound"))
                self._gaps.append(Gap(start, end, str(data.get("reason", "")), bound))
            elif kind and isinstance(index := data.get("index"), int):
                self._kinds[index] = str(data.get("kind", ""))
            self._seen = self._seen._replace(entry=seq)

    def _handed_out(self, name: str, end: float) -> tuple[Floats, Floats]:
        """New readings in order of time, with breaks. end: s, of the readings before."""
        time, value = (np.concatenate(columns) for columns in zip(*self._new[name], strict=True))
        if (time[1:] < time[:-1]).any():
            order = np.argsort(time, kind="stable")
            time, value = time[order], value[order]
        if math.isnan(end):
            return with_breaks(time, value, self._gaps)
        if time[0] < end:
            self._complete = False
        # The reading before, so that a gap between it and the first new one is seen.
        times, values = np.append(end, time), np.append(np.nan, value)
        times, values = with_breaks(times, values, [g for g in self._gaps if _middle(g) > end])
        return times[1:], values[1:]

    # Below: reading stored rows again

    def _reader(self, name: str) -> Read:
        if name in OF_SAMPLES:
            return lambda spans: self._sample_curve(name, spans)
        return lambda spans: self._aux_curve(name, spans)

    def _sample_curve(self, name: str, spans: Sequence[Span]) -> tuple[Floats, Floats]:
        # Curves of one viewport ask for the same rows: they are read once for all of them.
        if (key := tuple(spans)) not in self._again:
            self._again[key] = self._samples_at(("time", *self._asked), spans)
        found = self._again[key]
        return found[0], found[1 + self._asked.index(name)]

    def _aux_curve(self, name: str, spans: Sequence[Span]) -> tuple[Floats, Floats]:
        query = (
            f"SELECT test_time_second, {_AUX_VALUE} FROM aux WHERE aux_index BETWEEN ? AND ? "
            "AND source = ? AND quantity = ? ORDER BY aux_index"
        )
        with self._known()._connection() as connection:
            parts = [
                _numbers(connection, query, (first, stop - 1, *self._sources[name]), 2)
                for first, stop in spans
            ]
        time, value = np.concatenate(parts, axis=1)
        return time, value

    def _samples_at(self, names: Sequence[str], spans: Sequence[Span]) -> Floats:
        """What is drawn of the samples at spans of positions, a column a row."""
        columns = ", ".join(_DRAWN[name] for name in names)
        query = (
            f"SELECT {columns} FROM samples WHERE record_index BETWEEN ? AND ? "
            "ORDER BY record_index"
        )
        with self._known()._connection() as connection:
            parts = [_numbers(connection, query, span, len(names)) for span in self._spans(spans)]
        return np.concatenate(parts, axis=1)

    def _select(self, names: Sequence[str], span: Span) -> list[tuple[object, ...]]:
        columns = ", ".join(_COLUMN[name] for name in names)
        query = f"SELECT {columns} FROM samples WHERE record_index BETWEEN ? AND ?"
        return self._known().rows(f"{query} ORDER BY record_index", span)

    def _spans(self, spans: Sequence[Span]) -> list[Span]:
        """First and last record_index of the stretches that make up spans of positions."""
        if self._order is None:
            return [(first, stop - 1) for first, stop in spans]
        found = []
        for first, stop in spans:
            index = self._order[first:stop]
            cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
            found += [(int(index[a]), int(index[b - 1])) for a, b in pairwise(cuts) if b > a]
        return found

    def _joined(self, name: str, at: Floats) -> Floats:
        if len(at) == 0:
            return np.empty(0)
        low, high = float(np.min(at)) - MAX_AGE, float(np.max(at))
        time, value = self._aux_curve(name, [self._pyramids[name].span(low, high)])
        order = np.argsort(time, kind="stable")
        return last_value(at, time[order], value[order], MAX_AGE)


class _Seen(NamedTuple):
    """The last that was read of each table."""

    sample: int
    aux: int
    entry: int


def with_breaks(time: Floats, value: Floats, gaps: Iterable[Gap]) -> tuple[Floats, Floats]:
    """The same with a NaN between the points on either side of a gap. time: ascending, s."""
    middles = np.array([_middle(gap) for gap in gaps])
    middles = middles[np.isfinite(middles)]
    if len(middles) == 0 or len(time) == 0:
        return time, value
    cuts, which = np.unique(np.searchsorted(time, middles), return_index=True)
    inside = (cuts > 0) & (cuts < len(time))
    cuts, middles = cuts[inside], middles[which[inside]]
    return np.insert(time, cuts, middles), np.insert(value, cuts, np.nan)


def _middle(gap: Gap) -> float:
    return 0.5 * (gap.start + gap.end)


def _limits(start: float | None, end: float | None) -> tuple[float, float]:
    return -math.inf if start is None else start, math.inf if end is None else end


def _status(connection: sqlite3.Connection, table: str, row: int) -> str:
    (status,) = connection.execute(f"SELECT status FROM {table} WHERE rowid = ?", (row,)).fetchone()
    return str(status)


def _numbers(
    connection: sqlite3.Connection, query: str, values: Iterable[object], width: int
) -> Floats:
    """What a query gives as numbers, a column a row; NULL is NaN."""
    values = tuple(values)
    try:
        # A few times as fast as making arrays of rows, but it cannot take a NULL.
        flat = np.fromiter(chain.from_iterable(connection.execute(query, values)), np.float64)
    except TypeError:
        flat = np.array(connection.execute(query, values).fetchall(), dtype=np.float64)
    return np.ascontiguousarray(flat.reshape(-1, width).T)


def _number(value: JSON) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
