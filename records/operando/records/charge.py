"""Charge and energy that passed between one sample and the next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from operando.records.reader import Columns, Gap

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Increments:
    """What passed since the sample before, one value a sample, signed: positive charges the cell.

    charge: C. energy: J. Each belongs to the step of its own sample.
    counted: True where the runner's own count was used, False for the trapezoid rule.
    """

    charge: Floats
    energy: Floats
    counted: bool


def increments(samples: Columns, gaps: Iterable[Gap] = ()) -> Increments:
    """Charge and energy between consecutive samples of a run.

    samples: all of a run, in order of time. The runner counts at every poll, also at those that
    were not recorded, so its count is preferred. A record without one is integrated by the
    trapezoid rule between samples of the same step. Nothing is integrated over a gap: the runner
    does not count there, and intervals of the trapezoid rule that touch a gap are left out.
    """
    if np.isfinite(samples["charge"]).any():
        charge = _differences(samples["charge"])
        if np.isfinite(samples["energy"]).any():
            return Increments(charge, _differences(samples["energy"]), True)
        return Increments(charge, charge * np.nan_to_num(samples["voltage"]), True)
    time, current = samples["time"], samples["current"]
    use = np.zeros(len(time), dtype=bool)
    use[1:] = np.diff(samples["step_count"]) == 0
    use[1:] &= ~_touches_gap(time[:-1], time[1:], gaps)
    charge = _trapezoids(time, current, use)
    return Increments(charge, _trapezoids(time, current * samples["voltage"], use), False)


def cumulative(values: Floats, groups: npt.NDArray[Any] | None = None) -> Floats:
    """Running sum; starts again where consecutive `groups` differ."""
    total = np.cumsum(values, dtype=np.float64)
    if groups is None or len(total) == 0:
        return total
    starts = np.flatnonzero(np.diff(groups)) + 1
    before = np.zeros(len(starts) + 1)
    before[1:] = total[starts - 1]
    lengths = np.diff(np.concatenate(([0], starts, [len(total)])))
    return total - np.repeat(before, lengths)


def _differences(counter: Floats) -> Floats:
    """Differences of a counter that starts at zero; a NaN reading leaves it where it was."""
    known = np.isfinite(counter)
    last = np.maximum.accumulate(np.where(known, np.arange(len(counter)), -1))
    filled = np.where(last >= 0, counter[last], 0.0)
    return np.diff(filled, prepend=0.0)


def _trapezoids(time: Floats, rate: Floats, use: npt.NDArray[np.bool_]) -> Floats:
    areas = np.zeros(len(time))
    areas[1:] = np.diff(time) * 0.5 * (rate[1:] + rate[:-1])
    return np.where(use, np.nan_to_num(areas), 0.0)


def _touches_gap(start: Floats, end: Floats, gaps: Iterable[Gap]) -> npt.NDArray[np.bool_]:
    touched = np.zeros(len(start), dtype=bool)
    for gap in gaps:
        touched |= (start < gap.end) & (end > gap.start)
    return touched
