"""Static contact ageing: a pellet or cell rests, and its impedance is measured now and then."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Amperes, Hertz, Seconds, Voltages, Volts
from operando.instruments.recipe import RecordConditions
from operando.protocols.impedance import spectrum
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Impedance, Rest


@protocol(
    source="Kim et al., Energy Storage Materials 2026, 105167, section 3.3: pellet of coated "
    "NCM811 and electrolyte, 1:1 by volume, impedance at 0 and 48 h without bias; the spectra in "
    "between and the band are our choice"
)
def static_contact(
    cell: Cell,
    *,
    duration: Seconds = "48 h",  # type: ignore[assignment]
    first: Seconds = "1 h",  # type: ignore[assignment]
    factor: float = 2.0,
    longest_gap: Seconds = "12 h",  # type: ignore[assignment]
    highest_frequency: Hertz = "1 MHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "10 mHz",  # type: ignore[assignment]
    points_per_decade: int = 10,
    amplitude: Volts = "10 mV",  # type: ignore[assignment]
    periods: float = 3.0,
    current_limit: Amperes = "5 mA",  # type: ignore[assignment]
    window: Voltages = ("-0.5 V", "0.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Rest at open circuit and measure impedance at 0 h, 1 h, 2 h, 4 h, ... and at the end.

    Temperature and stack pressure belong to the result: measure them, or state them. For a full
    cell write its window; a bias is never applied.

    duration: from the first to the last spectrum, in s.
    first: time of the second spectrum, in s; the next ones follow at this times powers of `factor`.
    factor: of time from one spectrum to the next; 1 measures every `first`.
    longest_gap: longest time between two spectra, in s.
    highest_frequency: in Hz; the instrument must reach it.
    lowest_frequency: in Hz.
    points_per_decade: evenly spaced in the logarithm of the frequency.
    amplitude: of the voltage, root mean square, in V.
    periods: least number of periods that a point is averaged over.
    current_limit: largest current expected, in A; chooses the range.
    window: lowest and highest voltage in V at which the cell may be found.
    """
    frequencies = spectrum(highest_frequency, lowest_frequency, points_per_decade, periods)
    schedule = times(duration, first, factor, longest_gap)
    measure = Impedance(frequencies, current_limit, amplitude, periods=periods)
    done = yield measure
    for due in schedule:
        left = due - done.time
        if left > 0.0:
            # Two days of readings every few seconds would tell nothing more.
            yield Rest((ELAPSED >= left,), label="age", record=RecordConditions(every=60.0))
        done = yield measure


def times(duration: float, first: float, factor: float, longest_gap: float) -> list[float]:
    """Times of the spectra after the one at 0 s, s. Raises BadInputError."""
    if not 0.0 < first <= duration:
        raise BadInputError("first: must be more than 0 s and not above duration")
    if not factor >= 1.0:
        raise BadInputError(f"factor: write a number of 1 or more, not {factor:g}")
    if not longest_gap > 0.0:
        raise BadInputError("longest_gap: write a time of more than 0 s")
    found, due = [], first
    while due < duration * (1.0 - 1e-9):
        found.append(due)
        due += min(max(first, (factor - 1.0) * due), longest_gap)
    return [*found, duration]
