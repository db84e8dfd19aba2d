"""Impedance against stack pressure, up a ladder and down again."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED, PRESSURE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import (
    Amperes,
    Hertz,
    Pascals,
    PascalsPerSecond,
    Seconds,
    Voltages,
    Volts,
)
from operando.protocols.actuator_steps import HoldPressure, within
from operando.protocols.compression_relaxation import ladder
from operando.protocols.impedance import spectrum
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Impedance


@protocol(
    source="our procedure; contact resistance falls with pressure: Dandena et al., EES Batteries "
    "2025, 1, 692, section 2.1"
)
def pressure_sweep(
    cell: Cell,
    *,
    lowest: Pascals = "1 MPa",  # type: ignore[assignment]
    highest: Pascals = "10 MPa",  # type: ignore[assignment]
    levels: int = 5,
    maximum_pressure: Pascals = "12 MPa",  # type: ignore[assignment]
    slew: PascalsPerSecond = "1 MPa/min",  # type: ignore[assignment]
    soak: Seconds = "30 min",  # type: ignore[assignment]
    tolerance: Pascals = "0.1 MPa",  # type: ignore[assignment]
    highest_frequency: Hertz = "1 MHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "1 Hz",  # type: ignore[assignment]
    points_per_decade: int = 10,
    amplitude: Volts = "10 mV",  # type: ignore[assignment]
    periods: float = 3.0,
    current_limit: Amperes = "5 mA",  # type: ignore[assignment]
    window: Voltages = ("0 V", "4.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Press, wait until the pressure has been steady, measure impedance; up the levels and down.

    The way down shows what the pressure has changed for good. The channel needs a pressure
    controller and a potentiostat that measures impedance. State `area` of the cell.

    lowest: first and last level in Pa.
    highest: level in the middle in Pa.
    levels: number of levels on the way up, both ends included.
    maximum_pressure: in Pa, never exceeded on the way.
    slew: rate at which the pressure is changed in Pa/s.
    soak: time in s for which the pressure must be steady before a spectrum.
    tolerance: how far from its level the pressure counts as steady, in Pa.
    highest_frequency: in Hz; the instrument must reach it.
    lowest_frequency: in Hz.
    points_per_decade: evenly spaced in the logarithm of the frequency.
    amplitude: of the voltage, root mean square, in V.
    periods: least number of periods that a point is averaged over.
    current_limit: largest current expected, in A; chooses the range.
    window: lowest and highest voltage in V at which the cell may be found.
    """
    if not soak > 0.0:
        raise BadInputError("soak: write a positive time")
    frequencies = spectrum(highest_frequency, lowest_frequency, points_per_decade, periods)
    for cycle, level in enumerate(ladder(lowest, highest, levels), start=1):
        ends = (within(PRESSURE, level, tolerance).held(soak), ELAPSED >= soak + 7200.0)
        yield HoldPressure(level, slew, maximum_pressure, ends, label="press", cycle=cycle)
        yield Impedance(frequencies, current_limit, amplitude, periods=periods, cycle=cycle)
