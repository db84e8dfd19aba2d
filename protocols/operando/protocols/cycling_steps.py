"""Steps that the protocols of the cycling family share, and the checks of their parameters."""

from __future__ import annotations

from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import RecordConditions
from operando.protocols.impedance import settling
from operando.protocols.protocol import Cell
from operando.protocols.steps import (
    ConstantCurrent,
    ConstantCurrentConstantVoltage,
    Impedance,
    Rest,
    logarithmic,
)

EVERY_READING = RecordConditions(every=0.0)
"""What a pulse records: its resistance is read at its first seconds."""

POINTS_PER_DECADE = 10
"""Of a spectrum: Kim et al., Energy Storage Materials 2026, 105167, section 2.3."""

AMPLITUDE = 0.01
"""V rms of a spectrum: 10 mV, the same section, which does not say whether it is a peak or rms."""

PERIODS = 3.0
"""Least number of periods that a point of a spectrum is averaged over."""

LONGEST_REST = 4.0 * 3600.0
"""s after which a spectrum is measured although the voltage still moves. Our choice."""

AFTER_PULSE = "rest after pulse"
"""Label of the rest behind a pulse."""


def check_rates(**rates: float) -> None:
    """Raise BadInputError for a C-rate (1/s) that is not positive, naming the parameter."""
    for name, rate in rates.items():
        if rate <= 0.0:
            raise BadInputError(f"{name}: write a positive C-rate; the protocol knows the sign")


def check_taper(cv_cutoff: float, charge_rate: float, name: str = "charge_rate") -> None:
    """Raise BadInputError where a hold at the upper voltage would never start. Rates in 1/s."""
    check_rates(cv_cutoff=cv_cutoff)
    if cv_cutoff >= charge_rate:
        raise BadInputError(f"cv_cutoff must be smaller than {name}, else the hold never starts")


def check_times(**times: float) -> None:
    """Raise BadInputError for a time (s) that is not positive, naming the parameter."""
    for name, time in times.items():
        if time <= 0.0:
            raise BadInputError(f'{name}: must be more than 0 s; write such as "10 min"')


def charge(
    cell: Cell, rate: float, upper: float, cv_cutoff: float, cycle: int, label: str = "charge"
) -> ConstantCurrentConstantVoltage:
    """Charge at a C-rate (1/s) to a voltage (V), held until the current is down to another."""
    tapered = abs(CURRENT) <= cv_cutoff * cell.capacity
    return ConstantCurrentConstantVoltage(
        rate * cell.capacity, upper, until=(tapered,), label=label, cycle=cycle
    )


def to_voltage(cell: Cell, rate: float, upper: float, cycle: int, label: str) -> ConstantCurrent:
    """Charge at a C-rate (1/s) to a voltage (V) without holding it."""
    return ConstantCurrent(rate * cell.capacity, (VOLTAGE >= upper,), label=label, cycle=cycle)


def discharge(
    cell: Cell, rate: float, lower: float, cycle: int, label: str = "discharge"
) -> ConstantCurrent:
    """Discharge at a C-rate (1/s) to a voltage (V)."""
    return ConstantCurrent(-rate * cell.capacity, (VOLTAGE <= lower,), label=label, cycle=cycle)


def rested(seconds: float, cycle: int, label: str) -> Rest:
    """Open circuit for a time, s."""
    return Rest((ELAPSED >= seconds,), label=label, cycle=cycle)


def pulse(
    current: float, seconds: float, window: tuple[float, float], cycle: int, label: str
) -> ConstantCurrent:
    """A current (A, positive charges) for a time (s), within the window (V), every reading kept."""
    lower, upper = window
    bound = VOLTAGE >= upper if current > 0.0 else VOLTAGE <= lower
    return ConstantCurrent(
        current, (bound, ELAPSED >= seconds), label=label, cycle=cycle, record=EVERY_READING
    )


def after_pulse(seconds: float, cycle: int) -> Rest:
    """The rest (s) behind a pulse, every reading kept."""
    return Rest((ELAPSED >= seconds,), label=AFTER_PULSE, cycle=cycle, record=EVERY_READING)


def spectrum(
    cell: Cell, highest_frequency: float, lowest_frequency: float, cycle: int
) -> tuple[Rest, Impedance]:
    """A rest until the voltage is steady enough, and a spectrum (Hz) at open circuit.

    Raises BadInputError.
    """
    frequencies = logarithmic(highest_frequency, lowest_frequency, POINTS_PER_DECADE)
    settle = settling(
        frequencies,
        amplitude=AMPLITUDE,
        periods=PERIODS,
        drift=0.01,
        window=600.0,
        longest=LONGEST_REST,
        cycle=cycle,
    )
    # The current of 1C stands for the largest expected: 10 mV drive 3 mA through 3 ohm.
    current = cell.capacity / 3600.0
    return settle, Impedance(frequencies, current, AMPLITUDE, periods=PERIODS, cycle=cycle)
