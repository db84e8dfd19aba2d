"""Conductivity of a pellet between blocking contacts, at one temperature or several."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import (
    Amperes,
    Hertz,
    KelvinDifference,
    Kelvins,
    Seconds,
    Voltages,
    Volts,
    VoltsPerSecond,
)
from operando.protocols.actuator_steps import CHAMBER_TEMPERATURE, HoldTemperature, within
from operando.protocols.impedance import SETTLING, spectrum
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Impedance, Rest


@protocol(
    source="Kim et al., Energy Storage Materials 2026, 105167, section 2.3: pellet of 150 mg and "
    "13 mm, pressed at 45 MPa, 1 MHz to 1 Hz, 10 mV, 0 V bias, 3 min stabilisation, stability "
    "1 mV/s, ten points a decade; the ladder of temperatures is our choice"
)
def conductivity(
    cell: Cell,
    *,
    highest_frequency: Hertz = "1 MHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "1 Hz",  # type: ignore[assignment]
    points_per_decade: int = 10,
    amplitude: Volts = "10 mV",  # type: ignore[assignment]
    periods: float = 3.0,
    stabilisation: Seconds = "3 min",  # type: ignore[assignment]
    stability: VoltsPerSecond = "1 mV/s",  # type: ignore[assignment]
    longest_rest: Seconds = "1 h",  # type: ignore[assignment]
    ladder: bool = False,
    first_temperature: Kelvins = "25 degC",  # type: ignore[assignment]
    last_temperature: Kelvins = "65 degC",  # type: ignore[assignment]
    temperature_step: KelvinDifference = "10 K",  # type: ignore[assignment]
    cooling: bool = True,
    temperature_tolerance: KelvinDifference = "0.5 K",  # type: ignore[assignment]
    soak: Seconds = "1 h",  # type: ignore[assignment]
    patience: Seconds = "6 h",  # type: ignore[assignment]
    current_limit: Amperes = "5 mA",  # type: ignore[assignment]
    window: Voltages = ("-0.5 V", "0.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Measure the impedance of a pellet at 0 V, once or at a ladder of temperatures.

    State in the metadata of the cell: thickness (under pressure), fabrication_pressure,
    stack_pressure and lead_resistance (from a shorted holder); and its area. Three pellets make a
    result. The published stability criterion of 1 mV/s is 3.6 V/h, which any blocking pellet meets;
    for a cell with a voltage of its own use `impedance`.

    highest_frequency: in Hz; the instrument must reach it.
    lowest_frequency: in Hz.
    points_per_decade: evenly spaced in the logarithm of the frequency.
    amplitude: of the voltage, root mean square, in V. The paper gives 10 mV of "AC amplitude" and
        does not say rms or peak; a peak of 10 mV is 7.1 mV rms. A pellet is linear in both.
    periods: least number of periods that a point is averaged over.
    stabilisation: rest before a spectrum, in s.
    stability: slope of the voltage in V/s below which the rest may end.
    longest_rest: time in s after which it goes on although the voltage still moves.
    ladder: measure at a ladder of temperatures; the channel must drive a chamber.
    first_temperature: lowest rung, in K.
    last_temperature: highest rung, in K.
    temperature_step: between two rungs, in K.
    cooling: measure again on the way down, which shows hysteresis.
    temperature_tolerance: how far from a rung the chamber counts as steady, in K.
    soak: time in s for which it must be so before a spectrum.
    patience: time in s after which it goes on anyway.
    current_limit: largest current expected, in A; chooses the range.
    window: lowest and highest voltage in V at which the pellet may be found.
    """
    frequencies = spectrum(highest_frequency, lowest_frequency, points_per_decade, periods)
    if not 0.0 < stabilisation < longest_rest:
        raise BadInputError("stabilisation: must be more than 0 s and shorter than longest_rest")
    if not stability > 0.0:
        raise BadInputError("stability: write a positive slope, such as 1 mV/s")
    still = abs(VOLTAGE.slope(0.5 * stabilisation)) <= stability
    settled = still & (ELAPSED >= stabilisation)
    rest = Rest((settled, ELAPSED >= longest_rest), label=SETTLING)
    measure = Impedance(frequencies, current_limit, amplitude, bias=0.0, periods=periods)
    if not ladder:
        yield rest
        yield measure
        return
    if not 0.0 < soak < patience:
        raise BadInputError("soak: must be more than 0 s and shorter than patience")
    heating = rungs(first_temperature, last_temperature, temperature_step)
    for kelvin in (*heating, *(heating[-2::-1] if cooling else ())):
        warm = within(CHAMBER_TEMPERATURE, kelvin, temperature_tolerance).held(soak)
        yield HoldTemperature(kelvin, (warm, ELAPSED >= patience), label="soak")
        yield rest
        yield measure


def rungs(first: float, last: float, step: float) -> tuple[float, ...]:
    """Temperatures (K) of a ladder, both ends included. Raises BadInputError."""
    if not (0.0 < step and first < last):
        raise BadInputError(
            "last_temperature: must be above first_temperature, and temperature_step positive"
        )
    count = int((last - first) / step + 1e-6)
    found = [first + n * step for n in range(count + 1)]
    if last - found[-1] > 1e-3 * step:
        found.append(last)
    return tuple(found)
