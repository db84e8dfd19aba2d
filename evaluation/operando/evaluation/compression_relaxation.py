"""Compression and relaxation: how much of its pressure a clamped stack loses by creep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.evaluation.half_cycles import Floats
from operando.records import Record
from operando.records.reader import Step, usable_values

NAN = float("nan")
RELAXATION = "relaxation"
"""Label of the rests that are fitted."""

ORIGINS = np.concatenate(([0.0], np.logspace(0.0, 5.0, 51)))
"""Ages of the stack at the beginning of a rest that are tried, s."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """Creep of the stack over one rest: P = level - fall * log10(t + age).

    The logarithm of time is the common law of creep at constant strain; its origin, the age of
    the stack when the rest began, is fitted with it. cycle: level of a ladder, from 1. start, end:
    s of the run. level: Pa, at t + age of 1 s. fall: Pa per decade of time, positive when the
    pressure falls. age: s. error: root mean square distance from the fit, Pa. first, last: Pa.
    flags: "few readings", "hardly longer than the scatter" (the fall is below it).
    """

    cycle: int
    start: float
    end: float
    level: float
    fall: float
    age: float
    error: float
    first: float
    last: float
    flags: tuple[str, ...] = ()

    @property
    def share_per_decade(self) -> float:
        """Fall per decade over the pressure that the rest began with, fraction."""
        return self.fall / self.first if self.first else NAN

    def drift(self, time: Floats) -> Floats:
        """What creep has added to the pressure since the end of the rest, Pa. time: s of the run.

        The law is drawn on beyond the rest; it fits decades of time, so that twice as long adds
        three tenths of `fall`.
        """
        since = np.maximum(np.asarray(time) - self.start + self.age, 1.0)
        then = max(self.end - self.start + self.age, 1.0)
        return np.asarray(-self.fall * (np.log10(since) - np.log10(then)))


@dataclass(frozen=True, slots=True)
class CompressionResult:
    """Every relaxation of a record. cell: its name. simulated: whether the data are."""

    cell: str
    simulated: bool
    relaxations: tuple[Relaxation, ...]


def compression_relaxation(
    record: Record, *, pressure_source: str | None = None
) -> CompressionResult:
    """Fit the creep of the stack in each rest that the protocol calls relaxation.

    pressure_source: the load cell, if there were several. Raises RecordError if the record cannot
    be read or has several sources of pressure.
    """
    readings = record.aux("pressure", source=record.source_of("pressure", pressure_source))
    values = usable_values(readings)
    valid = np.isfinite(values)
    time, pressure = readings["time"][valid], values[valid]
    rests = [step for step in record.steps() if step.label == RELAXATION]
    return CompressionResult(
        record.cell_name,
        record.simulated,
        tuple(fit_relaxation(step, time, pressure) for step in rests),
    )


def fit_relaxation(step: Step, time: Floats, pressure: Floats) -> Relaxation:
    """The creep in one rest. time, pressure: s of the run and Pa, of all valid readings."""
    use = (time >= step.start) & (time <= step.end)
    since, values = time[use] - step.start, pressure[use]
    if len(values) < 10:
        return Relaxation(
            step.cycle, step.start, step.end, NAN, NAN, NAN, NAN, NAN, NAN, ("few readings",)
        )
    best: tuple[float, float, float, float] | None = None
    for age in ORIGINS:
        x = np.log10(np.maximum(since + age, 1.0))
        if np.ptp(x) == 0.0:
            continue
        slope, level = np.polyfit(x, values, 1)
        error = float(np.sqrt(np.mean((level + slope * x - values) ** 2)))
        if best is None or error < best[0]:
            best = error, float(level), float(-slope), float(age)
    assert best is not None
    error, level, fall, age = best
    flags = ("hardly longer than the scatter",) if abs(fall) < error else ()
    first, last = float(np.median(values[:5])), float(np.median(values[-5:]))
    return Relaxation(step.cycle, step.start, step.end, level, fall, age, error, first, last, flags)
