"""Which addresses of this computer are served by a simulation, and at what speed.

A run must share its simulation's clock and must know that its data are simulated; so each serving
process leaves a note for each address in the runtime folder, and a lock that lives as long as it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from operando.instruments.addresses import parse_address
from operando.instruments.errors import AddressInUseError
from operando.instruments.locks import runtime_directory
from operando.station.client.discovery import LOOK, is_held


def _folder() -> Path:
    """Apart from the locks of those who use the instruments."""
    folder = runtime_directory() / "simulated"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _note(address: str) -> Path:
    name = hashlib.sha256(parse_address(address).key.encode()).hexdigest()[:24]
    return _folder() / f"{name}.speed"


@contextmanager
def _lock(address: str) -> Iterator[Path]:
    """Hold the lock beside the note of an address; gives the note's path."""
    note = _note(address)
    lock = filelock.FileLock(note.with_suffix(".lock"), thread_local=False)
    try:
        # Whoever looks for a simulation holds its lock for an instant.
        lock.acquire(timeout=LOOK, poll_interval=0.01)
    except filelock.Timeout:
        found = served(address)
        by = f"by process {found.pid}" if found is not None and found.pid else "already"
        raise AddressInUseError(
            f"{address} is simulated {by}; end that simulation, or choose another address"
        ) from None
    try:
        yield note
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True, slots=True)
class Served:
    """A simulation that serves an address. speed: laboratory seconds a wall second.

    pid: its process, 0 if it did not say. station: bench file of the station that started it; ""
    if a person did.
    """

    speed: float
    pid: int = 0
    station: str = ""


class Announcement:
    """The notes of one serving process. speed: laboratory seconds a wall second.

    station: bench file of the station that started it.
    """

    def __init__(self, speed: float, station: str = "") -> None:
        self._served = Served(speed, os.getpid(), station)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def add(self, address: str) -> None:
        """Note that this process serves `address`."""
        note = self._stack.enter_context(_lock(address))
        note.unlink(missing_ok=True)  # that of a killed process, which must not seem alive again
        text = json.dumps(
            {
                "address": address,
                "speed": self._served.speed,
                "pid": self._served.pid,
                "station": self._served.station,
            }
        )
        fresh = note.with_suffix(f".{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")  # replaced whole: nobody reads half of it
        fresh.replace(note)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def served(address: str) -> Served | None:
    """The simulation that serves an address; None when no living one does."""
    path = _note(address)
    if not is_held(path.with_suffix(".lock")):
        return None  # nobody, or a note that a killed process left behind
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return Served(float(note["speed"]), int(note.get("pid", 0)), str(note.get("station", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def served_speed(address: str) -> float | None:
    """Speed of the simulation that serves an address; None when no living one does."""
    found = served(address)
    return None if found is None else found.speed
