"""A record as a viewer follows it, while it is written and afterwards."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from operando.instruments.clock import run
from operando.instruments.errors import RecordError
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Origin, Regulation, Sample, Status
from operando.records import Record, SqliteRecorder
from operando.records import view as view_module
from operando.records.view import OF_SAMPLES, RecordView

MakeSample = Callable[..., Sample]
Manifest = dict[str, JSON]


def pressure(time: float, value: float, status: Status = Status.OK, by: str = "lc1") -> AuxReading:
    return AuxReading(by, "pressure", time, 0.01, value, status)


def gap(start: float, end: float) -> tuple[Entry, float, Manifest]:
    return Entry.GAP, end, {"start": start, "end": end, "reason": "asleep", "charge_bound": 1.0}


class Written:
    """A record that is written step by step in virtual time, and looked at in between."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = {"poll_interval": 0.1, **manifest}

    def run(self, *acts: object) -> None:
        """Rows, readings and entries are recorded; functions are called once all is committed."""

        async def scenario() -> None:
            recorder = SqliteRecorder(self.folder, self.manifest, inline=True)
            for act in acts:
                if isinstance(act, Sample):
                    recorder.sample(act)
                elif isinstance(act, AuxReading):
                    recorder.aux(act)
                elif isinstance(act, tuple):
                    await recorder.journal(*act)
                else:
                    assert callable(act)
                    await recorder.flush()
                    act()
            await recorder.close()

        run(scenario(), virtual=True)


@pytest.fixture
def written(tmp_path: Path, manifest: Manifest) -> Written:
    return Written(tmp_path / "r", manifest)


def test_a_folder_without_a_record_is_empty_until_there_is_one(
    written: Written, make_sample: MakeSample
) -> None:
    view = RecordView(written.folder)
    for _ in range(2):
        fresh = view.update()
        assert (fresh.count, fresh.complete, dict(fresh.quantities)) == (0, True, {})
        assert math.isnan(fresh.newest)
        assert (view.rows, view.quantities, view.loops(), dict(view.latest)) == (0, (), [], {})
        assert len(view.rows_between()["time"]) == 0
        written.folder.mkdir(exist_ok=True)
    sqlite3.connect(written.folder / "record.sqlite").close()  # made, but not yet a record
    assert view.update().count == 0
    (written.folder / "record.sqlite").unlink()
    written.run(make_sample(1.0), view.update)
    assert view.rows == 1


def test_each_committed_reading_is_handed_out_once(
    written: Written, make_sample: MakeSample
) -> None:
    view, seen = RecordView(written.folder), []
    look = lambda: seen.append(view.update())  # noqa: E731
    written.run(
        look, make_sample(0.0), make_sample(1.0), look, look,
        make_sample(2.0, voltage=3.9), pressure(1.9, 5e6), look, pressure(2.9, 6e6), look,
    )  # fmt: skip
    assert [fresh.count for fresh in seen] == [0, 2, 0, 1, 0]
    assert seen[1].quantities["voltage"][0].tolist() == [0.0, 1.0]
    assert seen[3].quantities["voltage"][1].tolist() == [3.9]
    assert seen[3].quantities["pressure"][1].tolist() == [5e6]
    assert set(seen[4].quantities) == {"pressure"}
    assert [fresh.newest for fresh in seen[1:]] == [1.0, 1.0, 2.0, 2.9]
    assert all(fresh.complete for fresh in seen)
    assert view.quantities == (*OF_SAMPLES, "pressure")
    assert (view.rows, view.start, view.end) == (3, 0.0, 2.9)
    assert view.latest["voltage"] == (2.0, 3.9, "ok")
    assert view.latest["pressure"] == (2.9, 6e6, "ok")
    assert view.curves(["voltage"])["voltage"].value.tolist() == [3.7, 3.7, 3.9]
    assert view.curves(["current"])["current"].value.tolist() == [1e-3] * 3


