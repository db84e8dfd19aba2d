"""Reading buffers of the simulated source meters, and how their elements are printed."""

from __future__ import annotations

import datetime
import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from operando.simulators.devices.scpi import ScpiError

UNKNOWN_ELEMENT = 1133
"""Error of a buffer element that does not exist (2450 manual, event list)."""

UNITS = {"VOLT": "Volt DC", "CURR": "Amp DC", "RES": "Ohm"}
SHORT_UNITS = {"VOLT": "V", "CURR": "A", "RES": "Ohm"}


class Entry(NamedTuple):
    """One stored reading.

    time: laboratory time, s. reading, source: V, A or ohm. function, source_function: "VOLT",
    "CURR", "RES". status, source_status: sums of bits, 0 so far.
    """

    time: float
    reading: float
    source: float
    function: str
    source_function: str
    status: int
    source_status: int


class ReadingBuffer:
    """One buffer. size: readings it holds. mode: "CONT" overwrites, "ONCE" stops when full.

    epoch: Unix time of laboratory time zero, s.
    """

    def __init__(self, size: int, epoch: float) -> None:
        self.epoch = epoch
        self.mode = "CONT"
        self.entries: deque[Entry] = deque(maxlen=size)
        self.started = math.nan

    @property
    def size(self) -> int:
        """Readings that it holds."""
        return self.entries.maxlen or 0

    def store(self, entry: Entry) -> None:
        """Append a reading, unless the buffer is full and fills once."""
        entries = self.entries
        if not entries:
            self.started = entry.time
        elif self.mode == "ONCE" and len(entries) == entries.maxlen:
            return
        entries.append(entry)

    def clear(self) -> None:
        """Forget the readings."""
        self.entries.clear()

    def resize(self, size: int) -> None:
        """Change the capacity, which clears."""
        self.entries = deque(maxlen=size)


def exponent(value: float) -> str:
    """A number as readings are printed: +4.199980E+00."""
    return f"{value:+.6E}"


def _stamp(unix_time: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_time, datetime.UTC)


def _clock_time(unix_time: float) -> str:
    return _stamp(unix_time).strftime("%H:%M:%S") + f".{int(unix_time % 1 * 1e9):09d}"


_PRINTERS: dict[str, Callable[[Entry, ReadingBuffer], str]] = {
    "READ": lambda entry, _: exponent(entry.reading),
    "SOUR": lambda entry, _: exponent(entry.source),
    "REL": lambda entry, buffer: exponent(entry.time - buffer.started),
    "FORM": lambda entry, _: f"{entry.reading:+.6E} {SHORT_UNITS[entry.function]}",
    "SOURFORM": lambda entry, _: f"{entry.source:+.6E} {SHORT_UNITS[entry.source_function]}",
    "UNIT": lambda entry, _: UNITS[entry.function],
    "SOURUNIT": lambda entry, _: UNITS[entry.source_function],
    "STAT": lambda entry, _: str(entry.status),
    "SOURSTAT": lambda entry, _: str(entry.source_status),
    "SEC": lambda entry, buffer: str(int(buffer.epoch + entry.time)),
    "FRAC": lambda entry, buffer: exponent((buffer.epoch + entry.time) % 1),
    "DATE": lambda entry, buffer: _stamp(buffer.epoch + entry.time).strftime("%m/%d/%Y"),
    "TIME": lambda entry, buffer: _clock_time(buffer.epoch + entry.time),
    "TST": lambda entry, buffer: (
        _stamp(buffer.epoch + entry.time).strftime("%m/%d/%Y ")
        + _clock_time(buffer.epoch + entry.time)
    ),
}

_LONG = {
    "FORMATTED": "FORM",
    "FRACTIONAL": "FRAC",
    "READING": "READ",
    "RELATIVE": "REL",
    "SECONDS": "SEC",
    "SOURCE": "SOUR",
    "SOURFORMATTED": "SOURFORM",
    "SOURSTATUS": "SOURSTAT",
    "STATUS": "STAT",
    "TSTAMP": "TST",
}

MOST_ELEMENTS = 14


def element(text: str) -> str:
    """Short name of a buffer element. Raises ScpiError 1133 for one that does not exist."""
    word = text.upper()
    word = _LONG.get(word, word)
    if word not in _PRINTERS:
        raise ScpiError(UNKNOWN_ELEMENT, "Reading buffer element is not known")
    return word


def print_entry(entry: Entry, elements: tuple[str, ...], buffer: ReadingBuffer) -> str:
    """The elements of one reading of a buffer, separated by commas."""
    return ",".join(_PRINTERS[name](entry, buffer) for name in elements)


def statistics(entries: deque[Entry], which: str) -> float:
    """Mean ("AVER"), extreme ("MAX", "MIN"), span ("PK2P") or deviation ("STDD") of readings."""
    values = [entry.reading for entry in entries if abs(entry.reading) < 9.9e37]
    if not values:
        return 9.91e37  # NaN in SCPI
    mean = math.fsum(values) / len(values)
    if which == "AVER":
        return mean
    if which == "MAX":
        return max(values)
    if which == "MIN":
        return min(values)
    if which == "PK2P":
        return max(values) - min(values)
    if len(values) < 2:
        return 0.0
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
