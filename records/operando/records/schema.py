"""What a record looks like on disk: tables, views, the manifest, the chain of journal entries.

Columns carry the Battery Data Format's machine names where it has one in the same unit, and names
built the same way, unit last, where it has none: the record keeps charge in C and energy in J, as
they were counted, and converts when it is exported. A NaN is stored as NULL.
"""

from __future__ import annotations

import enum
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from operando.instruments.recorder import JSON, Entry

SCHEMA_VERSION: Final = 1
"""Version of everything below; `PRAGMA user_version` of the database."""

DATABASE: Final = "record.sqlite"
MANIFEST: Final = "manifest.json"
CHECKSUMS: Final = "checksums.json"
FILES: Final = (MANIFEST, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"{DATABASE}-journal")
"""What the making of a record leaves in its folder, beside the lock."""
LOCK: Final = "writer.lock"
"""Held by the writer for as long as it lives: tells a running record from a killed one."""

FIELDS_OF_THE_OCCASION: Final = frozenset(
    {"run_id", "created", "host", "user", "process", "recipe_path"}
)
"""Manifest fields that differ between two runs of the same thing: who, where, and when by the wall.

They are left out of the canonical dump and of the first link of the journal's chain, so that the
same seed gives the same bytes. `started` is not among them: in virtual time it follows from the
fixed epoch.
"""

SAMPLE_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "time": ("test_time_second", "REAL"),
    "unix_time": ("unix_time_second", "REAL"),
    "uncertainty": ("time_uncertainty_second", "REAL"),
    "voltage": ("voltage_volt", "REAL"),
    "current": ("current_ampere", "REAL"),
    "charge": ("net_charge_coulomb", "REAL"),
    "step_charge": ("step_net_charge_coulomb", "REAL"),
    "energy": ("net_energy_joule", "REAL"),
    "step_time": ("step_time_second", "REAL"),
    "step_count": ("step_count", "INTEGER"),
    "step_id": ("step_id", "INTEGER"),
    "cycle": ("cycle_count", "INTEGER"),
    "regulation": ("regulation", "TEXT"),
    "status": ("status", "TEXT"),
    "origin": ("origin", "TEXT"),
}
"""Fields of `Sample`, in its order, to column name and type."""

AUX_COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "source": ("source", "TEXT"),
    "quantity": ("quantity", "TEXT"),
    "time": ("test_time_second", "REAL"),
    "uncertainty": ("time_uncertainty_second", "REAL"),
    "value": ("value", "REAL"),
    "status": ("status", "TEXT"),
}
"""Fields of `AuxReading`, in its order, to column name and type."""

TABLES: Final[Mapping[str, str]] = {
    "samples": "record_index",
    "aux": "aux_index",
    "spectra": "spectrum_index, point_index",
    "journal": "seq",
}
"""Tables and the key that orders their rows."""


def _columns(columns: Mapping[str, tuple[str, str]]) -> str:
    return ", ".join(f"{name} {affinity}" for name, affinity in columns.values())


def _journal_view(name: str, entry: Entry, *fields: str) -> str:
    columns = "".join(f", json_extract(data, '$.{field}') AS \"{field}\"" for field in fields)
    return (
        f"CREATE VIEW {name} AS SELECT seq, test_time_second, unix_time_second{columns}, data "
        f"FROM journal WHERE kind = '{entry.value}'"
    )


