"""Rate capability: what is left of the capacity at each rate, and what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from operando.evaluation.cccv import COULOMBS_PER_MAH, GRAMS_PER_KG, NAN, Cycle, cccv
from operando.records import Record
from operando.records.reader import Step

RECOVERY = "recovery discharge"
"""Label of the discharges behind the ladder."""
SCATTER = 0.01
"""Largest relative difference between the cycles at one rate without a flag. Our choice."""


@dataclass(frozen=True, slots=True)
class RateCapacity:
    """The cycles at one rate, in a row.

    rate: of the discharge, 1/s, of the nominal capacity. cycles: their numbers. capacities:
    discharged in each, C. mean_voltage: of the last discharge, V. recovery: whether they came
    behind the ladder. flags: those of the cycles and "still changing" (the last two capacities
    differ by more than 1 %).
    """

    rate: float
    cycles: tuple[int, ...]
    capacities: tuple[float, ...]
    mean_voltage: float
    recovery: bool
    flags: tuple[str, ...] = ()

    @property
    def capacity(self) -> float:
        """Of the last cycle at this rate, C: the cell has got used to the rate by then."""
        return self.capacities[-1]

    @property
    def spread(self) -> float:
        """Largest minus smallest capacity at this rate, C."""
        return max(self.capacities) - min(self.capacities)


@dataclass(frozen=True, slots=True)
class RateResult:
    """A rate test. active_mass: kg, NaN where not stated. rates: in the order of the ladder."""

    cell: str
    active_mass: float
    simulated: bool
    rates: tuple[RateCapacity, ...]

    @property
    def recovery(self) -> float:
        """Capacity of the last recovery cycle over that at the same rate before, fraction.

        NaN where there are no recovery cycles, or none of the ladder were as slow.
        """
        last = self.rates[-1] if self.rates else None
        if last is None or not last.recovery:
            return NAN
        before = [
            one.capacity
            for one in self.rates
            if not one.recovery and math.isclose(one.rate, last.rate, rel_tol=1e-3)
        ]
        return last.capacity / before[0] if before else NAN

    def capability(self, rate: RateCapacity) -> float:
        """Capacity at a rate over that at the first rate of the ladder, fraction."""
        return rate.capacity / self.rates[0].capacity

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a rate in the units of the literature, which are part of the keys."""
        grams = self.active_mass * GRAMS_PER_KG
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "rate_C": one.rate * 3600.0,
                "recovery": one.recovery,
                "cycles": len(one.cycles),
                "discharge_capacity_mAh": one.capacity / COULOMBS_PER_MAH,
                "discharge_capacity_mAh_per_g": one.capacity / COULOMBS_PER_MAH / grams,
                "spread_mAh_per_g": one.spread / COULOMBS_PER_MAH / grams,
                "capability_percent": 100.0 * self.capability(one),
                "mean_discharge_voltage_V": one.mean_voltage,
                "flags": ", ".join(one.flags),
            }
            for one in self.rates
        ]


def rate_capability(record: Record) -> RateResult:
    """Evaluate a discharge ladder: the cycles of each rate, their last as its capacity.

    The rate is the current that was asked for over the cell's nominal capacity. Formation cycles
    are left out. Kim et al. (Energy Storage Materials 2026, 105167, figure 3) print a capacity a
    rate and no number of cycles; taking the last is our choice. Raises RecordError if the record
    cannot be read.
    """
    capacity = record.of_cell("capacity")
    cycles = {cycle.cycle: cycle for cycle in cccv(record).cycles}
    steps = [
        step
        for step in record.steps()
        if step.label in ("discharge", RECOVERY) and step.cycle in cycles
    ]
    found = []
    for (current, label), group in groupby(steps, _kind):
        members = [cycles[step.cycle] for step in group]
        found.append(_rate(-current / capacity, label == RECOVERY, members))
    return RateResult(
        record.cell_name, record.of_cell("active_mass") or NAN, record.simulated, tuple(found)
    )


def _kind(step: Step) -> tuple[float, str]:
    current = step.step.get("current")
    return (float(current) if isinstance(current, int | float) else NAN), step.label


def _rate(rate: float, recovery: bool, cycles: list[Cycle]) -> RateCapacity:
    capacities = tuple(cycle.discharge_capacity for cycle in cycles)
    flags = list(dict.fromkeys(flag for cycle in cycles for flag in cycle.flags))
    if len(capacities) > 1 and not np.isclose(capacities[-1], capacities[-2], rtol=SCATTER):
        flags.append("still changing")
    return RateCapacity(
        rate=rate,
        cycles=tuple(cycle.cycle for cycle in cycles),
        capacities=capacities,
        mean_voltage=cycles[-1].mean_discharge_voltage,
        recovery=recovery,
        flags=tuple(flags),
    )
