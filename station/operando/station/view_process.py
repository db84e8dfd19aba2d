"""The reader process: whatever viewers ask of records is read, computed and packed here.

It holds no lock and writes nothing. Answers to HTTP requests leave it as the bytes that are sent.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, TypeAdapter

from operando.instruments.errors import OperandoError, RecordError
from operando.instruments.samples import Origin
from operando.records import Record, schema
from operando.records.files import is_locked
from operando.records.reader import VALID
from operando.records.view import OF_SAMPLES, RecordView
from operando.station import details
from operando.station.client.models import CycleRow, Reading, RunSummary
from operando.station.views import MOST_NEW, Cursor, Fresh, UnknownRunError

MOST_RUNS = 64
"""Runs that are kept in memory at once."""

MOST_ROWS = 20_000_000
"""Committed rows of all runs that are kept in memory at once."""

LONGEST_NAME = 255

_Value = TypeVar("_Value")


class _Bounded(OrderedDict[str, _Value]):
    """The values that were used last, by run."""

    def find(self, run: str, make: Callable[[], _Value]) -> _Value:
        if run not in self:
            self[run] = make()
        self.move_to_end(run)
        while len(self) > MOST_RUNS:
            self.popitem(last=False)
        return self[run]


class Reader:
    """Reads the records that lie directly in the folder `output`.

    Every method raises UnknownRunError for a run that is none of them, and RecordError.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._records: _Bounded[Record] = _Bounded()
        self._tails: _Bounded[Tail] = _Bounded()
        self._views: _Bounded[RecordView] = _Bounded()
        self._cycles: dict[str, tuple[object, bytes]] = {}
        self._summaries: dict[str, tuple[object, RunSummary]] = {}

    # The live push

    def fresh(self, cursors: Mapping[str, Cursor]) -> dict[str, Fresh | str]:
        """What is new in these runs, or why it cannot be read; unknown ones are left out."""
        found: dict[str, Fresh | str] = {}
        for run, cursor in cursors.items():
            try:
                found[run] = self._tail(run).fresh(cursor)
            except UnknownRunError:
                continue
            except RecordError as error:
                found[run] = str(error)
        return found

    # Curves and tables, as they are sent

    def curves(
        self,
        run: str,
        quantities: Sequence[str],
        start: float | None,
        end: float | None,
        bins: int,
    ) -> bytes:
        """An npz with NAME/time, NAME/value and NAME/exact of each quantity that there is."""
        view = self._view(run)
        known = [name for name in quantities if name in view.quantities]
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, (time, value, exact) in view.curves(known, start, end, bins).items():
            arrays[f"{name}/time"], arrays[f"{name}/value"] = time, value
            arrays[f"{name}/exact"] = np.array(exact)
        return _npz(arrays)

    def loops(self, run: str, points: int) -> bytes:
        """An npz with N/cycle, N/charging, N/charge and N/voltage of each half cycle N."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        for number, half in enumerate(self._view(run).loops(points)):
            arrays[f"{number}/cycle"] = np.array(half.cycle)
            arrays[f"{number}/charging"] = np.array(half.charging)
            arrays[f"{number}/charge"], arrays[f"{number}/voltage"] = half.charge, half.voltage
        return _npz(arrays)

    def rows(self, run: str, start: float | None, end: float | None) -> bytes:
        """An npz of the samples as they were recorded, by column."""
        return _npz(dict(self._view(run).rows_between(start, end)))

    def cycles(self, run: str) -> bytes:
        """JSON of the cycles; computed again only when a step has ended or the run has."""
        record = self._record(run)
        ((ended,),) = record.rows("SELECT COUNT(*) FROM journal WHERE kind = 'step ended'")
        state: object = (ended, record.state)
        if run not in self._cycles or self._cycles[run][0] != state:
            rows = details.cycles_of(record)
            self._cycles[run] = state, TypeAdapter(list[CycleRow]).dump_json(rows)
        return self._cycles[run][1]

    def run(self, run: str) -> bytes:
        """JSON of a run with everything but its curves."""
        view = self._view(run)
        names = tuple(view.quantities)
        return _json(details.detail_of(self._record(run), names, view.start, view.end))

    def runs(self) -> bytes:
        """JSON of all runs, the newest first; what has not changed is not read again."""
        found: dict[str, tuple[object, RunSummary]] = {}
        for entry in os.scandir(self.output) if self.output.is_dir() else ():
            folder = Path(entry.path)
            with contextlib.suppress(OSError):
                state = _state_of(folder)
                known = self._summaries.get(entry.name)
                if known is None or known[0] != state:
                    known = state, _summary(folder)
                found[entry.name] = known
        self._summaries = found
        lines = [line for _, line in found.values()]
        newest = sorted(lines, key=lambda line: (line.made or 0.0, line.run), reverse=True)
        return TypeAdapter(list[RunSummary]).dump_json(newest)

    # ---- below -----------------------------------------------------------------------------

    def _folder(self, run: str) -> Path:
        # A run is a name in one folder, never a path.
        plain = run == Path(run).name and not run.startswith(".") and not set(run) & set("/\\:\0")
        folder = self.output / run
        if (
            not plain
            or not 0 < len(os.fsencode(run)) <= LONGEST_NAME
            or not (folder / schema.MANIFEST).is_file()
        ):
            raise UnknownRunError(f"there is no run '{run[:LONGEST_NAME]}'")
        return folder

    def _record(self, run: str) -> Record:
        folder = self._folder(run)
        return self._records.find(run, lambda: Record.open(folder))

    def _tail(self, run: str) -> Tail:
        record = self._record(run)
        return self._tails.find(run, lambda: Tail(record))

    def _view(self, run: str) -> RecordView:
        folder = self._folder(run)
        view = self._views.find(run, lambda: RecordView(folder))
        view.update()
        while len(self._views) > 1 and sum(v.rows for v in self._views.values()) > MOST_ROWS:
            self._views.popitem(last=False)
        return view


def _columns(names: Sequence[str]) -> str:
    return ", ".join(schema.SAMPLE_COLUMNS[name][0] for name in names)


_SAMPLES = (
    f"SELECT record_index, {_columns(['time', 'status', 'origin', *OF_SAMPLES])} FROM samples "
    "WHERE record_index > ? ORDER BY record_index DESC LIMIT ?"
)
_AUX = (
    "SELECT aux_index, test_time_second, status, source, quantity, value FROM aux "
    "WHERE aux_index > ? ORDER BY aux_index DESC LIMIT ?"
)
_JOURNAL = "SELECT MAX(seq), SUM(kind = 'gap') FROM journal WHERE seq > ?"
_SOURCES = "SELECT source, quantity FROM aux GROUP BY source, quantity ORDER BY MIN(aux_index)"


class Tail:
    """The newest end of a record, whatever its length; what is before it is never read."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._names: dict[tuple[str, str], str] = {}

    def fresh(self, cursor: Cursor) -> Fresh:
        """What was committed since."""
        # The lock first: a writer that ends between the two looks has committed everything by then.
        over = not is_locked(self._record.folder / schema.LOCK)
        samples = self._record.rows(_SAMPLES, (cursor.samples, MOST_NEW))[::-1]
        aux = self._record.rows(_AUX, (cursor.aux, MOST_NEW))[::-1]
        # After the rows: a gap is committed before the rows that follow it.
        ((seq, gaps),) = self._record.rows(_JOURNAL, (cursor.journal,))
        after = Cursor(
            samples[-1][0] if samples else cursor.samples,
            aux[-1][0] if aux else cursor.aux,
            seq or cursor.journal,
        )
        found: dict[str, list[tuple[float, float | None, str]]] = {}
        for _, time, status, _, *values in samples:
            for name, value in zip(OF_SAMPLES, values, strict=True):
                # Charge is counted and not read.
                usable = status in VALID or name not in ("voltage", "current")
                found.setdefault(name, []).append((time, value if usable else None, status))
        for _, time, status, source, quantity, value in aux:
            name = self._name(source, quantity)
            found.setdefault(name, []).append((time, value if status in VALID else None, status))
        readings = {
            name: (tuple(time for time, _, _ in rows), tuple(value for _, value, _ in rows))
            for name, rows in found.items()
        }
        latest = {name: Reading(value=rows[-1][1], time=rows[-1][0], status=rows[-1][2])
                  for name, rows in found.items()}  # fmt: skip
        # Lines break at a gap, and downloaded rows replace others: neither can be appended.
        skipped = (
            bool(gaps)
            or any(origin == Origin.INSTRUMENT.value for _, _, _, origin, *_ in samples)
            or after.samples - cursor.samples > len(samples)
            or after.aux - cursor.aux > len(aux)
        )
        return Fresh(after, readings, latest, skipped, over)

    def _name(self, source: str, quantity: str) -> str:
        """As `RecordView.quantities` names it: the first source of a quantity needs no mention."""
        if (source, quantity) not in self._names:
            self._names.clear()
            for where, what in self._record.rows(_SOURCES):
                taken = what in OF_SAMPLES or what in self._names.values()
                self._names[where, what] = f"{what}@{where}" if taken else what
        return self._names[source, quantity]


