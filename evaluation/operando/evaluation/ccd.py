"""Critical current density of a symmetric lithium cell, with what it means nothing without."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from operando.evaluation.circuits import fit_circuit
from operando.evaluation.lithium import LithiumContext, charge_of_steps, interruptions, number_of
from operando.evaluation.traces import Trace, read_traces
from operando.records import Record
from operando.records.reader import VALID

NAN = math.nan
MA_PER_CM2 = 10.0
"""A/m2."""
CM2 = 1e-4
BELOW_BULK = 0.9
"""A resistance of the whole cell below this share of its high-frequency resistance is a short
beside the electrolyte. Our choice."""


@dataclass(frozen=True, slots=True)
class RampHalf:
    """One half-cycle of a ramp.

    cycle: number of the step of the ramp, from 1. current_density: A/m2, signed. capacity: passed
    charge per area, C/m2, a magnitude. resistance: |V|/|I| at its end, ohm. highest: of the same
    after settling, ohm. fall: share by which the end lies below the highest. verdict: "good",
    "soft short", "hard short", "voltage window", "incomplete" (nobody knows how it would have
    ended).
    """

    cycle: int
    current_density: float
    capacity: float
    duration: float
    resistance: float
    highest: float
    fall: float
    verdict: str


@dataclass(frozen=True, slots=True)
class CriticalCurrentResult:
    """A critical current density with its context. Every number is NaN where it is not known.

    critical_current_density: the largest at which both half-cycles were good, A/m2; 0.0 if the
    first was not. failed_at: the density of the next step, which was not, A/m2. verdict: how that
    ended, "" if nothing failed. step: of the ramp, A/m2: the resolution of the result. capacity:
    passed in each half-cycle at the critical current density, C/m2. high_frequency_resistance:
    before the ramp, ohm. area: m2. flags: what speaks against using or comparing the number.
    """

    cell: str
    area: float
    simulated: bool
    halves: tuple[RampHalf, ...]
    critical_current_density: float
    failed_at: float
    verdict: str
    step: float
    capacity: float
    high_frequency_resistance: float
    context: LithiumContext
    flags: tuple[str, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a half-cycle in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "step": half.cycle,
                "current_density_mA_per_cm2": half.current_density / MA_PER_CM2,
                "capacity_mAh_per_cm2": half.capacity / MA_PER_CM2 / 3600.0,
                "resistance_ohm_cm2": half.resistance * self.area / CM2,
                "fall_percent": 100.0 * half.fall,
                "verdict": half.verdict,
                "flags": ", ".join(self.flags),
            }
            for half in self.halves
        ]


def ccd(record: Record) -> CriticalCurrentResult:
    """Evaluate a ramp: the critical current density is the current of its last good step.

    A half-cycle has shorted softly when |V|/j has fallen within it by more than the protocol's
    share (5 %), or when |V|/I at its end is less than 0.9 of the high-frequency resistance before
    the ramp, where spectra were measured; and hard when |V| is below the protocol's share (10 %) of
    what the resistance of the first half-cycle makes expect. All four are our choice. That a number
    means nothing without capacity, lithium thickness and stack pressure, and that lithium thicker
    than 30 um can hide soft shorts: Dandena et al., EES Batteries 2025, section 2.1.
    Raises RecordError if the record cannot be read, BadInputError for metadata of another kind.
    """
    traces = [one for one in read_traces(record) if one.step.kind == "ConstantCurrent"]
    area = record.of_cell("area") or NAN
    bulk = _bulk(record)
    charges = charge_of_steps(record)
    halves: list[RampHalf] = []
    for trace in traces:
        first = halves[0].resistance if halves else NAN
        capacity = abs(charges[trace.step.index]) / area
        halves.append(_half(record, trace, area, capacity, first, bulk))
    good = 0.0
    capacity, failed_at, verdict = NAN, NAN, ""
    for number in sorted({half.cycle for half in halves}):
        both = [half for half in halves if half.cycle == number]
        wrong = next((half for half in both if half.verdict != "good"), None)
        if wrong is not None or len(both) < 2:
            failed_at = abs(both[0].current_density)
            verdict = wrong.verdict if wrong else "incomplete"
            break
        good = abs(both[0].current_density)
        capacity = min(half.capacity for half in both)
    context = LithiumContext.of(record, traces[-1].step.start if traces else 0.0)
    return CriticalCurrentResult(
        cell=record.cell_name,
        area=area,
        simulated=record.simulated,
        halves=tuple(halves),
        critical_current_density=good if halves else NAN,
        failed_at=failed_at,
        verdict=verdict,
        step=number_of(record, "step"),
        capacity=capacity,
        high_frequency_resistance=bulk,
        context=context,
        flags=(*context.flags, *_flags(halves, verdict), *interruptions(traces)),
    )


def _half(
    record: Record, trace: Trace, area: float, capacity: float, first: float, bulk: float
) -> RampHalf:
    settling = number_of(record, "settling", 60.0)
    soft, hard = number_of(record, "soft_short", 0.05), number_of(record, "hard_short", 0.1)
    _, voltage, current = trace.between(settling, math.inf)
    asked = trace.step.step.get("current")
    density = float(asked) / area if isinstance(asked, int | float) else NAN
    resistance, highest = NAN, NAN
    if len(voltage):
        course = np.abs(voltage) / np.abs(current)
        resistance, highest = float(course[-1]), float(course.max())
    fall = 1.0 - resistance / highest if highest > 0.0 else NAN
    if not (trace.step.ended and len(voltage)):
        verdict = "incomplete"
    elif resistance < hard * first:
        verdict = "hard short"
    elif fall > soft or resistance < BELOW_BULK * bulk:
        verdict = "soft short"
    elif trace.step.reason == "cut-off" or (trace.step.condition or "").startswith("voltage"):
        verdict = "voltage window"
    else:
        verdict = "good"
    return RampHalf(
        cycle=trace.step.cycle,
        current_density=density,
        capacity=capacity,
        duration=trace.step.duration,
        resistance=resistance,
        highest=highest,
        fall=fall,
        verdict=verdict,
    )


def _bulk(record: Record) -> float:
    """High-frequency resistance of the first spectrum, ohm; NaN if there is none."""
    spectra = record.spectra()
    if not spectra:
        return NAN
    usable = np.isin(spectra[0].status, list(VALID)) & np.isfinite(spectra[0].impedance)
    if usable.sum() < 8:
        return NAN
    fit = fit_circuit(spectra[0].frequency[usable], spectra[0].impedance[usable])
    return fit.high_frequency_resistance


def _flags(halves: list[RampHalf], verdict: str) -> tuple[str, ...]:
    flags = []
    if verdict == "":
        flags.append("no short up to the largest current: a lower bound")
    elif verdict in ("voltage window", "incomplete"):
        flags.append(f"{verdict}: a lower bound")
    if not halves:
        flags.append("no half-cycle")
    return tuple(flags)
