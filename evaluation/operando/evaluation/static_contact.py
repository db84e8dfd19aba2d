"""How the resistance of a resting pellet or cell grows: static contact ageing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from operando.evaluation.impedance import MeasuredSpectrum, impedance
from operando.records import Record

NAN = math.nan
CM2_PER_M2 = 1e4


@dataclass(frozen=True, slots=True)
class Aged:
    """One spectrum of the rest. time: since the first spectrum, s.

    bulk: high-frequency resistance of the circuit, ohm. total: resistance without the tail, ohm.
    bulk_error, total_error: standard errors, ohm.
    """

    spectrum: MeasuredSpectrum
    time: float
    bulk: float
    bulk_error: float
    total: float
    total_error: float


@dataclass(frozen=True, slots=True)
class StaticContactResult:
    """Resistance against time. area: m2.

    bulk_growth, total_growth: from the first to the last spectrum, ohm, with their standard errors.
    flags: those of the first and the last spectrum.
    """

    cell: str
    area: float
    simulated: bool
    points: tuple[Aged, ...]
    bulk_growth: float
    bulk_growth_error: float
    total_growth: float
    total_growth_error: float
    flags: tuple[str, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a spectrum in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "time_h": point.time / 3600.0,
                "bulk_ohm": point.bulk,
                "total_ohm": point.total,
                "total_ohm_cm2": point.total * self.area * CM2_PER_M2,
                "flags": ", ".join(point.spectrum.flags),
            }
            for point in self.points
        ]


def static_contact(record: Record) -> StaticContactResult:
    """Growth of bulk and total resistance of a pellet at rest, from its spectra.

    R_b and R_total at 0 and 48 h are what Kim et al., Energy Storage Materials 2026, 105167,
    section 3.3, report. R_b is the high-frequency intercept of the fitted circuit, R_total the
    resistance without the tail. All spectra are fitted with the circuit that the last one asks for:
    the arc of a young interface may be too small to ask for its own. Contacts that do not change
    drop out of the growth, not of the resistances. Raises RecordError if the record cannot be read.
    """
    found = impedance(record)
    last = next((one.fit for one in reversed(found.spectra) if one.fit), None)
    if last is not None and any(
        one.fit and len(one.fit.arcs) != len(last.arcs) for one in found.spectra
    ):
        found = impedance(record, arcs=len(last.arcs), tail=last.tail)
    points = tuple(
        Aged(
            one,
            one.time - found.spectra[0].time,
            one.fit.high_frequency_resistance,
            one.fit.high_frequency_error,
            one.fit.resistance,
            one.fit.error,
        )
        for one in found.spectra
        if one.fit is not None
    )
    if len(points) < 2:
        return StaticContactResult(
            found.cell, found.area, found.simulated, points, NAN, NAN, NAN, NAN,
            ("fewer than two spectra",),
        )  # fmt: skip
    first, end = points[0], points[-1]
    flags = dict.fromkeys((*first.spectrum.flags, *end.spectrum.flags))
    return StaticContactResult(
        cell=found.cell,
        area=found.area,
        simulated=found.simulated,
        points=points,
        bulk_growth=end.bulk - first.bulk,
        bulk_growth_error=math.hypot(end.bulk_error, first.bulk_error),
        total_growth=end.total - first.total,
        total_growth_error=math.hypot(end.total_error, first.total_error),
        flags=tuple(flags),
    )
