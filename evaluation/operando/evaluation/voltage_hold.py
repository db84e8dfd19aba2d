"""Voltage holds: the current that leaks, and what a hold costs in capacity and resistance."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from operando.evaluation.cccv import COULOMBS_PER_MAH, NAN, Cycle, CyclingResult, cccv
from operando.evaluation.half_cycles import Floats
from operando.evaluation.impedance import MeasuredSpectrum, impedance
from operando.evaluation.pulses import Pulse, read_pulse
from operando.evaluation.traces import Trace, read_traces
from operando.records import Record

STEADY_SHARE = 0.1
"""Share of a hold, at its end, over which the current is averaged. Our choice."""
STEADY_CHANGE = 0.05
"""Largest relative change between that share and the one before it without a flag. Our choice."""


@dataclass(frozen=True, slots=True)
class VoltageHold:
    """One hold.

    cycle: from 1. voltage: mean, V. duration: s. charge: passed while it was held, C.
    leakage_current: mean over the last tenth, A. scatter: standard deviation of the readings it is
    the mean of, A. change: of that mean against the tenth before, relative. capacity_loss: what is
    discharged in the last cycle without a hold before it minus that in the first behind it, C.
    resistance_growth: of `Aged.resistance` between the same two cycles, ohm. flags: "not steady",
    "incomplete", "gap", "paused".
    """

    cycle: int
    voltage: float
    duration: float
    charge: float
    leakage_current: float
    scatter: float
    change: float
    capacity_loss: float
    resistance_growth: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Aged:
    """The cell in one cycle.

    held: whether it has a hold. capacity: discharged, C. pulse: the one after its charge, None if
    there was none. spectrum_resistance: of the circuit fitted to its spectrum, ohm, NaN if none.
    flags: those of the cycle, the pulse and the spectrum.
    """

    cycle: int
    held: bool
    capacity: float
    pulse: Pulse | None
    spectrum_resistance: float
    flags: tuple[str, ...] = ()

    @property
    def resistance(self) -> float:
        """At the end of its pulse, ohm."""
        return self.pulse.end_resistance if self.pulse else NAN


@dataclass(frozen=True, slots=True)
class VoltageHoldResult:
    """Holds and cycles in their order. cycling: what `cccv` says of the same record."""

    cell: str
    simulated: bool
    holds: tuple[VoltageHold, ...]
    cycles: tuple[Aged, ...]
    cycling: CyclingResult

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a cycle in the units of the literature, which are part of the keys."""
        holds = {hold.cycle: hold for hold in self.holds}
        table: list[dict[str, float | int | str | bool]] = []
        for one in self.cycles:
            hold = holds.get(one.cycle)
            table.append(
                {
                    "cell": self.cell,
                    "simulated": self.simulated,
                    "cycle": one.cycle,
                    "discharge_capacity_mAh": one.capacity / COULOMBS_PER_MAH,
                    "pulse_resistance_ohm": one.resistance,
                    "spectrum_resistance_ohm": one.spectrum_resistance,
                    "hold_h": hold.duration / 3600.0 if hold else 0.0,
                    "hold_charge_mAh": hold.charge / COULOMBS_PER_MAH if hold else 0.0,
                    "leakage_current_uA": 1e6 * hold.leakage_current if hold else NAN,
                    "flags": ", ".join(one.flags + (hold.flags if hold else ())),
                }
            )
        return table


def voltage_hold(record: Record) -> VoltageHoldResult:
    """Evaluate voltage-hold ageing.

    The leakage current is the mean of the last tenth of a hold: in a cell at rest within, what
    still flows is what leaks through the separator and reacts. It is flagged "not steady" where it
    differs by more than 5 % from the tenth before. An instrument's offset counts in full: compare
    it with the accuracy of the range. Capacity loss and resistance growth are taken between the
    cycles without a hold on both sides. Raises RecordError if the record cannot be read.
    """
    cycling = cccv(record)
    traces = read_traces(record)
    fitted = impedance(record).spectra if any(t.step.kind == "Impedance" for t in traces) else ()
    spectra = {one.cycle: one for one in fitted}
    held = {trace.step.cycle for trace in traces if trace.step.label == "hold"}
    pulses = {
        trace.step.cycle: read_pulse(_resting(traces, trace), trace)
        for trace in traces
        if trace.step.label == "discharge pulse"
    }
    cycles = tuple(
        _aged(cycle, cycle.cycle in held, pulses.get(cycle.cycle), spectra.get(cycle.cycle))
        for cycle in cycling.cycles
    )
    holds = tuple(
        _hold(trace, {one.cycle: one for one in cycles})
        for trace in traces
        if trace.step.label == "hold"
    )
    return VoltageHoldResult(record.cell_name, record.simulated, holds, cycles, cycling)


def _aged(cycle: Cycle, held: bool, pulse: Pulse | None, spectrum: MeasuredSpectrum | None) -> Aged:
    flags = list(cycle.flags)
    flags += [f"pulse: {flag}" for flag in pulse.flags] if pulse else []
    flags += [f"spectrum: {flag}" for flag in spectrum.flags] if spectrum else []
    return Aged(
        cycle=cycle.cycle,
        held=held,
        capacity=cycle.discharge_capacity,
        pulse=pulse,
        spectrum_resistance=spectrum.resistance if spectrum else NAN,
        flags=tuple(flags),
    )


def _resting(traces: list[Trace], pulse: Trace) -> Trace:
    """What was read last before a pulse."""
    return next(before for before, trace in pairwise(traces) if trace is pulse)


def _hold(trace: Trace, cycles: dict[int, Aged]) -> VoltageHold:
    end, cycle = float(trace.time[-1]), trace.step.cycle
    last = _share(trace, end, 1.0)
    earlier = _share(trace, end, 2.0)
    current, before = float(np.mean(last)), float(np.mean(earlier)) if len(earlier) else NAN
    change = current / before - 1.0 if before else NAN
    flags = []
    if not trace.step.ended:
        flags.append("incomplete")
    if not abs(change) <= STEADY_CHANGE:
        flags.append("not steady")
    flags += trace.flags
    fresh, aged = cycles.get(cycle - 1), cycles.get(cycle + 1)
    both = fresh is not None and aged is not None and not (fresh.held or aged.held)
    return VoltageHold(
        cycle=cycle,
        voltage=float(np.mean(trace.voltage)),
        duration=end,
        charge=float(trace.charge[-1]),
        leakage_current=current,
        scatter=float(np.std(last)),
        change=change,
        capacity_loss=fresh.capacity - aged.capacity if both and fresh and aged else NAN,
        resistance_growth=aged.resistance - fresh.resistance if both and fresh and aged else NAN,
        flags=tuple(flags),
    )


def _share(trace: Trace, end: float, number: float) -> Floats:
    """Currents of a tenth of a hold. number: 1 for the last, 2 for the one before it."""
    high, low = end * (1.0 - STEADY_SHARE * (number - 1.0)), end * (1.0 - STEADY_SHARE * number)
    current: Floats = trace.current[(trace.time >= low) & (trace.time <= high)]
    return current
