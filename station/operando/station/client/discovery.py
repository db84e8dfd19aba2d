"""Where a station is found: a note in the runtime folder that its owner alone can read.

A station holds a lock beside its note for as long as it lives, so that a note which a killed
station left behind is not taken for a station.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from operando.instruments.errors import BadInputError
from operando.instruments.locks import runtime_directory

DEFAULT_PORT = 8250
"""Port of a station that was not told another one."""


LOOK = 1.0
"""Wall s for which those who look for a station may stand in the way of one that starts."""


@dataclass(frozen=True, slots=True)
class StationNote:
    """How to reach a station. url: http://127.0.0.1:PORT. token: what lets a client in.

    bench: path of its bench file, absolute. pid: its process.
    """

    url: str
    token: str
    bench: str
    pid: int


def _folder() -> Path:
    folder = runtime_directory() / "stations"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _files(url: str) -> tuple[Path, Path]:
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    return _folder() / f"{name}.json", _folder() / f"{name}.lock"


@contextlib.contextmanager
def announced(note: StationNote) -> Iterator[Path]:
    """Leave the note while the context lasts; gives its path.

    Raises BadInputError when a living station has left one for the same URL.
    """
    path, lock_path = _files(note.url)
    lock = filelock.FileLock(lock_path, thread_local=False)
    try:
        # Whoever looks for a station holds its lock for an instant.
        lock.acquire(timeout=LOOK, poll_interval=0.01)
    except filelock.Timeout:
        raise BadInputError(
            f"a station runs at {note.url} already; end it, or choose another --port"
        ) from None
    try:
        fresh = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(note), file)
        fresh.replace(path)
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def stations() -> list[StationNote]:
    """Notes of the stations of this user that are alive, sorted by URL."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            note = StationNote(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if _is_alive(note):
            found.append(note)
    return sorted(found, key=lambda note: note.url)


def station_at(url: str) -> StationNote | None:
    """The note for a URL, if its station is alive."""
    return next((note for note in stations() if note.url == url.rstrip("/")), None)


def station_of(bench: Path) -> StationNote | None:
    """The station that owns a bench file, if one is alive."""
    wanted = str(bench.resolve())
    return next((note for note in stations() if note.bench == wanted), None)


def _is_alive(note: StationNote) -> bool:
    _, lock_path = _files(note.url)
    lock = filelock.FileLock(lock_path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False
