"""Transport in a composite electrode: spectrum and direct current between blocking contacts."""

from __future__ import annotations

from typing import Literal

from operando.instruments.quantities import (
    Amperes,
    AmperesPerSecond,
    Fraction,
    Hertz,
    Seconds,
    Voltages,
    Volts,
)
from operando.protocols.electronic_conductivity import ends, inside, levels, polarise
from operando.protocols.impedance import settling, spectrum
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Impedance


@protocol(
    source="Dandena et al., EES Batteries 2025, 1, 692, section 2.3: spectrum with fit of a "
    "transmission line and DC polarisation at several voltages, between ion-blocking and between "
    "electron-blocking contacts; band, levels and times are our choice"
)
def composite_transport(
    cell: Cell,
    *,
    contacts: Literal["ion-blocking", "electron-blocking"] = "ion-blocking",
    highest_frequency: Hertz = "1 MHz",  # type: ignore[assignment]
    lowest_frequency: Hertz = "10 mHz",  # type: ignore[assignment]
    points_per_decade: int = 10,
    amplitude: Volts = "10 mV",  # type: ignore[assignment]
    periods: float = 3.0,
    drift: Fraction = "1 %",  # type: ignore[assignment]
    drift_window: Seconds = "10 min",  # type: ignore[assignment]
    longest_rest: Seconds = "2 h",  # type: ignore[assignment]
    first_voltage: Volts = "10 mV",  # type: ignore[assignment]
    last_voltage: Volts = "50 mV",  # type: ignore[assignment]
    voltage_step: Volts = "10 mV",  # type: ignore[assignment]
    hold: Seconds = "1 h",  # type: ignore[assignment]
    steady_slope: AmperesPerSecond = "0 A/s",  # type: ignore[assignment]
    slope_window: Seconds = "10 min",  # type: ignore[assignment]
    current_limit: Amperes = "5 mA",  # type: ignore[assignment]
    window: Voltages = ("-0.5 V", "0.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Measure a spectrum of a composite pellet, then its current at a ladder of voltages.

    State thickness and contact_resistance (of the layers that block electrons, from a cell without
    the composite) in the metadata of the cell, and its area. Two pellets, one between contacts of
    each kind, give both conductivities by direct current.

    contacts: "ion-blocking" (steel: electrons pass) or "electron-blocking" (electrolyte with its
        electrode on both sides: ions pass).
    highest_frequency: in Hz; the instrument must reach it.
    lowest_frequency: in Hz.
    points_per_decade: evenly spaced in the logarithm of the frequency.
    amplitude: of the voltage, root mean square, in V.
    periods: least number of periods that a point is averaged over.
    drift: share of the amplitude by which the voltage may still move over the sweep.
    drift_window: time over which the slope of the voltage is looked at, in s.
    longest_rest: time in s after which it goes on although the voltage still moves.
    first_voltage: lowest rung of the ladder, in V.
    last_voltage: highest rung, in V.
    voltage_step: between two rungs, in V.
    hold: longest time of a rung, in s.
    steady_slope: slope of the current in A/s (magnitude) below which a rung ends earlier; 0 holds
        for the whole time.
    slope_window: time over which that slope is looked at, in s.
    current_limit: largest current in A; it chooses the range.
    window: lowest and highest voltage in V that are applied.
    """
    inside(window, last_voltage)
    rungs = levels(first_voltage, last_voltage, voltage_step)
    until = ends(hold, steady_slope, slope_window)
    frequencies = spectrum(highest_frequency, lowest_frequency, points_per_decade, periods)
    yield settling(
        frequencies,
        amplitude=amplitude,
        periods=periods,
        drift=drift,
        window=drift_window,
        longest=longest_rest,
    )
    yield Impedance(frequencies, current_limit, amplitude, periods=periods)
    yield from polarise(rungs, until, current_limit)
