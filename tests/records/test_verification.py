"""Damage and tampering are found and the file is named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from operando.instruments.clock import run
from operando.instruments.errors import RecordError
from operando.instruments.recorder import JSON, Entry
from operando.instruments.samples import AuxReading, Sample, Status
from operando.records import Record, SqliteRecorder, find_records, verify

Manifest = dict[str, JSON]


@pytest.fixture
def record(tmp_path: Path, manifest: Manifest, make_sample: Callable[..., Sample]) -> Path:
    """A closed record, and beside it in `killed` what a kill before the end would have left."""

    async def write() -> None:
        recorder = SqliteRecorder(tmp_path / "closed", manifest, inline=True)
        for n in range(20):
            recorder.sample(make_sample(float(n)))
            recorder.aux(AuxReading("lc1", "pressure", float(n), 0.0, 5e6, Status.OK))
            if n % 5 == 0:
                await recorder.journal(Entry.NOTE, float(n), {"n": n})
        await recorder.flush()
        shutil.copytree(tmp_path / "closed", tmp_path / "killed")
        await recorder.journal(Entry.RUN_ENDED, 20.0, {"state": "completed"})
        await recorder.close()

    run(write(), virtual=True)
    return tmp_path / "closed"


def tamper(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "record.sqlite")
    try:
        for name in ("journal_is_not_edited", "journal_is_not_shortened"):
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
        connection.commit()
    finally:
        connection.close()


def test_a_whole_record_verifies(record: Path) -> None:
    verification = verify(record)
    assert verification
    assert verification.closed
    assert (verification.samples, verification.aux, verification.journal) == (20, 20, 5)
    assert "intact (20 samples" in str(verification)
    killed = verify(record.with_name("killed"))
    assert killed
    assert not killed.closed
    assert "never closed" in str(killed)


def test_any_change_of_a_closed_file_is_seen(record: Path) -> None:
    for name in ("record.sqlite", "manifest.json"):
        path = record / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    verification = verify(record)
    assert not verification
    assert set(verification.damaged) >= {"record.sqlite", "manifest.json"}
    assert any(problem.startswith("manifest.json: expected SHA-256")
               for problem in verification.problems)  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE journal SET data = '{}' WHERE seq = 2", "entry 2 does not follow from entry 1"),
        ("UPDATE journal SET test_time_second = 5.5 WHERE seq = 2", "entry 2 does not follow"),
        ("UPDATE journal SET kind = 'alarm' WHERE seq = 4", "entry 4 does not follow"),
        ("UPDATE journal SET samples = 0 WHERE seq = 1", "entry 1 does not follow from the manif"),
        ("DELETE FROM journal WHERE seq = 3", "journal entry 3 is missing"),
        ("DELETE FROM samples WHERE record_index > 3", "counted 16 rows in samples, 3 are there"),
        ("DELETE FROM samples WHERE record_index = 18", "1 rows in samples are missing"),
        ("DELETE FROM aux WHERE aux_index = 2", "1 rows in aux are missing"),
        ("UPDATE samples SET test_time_second = 0 WHERE record_index = 9", "back in time at row 9"),
    ],
)
def test_tampering_with_a_record_that_was_never_closed_is_seen(
    record: Path, statement: str, problem: str
) -> None:
    killed = record.with_name("killed")
    tamper(killed, statement)
    verification = verify(killed)
    assert not verification
    assert verification.damaged == ("record.sqlite",)
    assert problem in str(verification)
    assert "DAMAGED" in str(verification)


def test_a_changed_manifest_breaks_the_chain_without_checksums(record: Path) -> None:
    killed = record.with_name("killed")
    path = killed / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["simulated"] = False
    path.write_text(json.dumps(manifest))
    assert "entry 1 does not follow from the manifest" in str(verify(killed))


def test_a_writer_that_died_before_the_manifest_left_nothing_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("operando.records.opening.write_atomically", die)
            with pytest.raises(Killed):
                SqliteRecorder(tmp_path / "r", {"started": "2026-01-01T00:00:00Z"}, inline=True)

    run(scenario(), virtual=True)
    assert (tmp_path / "r" / "record.sqlite").exists()
    assert find_records(tmp_path) == []
    with pytest.raises(RecordError, match="its writer died while it made the record"):
        Record.open(tmp_path / "r")
    verification = verify(tmp_path / "r")
    assert not verification
    assert "nothing was ever recorded" in str(verification)


def test_a_record_that_lost_its_manifest_is_not_said_to_be_empty(record: Path) -> None:
    (record / "manifest.json").unlink()
    assert "nothing was ever recorded" not in str(verify(record))


def test_a_missing_or_ruined_file_is_damage_and_not_an_exception(record: Path) -> None:
    (record / "record.sqlite").write_bytes(b"ruin" * 1000)
    assert "record.sqlite" in verify(record).damaged
    (record / "manifest.json").unlink()
    assert "manifest.json" in verify(record).damaged
    (record / "checksums.json").write_text("{}")
    assert "checksums.json" in verify(record).damaged
    with pytest.raises(RecordError, match="there is no such folder"):
        verify(record / "nowhere")
