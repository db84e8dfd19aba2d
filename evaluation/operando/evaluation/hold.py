"""Cycling at held conditions: capacities and efficiency, and whether the conditions were held."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.evaluation.cccv import NAN, CyclingResult, cccv
from operando.evaluation.metadata import parameter_of
from operando.records import Record
from operando.records.reader import Step, usable_values


@dataclass(frozen=True, slots=True)
class Held:
    """A condition as it was asked for and as it was found during the cycles.

    asked, tolerance, mean, lowest, highest: K or Pa, NaN where not known. within: share of the
    readings during the cycles that lie within the tolerance. waited: s until the cycles began.
    flags: what speaks against it: "not steady when the cycles began" (patience ended the wait),
    "outside its tolerance", "not measured".
    """

    asked: float
    tolerance: float
    mean: float
    lowest: float
    highest: float
    within: float
    waited: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConditionedResult:
    """Cycles and the conditions they were made at. temperature, pressure: None if not held."""

    cycling: CyclingResult
    temperature: Held | None
    pressure: Held | None

    @property
    def flags(self) -> tuple[str, ...]:
        """What speaks against the conditions, each with its name."""
        held = (("temperature", self.temperature), ("pressure", self.pressure))
        return tuple(f"{name} {flag}" for name, one in held if one for flag in one.flags)


def conditioned_cccv(
    record: Record, *, max_age: float = 60.0, pressure_source: str | None = None
) -> ConditionedResult:
    """Evaluate cycling at a held temperature and a held stack pressure.

    The cycles as `cccv` does, which max_age and pressure_source are for. A condition is judged by
    all readings from the end of its step to the end of the run: with the tolerance that the
    protocol waited for, against what was asked. The temperature is that of the chamber, which the
    protocol drives, not of the cell. The pressure counts as held if the press stays within the
    tolerance; a cell in a stiff frame that breathes cannot. Raises RecordError if the record
    cannot be read or has several sources of one quantity.
    """
    steps = {step.kind: step for step in record.steps()}
    return ConditionedResult(
        cycling=cccv(record, max_age=max_age, pressure_source=pressure_source),
        temperature=_held(
            record, steps.get("HoldTemperature"), "chamber_temperature", "temperature", None
        ),
        pressure=_held(record, steps.get("HoldPressure"), "pressure", "pressure", pressure_source),
    )


def _held(
    record: Record, step: Step | None, quantity: str, name: str, source: str | None
) -> Held | None:
    if step is None:
        return None
    asked, tolerance = (
        _number(step.step.get(name)),
        _number(parameter_of(record, f"{name}_tolerance")),
    )
    readings = record.aux(quantity, source=record.source_of(quantity, source))
    values = usable_values(readings)
    values = values[np.isfinite(values) & (readings["time"] > step.end)]
    flags = []
    if quantity not in (step.condition or ""):
        flags.append("not steady when the cycles began")
    if len(values) == 0:
        flags.append("not measured")
        return Held(asked, tolerance, NAN, NAN, NAN, NAN, step.duration, tuple(flags))
    inside = float(np.mean(np.abs(values - asked) <= tolerance))
    if inside < 1.0:
        flags.append("outside its tolerance")
    return Held(
        asked=asked,
        tolerance=tolerance,
        mean=float(values.mean()),
        lowest=float(values.min()),
        highest=float(values.max()),
        within=inside,
        waited=step.duration,
        flags=tuple(flags),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else NAN
