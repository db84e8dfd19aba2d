"""The one writer of a run's record: rows in batches, journal entries synced one by one.

Rows are appended to a list and become durable together, after 1,000 of them or 0.25 s of wall
time. A journal entry takes everything before it along and is synced to disk before it is
acknowledged, so what was decided never rests on data that a power cut could take back.

Beside an event loop a writer thread does the work and the loop never waits for a disk. In virtual
time there is one thread, and SQLite runs in the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import math
import queue
import sqlite3
import threading
import time as wall
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from operando.instruments.clock import VirtualTimeLoop
from operando.instruments.errors import BadInputError, RecordError
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Sample, SpectrumRow
from operando.records import schema
from operando.records.files import write_atomically
from operando.records.opening import make, take_over

_T = TypeVar("_T")

FLUSH_ROWS = 1_000
"""Rows after which a batch is committed."""
FLUSH_SECONDS = 0.25
"""Wall time in s after which a batch is committed, however small."""
STALL_SECONDS = 30.0
"""Wall time in s without an answer after which the disk is taken to hang."""

# SQLite gives up the interpreter's lock at each statement it steps, and beside a busy event loop
# takes up to 5 ms to get it back. Many rows a statement keep that to a few times a batch.
_ROWS_PER_STATEMENT = (250, 25, 1)


def _insert(table: str, width: int, rows: int) -> str:
    row = f"(NULL{', ?' * width})"
    return f"INSERT INTO {table} VALUES {', '.join([row] * rows)}"


_SAMPLES = {n: _insert("samples", len(Sample._fields), n) for n in _ROWS_PER_STATEMENT}
_AUX = {n: _insert("aux", len(AuxReading._fields), n) for n in _ROWS_PER_STATEMENT}
_SPECTRUM = f"INSERT INTO spectra VALUES ({', '.join('?' * len(SpectrumRow._fields))})"
_JOURNAL = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def _sample_values(rows: Sequence[Sample]) -> list[object]:
    # `_value_` and not `value`: the latter is a property, and this runs for every row.
    return list(
        chain.from_iterable(
            (*row[:12], row[12]._value_, row[13]._value_, row[14]._value_) for row in rows
        )
    )


def _aux_values(rows: Sequence[AuxReading]) -> list[object]:
    return list(chain.from_iterable((*row[:5], row[5]._value_) for row in rows))


class _Line(NamedTuple):
    """A journal entry on its way to disk. data: JSON text."""

    kind: Entry
    time: float
    data: str


class _Order(NamedTuple):
    """Work for the writer thread. answer: where to report; None for a plain batch."""

    samples: list[Sample]
    aux: list[AuxReading]
    line: _Line | None
    finish: bool
    answer: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None
    point: SpectrumRow | None = None


class SqliteRecorder:
    """Writes one run into a new folder; implements `operando.instruments.recorder.Recorder`.

    folder: must not exist, or be empty. manifest: what is known before the run; must hold
    `started` (ISO 8601 with offset). inline: True in virtual time, False beside a real event loop.
    on_failure: called once with the error when writing fails, in the event loop that made the
    recorder, or in the writer thread if there was none.

    `sample` and `aux` belong to one thread, that of the event loop.
    Raises RecordError if the folder is in use or cannot be written, BadInputError if the manifest
    lacks `started`.
    """

    def __init__(
        self,
        folder: Path | str,
        manifest: Mapping[str, JSON],
        *,
        inline: bool,
        on_failure: Callable[[RecordError], None] | None = None,
        resuming: bool = False,
    ) -> None:
        self.folder = Path(folder)
        # As it will be read back: tuples are lists, NaN is null.
        self.manifest: dict[str, JSON] = json.loads(
            schema.encode({"schema": schema.SCHEMA_VERSION, **manifest})
        )
        self._start = _unix_time_of(manifest)
        self._samples: list[Sample] = []
        self._aux: list[AuxReading] = []
        self._inline = inline
        self._on_failure = on_failure
        self._failure: RecordError | None = None
        self._telling = threading.Lock()
        self._closed = False
        self._refusing: RecordError | None = None
        # The rest belongs to whoever writes: the caller when inline, else the thread.
        self._ended = False
        self._busy_since = math.inf
        self._flushed = wall.monotonic()

        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        if isinstance(self._loop, VirtualTimeLoop) and not inline:
            raise BadInputError("virtual time has one thread: make the recorder with inline=True")

        opened = (take_over if resuming else make)(self.folder, self.manifest)
        self._lock, self._connection = opened.lock, opened.connection
        self._written_samples, self._written_aux = opened.samples, opened.aux
        self._seq, self._hash, self._latest = opened.entries, opened.link, opened.latest

        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if not inline:
            name = f"recorder {self.folder.name}"
            self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
            self._thread.start()

    # The caller's side

    def sample(self, sample: Sample) -> None:
        """Take one row; durable at the next flush. Raises RecordError if writing failed."""
        if self._refusing is not None:
            raise self._refusing
        rows = self._samples
        rows.append(sample)
        if len(rows) >= FLUSH_ROWS or self._inline:
            self._attend()

    def aux(self, reading: AuxReading) -> None:
        """Take one reading of another instrument; durable at the next flush.

        Raises RecordError if writing failed.
        """
        if self._refusing is not None:
            raise self._refusing
        rows = self._aux
        rows.append(reading)
        if len(rows) >= FLUSH_ROWS or self._inline:
            self._attend()

    def spectrum(self, row: SpectrumRow) -> None:
        """Take one point of a spectrum and write it; there are few. Raises RecordError."""
        self.check()
        if self._inline:
            self._write_here(None, row)
        else:
            self._orders.put(_Order([], [], None, False, None, row))

    async def journal(self, entry: Entry, time: float, data: Mapping[str, JSON]) -> None:
        """Append an entry; returns when it and everything before it are synced to disk.

        time: s of laboratory time since the start of the run. Raises RecordError if it cannot be
        written, or if the disk does not answer for `STALL_SECONDS`.
        """
        self._refuse()
        # SQLite stores -0.0 as 0.0, which would break the chain of hashes: adding 0.0 does so too.
        line = _Line(entry, float(time) + 0.0, schema.encode(data))
        if self._inline:
            self._write_here(line)
        else:
            await self._ask(line=line)

    def check(self) -> None:
        """Raise RecordError if writing has failed or hangs; else do nothing."""
        if self._refusing is not None:
            raise self._refusing
        stalled = wall.monotonic() - self._busy_since
        if stalled > STALL_SECONDS:
            raise self._hangs()

    async def flush(self) -> None:
        """Commit what was taken so far; operation does not need it. Raises as `journal` does."""
        self._refuse()
        if self._inline:
            self._write_here(None)
        else:
            await self._ask()

    async def close(self) -> None:
        """Flush, end the journal, write the checksums, close; idempotent.

        A journal without RUN_ENDED gets one that says "faulted": nobody stated an outcome.
        Raises RecordError if the record is not complete on disk. Closing again after a close that
        was cancelled waits for the writer to finish, so that the process does not end before it.
        """
        if self._closed:
            await self._wait_for_the_thread()
            return
        self._closed = True
        try:
            if self._failure is None:
                self._refusing = RecordError(f"{self.folder}: the record is closed.")
            if self._inline:
                self._finish_here()
            else:
                await self._ask(finish=True)
                await self._wait_for_the_thread()
        finally:
            self._refusing = self._failure or self._refusing

    async def _wait_for_the_thread(self) -> None:
        deadline = wall.monotonic() + STALL_SECONDS
        while self._thread is not None and self._thread.is_alive() and self._failure is None:
            if wall.monotonic() > deadline:
                raise self._hangs()
            await asyncio.sleep(0.001)

    def _refuse(self) -> None:
        if self._refusing is not None:
            raise self._refusing

    def _take(self) -> tuple[list[Sample], list[AuxReading]]:
        samples, aux = self._samples, self._aux
        self._samples, self._aux = [], []
        return samples, aux

    def _attend(self) -> None:
        """A batch is full; inline also when it is old."""
        if not self._inline:
            self.check()
            # The order goes first, the new lists second: see `_serve`.
            self._orders.put(_Order(self._samples, self._aux, None, False, None))
            self._samples, self._aux = [], []
        elif (
            len(self._samples) >= FLUSH_ROWS
            or len(self._aux) >= FLUSH_ROWS
            or wall.monotonic() - self._flushed > FLUSH_SECONDS
        ):
            self._write_here(None)

    def _write_here(self, line: _Line | None, point: SpectrumRow | None = None) -> None:
        try:
            self._write(*self._take(), line, point)
        except Exception as error:
            raise self._fail(error) from error

    def _finish_here(self) -> None:
        try:
            if self._failure is None:
                self._write(*self._take(), None)
                self._finish()
            else:
                raise self._failure
        except RecordError:
            raise
        except Exception as error:
            raise self._fail(error) from error
        finally:
            self._release()

    async def _ask(self, *, line: _Line | None = None, finish: bool = False) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        order = _Order(self._samples, self._aux, line, finish, (loop, answer))
        self._orders.put(order)
        self._samples, self._aux = [], []
        try:
            # Not `wait_for`: in Python 3.11 it forgets a cancellation that meets the answer.
            async with asyncio.timeout(STALL_SECONDS):
                await answer
        except TimeoutError:
            raise self._hangs() from None

    def _hangs(self) -> RecordError:
        return self._report(
            RecordError(
                f"{self.folder}: the disk has not answered for {STALL_SECONDS:g} s. What was taken "
                "since may be lost. Check the disk; do not record on network drives."
            )
        )

    # The writer's side

    def _serve(self) -> None:
        while True:
            try:
                order = self._orders.get(timeout=FLUSH_SECONDS)
            except queue.Empty:
                order = self._oldest()
            failure = self._carry_out(order)
            if order.answer is not None:
                _reply(*order.answer, failure)
            if order.finish:
                return

    def _oldest(self) -> _Order:
        """The rows that have waited longest, when nobody asked for anything."""
        # The lists are looked up before the queue. The caller queues full lists before it starts
        # new ones, so when the queue is found empty these are the oldest rows there are; and only
        # this thread takes rows out, so none is written twice.
        samples, aux = self._samples, self._aux
        try:
            return self._orders.get_nowait()
        except queue.Empty:
            return _Order(samples, aux, None, False, None)

    def _carry_out(self, order: _Order) -> RecordError | None:
        self._busy_since = wall.monotonic()
        try:
            if self._failure is None:
                samples, aux = _drain(order.samples), _drain(order.aux)
                self._write(samples, aux, order.line, order.point)
                if order.finish:
                    self._finish()
        except Exception as error:
            self._fail(error)
        finally:
            self._busy_since = math.inf
            if order.finish:
                self._release()
        return self._failure

    def _write(
        self,
        samples: Sequence[Sample],
        aux: Sequence[AuxReading],
        line: _Line | None,
        point: SpectrumRow | None = None,
    ) -> None:
        """One transaction; synced to disk if it holds a journal entry."""
        connection = self._connection
        self._flushed = wall.monotonic()
        if not (samples or aux or line or point):
            return
        if line is not None:
            connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for start, stop in _chunks(len(samples)):
                connection.execute(_SAMPLES[stop - start], _sample_values(samples[start:stop]))
            for start, stop in _chunks(len(aux)):
                connection.execute(_AUX[stop - start], _aux_values(aux[start:stop]))
            if point is not None:
                connection.execute(_SPECTRUM, (*point[:-1], point.status.value))
            link = self._hash
            if line is not None:
                link = self._append(line, len(samples), len(aux))
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        self._written_samples += len(samples)
        self._written_aux += len(aux)
        if samples and samples[-1].time > self._latest:
            self._latest = samples[-1].time
        if line is not None:
            connection.execute("PRAGMA synchronous = NORMAL")
            self._seq += 1
            self._hash = link
            self._latest = max(self._latest, line.time)
            self._ended = self._ended or line.kind is Entry.RUN_ENDED

    def _append(self, line: _Line, new_samples: int, new_aux: int) -> str:
        time = None if math.isnan(line.time) else line.time
        unix_time = None if time is None else self._start + time
        content = (
            self._seq + 1,
            time,
            unix_time,
            line.kind.value,
            line.data,
            self._written_samples + new_samples,
            self._written_aux + new_aux,
        )
        link = schema.next_link(self._hash, content)
        self._connection.execute(_JOURNAL, (*content, link))
        return link

    def _finish(self) -> None:
        if not self._ended:
            outcome: dict[str, JSON] = {
                "state": "faulted",
                "reason": "the record was closed before an outcome was stated",
            }
            self._write([], [], _Line(Entry.RUN_ENDED, self._latest, schema.encode(outcome)))
        connection = self._connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # Without a log the record is one file that can be read from read-only media. A viewer that
        # is connected prevents it; then the log stays, empty, and nothing is lost.
        connection.execute("PRAGMA busy_timeout = 100")
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        log = self.folder / f"{schema.DATABASE}-wal"
        names = [schema.MANIFEST, schema.DATABASE]
        if log.exists() and log.stat().st_size > 0:
            names.append(log.name)
        sums: dict[str, JSON] = {name: schema.sha256_of(self.folder / name) for name in names}
        content = schema.encode({"algorithm": "sha256", "files": sums}) + "\n"
        write_atomically(self.folder / schema.CHECKSUMS, content.encode())

    def _release(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        with contextlib.suppress(OSError):
            self._lock.release()

    def _fail(self, error: Exception) -> RecordError:
        failure = RecordError(
            f"{self.folder}: writing the record failed: {error}. Durable are "
            f"{self._written_samples} samples, {self._written_aux} other readings and {self._seq} "
            "journal entries; what came after is lost. Make room on the disk or repair it, then "
            "start a new run: this record stays readable."
        )
        failure.__cause__ = error
        return self._report(failure)

    def _report(self, failure: RecordError) -> RecordError:
        with self._telling:  # the caller may find a hang while the writer finds an error
            if self._failure is not None:
                return self._failure
            self._failure = self._refusing = failure
        if self._on_failure is not None:
            if self._inline or self._loop is None or threading.current_thread() is not self._thread:
                self._on_failure(failure)
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                    self._loop.call_soon_threadsafe(self._on_failure, failure)
        return failure


def _unix_time_of(manifest: Mapping[str, JSON]) -> float:
    started = manifest.get("started")
    try:
        moment = datetime.datetime.fromisoformat(str(started))
    except ValueError:
        moment = datetime.datetime.min
    if moment.tzinfo is None:
        raise BadInputError(
            f"manifest: `started` must be a time in ISO 8601 with its offset from UTC, such as "
            f"2026-01-01T00:00:00+00:00, not {started!r}"
        )
    return moment.timestamp()


def _chunks(rows: int) -> list[tuple[int, int]]:
    chunks = []
    start = 0
    for size in _ROWS_PER_STATEMENT:
        while rows - start >= size:
            chunks.append((start, start + size))
            start += size
    return chunks


def _drain(rows: list[_T]) -> list[_T]:
    """Take out what is there now; the caller may be appending."""
    count = len(rows)
    taken = rows[:count]
    del rows[:count]
    return taken


def _reply(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[None], failure: RecordError | None
) -> None:
    def settle() -> None:
        if answer.done():  # the caller was cancelled; the entry is on disk all the same
            return
        if failure is None:
            answer.set_result(None)
        else:
            answer.set_exception(failure)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
