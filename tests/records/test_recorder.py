"""The writer of a record: what is taken is kept, exactly, and failures are told."""

from __future__ import annotations

import asyncio
import math
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from operando.instruments.clock import run
from operando.instruments.errors import BadInputError, RecordError
from operando.instruments.recorder import JSON, Entry, Recorder
from operando.instruments.samples import AuxReading, Sample, Status
from operando.records import Record, SqliteRecorder, canonical_dump, files, opening, verify
from operando.records import recorder as module
from operando.records.schema import encode

MakeSample = Callable[..., Sample]
Manifest = dict[str, JSON]
BOTH = pytest.mark.parametrize("inline", [True, False], ids=["inline", "threaded"])


def test_it_is_a_recorder(tmp_path: Path, manifest: Manifest) -> None:
    async def scenario() -> None:
        recorder: Recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        await recorder.close()
        assert (tmp_path / "r" / "checksums.json").exists()

    run(scenario(), virtual=True)


@BOTH
def test_when_journal_returns_everything_before_it_is_on_disk(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, inline: bool
) -> None:
    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=inline)
        for n in range(1234):
            recorder.sample(make_sample(float(n)))
        recorder.aux(AuxReading("lc1", "pressure", 3.0, 0.01, 5e6, Status.OK))
        await recorder.journal(Entry.NOTE, 1234.0, {"text": "here"})
        record = Record.open(tmp_path / "r")
        assert len(record.samples()["time"]) == 1234
        assert record.aux("pressure")["value"].tolist() == [5e6]
        (entry,) = record.journal()
        assert (entry.entry, entry.data) == (Entry.NOTE, {"text": "here"})
        assert (entry.samples, entry.aux) == (1234, 1)
        assert entry.unix_time == 1_767_225_600.0 + 1234.0
        assert record.state == "running"
        await recorder.close()

    run(scenario(), virtual=inline)


