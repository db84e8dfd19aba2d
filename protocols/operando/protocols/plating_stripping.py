"""Plating and stripping of a fixed areal capacity, with a first plating looked at closely."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED, VOLTAGE, Condition
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
from operando.protocols.ccd import electrode_area
from operando.protocols.protocol import Cell, Outcome, Steps, protocol
from operando.protocols.steps import ConstantCurrent, Impedance, Rest, logarithmic


@protocol(
    source="plating and stripping at 0.25 mA/cm2 until a short or a rising polarisation, and the "
    "interface resistance of a first plating against its charge: Dandena et al., EES Batteries "
    "2025, sections 3.3 and 2; half-cycles of 1 h and the signs of an end are our choice"
)
def plating_stripping(
    cell: Cell,
    *,
    current: AmperesPerSquareMetre = "0.25 mA/cm2",  # type: ignore[assignment]
    areal_capacity: CoulombsPerSquareMetre = "0.25 mAh/cm2",  # type: ignore[assignment]
    cycles: int = 10,
    rest: Seconds = "0 s",  # type: ignore[assignment]
    window: Voltages = ("-1 V", "1 V"),  # type: ignore[assignment]
    strip_to_window: bool = False,
    short: Fraction = "50 %",  # type: ignore[assignment]
    polarised: float = 2.0,
    settling: Seconds = "60 s",  # type: ignore[assignment]
    interruptions: int = 0,
    first_interruption: CoulombsPerSquareMetre = "1 uAh/cm2",  # type: ignore[assignment]
    highest_frequency: Hertz = "100 kHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "1 Hz",  # type: ignore[assignment]
    points_per_decade: int = 10,
    amplitude: Volts = "10 mV",  # type: ignore[assignment]
    current_limit: Amperes = "1 mA",  # type: ignore[assignment]
) -> Steps:
    """Plate and strip the same charge over and over, until the cell shorts or polarises.

    Plating on the positive terminal comes first; its current is negative. The bench file's metadata
    of the cell should state lithium_thickness, pellet_thickness, pellet_density, stack_pressure and
    temperature.

    current: current density in A/m2, a magnitude.
    areal_capacity: charge of each half-cycle in C/m2.
    cycles: number of cycles, each a plating and a stripping; 0 plates once and strips nothing.
    rest: open-circuit time in s after each half-cycle; 0 leaves it out.
    window: lowest and highest voltage in V; the run ends there.
    strip_to_window: a stripping that ends at the highest voltage is no end of the run: for lithium
        on steel, which is used up there.
    short: fraction of the voltage of the first half-cycle of its kind, below which the cell has
        shorted.
    polarised: multiple of the same voltage above which the run ends; 0 leaves it out.
    settling: time in s at the beginning of a half-cycle that is not judged.
    interruptions: number of spectra along the first plating; small charges come first.
    first_interruption: charge in C/m2 at the first of them; the last is at the end of the plating,
        and the charge grows from one to the next by the same factor.
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
    if not (current > 0.0 and areal_capacity > 0.0):
        raise BadInputError(
            "current, areal_capacity: write positive magnitudes; the protocol knows the signs"
        )
    if cycles < 0:
        raise BadInputError("cycles: write 0 for one plating alone, or a number of cycles")
    if not 0.0 < short < 1.0 or not (polarised == 0.0 or polarised > 1.0):
        raise BadInputError(
            'short, polarised: write a share such as "50 %" and a multiple above 1, such as 2'
        )
    charges = interrupted(areal_capacity, interruptions, first_interruption)
    spectrum = None
    if interruptions > 0:
        frequencies = logarithmic(highest_frequency, lowest_frequency, points_per_decade)
        spectrum = Impedance(frequencies, current_limit, amplitude, cycle=1)

    first: dict[str, float] = {}
    half_cycles = (("plate", -1.0), ("strip", 1.0))
    for cycle in range(1, max(cycles, 1) + 1):
        for label, sign in half_cycles if cycles else half_cycles[:1]:
            bound = VOLTAGE >= upper if sign > 0.0 else VOLTAGE <= lower
            ends = _ends(first.get(label), short, polarised, settling)
            if strip_to_window and label == "strip":
                # Its own end is no measure: at the window the lithium is used up.
                ends = _ends(first.get("plate"), short, 0.0, settling)
            closely = spectrum is not None and cycle == 1 and label == "plate"
            passed = 0.0
            for charge in charges if closely else (areal_capacity,):
                over = ELAPSED >= (charge - passed) / current
                half: Outcome = yield ConstantCurrent(
                    sign * current * area, (over, bound, *ends), label=label, cycle=cycle
                )
                passed = charge
                if spectrum is not None and closely:
                    yield spectrum
                if not half.ended_by(over):
                    break
            first.setdefault(label, abs(half.voltage))
            used_up = strip_to_window and label == "strip" and half.ended_by(bound)
            if not (half.ended_by(over) or used_up):
                return
            if rest > 0.0:
                yield Rest((ELAPSED >= rest,), label="rest", cycle=cycle)


def interrupted(whole: float, number: int, first: float) -> tuple[float, ...]:
    """Charges (C/m2) at which a plating is interrupted, the last its whole charge.

    Raises BadInputError.
    """
    if number < 0 or number == 1:
        raise BadInputError("interruptions: write 0, or two or more")
    if number == 0:
        return (whole,)
    if not 0.0 < first < whole:
        raise BadInputError("first_interruption: must be more than 0 and below areal_capacity")
    return tuple(first * (whole / first) ** (n / (number - 1)) for n in range(number))


def _ends(
    first: float | None, short: float, polarised: float, settling: float
) -> tuple[Condition, ...]:
    """What ends the run beside the window, by the first voltage (V) of the same kind."""
    if not first:
        return ()
    settled = ELAPSED >= settling
    ends: tuple[Condition, ...] = (settled & (abs(VOLTAGE) < short * first),)
    if polarised > 0.0:
        ends = (*ends, settled & (abs(VOLTAGE) > polarised * first))
    return ends
