"""Operando pressure: how the stack pressure follows the charge, creep of the stack taken out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operando.evaluation.compression_relaxation import RELAXATION, Relaxation, fit_relaxation
from operando.evaluation.half_cycles import Cycling, Floats, HalfCycle, read_cycling
from operando.evaluation.metadata import stated, stated_text
from operando.records import Record
from operando.records.reader import usable_values

NAN = float("nan")
MPA_PER_MAH_PER_CM2 = 3.6e-2
"""1 Pa m2/C in MPa per mAh/cm2: 1e-6 MPa/Pa * 3.6 C/mAh * 1e4 cm2/m2."""


@dataclass(frozen=True, slots=True)
class BreathingCycle:
    """One cycle. swing: pressure at the end of the charge minus that at its start, Pa.

    charge_slope, discharge_slope: least-squares slope of pressure against areal charge, Pa m2/C;
    both have the sign of the swing if the cell breathes reversibly. hysteresis: mean pressure of
    the discharge minus that of the charge at equal charge, Pa. Creep is taken out of all of them.
    raw_swing: as it was read. NaN where a half is absent.
    """

    cycle: int
    swing: float
    raw_swing: float
    charge_slope: float
    discharge_slope: float
    hysteresis: float


@dataclass(frozen=True, slots=True)
class BreathingResult:
    """How a cell breathed.

    cell: its name. area: m2. base_pressure: at the end of the relaxation, Pa. relaxation: the
    creep that was taken out, None if there was no such rest. stiffness: of the frame as stated,
    N/m; piston_area: m2; counter_electrode: as stated: the sign depends on it. flags: what speaks
    against using the numbers. simulated: whether the data are.
    """

    cell: str
    area: float
    simulated: bool
    base_pressure: float
    relaxation: Relaxation | None
    cycles: tuple[BreathingCycle, ...]
    stiffness: float
    piston_area: float
    counter_electrode: str
    flags: tuple[str, ...] = ()

    @property
    def sign(self) -> str:
        """ "rises" or "falls": what the pressure does on charge, in most cycles; "" if unknown."""
        signs = [np.sign(one.charge_slope) for one in self.cycles if np.isfinite(one.charge_slope)]
        total = sum(signs)
        return "rises" if total > 0 else "falls" if total < 0 else ""

    def expansion(self, cycle: BreathingCycle) -> float:
        """Thickness gained per areal charge, m3/C, from the stated stiffness; NaN without it.

        dh = dF / k = dP * A_piston / k. At constant force the stack moves and the pressure stays:
        then there is no such number.
        """
        return cycle.charge_slope * self.piston_area / self.stiffness if self.stiffness else NAN

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a cycle in the units of the literature, which are part of the keys."""
        scale = MPA_PER_MAH_PER_CM2
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "cycle": one.cycle,
                "pressure_swing_MPa": 1e-6 * one.swing,
                "raw_pressure_swing_MPa": 1e-6 * one.raw_swing,
                "charge_slope_MPa_per_mAh_per_cm2": scale * one.charge_slope,
                "discharge_slope_MPa_per_mAh_per_cm2": scale * one.discharge_slope,
                "hysteresis_MPa": 1e-6 * one.hysteresis,
                "base_pressure_MPa": 1e-6 * self.base_pressure,
            }
            for one in self.cycles
        ]