def test_rows_that_are_not_committed_are_not_seen(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        view = RecordView(tmp_path / "r")
        recorder.sample(make_sample(1.0))
        assert view.update().count == 0
        await recorder.flush()
        assert view.update().count == 1
        await recorder.close()

    run(scenario(), virtual=True)


def test_values_that_are_not_valid_break_curves_and_say_why(
    written: Written, make_sample: MakeSample
) -> None:
    view = RecordView(written.folder)
    written.run(
        make_sample(0.0), make_sample(1.0, voltage=9.9, charge=2e-3, status=Status.OVERLOAD),
        pressure(0.0, 5e6), pressure(1.0, 7e6, Status.FAULT), pressure(2.0, 6e6, Status.UNSTABLE),
    )  # fmt: skip
    fresh = view.update()
    np.testing.assert_array_equal(fresh.quantities["voltage"][1], [3.7, math.nan])
    curve = view.curves(["pressure"])["pressure"]
    np.testing.assert_array_equal(curve.value, [5e6, math.nan, 6e6])
    np.testing.assert_array_equal(view.curves(["voltage"])["voltage"].value, [3.7, math.nan])
    assert view.latest["charge"] == (1.0, 2e-3, "overload")
    for name in ("voltage", "current"):
        assert math.isnan(view.latest[name].value)
        assert view.latest[name].status == "overload"
    assert view.rows_between()["voltage"].tolist() == [3.7, 9.9]  # as it was recorded
    assert view.latest["pressure"] == (2.0, 6e6, "unstable")


def test_several_sources_of_a_quantity_have_names_of_their_own(
    written: Written, make_sample: MakeSample
) -> None:
    view = RecordView(written.folder)
    meter = AuxReading("dmm", "voltage", 1.0, 0.0, 3.71, Status.OK)
    written.run(
        make_sample(0.0), pressure(0.5, 5e6, by="lc2"), view.update, pressure(1.0, 6e6), meter,
        pressure(1.5, 5.5e6, by="lc2"),
    )  # fmt: skip
    view.update()
    assert view.quantities == (*OF_SAMPLES, "pressure", "pressure@lc1", "voltage@dmm")
    curves = view.curves(view.quantities)
    assert curves["pressure"].value.tolist() == [5e6, 5.5e6]
    assert curves["pressure@lc1"].value.tolist() == [6e6]
    assert curves["voltage@dmm"].value.tolist() == [3.71]
    assert curves["voltage"].value.tolist() == [3.7]
    assert len(view.curves(["colour"])["colour"].time) == 0


def test_curves_break_over_a_gap_at_every_zoom_and_in_what_is_fresh(
    written: Written, make_sample: MakeSample
) -> None:
    view = RecordView(written.folder)
    first = [make_sample(0.1 * n) for n in range(2000)]
    second = [make_sample(2000.0 + 0.1 * n) for n in range(2000)]
    fresh = []
    written.run(
        *first, view.update, gap(200.0, 2000.0), *second, lambda: fresh.append(view.update())
    )
    assert fresh[0].complete
    time, value = fresh[0].quantities["voltage"]
    assert (time[0], len(time)) == (1100.0, 2001)
    assert math.isnan(value[0])
    assert not np.isnan(value[1:]).any()
    for bins in (3, 100, 5000):
        time, value, exact = view.curves(["voltage"], bins=bins)["voltage"]
        assert time[np.isnan(value)].tolist() == [1100.0]
        assert exact == (bins == 5000)
    for start, end in ((2050.0, None), (None, 150.0)):
        assert not np.isnan(view.curves(["voltage"], start, end)["voltage"].value).any()
    again = RecordView(written.folder)
    assert np.isnan(again.update().quantities["voltage"][1]).sum() == 1
    assert [(g.start, g.end) for g in again.gaps] == [(200.0, 2000.0)]


def test_a_gap_that_is_told_late_asks_to_draw_again(
    written: Written, make_sample: MakeSample
) -> None:
    view, seen = RecordView(written.folder), []
    look = lambda: seen.append(view.update().complete)  # noqa: E731
    written.run(make_sample(0.0), make_sample(100.0), look, gap(1.0, 99.0), look, look)
    assert seen == [True, False, True]
    assert view.curves(["voltage"])["voltage"].time.tolist() == [0.0, 50.0, 100.0]


def test_a_stamp_before_the_newest_one_asks_to_draw_again(
    written: Written, make_sample: MakeSample
) -> None:
    view, seen = RecordView(written.folder), []
    look = lambda: seen.append(view.update())  # noqa: E731
    written.run(make_sample(0.0), make_sample(2.0), look, make_sample(1.0), look)
    assert [fresh.complete for fresh in seen] == [True, False]
    assert view.curves(["voltage"])["voltage"].time.tolist() == [0.0, 1.0, 2.0]
    assert view.rows_between(0.5, 1.5)["time"].tolist() == [1.0]


def test_curves_at_every_zoom_hold_the_extremes_that_the_record_holds(
    written: Written, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "CHUNK", 700)
    random = np.random.default_rng(2)
    times = np.cumsum(np.where(np.arange(9000) % 900 < 800, 0.1, 30.0))
    volts = random.normal(3.7, 0.1, len(times))
    rows = [make_sample(t, voltage=v) for t, v in zip(times.tolist(), volts.tolist(), strict=True)]
    readings = [pressure(t + 0.05, 1e6 * v) for t, v in zip(times[::3], volts[::3], strict=True)]
    view = RecordView(written.folder)
    written.run(
        *rows[:4000], *readings[:100], view.update, *readings[100:], *rows[4000:], view.update
    )
    assert view.rows == 9000
    for start, end in [(None, None), (1000.0, 20_000.0), (3100.0, 3101.0), (7.5, 8000.25)]:
        low, high = start or 0.0, end or math.inf
        for bins in (5, 50, 1200):
            curves = view.curves(["voltage", "pressure"], start, end, bins)
            for name, time, value in (
                ("voltage", times, volts),
                ("pressure", times[::3] + 0.05, 1e6 * volts[::3]),
            ):
                seen = (time >= low) & (time <= high)
                assert seen.any()
                curve = curves[name]
                drawn = curve.value[(curve.time >= low) & (curve.time <= high)]
                assert drawn.min() == value[seen].min()
                assert drawn.max() == value[seen].max()
                if curve.exact:
                    assert drawn.tolist() == value[seen].tolist()
    assert view.curves(["voltage"], bins=9000)["voltage"].exact


def test_a_first_look_at_much_hands_out_nothing_one_by_one(
    written: Written, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "CHUNK", 300)
    monkeypatch.setattr(view_module, "MANY", 1000)
    view = RecordView(written.folder)
    written.run(*(make_sample(float(n)) for n in range(2000)))
    fresh = view.update()
    assert (fresh.count, fresh.complete, dict(fresh.quantities)) == (2000, False, {})
    assert fresh.newest == 1999.0
    assert view.update().complete


def test_downloaded_rows_replace_polled_ones_and_ask_to_draw_again(
    written: Written, make_sample: MakeSample
) -> None:
    polled = [make_sample(float(n), step_count=1 + n // 10, voltage=3.0) for n in range(30)]
    down = [
        make_sample(10.0 + 0.5 * n, step_count=2, voltage=4.0, origin=Origin.INSTRUMENT)
        for n in range(20)
    ]
    later = [make_sample(30.0 + n, step_count=4, voltage=3.5) for n in range(5)]
    late_poll = make_sample(19.5, step_count=2, voltage=9.0, status=Status.OVERLOAD)
    view, seen = RecordView(written.folder), []
    look = lambda: seen.append(view.update())  # noqa: E731
    written.run(*polled, look, *down[:12], look, *down[12:], look, *later, late_poll, look)
    assert [fresh.complete for fresh in seen] == [True, False, False, True]
    assert [fresh.count for fresh in seen] == [30, 12, 8, 6]
    assert seen[3].quantities["voltage"][1].tolist() == [3.5] * 5
    expected = Record.open(written.folder).samples()
    assert view.quantities == OF_SAMPLES
    assert view.rows == len(expected["time"]) == 45
    for other in (view, RecordView(written.folder)):
        other.update()
        curve = other.curves(["voltage"])["voltage"]
        assert curve.time.tolist() == expected["time"].tolist()
        assert curve.value.tolist() == expected["voltage"].tolist()
        assert other.latest["voltage"] == (34.0, 3.5, "ok")
        exported = other.rows_between(5.0, 32.0)
        assert exported["record_index"].tolist() == expected["record_index"][5:43].tolist()


def test_an_export_holds_every_column_and_the_joined_readings(
    written: Written, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "CHUNK", 7)
    rows = [make_sample(10.0 * n, step_count=1 + n // 20) for n in range(50)]
    readings = [pressure(10.0 * n + 1.0, 1e6 + n) for n in range(0, 20, 2)]
    bad = pressure(195.0, 9e6, Status.OVERLOAD)
    written.run(*rows, *readings, bad)
    view = RecordView(written.folder)
    view.update()
    record = Record.open(written.folder)
    expected = record.samples()
    for start, end, first, stop in ((None, None, 0, 50), (95.0, 300.0, 10, 31), (1e4, 2e4, 0, 0)):
        found = view.rows_between(start, end)
        assert set(found) == {*expected, "pressure"}
        for name, values in expected.items():
            assert found[name].tolist() == values[first:stop].tolist(), name
            assert found[name].dtype.kind == values.dtype.kind
        joined = record.joined("pressure", 60.0)[first:stop]
        np.testing.assert_array_equal(found["pressure"], joined)


def test_a_viewer_sees_what_a_recorder_with_a_thread_writes_and_lets_it_close(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    """A viewer beside the event loop, in a thread, as fast as it can."""
    folder, stop = tmp_path / "r", threading.Event()
    times: list[float] = []
    faults: list[BaseException] = []
    view = RecordView(folder)

    def watch() -> None:
        try:
            while True:
                ending = stop.is_set()
                fresh = view.update()
                times.extend(fresh.quantities.get("voltage", ([], []))[0])
                view.curves(OF_SAMPLES, bins=10)
                view.loops()
                if ending:
                    return
        except BaseException as error:  # told to the test
            faults.append(error)

    async def scenario() -> None:
        recorder = SqliteRecorder(folder, manifest, inline=False)
        for n in range(3000):
            recorder.sample(make_sample(float(n), voltage=3.0 + 1e-4 * n))
            if n % 100 == 0:
                await recorder.journal(Entry.NOTE, float(n), {})
                await asyncio.sleep(0)
        await recorder.close()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        run(scenario())
    finally:
        stop.set()
        thread.join()
    assert faults == []
    assert times == list(map(float, range(3000)))
    assert Record.open(folder).closed


WRITER = """
import sys
from operando.instruments.clock import run
from operando.instruments.recorder import Entry
from operando.instruments.samples import Origin, Regulation, Sample, Status
from operando.records import SqliteRecorder

async def main():
    recorder = SqliteRecorder(
        sys.argv[1], {"started": "2026-01-01T00:00:00+00:00", "simulated": True}, inline=False
    )
    n = 0
    while True:
        for _ in range(100):
            recorder.sample(Sample(
                float(n), 0.0, 0.0, 3.7, 1e-3, 0.0, 0.0, 0.0, 0.0, 1, 1, 1,
                Regulation.CURRENT, Status.OK, Origin.POLL,
            ))
            n += 1
        await recorder.journal(Entry.NOTE, float(n), {})
        print(n, flush=True)

run(main())
"""


@pytest.mark.sockets
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_record_is_followed_from_another_process_and_past_the_death_of_its_writer(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "r"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", WRITER, str(folder)]
    view = RecordView(folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            told = int(writer.stdout.readline())
            view.update()
            assert view.rows >= told
        writer.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    view.update()
    assert Record.open(folder).state == "killed"
    assert view.rows >= told
    assert view.curves(["voltage"], bins=10**6)["voltage"].time.tolist() == list(range(view.rows))


def test_a_damaged_record_is_told(written: Written, make_sample: MakeSample) -> None:
    written.run(*(make_sample(float(n)) for n in range(10)))
    with sqlite3.connect(written.folder / "record.sqlite") as connection:
        connection.execute("DELETE FROM samples WHERE record_index = 4")
    connection.close()
    with pytest.raises(RecordError, match="expected rows 1 to 10, found 9"):
        RecordView(written.folder).update()


def test_regulation_is_read_where_a_step_was_at_open_circuit(
    written: Written, make_sample: MakeSample
) -> None:
    rows = [make_sample(float(n), regulation=Regulation.OPEN) for n in range(5)]
    written.run(*rows, make_sample(5.0))
    view = RecordView(written.folder)
    view.update()
    assert view.driven([(1, 6), (1, 7), (6, 7)]) == [False, True, True]


def test_a_look_that_failed_half_way_reads_nothing_twice(
    written: Written, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = view_module._status

    def failing(connection: sqlite3.Connection, table: str, row: int) -> str:
        if table == "aux":
            raise sqlite3.OperationalError("disk I/O error")
        return honest(connection, table, row)

    written.run(make_sample(0.0), make_sample(1.0), pressure(0.5, 5e6))
    view = RecordView(written.folder)
    with monkeypatch.context() as patch:
        patch.setattr(view_module, "_status", failing)
        with pytest.raises(RecordError, match="disk I/O error"):
            view.update()
    fresh = view.update()
    assert not fresh.complete
    assert view.update().complete
    assert (view.rows, len(view.curves(["voltage"])["voltage"].time)) == (2, 2)
    assert view.curves(["pressure"])["pressure"].value.tolist() == [5e6]
