"""Is a record whole and unaltered, and is it the same as another one?"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from operando.instruments.errors import RecordError
from operando.instruments.recorder import JSON
from operando.records import schema
from operando.records.reader import Record, read_manifest

_ROUNDING = 1e-6
"""Stamps of the same moment may differ by this much, s."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `bool()` of it says whether all is well.

    problems: in words, each beginning with the file. damaged: names of the files concerned.
    closed: whether there were checksums to compare; without them (running, killed) only the
    journal's chain and the database's own structure could be checked.
    samples, aux, journal: rows found.
    """

    folder: Path
    problems: tuple[str, ...]
    damaged: tuple[str, ...]
    closed: bool
    samples: int
    aux: int
    journal: int

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        counts = f"{self.samples} samples, {self.aux} other readings, {self.journal} entries"
        if self.problems:
            return "\n".join([f"{self.folder}: DAMAGED ({counts})", *self.problems])
        what = "intact" if self.closed else "intact as far as it goes: it was never closed"
        return f"{self.folder}: {what} ({counts})"


class _Findings:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.damaged: list[str] = []

    def add(self, file: str, problem: str) -> None:
        self.problems.append(f"{file}: {problem}")
        if file not in self.damaged:
            self.damaged.append(file)


def verify(folder: Path | str) -> Verification:
    """Check a record: checksums, database structure, journal chain, counts, order of time.

    Damage is reported, not raised. Raises RecordError only if the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder}: there is no such folder.")
    found = _Findings()
    closed = _check_sums(folder, found)
    counts = {"samples": 0, "aux": 0, "journal": 0}
    manifest: Mapping[str, JSON] = {}
    try:
        manifest = read_manifest(folder)
    except RecordError as error:
        found.add(schema.MANIFEST, str(error))
    try:
        record = Record(folder, manifest)
        for (answer,) in record.rows("PRAGMA integrity_check"):
            if answer != "ok":
                found.add(schema.DATABASE, str(answer))
        for table in counts:
            counts[table] = int(record.rows(f"SELECT COUNT(*) FROM {table}")[0][0])
        if not (folder / schema.MANIFEST).exists() and not any(counts.values()):
            found.add(
                schema.DATABASE,
                "nothing was ever recorded: the writer died while it made the record. The folder "
                "can be deleted.",
            )
        _check_chain(record, counts, found)
        _check_times(record, found)
    except (RecordError, sqlite3.Error, ValueError, TypeError) as error:
        found.add(schema.DATABASE, str(error))
    problems, damaged = tuple(found.problems), tuple(found.damaged)
    return Verification(folder, problems, damaged, closed, **counts)


def _check_sums(folder: Path, found: _Findings) -> bool:
    path = folder / schema.CHECKSUMS
    try:
        sums = json.loads(path.read_bytes())["files"]
        expected = {str(name): str(digest) for name, digest in sums.items()}
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found.add(schema.CHECKSUMS, f"cannot be read: {error}")
        return True
    for name, digest in expected.items():
        try:
            actual = schema.sha256_of(folder / name)
        except OSError as error:
            found.add(name, f"cannot be read: {error}")
            continue
        if actual != digest:
            found.add(name, f"expected SHA-256 {digest}, found {actual}")
    return True


def _check_chain(record: Record, counts: Mapping[str, int], found: _Findings) -> None:
    link = schema.first_link(record.manifest)
    rows = record.rows(
        "SELECT seq, test_time_second, unix_time_second, kind, data, samples, aux, hash "
        "FROM journal ORDER BY seq"
    )
    before = {"samples": 0, "aux": 0}
    for expected, (*content, digest) in enumerate(rows, start=1):
        seq, *_, samples, aux = content
        if seq != expected:
            found.add(schema.DATABASE, f"journal entry {expected} is missing")
            return
        if schema.next_link(link, content) != digest:
            follows = "the manifest" if seq == 1 else f"entry {seq - 1}"
            found.add(schema.DATABASE, f"journal entry {seq} does not follow from {follows}")
            return
        link = digest
        before = {"samples": samples, "aux": aux}
    for table, count in before.items():
        if counts[table] < count:
            found.add(
                schema.DATABASE,
                f"the journal counted {count} rows in {table}, {counts[table]} are there",
            )
    for table in before:
        key = schema.TABLES[table]
        (highest,) = record.rows(f"SELECT COALESCE(MAX({key}), 0) FROM {table}")[0]
        if highest != counts[table]:
            missing = highest - counts[table]
            found.add(schema.DATABASE, f"{missing} rows in {table} are missing")


def _check_times(record: Record, found: _Findings) -> None:
    rows = record.samples(as_written=True, columns=["record_index", "time", "step_count", "origin"])
    polled = rows["origin"] == "poll"
    groups = [("polled samples", polled)]
    groups += [
        (f"downloaded samples of step {step}", ~polled & (rows["step_count"] == step))
        for step in np.unique(rows["step_count"][~polled])
    ]
    for name, which in groups:
        time = rows["time"][which]
        backwards = np.flatnonzero(time[1:] < time[:-1] - _ROUNDING)
        if backwards.size:
            row = rows["record_index"][which][backwards[0] + 1]
            found.add(schema.DATABASE, f"{name} go back in time at row {row}")


def canonical_dump(folder: Path | str) -> bytes:
    """All tables and the manifest as UTF-8 text, a row a line, to be compared byte for byte.

    The manifest's `FIELDS_OF_THE_OCCASION` are left out. Numbers are written so that they read
    back exactly. In virtual time the same seed gives the same dump.
    """
    record = Record.open(folder)
    lines = [f"manifest {schema.canonical_manifest(record.manifest)}"]
    for table, key in schema.TABLES.items():
        rows = record.rows(f"SELECT * FROM {table} ORDER BY {key}")
        lines += [f"{table} {schema.encode(row)}" for row in rows]
    return ("\n".join(lines) + "\n").encode()
