"""Galvanostatic intermittent titration: diffusion coefficients, validity, open-circuit curve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from operando.evaluation.half_cycles import Floats
from operando.evaluation.lines import Line, fit_line
from operando.evaluation.metadata import stated
from operando.evaluation.sphere import diffusion_time
from operando.evaluation.traces import Trace, linearity, read_traces
from operando.instruments.errors import BadInputError
from operando.records import Record

NAN = math.nan
INNER = (0.1, 0.9)
"""Share of the charge of a direction between which coefficients are averaged: the reading of the
published mean that this project uses for Kim et al., Energy Storage Materials 2026, 105167, which
say "average" alone. Our choice."""

LINEAR = 0.99
"""R2 of the voltage over the root of time below which a pulse is flagged. Our choice."""

LONG = 0.25
"""Duration of a pulse over L2/D above which it is flagged. In a plane sheet the root of time holds
within 1 % until then (Crank, The Mathematics of Diffusion, 2nd ed. 1975, chapter 4)."""

Length = Literal["geometric", "particle"]
Method = Literal["pulse", "slope", "sphere"]

WEPPNER = "Weppner and Huggins, J. Electrochem. Soc. 124 (1977) 1569"
FORMULAS: dict[Method, tuple[str, str]] = {
    "pulse": (
        "D = 4/(pi tau) (L dEs/dEt)^2",
        f"{WEPPNER}, small steps; dEt over the whole pulse",
    ),
    "slope": (
        "D = 4/pi (L dEs/(tau dE/dsqrt(t)))^2",
        f"{WEPPNER}; dE/dsqrt(t) at the start of the pulse",
    ),
    "sphere": (
        "D = theta R^2/tau, dEt/dEs = 1 + (1/5 - 2 sum exp(-g^2 theta)/g^2)/(3 theta), tan g = g",
        "Crank, The Mathematics of Diffusion, 2nd ed. 1975, section 6.3, constant flux",
    ),
}
LENGTHS: dict[Length, tuple[str, str]] = {
    "geometric": (
        "L = m/(rho A)",
        "volume of active material over geometric area, as the numbers of Kim et al., Energy "
        "Storage Materials 2026, 105167, section 3.3 imply",
    ),
    "particle": (
        "L = R/3",
        "volume over surface of a sphere; with it L is what Weppner and Huggins ask for",
    ),
}


@dataclass(frozen=True, slots=True)
class Pulse:
    """One pulse with the rests before and after it.

    index: of its step. charging: its direction. time: s of the run at which it began. duration: s.
    current: A, mean. charge: passed, C, signed. position: share of the charge of its direction
    that had passed by its middle. before, after: V at the ends of the rests. start: V, what its
    first part is extrapolated to at its beginning: the voltage before with the ohmic jump. end: V
    at its last sample. slope, slope_error: of the voltage over the root of time in its first part,
    V/s^0.5. linearity: R2 of that. drift, drift_error: dV/dt at the end of the rest after it, V/s.
    flags: what speaks against using it, see `gitt`.
    """

    index: int
    charging: bool
    time: float
    duration: float
    current: float
    charge: float
    position: float
    before: float
    start: float
    end: float
    after: float
    slope: float
    slope_error: float
    linearity: float
    drift: float
    drift_error: float
    flags: tuple[str, ...] = ()

    @property
    def steady_change(self) -> float:
        """dEs: change of the voltage at rest, V."""
        return self.after - self.before

    @property
    def transient_change(self) -> float:
        """dEt: change of the voltage during the pulse without the ohmic jump, V."""
        return self.end - self.start

    @property
    def resistance(self) -> float:
        """Jump at the beginning over the current, ohm: everything faster than diffusion."""
        return (self.start - self.before) / self.current

    @property
    def time_ratio(self) -> float:
        """Duration over L2/D by Weppner and Huggins, whatever L: 4/pi (dEs/dEt)^2."""
        return 4.0 / math.pi * (self.steady_change / self.transient_change) ** 2

    @property
    def inner(self) -> bool:
        """Whether it is averaged over."""
        return INNER[0] <= self.position <= INNER[1]


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Diffusion coefficients by one formula with one length.

    method, length_kind: which. length: m; the radius for a sphere. formula, source: in words.
    coefficients: m2/s, one a pulse, NaN where it cannot be computed. errors: standard errors that
    come from the slope, NaN for other methods. charge, discharge: means over the pulses between
    10 and 90 % of the charge of a direction, m2/s.
    """

    method: Method
    length_kind: Length
    length: float
    formula: str
    source: str
    coefficients: Floats
    errors: Floats
    charge: float
    discharge: float

    def against(self, pulse: Pulse) -> tuple[str, ...]:
        """The flags of a pulse that speak against this reading of it.

        Only the change over the whole pulse asks for a short one.
        """
        short = self.method != "pulse"
        return tuple(flag for flag in pulse.flags if not (short and flag == "long pulse"))


