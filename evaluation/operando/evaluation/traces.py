"""What was measured within each step of a record, and what a line through it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operando.evaluation.half_cycles import Floats
from operando.evaluation.lines import Line
from operando.instruments.recorder import Entry
from operando.instruments.samples import Status
from operando.records import Gap, Record, increments
from operando.records.reader import VALID, Step

USABLE = VALID | {Status.UNDERLOAD.value}
"""A current that is small on its range is a coarse number, not a wrong one: sweeps pass zero."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The usable samples of one step, in order of time.

    step: as asked and as ended. time: s since it began, pauses excluded. voltage: V. current: A.
    charge: passed since it began, C, signed. flags: "gap" (part of it was not observed), "paused"
    (the circuit was opened within it).
    """

    step: Step
    time: Floats
    voltage: Floats
    current: Floats
    charge: Floats
    flags: tuple[str, ...]

    def between(self, start: float, end: float) -> tuple[Floats, Floats, Floats]:
        """Time, voltage and current of the samples from `start` to `end`, s of the step."""
        use = (self.time >= start) & (self.time <= end)
        return self.time[use], self.voltage[use], self.current[use]


def read_traces(record: Record) -> list[Trace]:
    """The steps of a record that have samples, in order of their start. Raises RecordError."""
    samples = record.samples()
    gaps = record.gaps()
    pauses = [entry.time for entry in record.journal(Entry.PAUSED)]
    passed = increments(samples, gaps).charge
    usable = np.isin(samples["status"], list(USABLE)) & np.isfinite(samples["voltage"])
    # Rows are in order of step and time.
    indices, first = np.unique(samples["step_count"], return_index=True)
    parts = np.split(np.arange(len(usable)), first[1:])
    steps = {step.index: step for step in record.steps()}
    found = []
    for index, rows in zip(indices, parts, strict=True):
        step, use = steps.get(int(index)), rows[usable[rows]]
        if step is None or len(use) == 0:
            continue
        found.append(
            Trace(
                step=step,
                time=samples["step_time"][use],
                voltage=samples["voltage"][use],
                current=samples["current"][use],
                charge=np.cumsum(passed[rows])[usable[rows]],
                flags=_flags(samples["time"][rows], gaps, pauses),
            )
        )
    return sorted(found, key=lambda trace: trace.step.start)


def _flags(time: Floats, gaps: Sequence[Gap], pauses: Sequence[float]) -> tuple[str, ...]:
    first, last = time[0], time[-1]
    found = {
        "gap": any(gap.start < last and gap.end > first for gap in gaps),
        "paused": any(first <= pause <= last for pause in pauses),
    }
    return tuple(name for name, holds in found.items() if holds)


def linearity(line: Line, points: int) -> float:
    """Coefficient of determination R2 of a least-squares line; NaN with fewer than three points.

    R2 = b2 / (b2 + (n - 2) s2), b the slope and s its standard error: the usual definition,
    rearranged.
    """
    square = line.slope**2
    rest = (points - 2) * line.slope_error**2
    return square / (square + rest) if square + rest > 0.0 else math.nan
