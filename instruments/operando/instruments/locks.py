"""One owner per instrument: an exclusive lock per address, released by the system on death.

The lock is held by an open file, so it ends with the process, however that dies. A child that is
forked (not spawned) while it is held shares it and keeps it: start helpers as new programs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import stat
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from operando.instruments.addresses import parse_address
from operando.instruments.errors import AddressInUseError, BadInputError

ENVIRONMENT = "OPERANDO_RUNTIME_DIR"
"""Variable that names the folder of locks; accounts that share instruments must share it."""


def runtime_directory() -> Path:
    """Folder for locks and sockets, made when absent with access for its owner alone.

    `OPERANDO_RUNTIME_DIR`, else `XDG_RUNTIME_DIR`/operando, else a folder of this user in the
    system's temporary one. Raises BadInputError when it cannot be used or belongs to others.
    """
    chosen = os.environ.get(ENVIRONMENT)
    session = os.environ.get("XDG_RUNTIME_DIR")
    if chosen:
        path = Path(chosen).absolute()
    elif session:
        path = Path(session) / "operando"
    else:
        user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
        path = Path(tempfile.gettempdir()) / f"operando-{user}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat() if chosen else path.lstat()
    except OSError as error:
        raise BadInputError(
            f"the runtime folder {path} cannot be made ({error.strerror}); set {ENVIRONMENT} to a "
            "folder that can be written"
        ) from None
    if not chosen and hasattr(os, "getuid"):
        foreign = status.st_uid != os.getuid() or bool(status.st_mode & 0o022)
        if not stat.S_ISDIR(status.st_mode) or foreign:
            raise BadInputError(
                f"the runtime folder {path} does not belong to this user alone; remove it, or set "
                f"{ENVIRONMENT}"
            )
    return path


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock. pid: process. command: its command line. since: UTC, ISO 8601."""

    pid: int
    command: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}) since {self.since}"


class AddressLock:
    """Exclusive use of one address; a context manager.

    address: as the bench file writes it. directory: of the lock files, `runtime_directory()`
    when None. Different spellings of one place share a lock.
    """

    def __init__(self, address: str, directory: Path | None = None) -> None:
        self.address = address
        folder = runtime_directory() if directory is None else directory
        digest = hashlib.sha256(parse_address(address).key.encode()).hexdigest()[:24]
        self._sidecar = folder / f"{digest}.json"
        self._lock = filelock.FileLock(folder / f"{digest}.lock", thread_local=False)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    @property
    def owner(self) -> Owner | None:
        """Who last said to hold the lock; None when nobody did or the note cannot be read."""
        try:
            note = json.loads(self._sidecar.read_text(encoding="utf-8"))
            return Owner(int(note["pid"]), str(note["command"]), str(note["since"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def acquire(self) -> None:
        """Take the lock at once. Raises AddressInUseError naming the owner."""
        if self.held:
            raise AddressInUseError(f"{self.address} is already locked by this object")
        try:
            self._lock.acquire(timeout=0.0)
        except filelock.Timeout:
            owner = self.owner or "a process that did not leave its name (it may be starting)"
            raise AddressInUseError(
                f"{self.address} is in use by {owner}. Nothing was written to the instrument. Stop "
                "that process, or wait until it ends"
            ) from None
        except OSError as error:
            raise BadInputError(
                f"the lock file {self._lock.lock_file} cannot be used ({error.strerror}); set "
                f"{ENVIRONMENT} to a folder that can be written"
            ) from None
        try:
            self._write_note()
        except OSError as error:
            self.release()
            raise BadInputError(
                f"{self._sidecar} cannot be written ({error.strerror}); set {ENVIRONMENT} to a "
                "folder that can be written"
            ) from None

    def _write_note(self) -> None:
        note = {
            "address": self.address,
            "pid": os.getpid(),
            "command": shlex.join([sys.executable, *sys.argv])[:500],
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # Replaced as a whole, so that a second taker never reads half of it.
        fresh = self._sidecar.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(note), encoding="utf-8")
        fresh.replace(self._sidecar)

    def release(self) -> None:
        """Give the lock back; idempotent."""
        if self.held:
            with contextlib.suppress(OSError):
                self._sidecar.unlink()
            self._lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
