"""Plating and stripping: overpotential, life, and the interface of a first plating."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from operando.evaluation.circuits import CircuitFit
from operando.evaluation.half_cycles import Floats
from operando.evaluation.impedance import impedance
from operando.evaluation.lithium import LithiumContext, charge_of_steps, interruptions, number_of
from operando.evaluation.metadata import parameter_of
from operando.evaluation.traces import Trace, read_traces
from operando.records import Record

NAN = math.nan
MA_PER_CM2 = 10.0
"""A/m2."""
UAH_PER_CM2 = 36.0
"""C/m2."""
CM2 = 1e-4
SOFT_SHORT = 0.05
"""Fall of |V|/j within a half-cycle that is a soft short. Our choice."""
INTERFACE_BELOW = 10e3
"""Hz: arcs of lower frequency are taken for the interfaces, faster ones for grain boundaries of the
electrolyte. Our choice, between 1e-4 to 1e-2 F s^(a-1) of an interface and 1e-6 of grain
boundaries, at 10 to 100 ohm: Dandena et al., EES Batteries 2025, section 2."""
NEAR = 1.1
"""Multiple of its floor at which an interface is near it."""


@dataclass(frozen=True, slots=True)
class PlatingHalf:
    """One half-cycle. label: "plate" or "strip".

    current_density: A/m2, signed. capacity: charge per area, C/m2, a magnitude. overpotential:
    |V| at its end, V: both electrodes are lithium, whose potential is 0 V. mean_overpotential:
    energy over charge, V. resistance: |V|/|I| at its end, ohm. fall: share by which that lies
    below the highest after settling. complete: whether it passed its whole charge.
    """

    cycle: int
    label: str
    current_density: float
    capacity: float
    duration: float
    overpotential: float
    mean_overpotential: float
    resistance: float
    fall: float
    complete: bool


@dataclass(frozen=True, slots=True)
class FirstPlating:
    """The interface of a first plating against its charge, from the spectra along it.

    charge: C/m2, plated so far. resistance: of the plated interface in ohm, without the
    electrolyte and the counter interface. total: of the whole cell, ohm. floor: least of
    `resistance`, ohm. charge_to_floor: charge from which on `resistance` is within 10 % of its
    floor, C/m2, interpolated between spectra in the logarithm of the charge.
    """

    charge: Floats
    resistance: Floats
    total: Floats
    floor: float
    charge_to_floor: float


@dataclass(frozen=True, slots=True)
class PlatingResult:
    """Plating and stripping with its context. Every number is NaN where it is not known.

    end: how it ended: "short", "polarisation", "voltage window", "" if no half-cycle failed. life:
    s from the first half-cycle to that end, or to the end of the run. cycles: completed. late:
    overpotential when it ended, over that of the first half-cycle of its kind, minus 1.
    first_plating: None without spectra along it. area: m2. flags: what speaks against using the
    numbers.
    """

    cell: str
    area: float
    simulated: bool
    halves: tuple[PlatingHalf, ...]
    end: str
    life: float
    cycles: int
    late: float
    first_plating: FirstPlating | None
    context: LithiumContext
    flags: tuple[str, ...]

    def coulombic_efficiency(self, cycle: int) -> float:
        """Stripped over plated charge of a cycle, a fraction; it says something on steel only."""
        found = {half.label: half.capacity for half in self.halves if half.cycle == cycle}
        return found.get("strip", NAN) / found.get("plate", NAN)

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a half-cycle in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "cycle": half.cycle,
                "half_cycle": half.label,
                "current_density_mA_per_cm2": half.current_density / MA_PER_CM2,
                "capacity_mAh_per_cm2": half.capacity / UAH_PER_CM2 / 1e3,
                "overpotential_mV": 1e3 * half.overpotential,
                "resistance_ohm_cm2": half.resistance * self.area / CM2,
                "fall_percent": 100.0 * half.fall,
                "flags": ", ".join(self.flags),
            }
            for half in self.halves
        ]


def plating_stripping(record: Record) -> PlatingResult:
    """Evaluate plating and stripping at a fixed areal capacity.

    The overpotential is |V| under current, since lithium stands on both sides. A run ends in a
    short when the voltage falls below the protocol's share (50 %) of the first half-cycle's, in
    polarisation when it rises above its multiple (2); Li6PS5Cl ends in a sudden drop, Li10GeP2S12
    in a rising overpotential (Dandena et al., EES Batteries 2025, section 3.3; the two bounds are
    our choice). A fall of |V|/j by more than 5 % within a half-cycle is flagged as a soft short.

    The interface of a first plating: each spectrum's resistance without its tail, minus the
    electrolyte and the counter interface. Two electrodes cannot tell the interfaces apart:
    ASSUMPTION, at its floor the plated one equals the counter one, which does not change
    meanwhile; the electrolyte is what the spectrum at the floor has left. The resistance falls
    within the first 10 uAh/cm2 and the currents meet by about 50 uAh/cm2 (same paper, section 2).

    Raises RecordError if the record cannot be read, BadInputError for metadata of another kind.
    """
    area = record.of_cell("area") or NAN
    settling = number_of(record, "settling", 60.0)
    traces = [one for one in read_traces(record) if one.step.label in ("plate", "strip")]
    groups: dict[tuple[int, str], list[Trace]] = {}
    for trace in traces:
        groups.setdefault((trace.step.cycle, trace.step.label), []).append(trace)
    charges = charge_of_steps(record)
    halves = tuple(_half(parts, charges, area, settling) for parts in groups.values())
    last = traces[-1].step if traces else None
    end = _end(last.condition or "", last.reason or "") if last else ""
    if last and end == "voltage window" and last.label == "strip":
        # Lithium on steel is used up there, and the run goes on.
        end = "" if parameter_of(record, "strip_to_window") is True else end
    start = {label: next((h for h in halves if h.label == label), None) for label in _LABELS}
    late = NAN
    if halves and (reference := start[halves[-1].label]) is not None and reference.overpotential:
        late = halves[-1].overpotential / reference.overpotential - 1.0
    context = LithiumContext.of(record, last.start if last else 0.0)
    first_plating, unsure = _first_plating(record, traces, charges, area)
    flags = list(context.flags)
    # The first plating falls as lithium covers its collector, which is no short.
    soft = [half for half in halves[1:] if half.fall > SOFT_SHORT]
    if soft:
        flags.append(f"soft short from cycle {soft[0].cycle} on")
    flags.extend(interruptions(traces))
    if last and not last.ended:
        flags.append(f"run {record.state}")
    return PlatingResult(
        cell=record.cell_name,
        area=area,
        simulated=record.simulated,
        halves=halves,
        end=end,
        life=last.end - traces[0].step.start if last else NAN,
        cycles=sum(half.label == "strip" and half.complete for half in halves),
        late=late,
        first_plating=first_plating,
        context=context,
        flags=(*flags, *unsure),
    )


_LABELS = ("plate", "strip")


def _half(
    parts: list[Trace], charges: Mapping[int, float], area: float, settling: float
) -> PlatingHalf:
    last = parts[-1]
    step = last.step
    asked = step.step.get("current")
    courses = []
    for part in parts:
        _, voltage, current = part.between(settling, math.inf)
        courses.append(np.abs(voltage) / np.abs(current))
    judged = np.concatenate(courses)
    charge = sum(part.step.charge for part in parts)
    energy = sum(part.step.energy for part in parts)
    end = float(abs(last.voltage[-1]))
    return PlatingHalf(
        cycle=step.cycle,
        label=step.label,
        current_density=float(asked) / area if isinstance(asked, int | float) else NAN,
        capacity=abs(sum(charges[part.step.index] for part in parts)) / area,
        duration=sum(part.step.duration for part in parts),
        overpotential=end,
        mean_overpotential=abs(energy / charge) if charge else NAN,
        resistance=end / abs(float(last.current[-1])) if last.current[-1] else NAN,
        fall=float(1.0 - judged[-1] / judged.max()) if len(judged) else NAN,
        complete=step.ended and (step.condition or "").startswith("elapsed >= "),
    )


def _end(condition: str, reason: str) -> str:
    """What the end of the last half-cycle says of the cell, from its condition's text."""
    if "abs(voltage) <" in condition:
        return "short"
    if "abs(voltage) >" in condition:
        return "polarisation"
    return "voltage window" if reason == "cut-off" or condition.startswith("voltage") else ""


