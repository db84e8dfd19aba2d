"""Files that appear whole or not at all, and the lock that says whether a writer lives."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Does nothing where folders cannot be synced."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class WriterLock:
    """A file lock that the operating system drops when its owner dies.

    Making it claims the folder: raises FileExistsError if the file is there already. inherited:
    take over the file of a writer that died, if there is one. Raises OSError if it lives.
    """

    def __init__(self, path: Path, *, inherited: bool = False) -> None:
        self._path = path
        flags = os.O_CREAT | os.O_RDWR | (0 if inherited else os.O_EXCL)
        self._descriptor = os.open(path, flags, 0o644)
        try:
            # A reader that looks at this very moment holds the lock for an instant.
            for _ in range(1000):
                if _try_lock(self._descriptor, shared=False):
                    return
                time.sleep(0.001)
            raise OSError(errno.EAGAIN, "the lock is held by another process", str(path))
        except OSError:
            if inherited:  # it is its owner's
                os.close(self._descriptor)
            else:
                self.release()
            raise

    def release(self) -> None:
        """Drop the lock and remove its file; idempotent."""
        if self._descriptor >= 0:
            if sys.platform != "win32":
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1
            if sys.platform == "win32":
                self._path.unlink(missing_ok=True)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the `WriterLock` at `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int, *, shared: bool) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        if shared:
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return True

else:
    import fcntl

    def _try_lock(descriptor: int, *, shared: bool) -> bool:
        # flock, not lockf: lockf is dropped as soon as anything in the process closes the file.
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