def test_a_thousand_rows_are_committed_without_being_asked(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", math.inf)

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        record = Record.open(tmp_path / "r")
        for n in range(999):
            recorder.sample(make_sample(float(n)))
        assert len(record.samples()["time"]) == 0
        recorder.sample(make_sample(999.0))
        assert len(record.samples()["time"]) == 1000
        await recorder.close()

    run(scenario(), virtual=True)


def test_inline_a_quarter_of_a_second_of_wall_time_commits_a_few_rows(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("operando.records.recorder.wall.monotonic", lambda: now[0])

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        record = Record.open(tmp_path / "r")
        recorder.sample(make_sample(0.0))
        assert len(record.samples()["time"]) == 0
        now[0] += 0.26
        recorder.sample(make_sample(1.0))
        assert len(record.samples()["time"]) == 2
        await recorder.close()

    run(scenario(), virtual=True)


class Watched:
    """Lets a test see and hold the writer's commits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        original = SqliteRecorder._write

        def write(recorder: SqliteRecorder, *batch: Any) -> None:
            assert self.go_on.wait(20.0)
            original(recorder, *batch)
            self.written.set()

        monkeypatch.setattr(SqliteRecorder, "_write", write)


def test_threaded_a_few_rows_are_committed_by_the_clock_alone(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=False)
        recorder.sample(make_sample(0.0))
        assert watched.written.wait(20.0)  # the loop stands still: no help from asyncio
        assert len(Record.open(tmp_path / "r").samples()["time"]) == 1
        await recorder.close()

    run(scenario())


def test_the_event_loop_runs_on_while_the_disk_is_busy(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=False)
        watched.go_on.clear()
        entry = asyncio.create_task(recorder.journal(Entry.NOTE, 0.0, {}))
        await asyncio.sleep(0)
        for n in range(3000):
            recorder.sample(make_sample(float(n)))
            await asyncio.sleep(0)
        assert not entry.done()
        watched.go_on.set()
        await entry
        await recorder.close()

    run(scenario())
    record = Record.open(tmp_path / "r")
    assert record.samples()["time"].tolist() == [float(n) for n in range(3000)]
    assert record.journal(Entry.NOTE)[0].samples == 0


def test_the_counts_of_an_entry_are_those_when_it_was_asked_for(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=False)
        entries = []
        for n in range(5000):
            recorder.sample(make_sample(float(n)))
            if n % 700 == 0:
                entries.append(asyncio.create_task(recorder.journal(Entry.NOTE, float(n), {})))
                await asyncio.sleep(0)
        await asyncio.gather(*entries)
        await recorder.close()

    run(scenario())
    record = Record.open(tmp_path / "r")
    notes = record.journal(Entry.NOTE)
    assert [note.samples for note in notes] == [n + 1 for n in range(0, 5000, 700)]
    assert record.samples(as_written=True)["time"].tolist() == [float(n) for n in range(5000)]


def test_a_folder_that_holds_anything_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    async def scenario() -> None:
        await SqliteRecorder(tmp_path / "r", manifest, inline=True).close()
        with pytest.raises(RecordError, match=r"not empty.*choose another folder"):
            SqliteRecorder(tmp_path / "r", manifest, inline=True)
        (tmp_path / "file").write_text("x")
        with pytest.raises(RecordError, match="in the way"):
            SqliteRecorder(tmp_path / "file", manifest, inline=True)

    run(scenario(), virtual=True)
    assert verify(tmp_path / "r")


@pytest.mark.parametrize("started", [None, "today", "2026-01-01T00:00:00", 5])
def test_a_manifest_without_a_definite_start_is_refused(tmp_path: Path, started: JSON) -> None:
    with pytest.raises(BadInputError, match="`started` must be a time in ISO 8601"):
        SqliteRecorder(tmp_path / "r", {"started": started}, inline=True)
    assert not (tmp_path / "r").exists()


def test_a_writer_thread_is_refused_in_virtual_time(tmp_path: Path, manifest: Manifest) -> None:
    async def scenario() -> None:
        with pytest.raises(BadInputError, match="inline=True"):
            SqliteRecorder(tmp_path / "r", manifest, inline=False)

    run(scenario(), virtual=True)


@BOTH
def test_closing_twice_is_closing_once_and_nothing_is_taken_afterwards(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, inline: bool
) -> None:
    folder = tmp_path / "r"

    async def scenario() -> None:
        recorder = SqliteRecorder(folder, manifest, inline=inline)
        recorder.sample(make_sample(0.0))
        await recorder.journal(Entry.RUN_ENDED, 1.0, {"state": "completed", "reason": ""})
        await recorder.close()
        content = (folder / "record.sqlite").read_bytes()
        await recorder.close()
        assert (folder / "record.sqlite").read_bytes() == content
        with pytest.raises(RecordError, match="is closed"):
            recorder.sample(make_sample(1.0))
        with pytest.raises(RecordError, match="is closed"):
            recorder.aux(AuxReading("a", "pressure", 0.0, 0.0, 0.0, Status.OK))
        with pytest.raises(RecordError, match="is closed"):
            await recorder.journal(Entry.NOTE, 1.0, {})

    run(scenario(), virtual=inline)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["checksums.json", "manifest.json", "record.sqlite"]
    assert Record.open(folder).state == "completed"
    assert not [t for t in threading.enumerate() if t.name == f"recorder {folder.name}"]


def test_a_record_closed_without_an_outcome_says_that_something_was_wrong(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        recorder.sample(make_sample(7.0))
        await recorder.close()

    run(scenario(), virtual=True)
    record = Record.open(tmp_path / "r")
    assert record.state == "faulted"
    assert record.journal(Entry.RUN_ENDED)[0].time == 7.0


def test_rows_taken_right_after_an_entry_wait_no_longer_than_others(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    original = SqliteRecorder._write

    def write(recorder: SqliteRecorder, rows: Any, *others: Any) -> None:
        original(recorder, rows, *others)
        written.append(len(rows))

    class Orders:
        """A queue in which the caller asks for an entry, and takes a row before it looks up."""

        def __init__(self, recorder: SqliteRecorder) -> None:
            self.recorder, self.waits = recorder, 0

        def get(self, timeout: float) -> None:
            self.waits += 1
            if self.waits == 1:
                self.recorder._samples, self.recorder._aux = [], []
                self.recorder.sample(make_sample(0.0))
                raise queue.Empty
            raise Stop

        def get_nowait(self) -> None:
            raise queue.Empty

    class Stop(BaseException):
        pass

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        recorder._inline = False
        monkeypatch.setattr(SqliteRecorder, "_write", write)
        orders, recorder._orders = recorder._orders, Orders(recorder)  # type: ignore[assignment]
        with pytest.raises(Stop):
            recorder._serve()
        assert written == [1]
        recorder._inline, recorder._orders = True, orders
        await recorder.close()

    run(scenario(), virtual=True)


def test_a_cancellation_that_meets_the_answer_is_not_forgotten(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    original = module._reply

    def reply(*arguments: Any) -> None:
        original(*arguments)
        answered.set()

    monkeypatch.setattr(module, "_reply", reply)

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=False)
        task = asyncio.create_task(recorder.journal(Entry.NOTE, 0.0, {}))
        await asyncio.sleep(0)
        assert answered.wait(20.0)
        await asyncio.sleep(0)  # the answer is set; the task has not been told
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await recorder.close()

    run(scenario())
    assert len(Record.open(tmp_path / "r").journal(Entry.NOTE)) == 1


def test_closing_again_after_a_cancelled_close_waits_for_the_writer(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=False)
        watched.go_on.clear()
        first = asyncio.create_task(recorder.close())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        again = asyncio.create_task(recorder.close())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not again.done()
        watched.go_on.set()
        await again
        assert Record.open(tmp_path / "r").closed

    run(scenario())


@pytest.mark.parametrize("place", ["write_atomically", "sync"])
def test_a_record_that_could_not_be_made_leaves_nothing_behind(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(path: Path, content: bytes) -> None:
        if place == "sync":  # the file is there already
            path.write_bytes(content)
        raise OSError("no space left on device")

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(opening, "write_atomically", fail)
            with pytest.raises(RecordError, match="no space left"):
                SqliteRecorder(tmp_path / "r", manifest, inline=True)
        assert list((tmp_path / "r").iterdir()) == []
        await SqliteRecorder(tmp_path / "r", manifest, inline=True).close()

    run(scenario(), virtual=True)
    assert verify(tmp_path / "r")


def test_the_name_of_the_folder_itself_is_synced(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(opening, "sync_folder", synced.append)

    async def scenario() -> None:
        await SqliteRecorder(tmp_path / "runs" / "r", manifest, inline=True).close()

    run(scenario(), virtual=True)
    assert synced == [tmp_path / "runs", tmp_path]


def test_a_reader_that_looks_at_the_lock_for_an_instant_does_not_take_it_from_the_writer(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, looks = files._try_lock, iter([False, False])

    def try_lock(descriptor: int, *, shared: bool) -> bool:
        return next(looks, True) and original(descriptor, shared=shared)

    async def scenario() -> None:
        monkeypatch.setattr(files, "_try_lock", try_lock)
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        assert next(looks, None) is None
        assert Record.open(tmp_path / "r").state == "running"
        await recorder.close()
        monkeypatch.setattr(files, "_try_lock", lambda *_, **__: False)
        monkeypatch.setattr("operando.records.files.time.sleep", lambda _: None)
        with pytest.raises(RecordError, match="held by another process"):
            SqliteRecorder(tmp_path / "s", manifest, inline=True)
        assert list((tmp_path / "s").iterdir()) == []

    run(scenario(), virtual=True)


@pytest.mark.parametrize("entry", [Entry.NOTE, Entry.RUN_ENDED])
def test_an_entry_is_synced_and_a_batch_is_not(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, entry: Entry
) -> None:
    statements: list[str] = []

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)

        def levels(statement: str) -> None:
            if statement == "COMMIT":
                statements.append(
                    "FULL" if statements[-1:] == ["PRAGMA synchronous = FULL"] else "NORMAL"
                )
            elif "synchronous" in statement:
                statements.append(statement)

        recorder._connection.set_trace_callback(levels)
        for _ in range(2):
            recorder.sample(make_sample(0.0))
            await recorder.flush()
            await recorder.journal(entry, 0.0, {"state": "completed"})
            (level,) = recorder._connection.execute("PRAGMA synchronous").fetchone()
            assert level == 1  # NORMAL again
        recorder._connection.set_trace_callback(None)
        await recorder.close()

    run(scenario(), virtual=True)
    commits = [s for s in statements if not s.startswith("PRAGMA")]
    assert commits == ["NORMAL", "FULL"] * 2


class Broken:
    """A connection whose disk is full."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *values: Any) -> object:
        if statement.startswith(("INSERT", "COMMIT")):
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(statement, *values)

    def close(self) -> None:
        self._connection.close()


@BOTH
def test_a_failure_to_write_reaches_every_caller_and_the_callback_once(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, inline: bool
) -> None:
    told: list[RecordError] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def on_failure(error: RecordError) -> None:
            assert asyncio.get_running_loop() is loop
            told.append(error)

        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=inline, on_failure=on_failure)
        recorder.sample(make_sample(0.0))
        await recorder.journal(Entry.NOTE, 0.0, {})
        recorder.check()
        recorder._connection = Broken(recorder._connection)  # type: ignore[assignment]
        recorder.sample(make_sample(1.0))
        with pytest.raises(RecordError, match=r"disk is full.*Durable are 1 samples.*Make room"):
            await recorder.journal(Entry.NOTE, 1.0, {})
        with pytest.raises(RecordError, match="disk is full"):
            recorder.sample(make_sample(2.0))
        with pytest.raises(RecordError, match="disk is full"):
            recorder.check()
        with pytest.raises(RecordError, match="disk is full"):
            await recorder.close()
        await recorder.close()

    run(scenario(), virtual=inline)
    assert len(told) == 1
    record = Record.open(tmp_path / "r")
    assert record.samples()["time"].tolist() == [0.0]
    assert not record.closed
    assert record.state == "killed"


def test_a_disk_that_does_not_answer_is_told_and_not_waited_for(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    monkeypatch.setattr(module, "STALL_SECONDS", 0.02)

    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=False)
        watched.go_on.clear()
        with pytest.raises(RecordError, match="has not answered"):
            await recorder.journal(Entry.NOTE, 0.0, {})
        with pytest.raises(RecordError, match="has not answered"):
            recorder.sample(make_sample(0.0))
        watched.go_on.set()
        monkeypatch.setattr(module, "STALL_SECONDS", 30.0)
        with pytest.raises(RecordError, match="has not answered"):
            await recorder.close()

    run(scenario())


def test_the_dump_of_the_same_run_is_the_same_however_it_was_flushed(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(name: str, rows: int, extra: Mapping[str, JSON]) -> bytes:
        monkeypatch.setattr(module, "FLUSH_ROWS", rows)
        recorder = SqliteRecorder(tmp_path / name, {**manifest, **extra}, inline=True)
        for n in range(50):
            recorder.sample(make_sample(n / 7.0, voltage=math.nan if n == 3 else 3.7 + n / 3))
            recorder.aux(AuxReading("lc1", "pressure", n / 7.0, 0.01, 5e6 / 3, Status.OK))
            if n % 20 == 0:
                await recorder.journal(Entry.NOTE, n / 7.0, {"n": n})
        await recorder.close()
        return canonical_dump(tmp_path / name)

    first = run(scenario("a", 7, {"run_id": "a", "created": "2026-05-01"}), virtual=True)
    again = run(scenario("b", 1000, {"run_id": "b", "created": "2026-06-01"}), virtual=True)
    other = run(scenario("c", 1000, {"run_id": "b", "seed": 2}), virtual=True)
    assert first == again
    assert first != other
    assert first.count(b"\nsamples ") == 50


def test_values_that_json_lacks_are_written_so_that_every_reader_takes_them() -> None:
    text = encode({"nan": math.nan, "inf": math.inf, "state": Status.OK, "set": {2}, "x": object})
    assert text.startswith('{"nan": null, "inf": 1e999, "state": "ok", "set": [2], "x": "')
