"""The reader processes: what they answer, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lab import wait_until
from operando.instruments.errors import RecordError
from operando.instruments.recorder import Entry
from operando.instruments.samples import AuxReading, Origin, Status
from operando.records.view import RecordView
from operando.station import details, view_process
from operando.station.view_process import Reader
from operando.station.views import (
    MOST_NEW,
    START,
    Fresh,
    Lane,
    ReaderLostError,
    UnknownRunError,
    Views,
)
from station.served_stub import Author, author, is_alive, write_cycle


def ask(views: Views, question: Callable[[Views], Awaitable[bytes]]) -> bytes:
    async def answer() -> bytes:
        return await question(views)

    return asyncio.run(answer())


def fresh(reader: Reader, run: str, since: object = START) -> Fresh:
    found = reader.fresh({run: since})[run]  # type: ignore[dict-item]
    assert isinstance(found, Fresh)
    return found


# What is new


def test_only_committed_rows_are_seen_and_each_of_them_once(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    with author(tmp_path) as writing:
        writing.sample(1.0)
        writing.commit()
        writing.sample(2.0)
        first = fresh(reader, "run1")
        assert first.readings["voltage"] == ((1.0,), (3.7,))
        assert fresh(reader, "run1", first.cursor).readings == {}
        writing.commit()
        second = fresh(reader, "run1", first.cursor)
        assert second.readings["voltage"] == ((2.0,), (3.7,))
        assert not second.skipped


def test_the_latest_reading_comes_with_its_status(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        writing.sample(1.0, 3.6)
        writing.sample(2.0, float("nan"), status=Status.OVERLOAD)
        writing.pressure(1.5, 5e6, Status.UNSTABLE)
        writing.commit()
        found = fresh(Reader(tmp_path), "run1")
    voltage, pressure = found.latest["voltage"], found.latest["pressure"]
    assert (voltage.value, voltage.time, voltage.status) == (None, 2.0, "overload")
    assert (pressure.value, pressure.time, pressure.status) == (5e6, 1.5, "unstable")
    assert found.readings["voltage"] == ((1.0, 2.0), (3.6, None))


def test_of_very_many_new_rows_the_newest_are_given_and_it_is_said(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        for n in range(MOST_NEW + 5):
            writing.sample(float(n))
        writing.commit()
        found = fresh(Reader(tmp_path), "run1")
    assert found.skipped
    assert found.cursor.samples == MOST_NEW + 5
    assert found.readings["voltage"][0] == tuple(float(n) for n in range(5, MOST_NEW + 5))


def test_unknown_runs_are_left_out_and_unreadable_ones_explained(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        writing.commit()
    (tmp_path / "run1" / "record.sqlite").write_bytes(b"this is no database at all" * 99)
    found = Reader(tmp_path).fresh({"run1": START, "nothing": START})
    assert set(found) == {"run1"}
    assert "cannot be read" in str(found["run1"])


def test_what_follows_a_gap_or_takes_the_place_of_polled_rows_cannot_be_appended(
    tmp_path: Path,
) -> None:
    reader = Reader(tmp_path)
    with author(tmp_path) as writing:
        writing.sample(1.0)
        writing.commit()
        before = fresh(reader, "run1")
        writing.journal(Entry.GAP, 9.0, start=1.0, end=9.0, reason="stood still", charge_bound=1.0)
        gap = fresh(reader, "run1", before.cursor)
        assert (gap.readings, gap.skipped) == ({}, True)
        writing.sample(10.0)
        writing.commit()
        after = fresh(reader, "run1", gap.cursor)
        assert not after.skipped
        writing.sample(9.5, origin=Origin.INSTRUMENT)
        writing.commit()
        assert fresh(reader, "run1", after.cursor).skipped


def test_new_rows_and_curves_name_quantities_alike(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        writing.sample(1.0)
        for source, quantity in (
            ("b", "pressure"), ("a", "pressure"), ("a", "temperature"), ("smu2", "voltage"),
        ):  # fmt: skip
            writing._recorder.aux(AuxReading(source, quantity, 1.0, 0.0, 5.0, Status.OK))
        writing.commit()
        found = fresh(Reader(tmp_path), "run1")
    view = RecordView(tmp_path / "run1")
    view.update()
    assert set(found.readings) == set(view.quantities)
    assert "pressure@a" in found.readings


# Lists and tables


def test_a_list_reads_again_only_what_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary_of, read = details.summary_of, list[str]()

    def counted(record):  # type: ignore[no-untyped-def]
        read.append(record.folder.name)
        return summary_of(record)

    monkeypatch.setattr(details, "summary_of", counted)
    reader = Reader(tmp_path)
    with author(tmp_path, "over") as writing:
        writing.close()
    with author(tmp_path, "running") as writing:
        writing.sample(1.0)
        writing.commit()
        assert len(json.loads(reader.runs())) == 2
        read.clear()
        assert {line["run"]: line["state"] for line in json.loads(reader.runs())} == {
            "over": "completed",
            "running": "running",
        }
        assert read == []
        writing.sample(2.0)
        writing.commit()
        (running,) = [line for line in json.loads(reader.runs()) if line["run"] == "running"]
        assert running["duration"] == 2.0
        assert read == ["running"]


def test_a_record_that_cannot_be_read_is_listed_all_the_same(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        writing.commit()
    (tmp_path / "run1" / "record.sqlite").write_bytes(b"this is no database at all" * 99)
    (tmp_path / "a file").touch()
    (tmp_path / "an empty folder").mkdir()
    (line,) = json.loads(Reader(tmp_path).runs())
    assert (line["run"], line["state"], line["simulated"]) == ("run1", "unreadable", True)


def made(folder: Path, moment: float) -> None:
    os.utime(folder / "manifest.json", (moment, moment))


def test_the_newest_run_is_the_one_that_was_made_last_whatever_a_scaled_clock_says(
    tmp_path: Path,
) -> None:
    """A bench at speed 60 gets an hour ahead a minute; started again it begins at the wall's."""
    for name, started, moment in (
        ("20260101T120000Z_A1_cccv", "2026-01-01T12:00:00+00:00", 1000.0),
        ("20260101T110000Z_A1_cccv", "2026-01-01T11:00:00+00:00", 900.0),
        ("20260101T003000Z_A1_cccv", "2026-01-01T00:30:00+00:00", 2000.0),
    ):
        with author(tmp_path, name, started=started, clock={"mode": "scaled", "speed": 60}) as one:
            one.close()
        made(tmp_path / name, moment)
    lines = json.loads(Reader(tmp_path).runs())
    assert [line["made"] for line in lines] == [2000.0, 1000.0, 900.0]
    assert [line["run"][9:13] for line in lines] == ["0030", "1200", "1100"]
    assert lines[0]["started"] == 1_767_227_400.0