CREATE: Final[tuple[str, ...]] = (
    f"CREATE TABLE samples (record_index INTEGER PRIMARY KEY, {_columns(SAMPLE_COLUMNS)})",
    f"CREATE TABLE aux (aux_index INTEGER PRIMARY KEY, {_columns(AUX_COLUMNS)})",
    "CREATE TABLE spectra (spectrum_index INTEGER, point_index INTEGER, test_time_second REAL, "
    "step_count INTEGER, cycle_count INTEGER, frequency_hertz REAL, real_impedance_ohm REAL, "
    "imaginary_impedance_ohm REAL, voltage_volt REAL, current_ampere REAL, status TEXT, "
    "PRIMARY KEY (spectrum_index, point_index))",
    "CREATE TABLE journal (seq INTEGER PRIMARY KEY, test_time_second REAL, unix_time_second REAL, "
    "kind TEXT NOT NULL, data TEXT NOT NULL, samples INTEGER NOT NULL, aux INTEGER NOT NULL, "
    "hash TEXT NOT NULL)",
    "CREATE TRIGGER journal_is_not_edited BEFORE UPDATE ON journal "
    "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
    "CREATE TRIGGER journal_is_not_shortened BEFORE DELETE ON journal "
    "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
    "CREATE VIEW steps AS SELECT "
    "json_extract(b.data, '$.index') AS step_count, json_extract(b.data, '$.step_id') AS step_id, "
    "json_extract(b.data, '$.cycle') AS cycle_count, json_extract(b.data, '$.label') AS label, "
    "json_extract(b.data, '$.kind') AS kind, b.test_time_second AS start_second, "
    "e.test_time_second AS end_second, json_extract(e.data, '$.reason') AS reason, "
    "json_extract(e.data, '$.condition') AS condition, "
    "json_extract(e.data, '$.duration') AS duration_second, "
    "json_extract(e.data, '$.charge') AS net_charge_coulomb, "
    "json_extract(e.data, '$.energy') AS net_energy_joule "
    "FROM journal AS b LEFT JOIN journal AS e ON e.seq = (SELECT MAX(x.seq) FROM journal AS x "
    f"WHERE x.kind = '{Entry.STEP_ENDED.value}' "
    "AND json_extract(x.data, '$.index') = json_extract(b.data, '$.index')) "
    f"WHERE b.kind = '{Entry.STEP_STARTED.value}'",
    _journal_view("limits", Entry.LIMIT, "name", "when", "action", "value"),
    _journal_view("alarms", Entry.ALARM),
    _journal_view("edits", Entry.EDIT),
    _journal_view("gaps", Entry.GAP, "start", "end", "reason", "charge_bound"),
)
"""Statements that make an empty database. The typed views read the journal; nothing is twice."""


def encode(value: object) -> str:
    """JSON text that every reader accepts: NaN becomes null, an infinity 1e999 (reads back as one).

    Enumerations give their value and anything unknown its repr: an entry that tells of a fault
    must not be lost to a type error.
    """
    if value is None or isinstance(value, (bool, str)):
        return json.dumps(value)
    if isinstance(value, enum.Enum):
        return encode(value.value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "null"
        if math.isinf(value):
            return "1e999" if value > 0 else "-1e999"
        return float.__repr__(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {encode(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = value if isinstance(value, (list, tuple)) else sorted(value, key=repr)
        return "[" + ", ".join(encode(item) for item in items) + "]"
    return json.dumps(repr(value))


def encode_manifest(manifest: Mapping[str, JSON]) -> str:
    """The same JSON, a field a line, for people to read."""
    lines = [f"  {json.dumps(str(key))}: {encode(value)}" for key, value in manifest.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _sorted(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _sorted(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


def canonical_manifest(manifest: Mapping[str, JSON]) -> str:
    """The manifest as one line of JSON, keys sorted, without `FIELDS_OF_THE_OCCASION`."""
    return encode(_sorted({k: v for k, v in manifest.items() if k not in FIELDS_OF_THE_OCCASION}))


def first_link(manifest: Mapping[str, JSON]) -> str:
    """The hash that the journal's first entry follows: that of the canonical manifest."""
    return hashlib.sha256(canonical_manifest(manifest).encode()).hexdigest()


def next_link(previous: str, content: Sequence[object]) -> str:
    """SHA-256 over the previous hash and an entry's content, as hexadecimal text.

    content: the entry's columns in their order, from seq to aux.
    """
    return hashlib.sha256(json.dumps([previous, *content]).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
