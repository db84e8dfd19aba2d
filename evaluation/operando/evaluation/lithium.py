"""What evaluations of cells with lithium share: their context, and the charge of their steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np

from operando.evaluation.impedance import Surroundings
from operando.evaluation.metadata import parameter_of, stated
from operando.evaluation.traces import Trace
from operando.records import Record

HIDING = 30e-6
"""Lithium thicker than this (m) can hide soft shorts: Dandena et al., EES Batteries 2025, section
2.1."""


@dataclass(frozen=True, slots=True)
class LithiumContext:
    """What a result on lithium means little without; NaN where it is neither measured nor stated.

    lithium_thickness, pellet_thickness: m. pellet_density: kg/m3. stack_pressure: Pa. temperature:
    K. Pressure and temperature are those measured at the end, else those stated.
    """

    lithium_thickness: float
    pellet_thickness: float
    pellet_density: float
    stack_pressure: float
    temperature: float

    @classmethod
    def of(cls, record: Record, at: float) -> LithiumContext:
        """Of a record at a time, s. Raises BadInputError for metadata of another kind."""
        around = Surroundings.of(record)
        pressure, temperature = around.pressure_at(at), around.temperature_at(at)
        if math.isnan(pressure):
            pressure = stated(record, "stack_pressure", "Pa")
        if math.isnan(temperature):
            temperature = stated(record, "temperature", "K")
        return cls(
            lithium_thickness=stated(record, "lithium_thickness", "m"),
            pellet_thickness=stated(record, "pellet_thickness", "m"),
            pellet_density=stated(record, "pellet_density", "kg/m3"),
            stack_pressure=pressure,
            temperature=temperature,
        )

    @property
    def flags(self) -> tuple[str, ...]:
        """What is missing, and lithium that can hide a soft short."""
        found = [
            f"{one.name} is not stated"
            for one in fields(self)
            if math.isnan(getattr(self, one.name))
        ]
        if self.lithium_thickness > HIDING:
            found.append("lithium thicker than 30 um can hide soft shorts")
        return tuple(found)


def interruptions(traces: Iterable[Trace]) -> tuple[str, ...]:
    """Flags of any of the steps: "gap", "paused"."""
    return tuple(dict.fromkeys(flag for trace in traces for flag in trace.flags))


def number_of(record: Record, name: str, default: float = math.nan) -> float:
    """A parameter of the protocol, SI."""
    value = parameter_of(record, name)
    return float(value) if isinstance(value, int | float) else default


def charge_of_steps(record: Record) -> Mapping[int, float]:
    """Net charge of each step by its index, C, until the circuit was opened or switched behind it.

    The outcome of a step ends with its last reading. What flowed after it the runner counts for the
    run alone: between the last row of a step and the first of the next, which tells its own share.
    """
    samples = record.samples()
    net, own, index = samples["charge"], samples["step_charge"], samples["step_count"]
    charges = {step.index: step.charge for step in record.steps()}
    changes = np.flatnonzero(np.diff(index))
    for last in changes:
        behind = float(net[last + 1] - own[last + 1] - net[last])
        if math.isfinite(behind) and int(index[last]) in charges:
            charges[int(index[last])] += behind
    return charges