def test_what_a_manifest_says_of_its_making_counts_more_than_the_time_of_a_copied_file(
    tmp_path: Path,
) -> None:
    moment = "1970-01-01T00:16:40+00:00"
    for name, said in (("a", moment), ("b", "yesterday"), ("c", "2000-01-01T00:00:00")):
        with author(tmp_path, name, made=said) as one:
            one.close()
        made(tmp_path / name, 500.0)
    with author(tmp_path, "damaged") as one:
        one.close()
    (tmp_path / "damaged" / "manifest.json").write_bytes(b"\xff not JSON")
    made(tmp_path / "damaged", 700.0)
    assert [details.made(tmp_path / name) for name in ("a", "b", "c", "damaged", "none")] == [
        1000.0, 500.0, 500.0, 700.0, 0.0,
    ]  # fmt: skip
    assert [line["run"] for line in json.loads(Reader(tmp_path).runs())] == [
        "a", "damaged", "c", "b",
    ]  # fmt: skip


def test_a_folder_that_does_not_exist_yet_holds_no_runs(tmp_path: Path) -> None:
    assert json.loads(Reader(tmp_path / "later").runs()) == []


def test_a_record_whose_writer_died_is_called_killed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from station.served_stub import Author\n"
        "a = Author(Path(sys.argv[1])); a.sample(1.0); a.commit(); os._exit(0)"
    )
    tests = str(Path(__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run1")],
        env=os.environ | {"PYTHONPATH": tests},
        check=True,
    )
    (line,) = json.loads(Reader(tmp_path).runs())
    assert (line["state"], line["duration"]) == ("killed", 1.0)


def begin_cycle(writing: Author) -> None:
    writing.step(1, 0.0, 1, "charge", 1e-3)
    for n in range(10):
        writing.sample(10.0 * n)


def end_step(writing: Author) -> None:
    writing.journal(
        Entry.STEP_ENDED, 90.0, index=1, reason="condition", condition="voltage >= 4.25 V",
        duration=90.0, charge=0.09, energy=0.3,
    )  # fmt: skip


def test_cycles_are_computed_again_when_a_step_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycles_of, computed = details.cycles_of, list[int]()

    def counted(record):  # type: ignore[no-untyped-def]
        computed.append(1)
        return cycles_of(record)

    monkeypatch.setattr(details, "cycles_of", counted)
    reader = Reader(tmp_path)
    with author(tmp_path) as writing:
        begin_cycle(writing)
        writing.commit()
        before = reader.cycles("run1")
        writing.sample(100.0)
        writing.commit()
        assert reader.cycles("run1") == before
        assert len(computed) == 1
        end_step(writing)
        (cycle,) = json.loads(reader.cycles("run1"))
    assert len(computed) == 2
    assert cycle["charge_capacity"] == pytest.approx(0.1)
    assert cycle["discharge_capacity"] is None


def test_memory_holds_the_runs_that_were_asked_for_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_process, "MOST_RUNS", 2)
    reader = Reader(tmp_path)
    for name in ("a", "b", "c"):
        with author(tmp_path, name) as writing:
            writing.sample(1.0)
            writing.close()
    for name in ("a", "b", "a", "c"):
        assert reader.curves(name, ["voltage"], None, None, 100)
    assert list(reader._views) == ["a", "c"]
    monkeypatch.setattr(view_process, "MOST_ROWS", 1)
    assert reader.curves("a", ["voltage"], None, None, 100)
    assert list(reader._views) == ["a"]


