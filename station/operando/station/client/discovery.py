"""Where a station is found: a note that its user alone can read.

Notes lie in a folder of each user's own, also where accounts share the runtime folder with its
locks of instruments. A station holds a lock beside its note for as long as it lives, so that a
note which a killed station left behind is not taken for a station.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from operando.instruments.errors import BadInputError
from operando.instruments.locks import ENVIRONMENT, runtime_directory

DEFAULT_PORT = 8250
"""Port of a station that was not told another one."""


LOOK = 1.0
"""Wall s for which those who look for a station may stand in the way of one that starts."""

GLANCE = 0.1
"""Wall s for which a lock must resist before it counts as held, where it can only be tried."""

_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Neither a link is followed nor a pipe waited for."""


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
    """Folder of this user's notes. Raises BadInputError when others could look into it."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = runtime_directory() / f"stations-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        problem = error.strerror
    else:
        problem = _what_is_wrong(status)
    if problem:
        raise BadInputError(
            f"{folder} must be a folder of this user alone, because the tokens of stations lie "
            f"there ({problem}); remove it, or set {ENVIRONMENT} to another folder"
        )
    return folder


def _what_is_wrong(status: os.stat_result) -> str:
    if not stat.S_ISDIR(status.st_mode):
        return "it is a link or a file"
    if hasattr(os, "getuid"):
        if status.st_uid != os.getuid():
            return f"it belongs to user {status.st_uid}"
        if status.st_mode & 0o077:
            return f"others have access, mode {stat.S_IMODE(status.st_mode):o}"
    return ""


def _files(url: str) -> tuple[Path, Path]:
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    folder = _folder()
    return folder / f"{name}.json", folder / f"{name}.lock"


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
        path.unlink(missing_ok=True)  # that of a killed station, which must not seem alive again
        _write(path, note)
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _write(path: Path, note: StationNote) -> None:
    """Write a note that is there as a whole, in a file that nobody has opened before."""
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _PLAIN, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(note), file)
    fresh.replace(path)


def stations() -> list[StationNote]:
    """Notes of the stations of this user that are alive, sorted by URL."""
    living = [path for path in _folder().glob("*.json") if is_held(path.with_suffix(".lock"))]
    found = [note for note in map(_read, living) if note is not None]
    return sorted(found, key=lambda note: note.url)


def _read(path: Path) -> StationNote | None:
    """A note of this user; None when it is gone, cannot be read or is somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | _PLAIN)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            status = os.fstat(descriptor)
            if hasattr(os, "getuid") and status.st_uid != os.getuid():
                return None
            return StationNote(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def station_at(url: str) -> StationNote | None:
    """The note for a URL, if its station is alive."""
    return next((note for note in stations() if note.url == url.rstrip("/")), None)


def station_of(bench: Path) -> StationNote | None:
    """The station that owns a bench file, if one is alive."""
    wanted = str(bench.resolve())
    return next((note for note in stations() if note.bench == wanted), None)


def is_held(lock: Path) -> bool:
    """Whether a living process holds the lock of this file.

    However many look at once, they do not take each other for its holder: a lock that is shared
    is refused by the holder's alone. Where there is none, the lock is tried for `GLANCE`.
    """
    if sys.platform == "win32":
        return _resists(lock)
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | _PLAIN)
    except OSError:
        return False  # gone, or not ours
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno != errno.ENOSYS or _resists(lock)
    finally:
        os.close(descriptor)
    return False


def _resists(path: Path) -> bool:
    lock = filelock.FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=GLANCE, poll_interval=0.01)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False
