"""What the server of a simulated Neware cabinet keeps of a test, and how it shows it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from operando.simulators.devices.neware_steps import Step
from operando.simulators.devices.neware_xml import element, stored


class Row(NamedTuple):
    """A stored row: time in the step (s), Unix time (s), V, A, C and J of the step.

    layer: 0-based, which of the steps that the test has carried out.
    """

    layer: float
    cycle: float
    elapsed: float
    utc: float
    volts: float
    amps: float
    charge: float
    energy: float


@dataclass(slots=True)
class Layer:
    """One step as carried out in a cycle. first, last: rows, 1-based; last is 0 while it runs."""

    step: Step
    cycle: int
    first: int
    last: int = 0


class StoredTest:
    """What the server keeps of one test: rows, steps, log."""

    def __init__(self, number: int, barcode: str) -> None:
        self.number = number
        self.barcode = barcode
        self.layers: list[Layer] = []
        self.log: list[tuple[int, int, float]] = []
        self._rows = array("d")

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows) // 8

    def stored_until(self, utc: float) -> int:
        """Number of rows that were measured until a Unix time (s)."""
        return bisect_right(range(len(self)), utc, key=lambda at: self.row(at).utc)

    def store(self, row: Row) -> None:
        """Append a row."""
        self._rows.extend(row)

    def row(self, at: int) -> Row:
        """A row by its 0-based position."""
        return Row(*self._rows[8 * at : 8 * at + 8])

    def note(self, code: int, utc: float) -> None:
        """Write a line of the log, at the row that is there."""
        self.log.append((max(len(self), 1), code, utc))


def row_line(test: StoredTest, at: int, atime: Callable[[float], str]) -> str:
    """A row (1-based) as `download` shows it. atime: writes a Unix time."""
    row = test.row(at - 1)
    layer = test.layers[int(row.layer)]
    return element(
        "data",
        {
            "seqid": at,
            "stepid": layer.step.number,
            "cycleid": int(row.cycle),
            "steptype": layer.step.word,
            "testtime": _milliseconds(row.elapsed),
            "atime": atime(row.utc),
            "volt": stored(row.volts),
            "curr": stored(row.amps),
            "cap": stored(row.charge / 3600.0),
            "eng": stored(row.energy / 3600.0),
        },
    )


def layer_line(test: StoredTest, number: int, atime: Callable[[float], str]) -> str:
    """A step (1-based) that is over, as `downloadStepLayer` shows it. atime: writes a Unix time."""
    layer = test.layers[number - 1]
    begin = test.row(layer.first - 1)
    end = test.row(layer.last - 1)
    return element(
        "data",
        {
            "startseqid": layer.first,
            "endseqid": layer.last,
            "stepindex": number,
            "stepid": layer.step.number,
            "cycleid": layer.cycle,
            "steptype": layer.step.word,
            "steptime": _milliseconds(end.elapsed),
            "endatime": atime(end.utc),
            "startvolt": stored(begin.volts),
            "endvolt": stored(end.volts),
            "startcurr": stored(begin.amps),
            "endcurr": stored(end.amps),
            "cap": stored(end.charge / 3600.0),
            "eng": stored(end.energy / 3600.0),
            "dcir": 0,
        },
    )


def _milliseconds(seconds: float) -> int:
    """Time in a step as it is stored: in tenths of a second."""
    return 100 * round(10.0 * seconds)