@pytest.mark.parametrize(
    ("entry", "data", "expected"),
    [
        (
            Entry.LIMIT,
            {"name": "over_voltage", "when": "voltage > 4.3 V", "action": "trip",
             "cause": "condition", "values": {"voltage": 4.312}},
            "limit over_voltage acted (trip): voltage > 4.3 V (voltage 4.31 V)",
        ),
        (
            Entry.LIMIT,
            {"name": "p", "when": "pressure > 8 MPa", "action": "hold", "cause": "stale",
             "values": {"pressure": None}},
            "limit p acted (hold): no valid reading for pressure > 8 MPa",
        ),
        (
            Entry.GAP,
            {"start": 10.0, "end": 70.0, "reason": "the process stood still", "charge_bound": 3.6},
            "nothing was observed for 1 min: the process stood still; at most 1.00 mAh passed",
        ),
        (
            Entry.SAFE,
            {"reason": "asked", "potentiostat": "the relay does not answer"},
            "NOT VERIFIED SAFE: the output: the relay does not answer (asked)",
        ),
        (
            Entry.SAFE,
            {"reason": "asked", "potentiostat": "verified", "actuators": {"oven1": "verified"}},
            "safe state: the output was read back off, oven1 read back safe (asked)",
        ),
        (
            Entry.SAFE,
            {"reason": "asked", "potentiostat": "verified", "actuators": {"oven1": "silent"}},
            "NOT VERIFIED SAFE: oven1: silent (asked)",
        ),
        (
            Entry.NOTE,
            {"instrument": "oven1", "read back": {"temperature": 333.15}},
            "oven1 read back: 60.0 degC",
        ),
        (
            Entry.SAFE,
            {"reason": "asked", "potentiostat": "verified"},
            "safe state: the output was read back off (asked)",
        ),
        (Entry.ALARM, {"what": "load1 cannot be read", "why": "silence"},
         "load1 cannot be read: silence"),
        (Entry.PAUSED, {"state": "held", "reason": "limit p", "elapsed": 60.0, "step_charge": 3.6},
         "held: limit p; the step has taken 1 min and 1.00 mAh"),
        (Entry.RUN_ENDED, {"state": "tripped", "reason": "limit p"}, "run tripped: limit p"),
        (Entry.NOTE, {"anything": "else", "none": None}, "anything: else"),
        (Entry.GAP, {"start": "damaged"}, "start: damaged"),
    ],
)  # fmt: skip
def test_the_journal_is_told_in_words(
    tmp_path: Path, entry: Entry, data: dict[str, object], expected: str
) -> None:
    with author(tmp_path) as writing:
        writing.sample(0.0)
        writing.journal(entry, 1.0, **data)  # type: ignore[arg-type]
        if entry is not Entry.RUN_ENDED:
            writing.close()
        told = json.loads(Reader(tmp_path).run("run1"))["journal"]
    assert told[0]["kind"] == entry.value
    assert told[0]["text"] == expected


