"""Pulses at set states of charge: resistance and power capability."""

from __future__ import annotations

from itertools import pairwise

from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, Fraction, Fractions, Seconds, Voltages
from operando.protocols.cycling_steps import (
    after_pulse,
    charge,
    check_rates,
    check_taper,
    check_times,
    discharge,
    pulse,
    rested,
)
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Block, ConstantCurrent


@protocol(
    source="the hybrid pulse power characterisation of the USABC, Battery Test Manual for Plug-In "
    "Hybrid Electric Vehicles, Idaho National Laboratory, as a model: 10 s of discharge, 40 s of "
    "rest, 10 s of charge at 75 % of that current, after 1 h at open circuit. States of charge and "
    "rates, which it takes from a battery's rating, are our choice"
)
def pulses(
    cell: Cell,
    *,
    states: Fractions = ("90 %", "70 %", "50 %", "30 %", "10 %"),  # type: ignore[assignment]
    pulse_rate: CRate = "1C",  # type: ignore[assignment]
    charge_pulse: Fraction = "75 %",  # type: ignore[assignment]
    pulse_time: Seconds = "10 s",  # type: ignore[assignment]
    pause: Seconds = "40 s",  # type: ignore[assignment]
    rest: Seconds = "1 h",  # type: ignore[assignment]
    rate: CRate = "C/10",  # type: ignore[assignment]
    cv_cutoff: CRate = "C/20",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
) -> Steps:
    """Measure the capacity, then pulse both ways at states of charge on the way down.

    Cycle 1 measures what the window holds at the rate of all slow steps; a state of charge is the
    share of it that is left. Cycle 2 charges again and stops at each state: rest, discharge pulse,
    pause, charge pulse, pause. A pulse that reaches an end of the window stops there and is
    flagged. The bench file must state the cell's capacity, or its active mass and what 1C is.

    Pulses and pauses keep every reading, whatever the recipe records. The recipe should poll every
    0.5 s or 1 s: the resistance at 1 s is read between two readings, that at the end of a pulse
    is always read, and the first reading comes as soon as the instrument answers.

    states: states of charge as fractions, the highest first.
    pulse_rate: current of the discharge pulse as a C-rate of the cell's nominal capacity.
    charge_pulse: current of the charge pulse as a fraction of that.
    pulse_time: duration of either pulse in s.
    pause: open-circuit time after either pulse in s.
    rest: open-circuit time in s before the pulses of each state and after slow steps.
    rate: charge and discharge rate between them as a C-rate.
    cv_cutoff: current at which the hold at the upper voltage ends, as a C-rate.
    window: lower and upper voltage in V against the counter electrode.
    """
    lower, upper = window
    check_rates(pulse_rate=pulse_rate, rate=rate)
    check_taper(cv_cutoff, rate, "rate")
    check_times(pulse_time=pulse_time, pause=pause, rest=rest)
    if charge_pulse <= 0.0:
        raise BadInputError('charge_pulse: write a positive fraction, such as "75 %"')
    if not states or not all(0.0 < state <= 1.0 for state in states):
        raise BadInputError('states: write fractions above 0 and up to 1, such as ["80 %", "50 %"]')
    if any(higher <= state for higher, state in pairwise(states)):
        raise BadInputError("states: write the highest first, each once")

    current = pulse_rate * cell.capacity
    yield Block(
        (
            charge(cell, rate, upper, cv_cutoff, 1),
            rested(rest, 1, "rest after charge"),
        )
    )
    whole = yield discharge(cell, rate, lower, 1, "capacity discharge")
    # A look ahead has no outcome that tells of a charge.
    capacity = -whole.charge if whole.charge < 0.0 else cell.capacity
    # A pair of pulses takes this out.
    taken = (1.0 - charge_pulse) * current * pulse_time
    yield Block(
        (
            rested(rest, 1, "rest after discharge"),
            charge(cell, rate, upper, cv_cutoff, 2),
            rested(rest, 2, "rest after charge"),
        )
    )
    left = capacity
    for state in states:
        seconds = (left - state * capacity) / (rate * cell.capacity)
        if seconds > 0.0:
            down = ConstantCurrent(
                -rate * cell.capacity,
                (ELAPSED >= seconds, VOLTAGE <= lower),
                label="to state of charge",
                cycle=2,
            )
            reached = yield down
            if reached.ended_by(VOLTAGE <= lower):
                return
            left = state * capacity
        yield Block(
            (
                rested(rest, 2, "rest before pulses"),
                pulse(-current, pulse_time, window, 2, "discharge pulse"),
                after_pulse(pause, 2),
                pulse(charge_pulse * current, pulse_time, window, 2, "charge pulse"),
                after_pulse(pause, 2),
            )
        )
        left -= taken
    yield Block(
        (
            discharge(cell, rate, lower, 2, "last discharge"),
            rested(rest, 2, "rest after discharge"),
        )
    )
