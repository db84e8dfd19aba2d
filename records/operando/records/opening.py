"""How a writer gets hold of a record: a new folder, or that of a writer that died."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from operando.instruments.errors import RecordError
from operando.instruments.recorder import JSON, Entry
from operando.records import schema
from operando.records.files import WriterLock, sync_folder, write_atomically
from operando.records.verification import verify


@dataclass(frozen=True)
class Opened:
    """A record that is ours to write. samples, aux, entries: rows that it has.

    link: last of the journal's chain. latest: s of the run, of its last row.
    """

    lock: WriterLock
    connection: sqlite3.Connection
    samples: int
    aux: int
    entries: int
    link: str
    latest: float


def make(folder: Path, manifest: Mapping[str, JSON]) -> Opened:
    """Make an empty record. Raises RecordError if the folder is in use or cannot be written."""
    lock = _claim(folder)
    try:
        connection = _create(folder, manifest)
    except (OSError, sqlite3.Error) as error:
        for name in schema.FILES:
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        lock.release()
        raise RecordError(
            f"{folder}: the record could not be made: {error}. Nothing has been run. "
            "Check the free space and the permissions of the folder."
        ) from error
    except BaseException:
        lock.release()
        raise
    return Opened(lock, connection, 0, 0, 0, schema.first_link(manifest), 0.0)


def take_over(folder: Path, manifest: Mapping[str, JSON]) -> Opened:
    """Go on with a record whose writer died. Raises RecordError if there is nothing to go on with.

    It must be intact as far as it goes, its run must not have ended, and nobody may be writing it.
    """
    if (folder / schema.CHECKSUMS).exists():
        raise RecordError(f"{folder}: the record is closed; its run cannot be resumed.")
    try:
        lock = WriterLock(folder / schema.LOCK, inherited=True)
    except OSError as error:
        raise RecordError(
            f"{folder}: the record cannot be taken over ({error}). If its writer lives, resume the "
            "run there."
        ) from error
    try:
        found = verify(folder)
        if not found:
            raise RecordError(f"{found}\nA damaged record is not written into any more.")
        connection = sqlite3.connect(
            folder / schema.DATABASE, isolation_level=None, check_same_thread=False
        )
        try:
            return _continued(folder, lock, connection, manifest)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        lock.release()
        raise RecordError(f"{folder}: the database cannot be opened: {error}.") from error
    except BaseException:
        lock.release()
        raise


def _continued(
    folder: Path, lock: WriterLock, connection: sqlite3.Connection, manifest: Mapping[str, JSON]
) -> Opened:
    (ended,) = connection.execute(
        "SELECT COUNT(*) FROM journal WHERE kind = ?", (Entry.RUN_ENDED.value,)
    ).fetchone()
    if ended:
        raise RecordError(f"{folder}: the run has ended; there is nothing to resume.")
    connection.execute("PRAGMA synchronous = NORMAL")
    samples, last_sample = connection.execute(
        "SELECT COUNT(*), MAX(test_time_second) FROM samples"
    ).fetchone()
    aux, last_aux = connection.execute("SELECT COUNT(*), MAX(test_time_second) FROM aux").fetchone()
    last = connection.execute(
        "SELECT seq, hash, test_time_second FROM journal ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    entries, link, noted = last or (0, schema.first_link(manifest), 0.0)
    latest = max(last_sample or 0.0, last_aux or 0.0, noted or 0.0)
    return Opened(lock, connection, samples, aux, entries, link, latest)


def _claim(folder: Path) -> WriterLock:
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in made:
            # A synced file is of no use in a folder whose own name a power cut takes back.
            sync_folder(path.parent)
        if any(folder.iterdir()):
            raise RecordError(
                f"{folder}: the folder is not empty. A record is never written into twice; "
                "choose another folder."
            )
        return WriterLock(folder / schema.LOCK)
    except FileExistsError as error:
        raise RecordError(
            f"{folder}: another recorder, or a file, is in the way. Choose another folder."
        ) from error
    except OSError as error:
        raise RecordError(
            f"{folder}: the folder of the record could not be made: {error}. "
            "Check the path and its permissions."
        ) from error


def _create(folder: Path, manifest: Mapping[str, JSON]) -> sqlite3.Connection:
    connection = sqlite3.connect(
        folder / schema.DATABASE, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN")
        for statement in schema.CREATE:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous = NORMAL")
        # Last, because a folder is a record once it has a manifest.
        write_atomically(folder / schema.MANIFEST, schema.encode_manifest(manifest).encode())
    except BaseException:
        connection.close()
        raise
    return connection
