"""Critical current density of a symmetric lithium cell, by a ramp of the current."""

from __future__ import annotations

import math

from operando.instruments.conditions import ELAPSED, VOLTAGE, All, Condition
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import (
    Amperes,
    AmperesPerSquareMetre,
    CoulombsPerSquareMetre,
    Fraction,
    Hertz,
    Seconds,
    Voltages,
    Volts,
)
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import ConstantCurrent, Impedance, Rest, logarithmic


@protocol(
    source="critical current density is reported with plated capacity, lithium thickness and stack "
    "pressure: Dandena et al., EES Batteries 2025, section 2.1; steps of 0.05 mA/cm2, 1 h each "
    "way, rests of 10 min, and the signs of a short are our choice"
)
def ccd(
    cell: Cell,
    *,
    first_current: AmperesPerSquareMetre = "0.05 mA/cm2",  # type: ignore[assignment]
    step: AmperesPerSquareMetre = "0.05 mA/cm2",  # type: ignore[assignment]
    largest_current: AmperesPerSquareMetre = "3 mA/cm2",  # type: ignore[assignment]
    half_cycle: Seconds = "1 h",  # type: ignore[assignment]
    areal_capacity: CoulombsPerSquareMetre = "0 mAh/cm2",  # type: ignore[assignment]
    rest: Seconds = "10 min",  # type: ignore[assignment]
    window: Voltages = ("-1 V", "1 V"),  # type: ignore[assignment]
    soft_short: Fraction = "5 %",  # type: ignore[assignment]
    hard_short: Fraction = "10 %",  # type: ignore[assignment]
    settling: Seconds = "60 s",  # type: ignore[assignment]
    initial_rest: Seconds = "10 min",  # type: ignore[assignment]
    spectra: bool = False,
    highest_frequency: Hertz = "100 kHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "1 Hz",  # type: ignore[assignment]
    points_per_decade: int = 10,
    amplitude: Volts = "10 mV",  # type: ignore[assignment]
    current_limit: Amperes = "1 mA",  # type: ignore[assignment]
) -> Steps:
    """Raise the current step by step, there and back, until the cell shorts.

    The bench file's metadata of the cell should state lithium_thickness, pellet_thickness,
    pellet_density, stack_pressure and temperature: without them the result compares with nothing.

    first_current: current density of the first step in A/m2.
    step: by which it is raised in A/m2, usually 0.05 to 0.1 mA/cm2.
    largest_current: current density in A/m2 beyond which the ramp does not go.
    half_cycle: time in s for which each current flows each way.
    areal_capacity: charge in C/m2 that is passed each way instead, whatever the current; 0 keeps
        the time.
    rest: open-circuit time in s after each half-cycle.
    window: lowest and highest voltage in V; the ramp ends there.
    soft_short: fall of the voltage within a half-cycle, as a fraction of its highest, that is a
        short.
    hard_short: fraction of the voltage expected by the first half-cycle's resistance, below which
        the cell has shorted through.
    settling: time in s at the beginning of a half-cycle that is not judged.
    initial_rest: open-circuit time in s before the ramp.
    spectra: measure impedance before the ramp and after each step, unless it ended in a hard short.
    highest_frequency: of a spectrum, in Hz.
    lowest_frequency: of a spectrum, in Hz.
    points_per_decade: of a spectrum.
    amplitude: of a spectrum, in V root mean square.
    current_limit: largest current expected in a spectrum, in A; chooses the range.
    """
    area = electrode_area(cell)
    lower, upper = window
    if not lower < 0.0 < upper:
        raise BadInputError('window: both signs are driven; write ["-1 V", "1 V"]')
    if not (first_current > 0.0 and step > 0.0 and largest_current >= first_current):
        raise BadInputError(
            "first_current, step: write positive current densities, largest_current at least as "
            "large as the first; the protocol knows the signs"
        )
    if not (0.0 < soft_short < 1.0 and 0.0 < hard_short < 1.0):
        raise BadInputError('soft_short, hard_short: write a share such as "5 %"')
    if areal_capacity < 0.0 or (areal_capacity == 0.0 and half_cycle <= settling):
        raise BadInputError(
            "half_cycle: must be longer than settling, or write a positive areal_capacity"
        )
    count = 1 + math.floor((largest_current - first_current) / step + 1e-9)
    shortest = (areal_capacity / (first_current + (count - 1) * step)) or half_cycle
    if shortest <= settling:
        raise BadInputError(
            f"areal_capacity: at the largest current it is passed within {shortest:.3g} s, which "
            f"settling ({settling:g} s) leaves unjudged; raise the one or lower the other"
        )
    frequencies = logarithmic(highest_frequency, lowest_frequency, points_per_decade)

    if initial_rest > 0.0:
        yield Rest((ELAPSED >= initial_rest,), label="initial rest", cycle=1)
    resistance = 0.0
    spectrum = Impedance(frequencies, current_limit, amplitude)
    if spectra:
        yield spectrum
    for number in range(1, count + 1):
        current = (first_current + (number - 1) * step) * area
        over = ELAPSED >= (areal_capacity * area / current or half_cycle)
        soft = VOLTAGE.fall(settling) > soft_short
        shorts: tuple[Condition, ...] = (soft,)
        if resistance > 0.0:
            fallen = abs(VOLTAGE) < hard_short * resistance * current
            shorts = (soft, All((ELAPSED >= settling, fallen)))
        good = True
        for sign in (1.0, -1.0):
            end = VOLTAGE >= upper if sign > 0.0 else VOLTAGE <= lower
            label = "forward" if sign > 0.0 else "backward"
            half = yield ConstantCurrent(
                sign * current, (over, end, *shorts), label=label, cycle=number
            )
            good = half.ended_by(over)
            resistance = resistance or abs(half.voltage) / current
            if rest > 0.0:
                yield Rest((ELAPSED >= rest,), label="rest", cycle=number)
            if not good:
                break
        # A cell that is shorted through takes more current than the range of a spectrum.
        if spectra and abs(half.voltage) >= hard_short * resistance * current:
            yield spectrum
        if not good:
            return


def electrode_area(cell: Cell) -> float:
    """Electrode area, m2. Raises BadInputError where it is not stated."""
    if cell.area <= 0.0:
        raise BadInputError(
            f"{cell.entry.where or 'the cell'}: a current density needs the electrode area of cell "
            f"'{cell.name}'; write area = \"0.785 cm2\""
        )
    return cell.area
