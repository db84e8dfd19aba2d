"""Reading a record: while it is written, after it was closed, after its writer was killed.

Nothing is ever written here. Each question opens the database, asks once and closes it again, so a
reader never stands in the writer's way and may live in any thread.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from operando.instruments.errors import RecordError
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import Status
from operando.records import schema
from operando.records.files import is_locked

Columns: TypeAlias = dict[str, npt.NDArray[Any]]
"""Arrays of equal length by the name of their quantity."""

State = Literal[
    "running", "completed", "tripped", "aborted", "faulted", "held", "refused", "killed"
]

VALID = frozenset({Status.OK.value, Status.UNSTABLE.value})
"""Statuses whose value may be used; an unstable one is valid but moving."""

_NO_DATA: Mapping[str, JSON] = {}


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry of the journal.

    seq: from 1. time: s of laboratory time since the start of the run. unix_time: s, UTC.
    data: what `Entry` says for the kind. samples, aux: rows that were committed before it.
    hash: link of the chain, hexadecimal.
    """

    seq: int
    time: float
    unix_time: float
    entry: Entry
    data: Mapping[str, JSON]
    samples: int
    aux: int
    hash: str


INTERRUPTIONS = frozenset({"tripped", "aborted", "faulted"})
"""Ends of a run that cut a step short."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step as it was asked for and as it ended.

    index: running number, as `step_count` of the samples. step_id: place in the program.
    cycle: from 1. label, kind: the protocol's word and the class of step. start, end: s; `end` is
    NaN and `reason` None while the step has no outcome. reason: "condition", "cut-off", "operator",
    or how the run ended that cut it short, see `INTERRUPTIONS`. condition: what ended it.
    duration: s, pauses excluded. charge: net, C. energy: net, J. NaN where not known.
    hash: of the step as asked. step: its fields.
    """

    index: int
    step_id: int
    cycle: int
    label: str
    kind: str
    start: float
    end: float
    reason: str | None
    condition: str | None
    duration: float
    charge: float
    energy: float
    hash: str
    step: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it came to an end of its own: its outcome is there, and nothing cut it short."""
        return self.reason is not None and self.reason not in INTERRUPTIONS


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One impedance spectrum, in the order of measuring.

    index: running number, from 1. time: s of its first point. step, cycle: as in `Step`. times: s
    at which each point was complete. frequency: Hz. real, imaginary: ohm, capacitive is negative.
    voltage, current: held meanwhile, V and A, NaN where not told. status: texts.
    """

    index: int
    step: int
    cycle: int
    times: npt.NDArray[np.float64]
    frequency: npt.NDArray[np.float64]
    real: npt.NDArray[np.float64]
    imaginary: npt.NDArray[np.float64]
    voltage: npt.NDArray[np.float64]
    current: npt.NDArray[np.float64]
    status: npt.NDArray[np.str_]

    @property
    def time(self) -> float:
        """s of the run at which its first point was complete."""
        return float(self.times[0])

    @property
    def impedance(self) -> npt.NDArray[np.complex128]:
        """Complex impedance, ohm."""
        return self.real + 1j * self.imaginary


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which nothing was observed.

    start, end: s. charge_bound: magnitude of the charge that may have passed, C, NaN if unknown.
    """

    start: float
    end: float
    reason: str
    charge_bound: float


@dataclass(frozen=True, slots=True)
class LimitEvent:
    """A limit that acted. time: s. when: its condition. value: SI units, NaN if none was known."""

    name: str
    time: float
    when: str
    action: str
    value: float


class Record:
    """What a run left on disk. Make one with `Record.open`.

    folder: where it lies. manifest: what was known before the run.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, JSON]) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: Path | str) -> Record:
        """Open a record for reading.

        Raises RecordError if the folder holds none, or one that this version cannot read.
        """
        folder = Path(folder)
        record = cls(folder, read_manifest(folder))
        if not (folder / schema.DATABASE).is_file():
            raise RecordError(
                f"{folder}: there is no {schema.DATABASE}. The folder is not a record, or its run "
                "ended before anything was written."
            )
        (version,) = record.rows("PRAGMA user_version")[0]
        if version != schema.SCHEMA_VERSION:
            raise RecordError(
                f"{folder / schema.DATABASE}: expected schema {schema.SCHEMA_VERSION}, found "
                f"{version}. Read it with the version of operando that wrote it."
            )
        return record

    def __repr__(self) -> str:
        return f"Record({str(self.folder)!r})"

    # What the run was

    @property
    def run_id(self) -> str:
        """Identifier of the run; the folder's name if the manifest has none."""
        return str(self.manifest.get("run_id", self.folder.name))

    @property
    def simulated(self) -> bool:
        """Whether any of the data came from simulated instruments.

        True when the manifest does not say: unmarked data are not taken for measurements.
        """
        return self.manifest.get("simulated") is not False

    @property
    def cell(self) -> Mapping[str, JSON]:
        """The cell under test: name, capacity (C), active_mass (kg), area (m2), metadata."""
        cell = self.manifest.get("cell")
        return cell if isinstance(cell, dict) else _NO_DATA

    def of_cell(self, quantity: str) -> float:
        """A number of the cell, such as "active_mass" (kg); NaN if the manifest has none."""
        return _number(self.cell.get(quantity))

    @property
    def cell_name(self) -> str:
        """Name of the cell; the folder's name if the manifest has none."""
        return str(self.cell.get("name") or self.folder.name)

    @property
    def state(self) -> State:
        """How the run ended; "running" while its writer lives, "killed" if it died silently."""
        # The lock first: a writer that ends between the two looks has left its outcome by then.
        writing = is_locked(self.folder / schema.LOCK)
        ends = self.journal(Entry.RUN_ENDED)
        if ends:
            state = ends[-1].data.get("state")
            return cast(State, state) if state in get_args(State) else "faulted"
        return "running" if writing else "killed"

    @property
    def closed(self) -> bool:
        """Whether the writer finished in order and left checksums."""
        return (self.folder / schema.CHECKSUMS).is_file()

    # What it recorded

    def samples(
        self,
        *,
        step: int | None = None,
        cycle: int | None = None,
        columns: Sequence[str] | None = None,
        as_written: bool = False,
    ) -> Columns:
        """The samples as arrays, one per field of `Sample`, plus `record_index` (from 1).

        Units as in `Sample`; regulation, status and origin are their texts ("voltage", "ok",
        "poll"). step, cycle: only those rows. columns: only those fields.
        Where a step's rows were downloaded from the instrument they replace the polled ones, and
        rows are in order of step and time; as_written gives every row, in the order of writing.
        """
        names = list(columns or ("record_index", *schema.SAMPLE_COLUMNS))
        unknown = set(names) - set(schema.SAMPLE_COLUMNS) - {"record_index"}
        if unknown:
            raise ValueError(f"samples have no {', '.join(sorted(unknown))}")
        names = list(dict.fromkeys(["time", "step_count", *names]))
        where, values = ["1"], []
        for value, column in ((step, "step_count"), (cycle, "cycle_count")):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if not as_written:
            where.append(
                "NOT (origin = 'poll' AND step_count IN "
                "(SELECT DISTINCT step_count FROM samples WHERE origin = 'instrument'))"
            )
        fields = ", ".join(
            name if name == "record_index" else schema.SAMPLE_COLUMNS[name][0] for name in names
        )
        rows = self.rows(
            f"SELECT {fields} FROM samples WHERE {' AND '.join(where)} ORDER BY record_index",
            values,
        )
        found = _arrays(names, rows, schema.SAMPLE_COLUMNS)
        if not as_written:
            found = in_order_of_time(found)
        if columns is not None:
            return {name: found[name] for name in columns}
        return found

    def quantities(self) -> tuple[tuple[str, str], ...]:
        """Sources and quantities of the other readings, as pairs, sorted."""
        rows = self.rows("SELECT DISTINCT source, quantity FROM aux ORDER BY source, quantity")
        return tuple((str(source), str(quantity)) for source, quantity in rows)

    def aux(self, quantity: str | None = None, *, source: str | None = None) -> Columns:
        """Readings of other instruments, as arrays: source, quantity, time, uncertainty (s),
        value (SI), status (text).

        In order of time, or in the order of writing if neither quantity nor source is given.
        """
        where, values = ["1"], []
        for value, column in ((quantity, "quantity"), (source, "source")):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        names = list(schema.AUX_COLUMNS)
        fields = ", ".join(column for column, _ in schema.AUX_COLUMNS.values())
        rows = self.rows(
            f"SELECT {fields} FROM aux WHERE {' AND '.join(where)} ORDER BY aux_index", values
        )
        found = _arrays(names, rows, schema.AUX_COLUMNS)
        return found if quantity is None and source is None else in_order_of_time(found)

    def joined(
        self,
        quantity: str,
        max_age: float,
        *,
        source: str | None = None,
        times: npt.NDArray[np.float64] | None = None,
    ) -> npt.NDArray[np.float64]:
        """The quantity's last value at the time of each sample (or at `times`), SI units.

        max_age: s; NaN where the last reading is older, or was not valid.
        Raises RecordError if several sources measured it and none is chosen.
        """
        source = self.source_of(quantity, source)
        at = self.samples(columns=["time"])["time"] if times is None else times
        readings = self.aux(quantity, source=source)
        return last_value(at, readings["time"], usable_values(readings), max_age)

    def source_of(self, quantity: str, source: str | None = None) -> str | None:
        """The one source of a quantity, None if nothing measured it.

        Raises RecordError if several did and `source` does not choose.
        """
        if source is not None:
            return source
        sources = [name for name, what in self.quantities() if what == quantity]
        if len(sources) > 1:
            raise RecordError(
                f"{self.folder}: {quantity} was measured by {', '.join(sources)}. "
                "Choose one of them as the source."
            )
        return sources[0] if sources else None

    # What it did

    def journal(self, *kinds: Entry) -> list[JournalEntry]:
        """Entries of the journal in order; only those kinds if any are given."""
        where = ", ".join("?" * len(kinds)) if kinds else "kind"
        rows = self.rows(
            "SELECT seq, test_time_second, unix_time_second, kind, data, samples, aux, hash "
            f"FROM journal WHERE kind IN ({where}) ORDER BY seq",
            [kind.value for kind in kinds],
        )
        entries = []
        for seq, time, unix_time, kind, data, samples, aux, link in rows:
            try:
                entry, content = Entry(kind), json.loads(data)
            except ValueError as error:
                raise RecordError(
                    f"{self.folder}: journal entry {seq} cannot be read ({error}). "
                    "Verify the record: it is damaged."
                ) from error
            numbers = _number(time), _number(unix_time)
            entries.append(JournalEntry(seq, *numbers, entry, content, samples, aux, link))
        return entries

    def steps(self) -> list[Step]:
        """The steps in order of their start, with their outcomes."""
        started: dict[int, JournalEntry] = {}
        ended: dict[int, JournalEntry] = {}
        for entry in self.journal(Entry.STEP_STARTED, Entry.STEP_ENDED):
            which = started if entry.entry is Entry.STEP_STARTED else ended
            index = _integer(entry.data.get("index"))
            # A step that is resumed after a restart keeps its first start and its last outcome.
            if which is ended or index not in started:
                which[index] = entry
        return [_step(index, entry, ended.get(index)) for index, entry in started.items()]

    def spectra(self) -> list[Spectrum]:
        """The impedance spectra in order, those that were not finished too."""
        rows = self.rows(
            "SELECT spectrum_index, step_count, cycle_count, test_time_second, frequency_hertz, "
            "real_impedance_ohm, imaginary_impedance_ohm, voltage_volt, current_ampere, status "
            "FROM spectra ORDER BY spectrum_index, point_index"
        )
        found = []
        for index, group in groupby(rows, key=itemgetter(0)):
            points = list(group)
            _, steps, cycles, *columns, statuses = zip(*points, strict=True)
            at, frequency, real, imaginary, voltage, current = np.array(columns, dtype=np.float64)
            status = np.array(statuses, dtype=np.str_)
            found.append(
                Spectrum(
                    int(index), steps[0], cycles[0], at, frequency, real, imaginary, voltage,
                    current, status,
                )
            )  # fmt: skip
        return found

    def gaps(self) -> list[Gap]:
        """Times in which nothing was observed, in order."""
        found = []
        for entry in self.journal(Entry.GAP):
            data = entry.data
            start, end = _number(data.get("start")), _number(data.get("end"))
            bound = _number(data.get("charge_bound"))
            found.append(Gap(start, end, str(data.get("reason", "")), bound))
        return sorted(found, key=lambda gap: gap.start)

    @property
    def limits(self) -> list[LimitEvent]:
        """Limits that acted, in order."""
        return [
            LimitEvent(
                str(entry.data.get("name", "")),
                entry.time,
                str(entry.data.get("when", "")),
                str(entry.data.get("action", "")),
                _number(entry.data.get("value")),
            )
            for entry in self.journal(Entry.LIMIT)
        ]

    # The database

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows that a query gives. Raises RecordError if the database cannot be read."""
        with self._connection() as connection:
            return connection.execute(query, tuple(values)).fetchall()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        path = self.folder / schema.DATABASE
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?{self._mode()}", uri=True)
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise RecordError(
                f"{path}: the database cannot be read: {error}. If it is damaged, `verify` says "
                "where; if its folder cannot be written to, copy the folder and read the copy."
            ) from error

    def _mode(self) -> str:
        # A closed record without a log can be read where nothing may be written, not even a lock.
        log = self.folder / f"{schema.DATABASE}-wal"
        if self.closed and not (log.exists() and log.stat().st_size):
            return "mode=ro&immutable=1"
        return "mode=ro"


def read_manifest(folder: Path) -> dict[str, JSON]:
    """The manifest of a record. Raises RecordError if it is missing or damaged."""
    path = folder / schema.MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        hint = "It is not a record."
        if (folder / schema.DATABASE).is_file():
            # The manifest is written last, before the first row is taken.
            hint = (
                f"There is a {schema.DATABASE}: its writer died while it made the record, or the "
                "manifest was removed. `verify` says whether anything was recorded."
            )
        raise RecordError(f"{folder}: there is no {schema.MANIFEST}. {hint}") from error
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: the manifest cannot be read: {error}.") from error
    if not isinstance(manifest, dict):
        raise RecordError(f"{path}: expected a JSON object, found {type(manifest).__name__}.")
    return manifest


def find_records(root: Path | str) -> list[Path]:
    """Folders of records at or below `root`, sorted by path."""
    root = Path(root)
    folders = {path.parent for path in root.rglob(schema.MANIFEST)}
    return sorted(folder for folder in folders if (folder / schema.DATABASE).is_file())


def usable_values(readings: Columns) -> npt.NDArray[np.float64]:
    """Values of readings, NaN where the status says that they cannot be used."""
    valid = np.isin(readings["status"], list(VALID))
    return np.where(valid, readings["value"], np.nan)


def last_value(
    at: npt.NDArray[np.float64],
    times: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    max_age: float,
) -> npt.NDArray[np.float64]:
    """The value of the last of `times` (ascending) not after each time in `at`.

    max_age: s; NaN where there is none, or it is older.
    """
    joined = np.full(len(at), np.nan)
    if len(times) == 0:
        return joined
    last = np.searchsorted(times, at, side="right") - 1
    found = (last >= 0) & np.isfinite(at)
    found[found] = at[found] - times[last[found]] <= max_age
    joined[found] = values[last[found]]
    return joined


def in_order_of_time(columns: Columns) -> Columns:
    """The same columns, stably sorted by step, if they have one, and time."""
    keys = [columns[name] for name in ("time", "step_count") if name in columns]
    # Of two rows at a step's end and the next one's start the stamps alone may not say which is
    # first: they differ by rounding.
    order = np.lexsort(keys)
    if np.array_equal(order, np.arange(len(order))):
        return columns
    return {name: values[order] for name, values in columns.items()}


def _arrays(
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    columns: Mapping[str, tuple[str, str]],
) -> Columns:
    kinds: dict[str, type] = {"REAL": np.float64, "INTEGER": np.int64, "TEXT": np.str_}
    values = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    found: Columns = {}
    for name, column in zip(names, values, strict=True):
        kind: type = kinds[columns[name][1] if name in columns else "INTEGER"]
        if kind is np.str_ and any(str(text).endswith("\0") for text in set(column)):
            kind = object  # numpy's own texts would lose the NUL at the end
        found[name] = np.array(column, dtype=kind)
    return found


def _step(index: int, start: JournalEntry, end: JournalEntry | None) -> Step:
    asked, outcome = start.data, end.data if end else _NO_DATA
    step = asked.get("step")
    condition = outcome.get("condition")
    return Step(
        index=index,
        step_id=_integer(asked.get("step_id")),
        cycle=_integer(asked.get("cycle")),
        label=str(asked.get("label", "")),
        kind=str(asked.get("kind", "")),
        start=start.time,
        end=end.time if end else float("nan"),
        reason=str(outcome.get("reason", "")) if end else None,
        condition=None if condition is None else str(condition),
        duration=_number(outcome.get("duration")),
        charge=_number(outcome.get("charge")),
        energy=_number(outcome.get("energy")),
        hash=str(asked.get("hash", "")),
        step=step if isinstance(step, dict) else {},
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _integer(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