def _state_of(folder: Path) -> object:
    """What changes whenever the record does. Raises OSError where there is no record."""
    log = folder / f"{schema.DATABASE}-wal"
    return (
        (folder / schema.MANIFEST).stat().st_mtime_ns,
        (folder / schema.DATABASE).stat().st_mtime_ns,
        log.stat().st_mtime_ns if log.exists() else 0,
        (folder / schema.CHECKSUMS).exists(),
        is_locked(folder / schema.LOCK),
    )


def _summary(folder: Path) -> RunSummary:
    record = Record(folder, {})
    try:
        record = Record.open(folder)
        return details.summary_of(record)
    except RecordError:
        return details.unreadable(record)


def _json(model: BaseModel) -> bytes:
    return model.model_dump_json().encode()


def _npz(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    plain = {
        name: array.astype(np.str_) if array.dtype == object else array
        for name, array in arrays.items()
    }
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **plain)
    return packed.getvalue()


# The process


def serve(reader: Reader, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests in order until the station is gone."""
    while True:
        try:
            name, arguments = pickle.load(requests)
        except EOFError:
            return
        answer: tuple[bool, object]
        try:
            answer = True, getattr(reader, name)(*arguments)
        except OperandoError as error:
            answer = False, error
        except Exception as error:
            traceback.print_exc()
            answer = False, RecordError(f"reading failed: {type(error).__name__}: {error}")
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


def main() -> None:
    """Serve the station at the other end of standard input and output. Arguments: output, nice."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    if hasattr(os, "nice"):
        os.nice(int(sys.argv[2]))
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        serve(Reader(Path(sys.argv[1])), sys.stdin.buffer, answers)
    os._exit(0)  # nothing is to be flushed: whoever would read it is gone
