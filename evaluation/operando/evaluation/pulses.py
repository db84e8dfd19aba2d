"""Pulses: resistance after set times, and power capability by state of charge."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from operando.evaluation.cccv import COULOMBS_PER_MAH, NAN
from operando.evaluation.metadata import parameter_of
from operando.evaluation.traces import Trace, read_traces
from operando.records import Record

CM2_PER_M2 = 1e4
ONE_SECOND = 1.0
LARGEST_GAP = 2.0
"""s. Where readings lie further apart around 1 s, the resistance there is not told. Our choice."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """One current pulse out of a rest.

    cycle, label: of its step. start: s of the run. rested_voltage: last reading before it, V.
    current: mean, A, positive charges. first_time: s at which the first reading came.
    first_resistance: at that reading, ohm: the closest to 0 s that the instrument saw.
    resistance_1s: ohm, NaN if no two readings stand around 1 s. end_time: s. end_resistance: ohm.
    flags: what speaks against the numbers: "cut-off" (an end of the window ended it before its
    time), "incomplete", "gap", "paused".
    """

    cycle: int
    label: str
    start: float
    rested_voltage: float
    current: float
    first_time: float
    first_resistance: float
    resistance_1s: float
    end_time: float
    end_resistance: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StateOfCharge:
    """Pulses at one state of charge.

    state: charge that is left over the measured capacity, fraction, right before the pulses.
    open_circuit_voltage: V, at the end of the rest. discharge, charge: None where not made.
    discharge_power, charge_power: power capability, W, both positive.
    """

    state: float
    open_circuit_voltage: float
    discharge: Pulse | None
    charge: Pulse | None
    discharge_power: float
    charge_power: float

    @property
    def flags(self) -> tuple[str, ...]:
        """What speaks against its pulses."""
        both = [pulse for pulse in (self.discharge, self.charge) if pulse]
        return tuple(f"{pulse.label}: {flag}" for pulse in both for flag in pulse.flags)


@dataclass(frozen=True, slots=True)
class PulsesResult:
    """Pulses by state of charge, in order. capacity: measured, C. area: m2, NaN if unknown."""

    cell: str
    area: float
    simulated: bool
    capacity: float
    states: tuple[StateOfCharge, ...]

    def rows(self) -> list[dict[str, float | int | str | bool]]:
        """A row a state of charge in the units of the literature, which are part of the keys."""
        cm2 = self.area * CM2_PER_M2
        table: list[dict[str, float | int | str | bool]] = []
        for one in self.states:
            row: dict[str, float | int | str | bool] = {
                "cell": self.cell,
                "simulated": self.simulated,
                "state_of_charge_percent": 100.0 * one.state,
                "open_circuit_voltage_V": one.open_circuit_voltage,
            }
            for name, pulse in (("discharge", one.discharge), ("charge", one.charge)):
                row |= {
                    f"{name}_first_s": pulse.first_time if pulse else NAN,
                    f"{name}_first_ohm_cm2": cm2 * pulse.first_resistance if pulse else NAN,
                    f"{name}_1s_ohm_cm2": cm2 * pulse.resistance_1s if pulse else NAN,
                    f"{name}_end_ohm_cm2": cm2 * pulse.end_resistance if pulse else NAN,
                }
            row |= {
                "discharge_power_mW_per_cm2": 1e3 * one.discharge_power / cm2,
                "charge_power_mW_per_cm2": 1e3 * one.charge_power / cm2,
                "capacity_mAh": self.capacity / COULOMBS_PER_MAH,
                "flags": ", ".join(one.flags),
            }
            table.append(row)
        return table


def pulses(record: Record) -> PulsesResult:
    """Evaluate pulses at states of charge.

    R(t) = (V(t) - V_rest) / I(t), V_rest the last reading before the pulse: at the first reading,
    at 1 s (between two readings, linearly) and at the end. Power capability, as the USABC's Battery
    Test Manual for Plug-In Hybrid Electric Vehicles (Idaho National Laboratory) defines it for a
    pulse: V_min (V_rest - V_min) / R_discharge and V_max (V_max - V_rest) / R_charge with the
    resistances at the end and the ends of the window. It extrapolates a resistance to currents that
    were not driven. The state of charge is what was left of the measured capacity, by charge
    counted from the end of the second charge. Raises RecordError if the record cannot be read.
    """
    window = parameter_of(record, "window")
    lower, upper = window if isinstance(window, list | tuple) and len(window) == 2 else (NAN, NAN)
    traces = read_traces(record)
    capacity = -sum(t.charge[-1] for t in traces if t.step.label == "capacity discharge")
    capacity = float(capacity) or NAN
    found: list[StateOfCharge] = []
    taken, rested = 0.0, NAN
    down: Pulse | None = None
    for before, trace in pairwise(traces):
        label = trace.step.label
        if label == "charge":
            taken = 0.0
        elif label == "discharge pulse":
            state, rested = 1.0 - taken / capacity, float(before.voltage[-1])
            down = read_pulse(before, trace)
            power = lower * (rested - lower) / down.end_resistance
            found.append(StateOfCharge(state, rested, down, None, power, NAN))
        elif label == "charge pulse" and found:
            up, last = read_pulse(before, trace), found[-1]
            power = upper * (upper - up.rested_voltage) / up.end_resistance
            found[-1] = StateOfCharge(
                last.state,
                last.open_circuit_voltage,
                last.discharge,
                up,
                last.discharge_power,
                power,
            )
        if label != "charge":
            taken -= float(trace.charge[-1])
    return PulsesResult(
        record.cell_name, record.of_cell("area") or NAN, record.simulated, capacity, tuple(found)
    )


def read_pulse(before: Trace, trace: Trace) -> Pulse:
    """A pulse out of the rest before it, see `pulses` for the resistance."""
    rested = float(before.voltage[-1])
    driven = trace.current != 0.0
    time, current = trace.time[driven], trace.current[driven]
    resistance = (trace.voltage[driven] - rested) / current
    flags = []
    step = trace.step
    if not step.ended or len(time) == 0:
        flags.append("incomplete")
    if "voltage" in (step.condition or ""):
        flags.append("cut-off")
    flags += dict.fromkeys((*before.flags, *trace.flags))
    one_second = NAN
    if len(time) and time[0] <= ONE_SECOND <= time[-1]:
        after = int(np.searchsorted(time, ONE_SECOND))
        if time[after] - time[max(after - 1, 0)] <= LARGEST_GAP:
            one_second = float(np.interp(ONE_SECOND, time, resistance))
    some = len(time) > 0
    return Pulse(
        cycle=step.cycle,
        label=step.label,
        start=step.start,
        rested_voltage=rested,
        current=float(current.mean()) if some else NAN,
        first_time=float(time[0]) if some else NAN,
        first_resistance=float(resistance[0]) if some else NAN,
        resistance_1s=one_second,
        end_time=float(time[-1]) if some else NAN,
        end_resistance=float(resistance[-1]) if some else NAN,
        flags=tuple(flags),
    )
