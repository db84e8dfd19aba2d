"""The reader of a record: samples, joins, steps, states."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from operando.instruments.clock import run
from operando.instruments.errors import RecordError
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Origin, Sample, Status
from operando.records import Gap, JournalEntry, Record, SqliteRecorder, find_records

MakeSample = Callable[..., Sample]
Manifest = dict[str, JSON]


def write(folder: Path, manifest: Manifest, *actions: object, close: bool = True) -> Record:
    async def scenario() -> None:
        recorder = SqliteRecorder(folder, manifest, inline=True)
        for action in actions:
            if isinstance(action, Sample):
                recorder.sample(action)
            elif isinstance(action, AuxReading):
                recorder.aux(action)
            elif isinstance(action, tuple):
                await recorder.journal(*action)
        await recorder.close()

    run(scenario(), virtual=True)
    return Record.open(folder)


def pressure(time: float, value: float, status: Status = Status.OK, by: str = "lc1") -> AuxReading:
    return AuxReading(by, "pressure", time, 0.01, value, status)


def started(index: int, time: float, **data: JSON) -> tuple[Entry, float, dict[str, JSON]]:
    content: dict[str, JSON] = {
        "index": index, "step_id": 4, "cycle": 2, "label": "charge", "kind": "ConstantCurrent",
        "step": {"current": 1e-3}, "hash": "abc",
    }  # fmt: skip
    return Entry.STEP_STARTED, time, {**content, **data}


def ended(index: int, time: float, reason: str = "condition") -> tuple[Entry, float, Manifest]:
    return (
        Entry.STEP_ENDED,
        time,
        {"index": index, "reason": reason, "condition": "voltage >= 4.2 V", "duration": 9.5,
         "charge": 0.1, "energy": 0.4},
    )  # fmt: skip


def test_samples_can_be_chosen_by_step_cycle_and_column(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    rows = [make_sample(float(n), step_count=1 + n // 3, cycle=1 + n // 6) for n in range(9)]
    record = write(tmp_path / "r", manifest, *rows)
    assert record.samples(step=2)["time"].tolist() == [3.0, 4.0, 5.0]
    assert record.samples(cycle=2)["time"].tolist() == [6.0, 7.0, 8.0]
    assert len(record.samples(step=1, cycle=2)["time"]) == 0
    chosen = record.samples(columns=["voltage", "regulation"])
    assert list(chosen) == ["voltage", "regulation"]
    assert chosen["regulation"].tolist() == ["current"] * 9
    assert record.samples()["record_index"].tolist() == list(range(1, 10))
    with pytest.raises(ValueError, match="samples have no colour"):
        record.samples(columns=["colour"])


def test_downloaded_rows_replace_the_polled_ones_of_their_step(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    polled = [make_sample(float(n), step_count=1 + n // 2) for n in range(6)]
    down = [make_sample(t, step_count=2, origin=Origin.INSTRUMENT) for t in (2.25, 2.5, 3.25)]
    record = write(tmp_path / "r", manifest, *polled, *down)
    assert record.samples()["time"].tolist() == [0.0, 1.0, 2.25, 2.5, 3.25, 4.0, 5.0]
    assert len(record.samples(as_written=True)["time"]) == 9


def test_rows_with_stamps_that_differ_by_rounding_stay_in_their_steps(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    rows = [make_sample(1.0 + 1e-12), make_sample(1.0, step_count=2), make_sample(2.0)]
    record = write(tmp_path / "r", manifest, *rows)
    assert record.samples()["step_count"].tolist() == [1, 1, 2]


def test_a_join_takes_the_last_valid_value_within_its_age(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    record = write(
        tmp_path / "r", manifest, *[make_sample(float(n)) for n in range(9)],
        pressure(5.0, 5.5e6, Status.UNSTABLE), pressure(1.0, 5e6), pressure(6.5, 9e9, Status.FAULT),
        pressure(7.5, math.nan),
    )  # fmt: skip
    nan = math.nan
    expected = [nan, 5e6, 5e6, 5e6, nan, 5.5e6, 5.5e6, nan, nan]
    np.testing.assert_array_equal(record.joined("pressure", max_age=2.0), expected)
    assert np.isnan(record.joined("h2o", max_age=2.0)).all()
    at = np.array([1.5, nan, 100.0])
    np.testing.assert_array_equal(record.joined("pressure", 2.0, times=at), [5e6, nan, nan])


def test_two_sources_of_one_quantity_must_be_chosen_from(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    rows = (make_sample(1.0), pressure(1.0, 1e6), pressure(1.0, 2e6, by="lc2"))
    record = write(tmp_path / "r", manifest, *rows)
    assert record.quantities() == (("lc1", "pressure"), ("lc2", "pressure"))
    with pytest.raises(RecordError, match=r"measured by lc1, lc2.*Choose"):
        record.joined("pressure", 1.0)
    assert record.joined("pressure", 1.0, source="lc2").tolist() == [2e6]
    assert record.aux("pressure", source="lc1")["value"].tolist() == [1e6]


def test_steps_have_their_outcomes_or_say_that_they_have_none(
    tmp_path: Path, manifest: Manifest
) -> None:
    record = write(
        tmp_path / "r", manifest, started(1, 0.0), ended(1, 10.0), started(2, 10.0),
        started(1, 10.5), ended(1, 11.0, "resumed"),
    )  # fmt: skip
    first, second = record.steps()
    assert (first.index, first.step_id, first.cycle, first.label) == (1, 4, 2, "charge")
    assert (first.kind, first.step, first.hash) == ("ConstantCurrent", {"current": 1e-3}, "abc")
    assert (first.start, first.end, first.reason) == (0.0, 11.0, "resumed")
    assert (first.duration, first.charge, first.energy) == (9.5, 0.1, 0.4)
    assert first.condition == "voltage >= 4.2 V"
    assert first.ended
    assert not second.ended
    assert second.reason is None
    assert math.isnan(second.end)
    assert math.isnan(second.charge)


def test_gaps_and_limits_are_told(tmp_path: Path, manifest: Manifest) -> None:
    record = write(
        tmp_path / "r", manifest,
        (Entry.GAP, 9.0, {"start": 7.0, "end": 9.0, "reason": "suspended", "charge_bound": 0.5}),
        (Entry.GAP, 9.0, {"start": 3.0, "end": 4.0, "reason": "link lost", "charge_bound": None}),
        (Entry.LIMIT, 5.0, {"name": "hot", "when": "temperature > 333 K", "action": "trip",
                            "value": 334.0}),
    )  # fmt: skip
    first, second = record.gaps()
    assert second == Gap(7.0, 9.0, "suspended", 0.5)
    assert math.isnan(first.charge_bound)
    (limit,) = record.limits
    assert (limit.name, limit.time, limit.action, limit.value) == ("hot", 5.0, "trip", 334.0)


@pytest.mark.parametrize("state", ["completed", "tripped", "aborted", "faulted", "held", "refused"])
def test_the_state_is_that_of_the_last_entry_of_the_run(
    tmp_path: Path, manifest: Manifest, state: str
) -> None:
    record = write(tmp_path / "r", manifest, (Entry.RUN_ENDED, 1.0, {"state": state}))
    assert record.state == state


def test_an_outcome_that_is_not_known_counts_as_faulted(tmp_path: Path, manifest: Manifest) -> None:
    record = write(tmp_path / "r", manifest, (Entry.RUN_ENDED, 1.0, {"state": "fine"}))
    assert record.state == "faulted"


def test_a_run_that_ends_between_two_looks_was_not_killed(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        record = Record.open(tmp_path / "r")
        found = record.journal
        looks: list[tuple[Entry, ...]] = []

        def journal(*kinds: Entry) -> list[JournalEntry]:
            try:
                return found(*kinds)
            finally:
                # What the writer does at its end, at the worst moment.
                looks.append(kinds)
                recorder._lock.release()

        monkeypatch.setattr(record, "journal", journal)
        assert record.state == "running"
        assert looks
        await recorder.close()

    run(scenario(), virtual=True)


@pytest.mark.parametrize(("said", "simulated"), [(True, True), (False, False), (None, True)])
def test_data_that_are_not_said_to_be_measured_count_as_simulated(
    tmp_path: Path, manifest: Manifest, said: bool | None, simulated: bool
) -> None:
    record = write(tmp_path / "r", {**manifest, "simulated": said})
    assert record.simulated is simulated


def test_the_views_answer_plain_sql(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    write(
        tmp_path / "r", manifest, started(1, 0.0), make_sample(0.0), ended(1, 10.0),
        started(2, 10.0), (Entry.EDIT, 11.0, {"what": "until"}), (Entry.ALARM, 11.0, {}),
        (Entry.GAP, 9.0, {"start": 7.0, "end": 9.0, "reason": "x", "charge_bound": 0.5}),
        (Entry.LIMIT, 5.0, {"name": "hot", "when": "w", "action": "trip", "value": math.inf}),
    )  # fmt: skip
    connection = sqlite3.connect(tmp_path / "r" / "record.sqlite")
    try:
        steps = connection.execute(
            "SELECT step_count, label, start_second, end_second, net_charge_coulomb FROM steps"
        ).fetchall()
        assert steps == [(1, "charge", 0.0, 10.0, 0.1), (2, "charge", 10.0, None, None)]
        assert connection.execute('SELECT "start", "end" FROM gaps').fetchall() == [(7.0, 9.0)]
        limits = connection.execute("SELECT name, action, value FROM limits").fetchall()
        assert limits == [("hot", "trip", math.inf)]
        assert connection.execute("SELECT COUNT(*) FROM edits").fetchone() == (1,)
        assert connection.execute("SELECT COUNT(*) FROM alarms").fetchone() == (1,)
        assert connection.execute("SELECT COUNT(*) FROM spectra").fetchone() == (0,)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute("DELETE FROM journal")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute("UPDATE journal SET data = '{}'")
    finally:
        connection.close()


def test_reading_a_closed_record_leaves_its_folder_as_it_was(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    record = write(tmp_path / "r", manifest, make_sample(0.0))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "r").iterdir()}
    assert len(record.samples()["time"]) == 1
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "r").iterdir()} == before


def test_a_connected_viewer_does_not_keep_the_record_from_closing_whole(
    tmp_path: Path, manifest: Manifest, make_sample: MakeSample
) -> None:
    async def scenario() -> None:
        recorder = SqliteRecorder(tmp_path / "r", manifest, inline=True)
        recorder.sample(make_sample(0.0))
        await recorder.flush()
        viewer = sqlite3.connect(tmp_path / "r" / "record.sqlite")
        try:
            assert viewer.execute("SELECT COUNT(*) FROM samples").fetchone() == (1,)
            await recorder.close()
            record = Record.open(tmp_path / "r")
            assert record.closed
            assert len(record.samples()["time"]) == 1
        finally:
            viewer.close()
        assert len(record.samples()["time"]) == 1

    run(scenario(), virtual=True)


def test_records_are_found_below_a_folder(tmp_path: Path, manifest: Manifest) -> None:
    for name in ("b", "a/x"):
        write(tmp_path / name, manifest)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "manifest.json").write_text("{}")
    write(tmp_path / "d", manifest)
    (tmp_path / "d" / "manifest.json").unlink()
    assert find_records(tmp_path) == [tmp_path / "a" / "x", tmp_path / "b"]
    assert find_records(tmp_path / "nowhere") == []


def test_what_is_not_a_record_is_refused_by_name(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(RecordError, match=r"there is no manifest\.json"):
        Record.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RecordError, match=r"manifest\.json: the manifest cannot be read"):
        Record.open(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(RecordError, match="expected a JSON object, found list"):
        Record.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(RecordError, match=r"there is no record\.sqlite"):
        Record.open(tmp_path)
    (tmp_path / "record.sqlite").write_text("no database" * 100)
    with pytest.raises(RecordError, match=r"record\.sqlite: the database cannot be read"):
        Record.open(tmp_path)
    write(tmp_path / "r", manifest)
    connection = sqlite3.connect(tmp_path / "r" / "record.sqlite")
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(RecordError, match="expected schema 1, found 9"):
        Record.open(tmp_path / "r")
