"""Impedance at open circuit, after a rest that waits for the voltage to be steady."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Amperes, Fraction, Hertz, Seconds, Voltages, Volts
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Impedance, Rest, logarithmic

SETTLING = "rest until steady"
"""Label of the rest before a spectrum: the evaluation looks what ended it."""
LINEARITY = "linearity"
"""Label of the second spectrum, at half the amplitude."""


@protocol(
    source="our procedure, after the field's practice: 1 MHz to 10 mHz, ten a decade, three "
    "periods a point, drift below 1 % of the amplitude over the sweep, a second amplitude for "
    "linearity"
)
def impedance(
    cell: Cell,
    *,
    highest_frequency: Hertz = "1 MHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "10 mHz",  # type: ignore[assignment]
    points_per_decade: int = 10,
    amplitude: Volts = "10 mV",  # type: ignore[assignment]
    periods: float = 3.0,
    linearity: bool = True,
    drift: Fraction = "1 %",  # type: ignore[assignment]
    drift_window: Seconds = "10 min",  # type: ignore[assignment]
    longest_rest: Seconds = "12 h",  # type: ignore[assignment]
    current_limit: Amperes = "5 mA",  # type: ignore[assignment]
    window: Voltages = ("0 V", "4.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Rest until the voltage is steady, then measure impedance at the open-circuit voltage.

    The cell is measured at its own voltage: there is no bias to set. For the area of the electrode
    state `area` of the cell; the evaluation reports its stack pressure and temperature if they are
    measured.

    highest_frequency: in Hz; the instrument must reach it.
    lowest_frequency: in Hz; 10 mHz takes 25 minutes, 1 mHz four hours.
    points_per_decade: evenly spaced in the logarithm of the frequency.
    amplitude: of the voltage, root mean square, in V. Papers seldom say whether theirs is rms or
        peak: a peak of 10 mV is 7.1 mV rms.
    periods: least number of periods that a point is averaged over.
    linearity: measure again at half the amplitude.
    drift: share of the amplitude by which the voltage may still move over the sweep.
    drift_window: time over which the slope of the voltage is looked at, in s.
    longest_rest: time in s after which it goes on although the voltage still moves.
    current_limit: largest current expected, in A; chooses the range.
    window: lowest and highest voltage in V at which the cell may be found.
    """
    frequencies = spectrum(highest_frequency, lowest_frequency, points_per_decade, periods)
    settle = settling(
        frequencies,
        amplitude=amplitude,
        periods=periods,
        drift=drift,
        window=drift_window,
        longest=longest_rest,
        spectra=2 if linearity else 1,
    )
    yield settle
    yield Impedance(frequencies, current_limit, amplitude, periods=periods)
    if linearity:
        yield Impedance(
            frequencies, current_limit, 0.5 * amplitude, periods=periods, label=LINEARITY
        )


def spectrum(highest: float, lowest: float, per_decade: int, periods: float) -> tuple[float, ...]:
    """Frequencies (Hz) of a spectrum. Raises BadInputError for what makes none."""
    if not periods > 0.0:
        raise BadInputError(f"periods: write a positive number, not {periods:g}")
    return logarithmic(highest, lowest, per_decade)


def settling(
    frequencies: tuple[float, ...],
    *,
    amplitude: float,
    periods: float,
    drift: float,
    window: float,
    longest: float,
    spectra: int = 1,
    cycle: int = 0,
) -> Rest:
    """A rest that ends when the voltage moves slowly enough for the spectra behind it.

    Slope below `drift` times the amplitude (V) over the time that one spectrum takes; its periods
    alone are counted. window, longest: s. Raises BadInputError.
    """
    if not amplitude > 0.0:
        raise BadInputError("amplitude: write a positive voltage, such as 10 mV (rms)")
    if not drift > 0.0:
        raise BadInputError("drift: write a positive share of the amplitude, such as 1 %")
    if not 0.0 < window < longest:
        raise BadInputError("drift_window: must be more than 0 s and shorter than longest_rest")
    duration = sum(periods / frequency for frequency in frequencies)
    least = 0.5 * amplitude if spectra > 1 else amplitude
    steady = abs(VOLTAGE.slope(window)) <= drift * least / duration
    return Rest((steady, ELAPSED >= longest), label=SETTLING, cycle=cycle)