@dataclass(frozen=True, slots=True)
class GittResult:
    """What a titration showed.

    pulses: in order. readings: of the same pulses, by length and method. chosen: the one that
    `diffusion_coefficient` is of. flags: what speaks against the whole.
    """

    cell: str
    simulated: bool
    pulses: tuple[Pulse, ...]
    readings: tuple[Diffusion, ...]
    chosen: Diffusion
    flags: tuple[str, ...]

    @property
    def diffusion_coefficient(self) -> float:
        """Mean on charge between 10 and 90 % by the chosen reading, m2/s."""
        return self.chosen.charge

    @property
    def validity(self) -> str:
        """How many of the averaged pulses meet all conditions, and what the others lack."""
        inner = [self.chosen.against(pulse) for pulse in self.pulses if pulse.inner]
        good = sum(not flags for flags in inner)
        lacks = Counter(flag for flags in inner for flag in flags)
        counts = [f"{flag}: {number}" for flag, number in lacks.items()]
        return "; ".join([f"{good} of {len(inner)} pulses valid", *counts])

    def reading(self, length: Length, method: Method) -> Diffusion:
        """One of the readings. Raises KeyError for a sphere with the geometric length."""
        for one in self.readings:
            if (one.length_kind, one.method) == (length, method):
                return one
        raise KeyError(f"{length}, {method}")

    def open_circuit(self, *, charging: bool = True) -> tuple[Floats, Floats]:
        """Charge of the titration (C, signed) and voltage at rest (V), one a pulse."""
        total = np.cumsum([pulse.charge for pulse in self.pulses])
        pairs = [
            (charge, pulse.after)
            for charge, pulse in zip(total, self.pulses, strict=True)
            if pulse.charging is charging
        ]
        return np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a reading in the units of the literature, with its formula and source."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "length": one.length_kind,
                "length_um": 1e6 * one.length,
                "method": one.method,
                "charge_cm2_per_s": 1e4 * one.charge,
                "discharge_cm2_per_s": 1e4 * one.discharge,
                "formula": one.formula,
                "source": one.source,
                "validity": self.validity,
            }
            for one in self.readings
        ]


def gitt(
    record: Record,
    *,
    length: Length = "geometric",
    method: Method = "pulse",
    density: float | None = None,
    particle_radius: float | None = None,
    first_part: tuple[float, float] = (1.0, 36.0),
    relaxed: float = 0.1e-3 / 3600.0,
    relaxation_window: float = 1800.0,
) -> GittResult:
    """Evaluate a titration with current pulses.

    length, method: of the reading that `diffusion_coefficient` gives: "geometric" is the volume of
    active material over the geometric area, m/(rho A), "particle" is R/3; "pulse" takes the change
    over the whole pulse, "slope" that of its first part over the root of time, "sphere" solves for
    diffusion into a sphere and needs no short pulse. All of them are in `readings`.
    density: of the active material, kg/m3; particle_radius: m. By default as the cell's metadata
    state them: density = "4.8 g/cm3", particle_radius = "2.5 um".
    first_part: s of a pulse between which its voltage is fitted against the root of time; the
    default is that of Batteries 11 (2025) 234, without the first second. relaxed: V/s, largest
    drift at the end of a rest. relaxation_window: s at its end over which the drift is fitted, a
    third of the rest at most.

    Flags of a pulse: "not relaxed" (the rest before or after it ended with a drift that is larger
    by more than twice its standard error), "not linear" (R2 below 0.99), "few points" (fewer than
    five in the first part), "long pulse" (its duration is above a quarter of L2/D, while Weppner
    and Huggins ask for t << L2/D; it speaks against "pulse" alone), "cut short" (ended before
    its time), "flat" (the voltage at rest did not change in its direction), and those of a `Trace`.
    Where a run titrated a part of the window, 10 and 90 % are of that part.
    Raises BadInputError if there is no pulse, or the chosen length is not known.
    """
    pulses = _pulses(read_traces(record), first_part, relaxed, relaxation_window)
    if not pulses:
        raise BadInputError(
            f"{record.folder}: there is no pulse between two rests; evaluate a record of gitt"
        )
    mass, area = record.of_cell("active_mass"), record.of_cell("area")
    if density is None:
        density = stated(record, "density", "kg/m3")
    if particle_radius is None:
        particle_radius = stated(record, "particle_radius", "m")
    geometric = mass / (density * area) if density * area > 0.0 else NAN
    readings = (
        _read(pulses, "geometric", "pulse", geometric),
        _read(pulses, "geometric", "slope", geometric),
        _read(pulses, "particle", "pulse", particle_radius / 3.0),
        _read(pulses, "particle", "slope", particle_radius / 3.0),
        _read(pulses, "particle", "sphere", particle_radius),
    )
    chosen = [one for one in readings if (one.length_kind, one.method) == (length, method)]
    if not chosen:
        raise BadInputError('method: a "sphere" has the length "particle"')
    if not math.isfinite(chosen[0].length):
        lacks = (
            'particle_radius = "2.5 um"'
            if length == "particle"
            else 'density = "4.8 g/cm3", beside active_mass and area of the cell'
        )
        raise BadInputError(
            f"{record.folder}: the length of cell '{record.cell_name}' is not known; give {lacks}, "
            f"in [cells.{record.cell_name}.metadata] or as an argument"
        )
    flags = [] if record.state == "completed" else [f"run {record.state}"]
    if not any(pulse.inner and not chosen[0].against(pulse) for pulse in pulses):
        flags.append("no valid pulse")
    return GittResult(record.cell_name, record.simulated, pulses, readings, chosen[0], tuple(flags))


