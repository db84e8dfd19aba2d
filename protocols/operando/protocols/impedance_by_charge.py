"""Impedance at set states of charge, while the cell is charged and discharged slowly."""

from __future__ import annotations

from operando.instruments.conditions import STEP_CHARGE, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import (
    Amperes,
    CRate,
    Fraction,
    Hertz,
    Seconds,
    Voltages,
    Volts,
)
from operando.protocols.impedance import settling, spectrum
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import ConstantCurrent, Impedance


@protocol(
    source="our procedure: spectra at open circuit every tenth of the charge at C/10, each after a "
    "rest until the voltage drifts by less than 1 % of the amplitude over the sweep"
)
def impedance_by_charge(
    cell: Cell,
    *,
    rate: CRate = "C/10",  # type: ignore[assignment]
    step: Fraction = "10 %",  # type: ignore[assignment]
    highest_charge: Fraction = "120 %",  # type: ignore[assignment]
    discharge: bool = True,
    highest_frequency: Hertz = "1 MHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "10 mHz",  # type: ignore[assignment]
    points_per_decade: int = 10,
    amplitude: Volts = "10 mV",  # type: ignore[assignment]
    periods: float = 3.0,
    drift: Fraction = "1 %",  # type: ignore[assignment]
    drift_window: Seconds = "10 min",  # type: ignore[assignment]
    longest_rest: Seconds = "6 h",  # type: ignore[assignment]
    current_limit: Amperes = "5 mA",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
) -> Steps:
    """Charge and discharge in steps, and measure impedance at open circuit after each.

    It begins with a spectrum of the cell as it is. States of charge count from there, in shares of
    the cell's nominal capacity; its `area` is wanted for the evaluation.

    rate: of charge and discharge, as a C-rate of the nominal capacity.
    step: charge between two spectra, as a share of the nominal capacity.
    highest_charge: share at which charging ends if the upper voltage has not ended it before.
    discharge: go back to the lower voltage in the same steps.
    highest_frequency: in Hz; the instrument must reach it.
    lowest_frequency: in Hz.
    points_per_decade: evenly spaced in the logarithm of the frequency.
    amplitude: of the voltage, root mean square, in V.
    periods: least number of periods that a point is averaged over.
    drift: share of the amplitude by which the voltage may still move over a sweep.
    drift_window: time over which the slope of the voltage is looked at, in s.
    longest_rest: time in s after which it goes on although the voltage still moves.
    current_limit: largest current expected of a spectrum, in A; chooses the range.
    window: lower and upper voltage in V against the counter electrode.
    """
    lower, upper = window
    if not rate > 0.0:
        raise BadInputError("rate: write a positive C-rate; the protocol knows the sign")
    if not 0.0 < step <= highest_charge:
        raise BadInputError("step: must be more than 0 % and not above highest_charge")
    frequencies = spectrum(highest_frequency, lowest_frequency, points_per_decade, periods)
    current, portion = rate * cell.capacity, step * cell.capacity
    rest = settling(
        frequencies,
        amplitude=amplitude,
        periods=periods,
        drift=drift,
        window=drift_window,
        longest=longest_rest,
        cycle=1,
    )
    measure = Impedance(frequencies, current_limit, amplitude, periods=periods, cycle=1)
    yield rest
    yield measure
    full, empty = VOLTAGE >= upper, VOLTAGE <= lower
    passed = 0.0
    while passed < highest_charge * cell.capacity - 1e-6 * portion:
        part = min(portion, highest_charge * cell.capacity - passed)
        charged = yield ConstantCurrent(
            current, (full, STEP_CHARGE >= part), label="charge", cycle=1
        )
        passed += charged.charge
        yield rest
        yield measure
        if charged.ended_by(full):
            break
    while discharge:
        part = min(portion, passed) if passed > 1e-3 * portion else portion
        discharged = yield ConstantCurrent(
            -current, (empty, STEP_CHARGE <= -part), label="discharge", cycle=1
        )
        passed += discharged.charge
        yield rest
        yield measure
        if discharged.ended_by(empty) or passed <= 1e-3 * portion:
            break