def _first_plating(
    record: Record, traces: list[Trace], charges: Mapping[int, float], area: float
) -> tuple[FirstPlating | None, tuple[str, ...]]:
    """The interface against charge, and what speaks against it."""
    plated = {}
    total = 0.0
    for trace in traces:
        if trace.step.cycle == 1 and trace.step.label == "plate":
            total += abs(charges[trace.step.index]) / area
            plated[trace.step.index + 1] = total  # its spectrum is the step behind it
    found: list[tuple[float, CircuitFit]] = [
        (plated[one.step], one.fit)
        for one in impedance(record).spectra
        if one.step in plated and one.fit is not None
    ]
    if len(found) < 3:
        return None, ()
    charge = np.array([at for at, _ in found])
    whole = np.array([fit.resistance for _, fit in found])
    least = int(np.argmin(whole))
    fit = found[least][1]
    floor = 0.5 * sum(arc.resistance for arc in fit.arcs if arc.frequency < INTERFACE_BELOW)
    if floor <= 0.0:
        return None, ("no arc of the interface in the spectrum at the floor",)
    resistance = whole - whole[least] + floor
    unsure = []
    if least == len(found) - 1 and resistance[-2] > NEAR * floor:
        unsure.append("the interface was still falling at the end of the first plating")
    return FirstPlating(charge, resistance, whole, floor, _reached(charge, resistance, floor)), (
        *unsure,
    )


def _reached(charge: Floats, resistance: Floats, floor: float) -> float:
    """Charge from which on a resistance is within 10 % of its floor, C/m2."""
    least = int(np.argmin(resistance))
    above = np.flatnonzero(resistance[: least + 1] > NEAR * floor)
    if len(above) == 0:
        return float(charge[0])
    before, after = int(above[-1]), int(above[-1]) + 1
    share = (resistance[before] - NEAR * floor) / (resistance[before] - resistance[after])
    return float(charge[before] * (charge[after] / charge[before]) ** share)
