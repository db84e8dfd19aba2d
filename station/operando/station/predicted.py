"""The voltage that a dry run predicted, for the `residual` of the run that follows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from operando.instruments.errors import BadInputError, RecordError
from operando.protocols import Preview
from operando.protocols.steps import step_hash
from operando.records import Record

Floats = npt.NDArray[np.float64]


def prediction_of(folder: Path, ahead: Preview) -> Callable[[int, float, float], float]:
    """The prediction in a dry record of the same plan, see `predicted_voltage`.

    ahead: the plan's preview. Raises BadInputError for what is no record, no simulated one, or one
    of another plan.
    """
    try:
        record = Record.open(folder)
        steps = record.steps()
    except RecordError as error:
        raise BadInputError(f"twin: {error}") from None
    if not record.simulated:
        raise BadInputError(f"twin: {folder} is a measurement; name the record of a dry run")
    for asked, made in zip(ahead.steps, steps, strict=False):
        if step_hash(asked) != made.hash:
            raise BadInputError(
                f"twin: {folder} is the record of another plan: its step {made.index} is "
                f"'{made.label}'. Make it anew: operando check RECIPE --dry-run --output FOLDER"
            )
    return predicted_voltage(record)


def predicted_voltage(record: Record) -> Callable[[int, float, float], float]:
    """The voltage of a record as a function of a step, its charge and its time.

    The function takes the running number of the step (from 1), its net charge (C) and its time (s,
    pauses excluded) and gives V. Where the charge of the recorded step went one way it interpolates
    by charge, so that a cell of other capacity is compared at equal charge; else by time. Before
    the first recorded reading of a step it gives that one; behind the last, and for a step that was
    not recorded, NaN.
    """
    names = ["step_count", "step_charge", "step_time", "voltage"]
    columns = record.samples(columns=names)
    known = np.isfinite(columns["voltage"])
    counts = columns["step_count"][known]
    tables: dict[int, tuple[bool, float, Floats, Floats]] = {}
    for step in np.unique(counts):
        rows = np.flatnonzero(known)[counts == step]
        charge, elapsed = columns["step_charge"][rows], columns["step_time"][rows]
        voltage = columns["voltage"][rows]
        moved = np.diff(charge)
        sign = math.copysign(1.0, charge[-1])
        by_charge = bool(len(rows) > 1 and charge[-1] and np.all(sign * moved > 0.0))
        tables[int(step)] = by_charge, sign, sign * charge if by_charge else elapsed, voltage

    def voltage_at(step_count: int, step_charge: float, step_time: float) -> float:
        if step_count not in tables:
            return math.nan
        by_charge, sign, along, voltage = tables[step_count]
        at = sign * step_charge if by_charge else step_time
        if not at <= along[-1]:
            return math.nan
        return float(np.interp(at, along, voltage))

    return voltage_at
