"""Calendar ageing: capacity and resistance of the check-ups against the time of storage."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from operando.evaluation.cccv import COULOMBS_PER_MAH, NAN
from operando.evaluation.impedance import Surroundings, impedance
from operando.evaluation.pulses import Pulse, read_pulse
from operando.evaluation.traces import Trace, read_traces
from operando.records import Record

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class CheckUp:
    """One check-up.

    number: from 1. time: s of the run at its capacity discharge. stored: s of storage behind it.
    capacity: C. left: charge that the storage before it had left, C, NaN for the first.
    put_in: charge to the state of charge before that storage, C, less the pulse, NaN for the first.
    pulse: None if it was not made. spectrum_resistance: ohm, NaN without a spectrum.
    temperature: of the cell or its chamber at the pulse, K, NaN if not measured. flags: those of
    its steps: "incomplete", "gap", "paused", "state of charge not reached" (the end of the window
    came before it), those of its pulse and its spectrum.
    """

    number: int
    time: float
    stored: float
    capacity: float
    left: float
    put_in: float
    pulse: Pulse | None
    spectrum_resistance: float
    temperature: float
    flags: tuple[str, ...] = ()

    @property
    def resistance(self) -> float:
        """At the end of its pulse, ohm."""
        return self.pulse.end_resistance if self.pulse else NAN

    @property
    def lost(self) -> float:
        """Charge that was not left after the storage before it, C: self-discharge, both kinds."""
        return self.put_in - self.left


@dataclass(frozen=True, slots=True)
class CalendarResult:
    """Check-ups in their order."""

    cell: str
    simulated: bool
    check_ups: tuple[CheckUp, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a check-up in the units of the literature, which are part of the keys."""
        table: list[dict[str, float | int | str | bool]] = []
        for one in self.check_ups:
            first = self.check_ups[0]
            table.append(
                {
                    "cell": self.cell,
                    "simulated": self.simulated,
                    "check_up": one.number,
                    "stored_days": one.stored / DAY,
                    "capacity_mAh": one.capacity / COULOMBS_PER_MAH,
                    "capacity_percent": 100.0 * one.capacity / first.capacity,
                    "lost_in_storage_mAh": one.lost / COULOMBS_PER_MAH,
                    "pulse_resistance_ohm": one.resistance,
                    "pulse_resistance_percent": 100.0 * one.resistance / first.resistance,
                    "spectrum_resistance_ohm": one.spectrum_resistance,
                    "temperature_degC": one.temperature - 273.15,
                    "flags": ", ".join(one.flags),
                }
            )
        return table


def calendar_ageing(record: Record, *, temperature_source: str | None = None) -> CalendarResult:
    """Evaluate check-ups between storages.

    Capacity: of the full discharge. Resistance: (V - V_rest) / I at the end of the pulse, see
    `pulses`, at the state of charge that the protocol went to, a share of the capacity measured
    right before. What is stored counts from the ends of the rests alone, not the check-ups.
    temperature_source: the instrument, if there were several. Raises RecordError if the record
    cannot be read or has several sources of the temperature.
    """
    traces = read_traces(record)
    fitted = impedance(record).spectra if any(t.step.kind == "Impedance" for t in traces) else ()
    spectra = {one.cycle: one for one in fitted}
    around = Surroundings.of(record, temperature_source)
    before = {id(trace): last for last, trace in pairwise(traces)}
    found: list[CheckUp] = []
    stored, put_in = 0.0, NAN
    for number in sorted({trace.step.cycle for trace in traces}):
        own = {t.step.label: t for t in traces if t.step.cycle == number}
        whole = own.get("capacity discharge")
        if whole is None:
            continue
        spectrum = spectra.get(number)
        pulse, left = own.get("discharge pulse"), own.get("discharge of what is left")
        check = [trace for label, trace in own.items() if label != "storage"]
        flags = ["incomplete"] if pulse is None or not all(t.step.ended for t in check) else []
        flags += dict.fromkeys(flag for trace in check for flag in trace.flags)
        to_state = own.get("to state of charge")
        if to_state is not None and "voltage" in (to_state.step.condition or ""):
            flags.append("state of charge not reached")
        read = read_pulse(before[id(pulse)], pulse) if pulse else None
        flags += [f"pulse: {flag}" for flag in read.flags] if read else []
        flags += [f"spectrum: {flag}" for flag in spectrum.flags] if spectrum else []
        found.append(
            CheckUp(
                number=number,
                time=whole.step.start,
                stored=stored,
                capacity=-_passed(whole),
                left=-_passed(left),
                put_in=put_in,
                pulse=read,
                spectrum_resistance=spectrum.resistance if spectrum else NAN,
                temperature=around.temperature_at(pulse.step.start) if pulse else NAN,
                flags=tuple(flags),
            )
        )
        put_in = _passed(to_state) + _passed(pulse)
        storage = own.get("storage")
        stored += storage.step.duration if storage and np.isfinite(storage.step.duration) else 0.0
    return CalendarResult(record.cell_name, record.simulated, tuple(found))


def _passed(trace: Trace | None) -> float:
    """Charge of a step, C, signed; NaN if there was none."""
    return float(trace.charge[-1]) if trace else NAN
