"""Potentiostatic intermittent titration: diffusion coefficients and the charge of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from operando.evaluation.half_cycles import Floats
from operando.evaluation.lines import Line, fit_line
from operando.evaluation.metadata import stated
from operando.evaluation.sphere import surface_limited
from operando.evaluation.traces import Trace, linearity, read_traces
from operando.instruments.errors import BadInputError
from operando.records import Record

NAN = math.nan
LINEAR = 0.98
"""R2 of ln |I| over time below which a step is flagged. Our choice."""

EARLY = 0.5
"""Decay before the fitted part, as the exponent of e, below which a step is flagged: the terms of
the series beyond the first have not died away. Our choice."""

FORMULAS = {
    "plane": (
        "D = -4 L^2/pi^2 dln|I|/dt, L = m/(rho A)",
        "Wen, Boukamp, Huggins and Weppner, J. Electrochem. Soc. 126 (1979) 2258, long times; "
        "length: volume of active material over geometric area",
    ),
    "sphere": (
        "D = -R^2/pi^2 dln|I|/dt",
        "the same in a sphere: Crank, The Mathematics of Diffusion, 2nd ed. 1975, section 6.3",
    ),
    "sphere with resistance": (
        "D = -R^2/g^2 dln|I|/dt, g cot g = 1 - R^2/(3 D Rs dQ/dE)",
        "Crank, section 6.3; resistance in potential steps: Montella, J. Electroanal. Chem. 518 "
        "(2002) 61",
    ),
}


@dataclass(frozen=True, slots=True)
class VoltageStep:
    """One step of the voltage and the current that followed.

    index: of the step. up: its direction. voltage: held, V, mean. height: V, signed. duration: s.
    charge: C, signed. end_current: A. slope, slope_error: of ln |I| over time in the last part,
    1/s. linearity: R2 of that. begin: s of the step at which that part begins. resistance: height
    over the current at its beginning, ohm, see `pitt`. plane, sphere, with_resistance: diffusion
    coefficients, m2/s, NaN where not known. flags: see `pitt`.
    """

    index: int
    up: bool
    voltage: float
    height: float
    duration: float
    charge: float
    end_current: float
    slope: float
    slope_error: float
    linearity: float
    begin: float
    resistance: float
    plane: float
    sphere: float
    with_resistance: float
    flags: tuple[str, ...] = ()

    @property
    def capacity(self) -> float:
        """dQ/dE, C/V."""
        return self.charge / self.height


@dataclass(frozen=True, slots=True)
class PittResult:
    """What a titration showed. length: m/(rho A), m. radius: of the particles, m; NaN unknown."""

    cell: str
    simulated: bool
    length: float
    radius: float
    steps: tuple[VoltageStep, ...]
    flags: tuple[str, ...]

    def differential_capacity(self, *, up: bool = True) -> tuple[Floats, Floats]:
        """Voltage in the middle of each step (V) and dQ/dE there (C/V)."""
        chosen = [step for step in self.steps if step.up is up]
        middle = [step.voltage - 0.5 * step.height for step in chosen]
        return np.array(middle), np.array([step.capacity for step in chosen])

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a step in the units of the literature."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "voltage_V": step.voltage,
                "height_mV": 1e3 * step.height,
                "dQ_dE_mAh_per_V": step.capacity / 3.6,
                "resistance_ohm": step.resistance,
                "plane_cm2_per_s": 1e4 * step.plane,
                "sphere_cm2_per_s": 1e4 * step.sphere,
                "sphere_with_resistance_cm2_per_s": 1e4 * step.with_resistance,
                "flags": ", ".join(step.flags),
            }
            for step in self.steps
        ]


def pitt(
    record: Record,
    *,
    density: float | None = None,
    particle_radius: float | None = None,
    last_part: float = math.e,
    first_part: tuple[float, float] = (0.0, 36.0),
) -> PittResult:
    """Evaluate a titration with steps of the voltage. Formulas and sources: FORMULAS.

    density: of the active material, kg/m3; particle_radius: m. By default as the cell's metadata
    state them. last_part: factor by which |I| falls in the part at the end that is fitted, above
    its last value. first_part: s of a step between which the current is extrapolated over the root
    of time to its beginning, for the resistance; that is the change of the held voltage over the
    change of the current, the step before included.
    Wen's slope is that of diffusion alone. Where a resistance at the surface is in series the
    decay is slower and its D too small; "sphere with resistance" takes it into account, with dQ/dE
    from the charge of the step.

    Flags of a step: "few points" (fewer than five in the last part), "not linear" (R2 of ln |I|
    below 0.98), "early" (the current had decayed by less than a factor of e^0.5 before that part),
    "resistance" (it alone would explain the decay), "limited" (the current limit was reached),
    and those of a `Trace`. Raises BadInputError if there is no step.
    """
    mass, area = record.of_cell("active_mass"), record.of_cell("area")
    if density is None:
        density = stated(record, "density", "kg/m3")
    if particle_radius is None:
        particle_radius = stated(record, "particle_radius", "m")
    length = mass / (density * area) if density * area > 0.0 else NAN
    traces = read_traces(record)
    steps = tuple(
        _step(before, trace, length, particle_radius, last_part, first_part)
        for before, trace in pairwise(traces)
        if trace.step.kind == "ConstantVoltage" and trace.step.label in ("step up", "step down")
    )
    if not steps:
        raise BadInputError(f"{record.folder}: there is no voltage step; evaluate a record of pitt")
    flags = () if record.state == "completed" else (f"run {record.state}",)
    return PittResult(record.cell_name, record.simulated, length, particle_radius, steps, flags)


def _step(
    before: Trace,
    trace: Trace,
    length: float,
    radius: float,
    last_part: float,
    first_part: tuple[float, float],
) -> VoltageStep:
    # Limited at first, a source holds its current instead of its voltage.
    voltage = float(np.median(trace.voltage[-max(1, len(trace.voltage) // 2) :]))
    height = voltage - float(before.voltage[-1])
    end = float(trace.current[-1])
    begin, line, points = _decay(trace, last_part)
    slope = line.slope
    resistance = _resistance(before, trace, height, first_part)
    charge = float(trace.charge[-1])
    with_resistance = NAN
    if resistance > 0.0 and charge * height > 0.0:
        exchange = 1.0 / (3.0 * resistance * charge / height)
        with_resistance = surface_limited(-slope, exchange) * radius**2
    straight = linearity(line, points)
    limit = float(trace.step.step.get("current_limit", math.inf))  # type: ignore[arg-type]
    conditions = {
        "few points": points < 5,
        "not linear": not straight >= LINEAR,
        "early": not -slope * begin >= EARLY,
        "resistance": not with_resistance > 0.0,
        "limited": bool(np.max(np.abs(trace.current)) > 0.98 * limit),
    }
    return VoltageStep(
        index=trace.step.index,
        up=height > 0.0,
        voltage=voltage,
        height=height,
        duration=float(trace.time[-1]),
        charge=charge,
        end_current=end,
        slope=slope,
        slope_error=line.slope_error,
        linearity=straight,
        begin=begin,
        resistance=resistance,
        plane=4.0 * length**2 / math.pi**2 * -slope,
        sphere=radius**2 / math.pi**2 * -slope,
        with_resistance=with_resistance,
        flags=(*(name for name, holds in conditions.items() if holds), *trace.flags),
    )


def _decay(trace: Trace, last_part: float) -> tuple[float, Line, int]:
    """Beginning (s) of the last part of a decay, the line through its ln |I|, its points."""
    sign = math.copysign(1.0, trace.charge[-1])
    current = sign * trace.current
    end = float(np.median(current[-3:]))
    above = np.flatnonzero(~((current > 0.0) & (current <= last_part * end)))
    first = int(above[-1]) + 1 if len(above) else 0
    time, current = trace.time[first:], current[first:]
    if len(time) < 3:
        return NAN, Line(NAN, NAN, NAN, NAN), len(time)
    return float(time[0]), fit_line(time, np.log(current)), len(time)


def _resistance(
    before: Trace, trace: Trace, height: float, first_part: tuple[float, float]
) -> float:
    """What jumps with the voltage, ohm; NaN where too little was measured."""
    time, _, current = trace.between(*first_part)
    if len(time) < 3:
        return NAN
    at_once = fit_line(np.sqrt(time), current).intercept
    return height / (at_once - float(before.current[-1]))
