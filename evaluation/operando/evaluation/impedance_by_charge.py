"""Impedance at several states of charge: the slowest arc against the state of charge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from operando.evaluation.circuits import Arc
from operando.evaluation.impedance import LINEARITY, MeasuredSpectrum, impedance
from operando.records import Record

NAN = math.nan
CM2_PER_M2 = 1e4


@dataclass(frozen=True, slots=True)
class AtCharge:
    """One spectrum with its state of charge.

    charge: net charge of the run before it, C. state_of_charge: that over the nominal capacity; NaN
    where the capacity is not stated. It counts from how the cell was when the run began.
    charging: whether the cell was charged or discharged last; None before either. open_circuit: V.
    arc: the slowest; None where there is none, or where its maximum lies below the band. flags:
    those of the spectrum, and "arc below the band".
    """

    spectrum: MeasuredSpectrum
    charge: float
    state_of_charge: float
    charging: bool | None
    open_circuit: float
    arc: Arc | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImpedanceByCharge:
    """The spectra of a record in order of time. area: m2."""

    cell: str
    area: float
    simulated: bool
    points: tuple[AtCharge, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a spectrum in the units of the literature, which are part of the keys."""
        return [
            {
                "cell": self.cell,
                "simulated": self.simulated,
                "spectrum": point.spectrum.index,
                "direction": {True: "charge", False: "discharge", None: ""}[point.charging],
                "charge_mAh": point.charge / 3.6,
                "state_of_charge_percent": 100.0 * point.state_of_charge,
                "open_circuit_voltage_V": point.open_circuit,
                "high_frequency_resistance_ohm": point.spectrum.high_frequency_resistance,
                "arc_ohm": point.arc.resistance if point.arc else NAN,
                "arc_ohm_cm2": (point.arc.resistance if point.arc else NAN)
                * self.area
                * CM2_PER_M2,
                "arc_error_ohm": point.arc.error if point.arc else NAN,
                "arc_Hz": point.arc.frequency if point.arc else NAN,
                "flags": ", ".join(point.flags),
            }
            for point in self.points
        ]


def impedance_by_charge(record: Record) -> ImpedanceByCharge:
    """Each spectrum of a record with the charge that had passed before, fitted as by `impedance`.

    The slowest arc of a full cell is the charge transfer with the film in its way. At both ends of
    the state of charge it may be so slow that its maximum lies below the band: where -Im Z at the
    lowest frequency exceeds the resistance of the whole circuit, or the spectrum ends in what looks
    like a blocking tail, no arc is given (our choice). Frequency and capacitance tell whether all
    arcs are the same one: the capacitance of an interface changes little with the state of charge.
    Raises RecordError if the record cannot be read.
    """
    found = impedance(record)
    driven = [step for step in record.steps() if step.kind == "ConstantCurrent"]
    capacity = record.of_cell("capacity") or NAN
    points = []
    for one in found.spectra:
        if one.label == LINEARITY:
            continue
        before = [step.charge for step in driven if step.index < one.step]
        charge = math.fsum(before)
        direction = before[-1] > 0.0 if before else None
        hidden = _below_the_band(one)
        points.append(
            AtCharge(
                spectrum=one,
                charge=charge,
                state_of_charge=charge / capacity,
                charging=direction,
                open_circuit=one.start_voltage,
                arc=None if hidden else one.slowest_arc,
                flags=(*one.flags, "arc below the band") if hidden else one.flags,
            )
        )
    return ImpedanceByCharge(found.cell, found.area, found.simulated, tuple(points))


def _below_the_band(one: MeasuredSpectrum) -> bool:
    """Whether the arc that is looked for has its maximum at a lower frequency than was measured."""
    if one.fit is None:
        return False
    capacitive = -float(one.impedance.imag[int(np.argmin(one.frequency))])
    return one.fit.tail == "blocking" or capacitive > one.fit.resistance