def operando_pressure(record: Record, *, pressure_source: str | None = None) -> BreathingResult:
    """Evaluate cycling with measured stack pressure.

    The creep law fitted in the rest before the first cycle is drawn on and taken out. Temperature
    is not corrected: use a dummy cell, or a chamber. The sign depends on the counter electrode: a
    zero-strain one shows the cathode alone, which shrinks on charge; lithium more than makes up
    for it (Dandena et al., EES Batteries 2025, 1, 692, section 4.6; Sun et al., InfoMat 2025).
    pressure_source: the load cell, if there were several. Raises RecordError if the record cannot
    be read or has several sources of pressure.
    """
    cycling = read_cycling(record)
    readings = record.aux("pressure", source=record.source_of("pressure", pressure_source))
    values = usable_values(readings)
    valid = np.isfinite(values)
    time, raw = readings["time"][valid], values[valid]
    rest = next((step for step in record.steps() if step.label == RELAXATION), None)
    relaxation = None if rest is None else fit_relaxation(rest, time, raw)
    fitted = relaxation is not None and np.isfinite(relaxation.fall)
    drift = relaxation.drift(time) if relaxation is not None and fitted else np.zeros(len(time))
    area = record.of_cell("area") or NAN
    halves = {(half.cycle, half.charging): half for half in cycling.halves}
    cycles = tuple(
        _cycle(cycling, halves, number, time, raw, drift, area)
        for number in sorted({half.cycle for half in cycling.halves})
    )
    stiffness = stated(record, "frame_stiffness", "N/m")
    counter = stated_text(record, "counter_electrode")
    flags = [
        text
        for text, missing in (
            ("no relaxation: creep is not taken out", not fitted),
            ("frame stiffness is not stated", not np.isfinite(stiffness)),
            ("counter electrode is not stated", not counter),
            ("electrode area is not stated", not np.isfinite(area)),
            ("no pressure was measured", len(time) == 0),
        )
        if missing
    ]
    return BreathingResult(
        cell=record.cell_name,
        area=area,
        simulated=record.simulated,
        base_pressure=relaxation.last if relaxation else NAN,
        relaxation=relaxation,
        cycles=cycles,
        stiffness=stiffness,
        piston_area=stated(record, "piston_area", "m2"),
        counter_electrode=counter,
        flags=tuple(flags),
    )


def _cycle(
    cycling: Cycling,
    halves: dict[tuple[int, bool], HalfCycle],
    number: int,
    time: Floats,
    raw: Floats,
    drift: Floats,
    area: float,
) -> BreathingCycle:
    up, down = (
        _half(cycling, halves.get((number, charging)), time, raw - drift, area)
        for charging in (True, False)
    )
    charge = halves.get((number, True))
    inside = np.zeros(len(time), dtype=bool)
    if charge is not None:
        inside = (time >= charge.start) & (time <= charge.end)
    swing, read = _ends(raw[inside] - drift[inside]), _ends(raw[inside])
    return BreathingCycle(number, swing, read, _slope(*up), _slope(*down), _between(up, down))


def _half(
    cycling: Cycling, half: HalfCycle | None, time: Floats, pressure: Floats, area: float
) -> tuple[Floats, Floats]:
    """Areal charge (C/m2) and pressure (Pa) of the readings within a half cycle."""
    if half is None:
        return np.empty(0), np.empty(0)
    use = (time >= half.start) & (time <= half.end)
    for gap in cycling.gaps:
        use &= (time < gap.start) | (time > gap.end)
    charge = np.interp(time[use], cycling.samples["time"], cycling.net)
    return charge / area, pressure[use]


def _ends(pressure: Floats) -> float:
    return float(pressure[-1] - pressure[0]) if len(pressure) > 1 else NAN


def _slope(charge: Floats, pressure: Floats) -> float:
    if len(charge) < 3 or not np.ptp(charge) > 0.0:
        return NAN
    return float(np.polyfit(charge, pressure, 1)[0])


def _between(up: tuple[Floats, Floats], down: tuple[Floats, Floats]) -> float:
    """Mean pressure of the discharge over that of the charge, where both have been."""
    if min(len(up[0]), len(down[0])) < 3:
        return NAN
    low = max(up[0].min(), down[0].min())
    high = min(up[0].max(), down[0].max())
    if not high > low:
        return NAN
    at = np.linspace(low, high, 50)
    order = np.argsort(down[0])
    there = np.interp(at, down[0][order], down[1][order])
    return float(np.mean(there - np.interp(at, up[0], up[1])))
