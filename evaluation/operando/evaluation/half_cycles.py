"""Where the charges and the discharges of a cycling record begin and end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from operando.instruments.samples import Regulation
from operando.records import Gap, Record, increments
from operando.records.reader import Columns

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HalfCycle:
    """The steps of one cycle that charge the cell, or those that discharge it.

    cycle: from 1. charging: which of the two. rows: indices of its samples. passed: charge since
    its start at each of them, C, signed. start, end: s. charge: net, C, signed.
    energy: net, J, signed. complete: whether all its steps have an outcome.
    """

    cycle: int
    charging: bool
    rows: npt.NDArray[np.int64]
    passed: Floats
    start: float
    end: float
    charge: float
    energy: float
    complete: bool


@dataclass(frozen=True, slots=True)
class Cycling:
    """A record, read once and cut up. samples: all of them. net: charge of the run, C."""

    samples: Columns
    net: Floats
    halves: tuple[HalfCycle, ...]
    gaps: tuple[Gap, ...]


def read_cycling(record: Record) -> Cycling:
    """Read a record and find its half cycles, in order of their start.

    A step belongs to the charge if it passed net positive charge, to the discharge if negative;
    rests and steps at open circuit to neither.
    """
    samples = record.samples()
    gaps = tuple(record.gaps())
    passed = increments(samples, gaps)
    steps = {step.index: step for step in record.steps()}
    halves: dict[tuple[int, bool], list[npt.NDArray[np.int64]]] = {}
    for index in np.unique(samples["step_count"]):
        rows = np.flatnonzero(samples["step_count"] == index)
        step = steps.get(int(index))
        charge = float(passed.charge[rows].sum())
        resting = step.kind == "Rest" if step else False
        if resting or charge == 0.0 or np.all(samples["regulation"][rows] == Regulation.OPEN.value):
            continue
        key = int(samples["cycle"][rows[0]]), charge > 0.0
        halves.setdefault(key, []).append(rows)
    found = []
    for (cycle, charging), parts in halves.items():
        rows = np.concatenate(parts)
        indices = [int(samples["step_count"][part[0]]) for part in parts]
        first = steps.get(indices[0])
        found.append(
            HalfCycle(
                cycle=cycle,
                charging=charging,
                rows=rows,
                passed=np.cumsum(passed.charge[rows]),
                start=first.start if first else float(samples["time"][rows[0]]),
                end=float(samples["time"][rows[-1]]),
                charge=float(passed.charge[rows].sum()),
                energy=float(passed.energy[rows].sum()),
                complete=all(index in steps and steps[index].ended for index in indices),
            )
        )
    found.sort(key=lambda half: half.start)
    return Cycling(samples, np.cumsum(passed.charge), tuple(found), gaps)


def with_breaks(
    time: Floats, gaps: tuple[Gap, ...], *columns: npt.NDArray[Any]
) -> tuple[Floats, ...]:
    """Columns with a NaN put in wherever a gap lies between two of `time`, to break drawn lines."""
    cuts = [int(np.searchsorted(time, 0.5 * (gap.start + gap.end))) for gap in gaps]
    cuts = [cut for cut in cuts if 0 < cut < len(time)]
    return tuple(np.insert(column.astype(np.float64), cuts, np.nan) for column in columns)