def _pulses(
    traces: list[Trace], first_part: tuple[float, float], relaxed: float, window: float
) -> tuple[Pulse, ...]:
    """The pulses that lie between two rests, with everything but what needs a length."""
    triples = [
        three
        for three in zip(traces, traces[1:], traces[2:], strict=False)
        if [trace.step.kind for trace in three] == ["Rest", "ConstantCurrent", "Rest"]
    ]
    longest = max((pulse.step.duration for _, pulse, _ in triples), default=NAN)
    totals = {True: 0.0, False: 0.0}
    for _, pulse, _ in triples:
        totals[pulse.charge[-1] > 0.0] += float(pulse.charge[-1])
    passed = {True: 0.0, False: 0.0}
    found = []
    for before, pulse, after in triples:
        charge = float(pulse.charge[-1])
        charging = charge > 0.0
        time, voltage, _ = pulse.between(*first_part)
        slope = intercept = error = straight = NAN
        if len(time) > 2:
            line = fit_line(np.sqrt(time), voltage)
            slope, intercept, error = line.slope, line.intercept, line.slope_error
            straight = linearity(line, len(time))
        rests = _drift(before, window), _drift(after, window)
        one = Pulse(
            index=pulse.step.index,
            charging=charging,
            time=pulse.step.start,
            duration=float(pulse.time[-1]),
            current=charge / float(pulse.time[-1]),
            charge=charge,
            position=(passed[charging] + 0.5 * charge) / totals[charging],
            before=float(before.voltage[-1]),
            start=intercept,
            end=float(pulse.voltage[-1]),
            after=float(after.voltage[-1]),
            slope=slope,
            slope_error=error,
            linearity=straight,
            drift=rests[1].slope,
            drift_error=rests[1].slope_error,
        )
        passed[charging] += charge
        conditions = {
            # A drift that is not known speaks against the pulse as well.
            "not relaxed": not all(
                abs(rest.slope) <= relaxed + 2.0 * rest.slope_error for rest in rests
            ),
            "not linear": not straight >= LINEAR,
            "few points": len(time) < 5,
            "long pulse": not one.time_ratio <= LONG,
            "cut short": one.duration < 0.95 * longest,
            "flat": not one.steady_change * charge > 0.0,
        }
        flags = [name for name, holds in conditions.items() if holds]
        flags += dict.fromkeys(flag for part in (before, pulse, after) for flag in part.flags)
        found.append(replace(one, flags=tuple(flags)))
    return tuple(found)


def _drift(rest: Trace, window: float) -> Line:
    """dV/dt at the end of a rest, V/s, NaN with fewer than three readings there.

    A third of the rest at most: what relaxes at its beginning is not its end. Our choice.
    """
    last = float(rest.time[-1])
    time, voltage, _ = rest.between(last - min(window, last / 3.0), last)
    return fit_line(time, voltage) if len(time) > 2 else Line(NAN, NAN, NAN, NAN)


def _read(
    pulses: tuple[Pulse, ...], length_kind: Length, method: Method, length: float
) -> Diffusion:
    """Every pulse by one formula. length: m, the radius for a sphere."""
    compute: dict[Method, Callable[[Pulse], float]] = {
        "pulse": lambda one: (
            4.0
            / (math.pi * one.duration)
            * (length * one.steady_change / one.transient_change) ** 2
        ),
        "slope": lambda one: (
            4.0 / math.pi * (length * one.steady_change / (one.duration * one.slope)) ** 2
        ),
        "sphere": lambda one: (
            diffusion_time(one.transient_change / one.steady_change) * length**2 / one.duration
        ),
    }
    values = np.array([compute[method](one) if one.transient_change else NAN for one in pulses])
    errors = np.full(len(values), NAN)
    if method == "slope":
        errors = values * 2.0 * np.array([abs(one.slope_error / one.slope) for one in pulses])

    def mean(charging: bool) -> float:
        chosen = [
            value
            for value, one in zip(values, pulses, strict=True)
            if one.charging is charging and one.inner and math.isfinite(value)
        ]
        return float(np.mean(chosen)) if chosen else NAN

    formula, source = FORMULAS[method]
    if method != "sphere":
        kind, where = LENGTHS[length_kind]
        formula, source = f"{formula}, {kind}", f"{source}; length: {where}"
    return Diffusion(
        method, length_kind, length, formula, source, values, errors, mean(True), mean(False)
    )
