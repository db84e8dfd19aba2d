"""Voltage-hold ageing: long holds near the top of the charge, and cycles without a hold between."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, Hertz, Seconds, Voltages, Volts
from operando.protocols.cycling_steps import (
    after_pulse,
    charge,
    check_rates,
    check_taper,
    check_times,
    discharge,
    pulse,
    rested,
    spectrum,
)
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Block, ConstantVoltage, Step


@protocol(
    source="Sun et al., InfoMat 2025, section 4.1, on NMC622 | Li3InCl6 cells: a hold of 120 h, "
    "four cycles without a hold at C/20, repeated. Number of holds, taper, rests, pulses and the "
    "voltage, that of Kim et al., Energy Storage Materials 2026, 105167, are our choice"
)
def voltage_hold(
    cell: Cell,
    *,
    hold_voltage: Volts = "4.25 V",  # type: ignore[assignment]
    hold: Seconds = "120 h",  # type: ignore[assignment]
    holds: int = 3,
    cycles: int = 4,
    rate: CRate = "C/20",  # type: ignore[assignment]
    cv_cutoff: CRate = "C/50",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    rest: Seconds = "1 h",  # type: ignore[assignment]
    pulse_rate: CRate = "C/2",  # type: ignore[assignment]
    pulse_time: Seconds = "10 s",  # type: ignore[assignment]
    spectra: bool = False,
    highest_frequency: Hertz = "1 MHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "0.1 Hz",  # type: ignore[assignment]
) -> Steps:
    """Cycle without a hold, hold a voltage for days, and repeat; cycles without a hold end it.

    Every charge is followed by a rest and a short discharge pulse, in cycles with a hold and
    without, so that the resistance is always read at the same place. The current late in a hold is
    what leaks and reacts: its range is that of `cv_cutoff`, so that the instrument resolves it.
    The bench file must state the cell's capacity, or its active mass and what 1C is. Poll every
    10 s or more seldom; every reading of a pulse is kept, a row a minute is enough of the rest.

    hold_voltage: voltage in V that is held, within the window.
    hold: duration of a hold in s, after the current has fallen to cv_cutoff.
    holds: number of holds.
    cycles: number of cycles without a hold before each hold and after the last.
    rate: charge and discharge rate as a C-rate of the cell's nominal capacity.
    cv_cutoff: current at which a charge ends, as a C-rate.
    window: lower and upper voltage in V against the counter electrode.
    rest: open-circuit time after each charge and discharge in s.
    pulse_rate: current of the discharge pulse after each charge, as a C-rate.
    pulse_time: its duration in s.
    spectra: measure a spectrum before each pulse; the potentiostat must measure impedance.
    highest_frequency: at which a spectrum begins in Hz; the potentiostat must reach it.
    lowest_frequency: at which it ends in Hz.
    """
    lower, upper = window
    check_rates(rate=rate, pulse_rate=pulse_rate)
    check_taper(cv_cutoff, rate, "rate")
    check_times(hold=hold, rest=rest, pulse_time=pulse_time)
    if not lower < hold_voltage <= upper:
        raise BadInputError(
            f"hold_voltage: {hold_voltage:g} V lies outside the window, {lower:g} to {upper:g} V"
        )
    if holds < 1 or cycles < 1:
        raise BadInputError("holds, cycles: ask for at least one of each")
    kinds = ([False] * cycles + [True]) * holds + [False] * cycles
    for cycle, holding in enumerate(kinds, 1):
        if holding:
            held = ConstantVoltage(
                hold_voltage,
                # The current may rise a little when the instrument is told anew.
                2.0 * cv_cutoff * cell.capacity,
                (ELAPSED >= hold,),
                label="hold",
                cycle=cycle,
            )
            yield Block((charge(cell, rate, hold_voltage, cv_cutoff, cycle), held))
        else:
            yield charge(cell, rate, upper, cv_cutoff, cycle)
        yield rested(rest, cycle, "rest after charge")
        if spectra:
            yield Block(spectrum(cell, highest_frequency, lowest_frequency, cycle))
        down: tuple[Step, ...] = (
            pulse(-pulse_rate * cell.capacity, pulse_time, window, cycle, "discharge pulse"),
            after_pulse(pulse_time, cycle),
            discharge(cell, rate, lower, cycle),
            rested(rest, cycle, "rest after discharge"),
        )
        yield Block(down)
