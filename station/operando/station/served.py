"""Which addresses of this computer are served by a simulation, and at what speed.

A run must share its simulation's clock and must know that its data are simulated; so each serving
process leaves a note for each address in the runtime folder, and a lock that lives as long as it.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from operando.instruments.errors import AddressInUseError
from operando.instruments.locks import AddressLock, runtime_directory


def _folder() -> Path:
    """Apart from the locks of those who use the instruments."""
    folder = runtime_directory() / "simulated"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _note(address: str) -> Path:
    name = hashlib.sha256(address.encode()).hexdigest()[:24]
    return _folder() / f"{name}.speed"


def _lock(address: str) -> AddressLock:
    return AddressLock(address, _folder())


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
        self._stack.enter_context(_lock(address))
        note = _note(address)
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
        self._stack.callback(note.unlink, missing_ok=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def served(address: str) -> Served | None:
    """The simulation that serves an address; None when no living one does."""
    try:
        note = json.loads(_note(address).read_text(encoding="utf-8"))
        found = Served(float(note["speed"]), int(note.get("pid", 0)), str(note.get("station", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        with _lock(address):
            return None  # nobody holds it: a note that a killed process left behind
    except AddressInUseError:
        return found


def served_speed(address: str) -> float | None:
    """Speed of the simulation that serves an address; None when no living one does."""
    found = served(address)
    return None if found is None else found.speed
