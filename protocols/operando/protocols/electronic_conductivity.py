"""Steady currents under constant voltages: electronic conductivity and DC polarisation."""

from __future__ import annotations

from collections.abc import Iterator

from operando.instruments.conditions import CURRENT, ELAPSED, Condition
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Amperes, AmperesPerSecond, Seconds, Voltages, Volts
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import ConstantVoltage


@protocol(
    source="Dandena et al., EES Batteries 2025, 1, 692, section 3.1.1: chronoamperometry at 200 mV "
    "and 25 degC of a pellet between ion-blocking contacts; the time is our choice"
)
def electronic_conductivity(
    cell: Cell,
    *,
    voltage: Volts = "200 mV",  # type: ignore[assignment]
    hold: Seconds = "10 h",  # type: ignore[assignment]
    steady_slope: AmperesPerSecond = "0 A/s",  # type: ignore[assignment]
    slope_window: Seconds = "30 min",  # type: ignore[assignment]
    current_limit: Amperes = "1 uA",  # type: ignore[assignment]
    window: Voltages = ("-0.5 V", "0.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Hold one voltage over a pellet between ion-blocking contacts until the current is steady.

    One voltage cannot show whether the current is ohmic: `dc_polarisation` can. State the thickness
    of the pellet in the metadata of the cell, and its area.

    voltage: in V.
    hold: longest time in s.
    steady_slope: slope of the current in A/s (magnitude) below which the hold ends earlier; 0 holds
        for the whole time.
    slope_window: time over which that slope is looked at, in s.
    current_limit: largest current in A; it chooses the range, and with it the noise. What charges
        the contacts at first is limited to it.
    window: lowest and highest voltage in V that are applied.
    """
    until = ends(hold, steady_slope, slope_window)
    inside(window, voltage)
    yield ConstantVoltage(voltage, current_limit, until, label="polarisation")


@protocol(
    source="Dandena et al., EES Batteries 2025, 1, 692, section 2.3: DC polarisation at several "
    "voltages and Ohm's law; levels and times are our choice"
)
def dc_polarisation(
    cell: Cell,
    *,
    first_voltage: Volts = "50 mV",  # type: ignore[assignment]
    last_voltage: Volts = "200 mV",  # type: ignore[assignment]
    voltage_step: Volts = "50 mV",  # type: ignore[assignment]
    hold: Seconds = "10 h",  # type: ignore[assignment]
    steady_slope: AmperesPerSecond = "0 A/s",  # type: ignore[assignment]
    slope_window: Seconds = "30 min",  # type: ignore[assignment]
    current_limit: Amperes = "1 uA",  # type: ignore[assignment]
    window: Voltages = ("-0.5 V", "0.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Hold a ladder of voltages, each until the current is steady.

    State the thickness of the pellet in the metadata of the cell, and its area.

    first_voltage: lowest rung, in V.
    last_voltage: highest rung, in V.
    voltage_step: between two rungs, in V.
    hold: longest time of a rung, in s.
    steady_slope: slope of the current in A/s (magnitude) below which a rung ends earlier; 0 holds
        for the whole time.
    slope_window: time over which that slope is looked at, in s.
    current_limit: largest current in A; it chooses the range, and with it the noise.
    window: lowest and highest voltage in V that are applied.
    """
    inside(window, last_voltage)
    yield from polarise(
        levels(first_voltage, last_voltage, voltage_step),
        ends(hold, steady_slope, slope_window),
        current_limit,
    )


def polarise(
    voltages: Iterator[float], until: tuple[Condition, ...], current_limit: float
) -> Steps:
    """Hold voltages (V) one after the other. current_limit: A."""
    for voltage in voltages:
        yield ConstantVoltage(voltage, current_limit, until, label="polarisation")


def levels(first: float, last: float, step: float) -> Iterator[float]:
    """Voltages (V) of a ladder, both ends included. Raises BadInputError."""
    if not (step > 0.0 and 0.0 < first <= last):
        raise BadInputError(
            "first_voltage: must be positive and not above last_voltage, and voltage_step positive"
        )
    count = int((last - first) / step + 1e-6)
    return iter([first + n * step for n in range(count + 1)])


def ends(hold: float, steady_slope: float, slope_window: float) -> tuple[Condition, ...]:
    """What ends a hold: its time (s), or a slope of the current (A/s). Raises BadInputError."""
    if not hold > 0.0:
        raise BadInputError("hold: write a time of more than 0 s")
    if steady_slope == 0.0:
        return (ELAPSED >= hold,)
    if not (steady_slope > 0.0 and 0.0 < slope_window < hold):
        raise BadInputError(
            "steady_slope: write a positive slope, and a slope_window shorter than hold"
        )
    return (abs(CURRENT.slope(slope_window)) <= steady_slope, ELAPSED >= hold)


def inside(window: tuple[float, float], voltage: float) -> None:
    """Raise BadInputError for a voltage (V) outside the window."""
    lower, upper = window
    if not lower <= voltage <= upper:
        raise BadInputError(
            f"window: {voltage:g} V lies outside {lower:g} to {upper:g} V; make the window wider"
        )