# The processes


@pytest.mark.sockets
def test_a_reader_that_was_killed_is_started_again(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        write_cycle(writing)
    with Views(tmp_path) as views:
        before = ask(views, lambda v: v.run("run1"))
        killed = views.plots.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert ask(views, lambda v: v.run("run1")) == before
        assert views.plots.pid not in (None, killed)


@pytest.mark.sockets
def test_a_reader_that_is_killed_at_work_answers_all_the_same(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        write_cycle(writing)

    async def kill_at_work(views: Views) -> bytes:
        pid = views.plots.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # it is at it and does not come to an end
        answer = asyncio.create_task(views.run("run1"))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        return await answer

    with Views(tmp_path) as views:
        ask(views, lambda v: v.run("run1"))
        assert json.loads(ask(views, kill_at_work))["summary"]["run"] == "run1"


@pytest.mark.sockets
def test_a_reader_that_dies_again_and_again_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    lane = Lane("broken", tmp_path, 0, 10.0)
    lane._words = [sys.executable, "-c", "pass"]
    try:
        with pytest.raises(ReaderLostError, match="over 'runs' twice: it died"):
            asyncio.run(lane.ask("runs"))
    finally:
        lane.close()


@pytest.mark.sockets
def test_errors_of_a_reader_come_as_what_they_are(tmp_path: Path) -> None:
    with author(tmp_path) as writing:
        writing.commit()
    with sqlite3.connect(tmp_path / "run1" / "record.sqlite") as damaged:
        damaged.execute("DROP TABLE journal")
    damaged.close()
    with Views(tmp_path) as views:
        with pytest.raises(UnknownRunError, match="there is no run 'nothing'"):
            ask(views, lambda v: v.run("nothing"))
        with pytest.raises(RecordError, match="cannot be read"):
            ask(views, lambda v: v.cycles("run1"))
        assert ask(views, lambda v: v.runs())


@pytest.mark.sockets
def test_neither_plots_nor_the_live_push_wait_for_a_table(tmp_path: Path) -> None:
    async def beside_a_standstill(views: Views) -> bytes:
        pid = views.tables.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            table = asyncio.create_task(views.rows("run1"))
            async with asyncio.timeout(30.0):
                assert await views.curves("run1", ["voltage"])
                assert "run1" in await views.fresh({"run1": START})
            assert not table.done()
        finally:
            os.kill(pid, signal.SIGCONT)
        return await table

    with author(tmp_path) as writing:
        write_cycle(writing)
    with Views(tmp_path) as views:
        ask(views, lambda v: v.runs())
        assert ask(views, beside_a_standstill).startswith(b"PK")


@pytest.mark.sockets
def test_the_readers_end_when_the_station_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, asyncio; from pathlib import Path\n"
        "from operando.station.views import Views\n"
        "with Views(Path(sys.argv[1])) as views:\n"
        "    asyncio.run(views.fresh({}))\n"
        "    print(views.live.pid, views.plots.pid, views.tables.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as station:
        assert station.stdout is not None
        pids = [int(pid) for pid in station.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(is_alive, pids))
        station.kill()
    wait_until(lambda: not any(map(is_alive, pids)), 20.0)


@pytest.mark.sockets
def test_closing_does_not_wait_for_a_reader_that_hangs(tmp_path: Path) -> None:
    with Views(tmp_path) as views:
        ask(views, lambda v: v.runs())
        pid = views.tables.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)
