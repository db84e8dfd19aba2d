"""Coulometric titration time analysis: how much lithium an interphase has used up, and how fast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from operando.evaluation.half_cycles import Floats
from operando.evaluation.lithium import LithiumContext, charge_of_steps, interruptions, number_of
from operando.evaluation.metadata import stated
from operando.evaluation.traces import read_traces
from operando.records import Record

NAN = math.nan
UAH_PER_CM2 = 36.0
"""C/m2."""
MA_PER_CM2 = 10.0
"""A/m2."""
HOUR = 3600.0
THICKNESS = 9e-9 / UAH_PER_CM2
"""Interphase per charge, m3/C: 9 nm for 1 uAh/cm2, Dandena et al., EES Batteries 2025, 1, 692,
section 4.1."""
FEWEST = 5
"""Titrations that a fit of three numbers needs. Our choice."""
LARGEST_ERROR = 0.05
"""Standard error of the exponent above which it decides nothing between 0.5 and 1. Our choice."""


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """q = offset + coefficient t^exponent, with standard errors. q: C/m2. t: s.

    determination: coefficient of determination R2.
    """

    offset: float
    offset_error: float
    coefficient: float
    coefficient_error: float
    exponent: float
    exponent_error: float
    determination: float


@dataclass(frozen=True, slots=True)
class TitrationResult:
    """Lithium used up against time.

    time: s from the beginning of the first titration until the open circuit has risen through the
    trigger, by titration. charge: used up until then, C/m2, without the leakage. thickness: of the
    interphase, m. current_density: A/m2, a magnitude. titration: charge of one titration, C/m2.
    trigger: V. electronic_leakage: A/m2, as stated, NaN if it is not. free: fit with a free
    exponent. parabolic: fit with an exponent of 0.5, whose coefficient is the parabolic rate
    constant, C/(m2 s^0.5). None with fewer than five titrations. area: m2. flags: what speaks
    against using the numbers.
    """

    cell: str
    area: float
    simulated: bool
    time: Floats
    charge: Floats
    current_density: float
    titration: float
    trigger: float
    electronic_leakage: float
    free: PowerLaw | None
    parabolic: PowerLaw | None
    context: LithiumContext
    flags: tuple[str, ...]

    @property
    def thickness(self) -> Floats:
        """Thickness of the interphase by titration, m: 9 nm per uAh/cm2."""
        return self.charge * THICKNESS

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a titration in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "titration": number,
                "time_h": float(time) / HOUR,
                "charge_uAh_per_cm2": float(charge) / UAH_PER_CM2,
                "thickness_nm": 1e9 * float(charge) * THICKNESS,
                "exponent": self.free.exponent if self.free else NAN,
                "exponent_error": self.free.exponent_error if self.free else NAN,
                "flags": ", ".join(self.flags),
            }
            for number, (time, charge) in enumerate(
                zip(self.time, self.charge, strict=True), start=1
            )
        ]


def ctta(record: Record) -> TitrationResult:
    """Evaluate a titration: charge used up against time, its power of time, the thickness.

    The sum of all titrations has been used up when the open circuit rises through the trigger; what
    is plated last and cut off by the end of the run does not count. q = q0 + k t^n is fitted by
    least squares with n free; growth that its own product limits has n = 0.5 (charge against the
    square root of time: Dandena et al., EES Batteries 2025, 1, 692, section 4.1; no constant is
    printed there). A leakage current density through the electrolyte, stated as electronic_leakage
    of the cell, is subtracted: it uses lithium up without an interphase. Thickness: 9 nm for
    1 uAh/cm2, same source. Raises RecordError if the record cannot be read, BadInputError for
    metadata of another kind.
    """
    area = record.of_cell("area") or NAN
    traces = read_traces(record)
    leakage = stated(record, "electronic_leakage", "A/m2")
    time, charge = [], []
    charges = charge_of_steps(record)
    plated, start, ended_early = 0.0, NAN, False
    for trace in traces:
        step = trace.step
        if step.label == "titration":
            start = step.start if math.isnan(start) else start
            plated -= charges[step.index] / area
            ended_early = (step.condition or "").startswith("voltage")
        elif step.label == "open circuit" and (step.condition or "").startswith("voltage"):
            spent = step.end - start
            time.append(spent)
            charge.append(plated - (0.0 if math.isnan(leakage) else leakage * spent))
    t, q = np.array(time), np.array(charge)
    context = LithiumContext.of(record, traces[-1].step.start if traces else 0.0)
    free = power_law(t, q)
    flags = []
    if free is None:
        flags.append(f"fewer than {FEWEST} titrations: no fit")
    elif not free.exponent_error <= LARGEST_ERROR:
        flags.append("the exponent is uncertain: titrate for longer")
    for name, value in (
        ("electronic_leakage", leakage),
        ("stack_pressure", context.stack_pressure),
        ("temperature", context.temperature),
    ):
        if math.isnan(value):
            flags.append(f"{name} is not stated")
    if ended_early:
        flags.append("the last titration ended at the voltage window")
    flags.extend(interruptions(traces))
    return TitrationResult(
        cell=record.cell_name,
        area=area,
        simulated=record.simulated,
        time=t,
        charge=q,
        current_density=number_of(record, "current"),
        titration=number_of(record, "titration"),
        trigger=number_of(record, "trigger"),
        electronic_leakage=leakage,
        free=free,
        parabolic=power_law(t, q, exponent=0.5),
        context=context,
        flags=tuple(flags),
    )


def power_law(time: Floats, charge: Floats, exponent: float | None = None) -> PowerLaw | None:
    """Least-squares fit of q = q0 + k t^n; None with fewer than five points or without a solution.

    time: s. charge: C/m2. exponent: fixed where given. Standard errors are those of the covariance
    (J^T J)^-1 s^2: they know the scatter about the law, not whether it holds.
    """
    if len(time) < FEWEST:
        return None
    unit = float(time[-1])
    t = time / unit

    def solved(n: float) -> tuple[Floats, float]:
        design = np.stack([np.ones_like(t), t**n], axis=1)
        solution: Floats = np.asarray(np.linalg.lstsq(design, charge, rcond=None)[0], np.float64)
        return solution, float(np.sum((design @ solution - charge) ** 2))

    n = exponent
    if n is None:
        from scipy.optimize import minimize_scalar

        # Linear in q0 and k, so that only the exponent is looked for.
        found: Any = minimize_scalar(
            lambda one: solved(float(one))[1],
            bounds=(0.02, 3.0),
            method="bounded",
            options={"xatol": 1e-7},
        )
        n = float(found.x)
    (offset, scale), square = solved(n)
    columns = [np.ones_like(t), t**n]
    if exponent is None:
        columns.append(scale * t**n * np.log(t))
    jacobian = np.stack(columns, axis=1)
    freedom = len(t) - len(columns)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * square / freedom
    errors = np.sqrt(np.diag(covariance))
    total = float(np.sum((charge - charge.mean()) ** 2))
    # k t^n = scale (t / unit)^n, so the error of n reaches k through the unit of time.
    by = np.zeros(len(columns))
    by[1] = unit**-n
    if exponent is None:
        by[2] = -scale * math.log(unit) * unit**-n
    return PowerLaw(
        offset=float(offset),
        offset_error=float(errors[0]),
        coefficient=float(scale) * unit**-n,
        coefficient_error=math.sqrt(max(float(by @ covariance @ by), 0.0)),
        exponent=n,
        exponent_error=float(errors[2]) if exponent is None else 0.0,
        determination=1.0 - square / total if total > 0.0 else NAN,
    )
