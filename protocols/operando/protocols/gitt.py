"""Galvanostatic intermittent titration."""

from __future__ import annotations

import math

from operando.instruments.conditions import ELAPSED, VOLTAGE, Condition
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, Seconds, Voltages, VoltsPerSecond
from operando.instruments.recipe import RecordConditions
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import ConstantCurrent, Rest

MOST_CHARGE = 2.0
"""Pulses of one direction are given up after this many nominal capacities: a cell that reaches no
end of the window by then loses its current to something else. Our choice."""


@protocol(
    source="Kim et al., Energy Storage Materials 2026, 105167, section 2.3: C/10, pulses of "
    "10 min, rests of 30 min, charge and discharge; the first rest and the window are our choice. "
    "A rest until the voltage is steady: Batteries 11 (2025) 234"
)
def gitt(
    cell: Cell,
    *,
    rate: CRate = "C/10",  # type: ignore[assignment]
    pulse: Seconds = "10 min",  # type: ignore[assignment]
    rest: Seconds = "30 min",  # type: ignore[assignment]
    relaxed: VoltsPerSecond = "0 V/s",  # type: ignore[assignment]
    relaxation_window: Seconds = "30 min",  # type: ignore[assignment]
    longest_rest: Seconds = "10 h",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    discharge: bool = True,
    initial_rest: Seconds = "30 min",  # type: ignore[assignment]
) -> Steps:
    """Titrate with current pulses and rests, up the window and down again.

    rate: pulse current as a C-rate of the cell's nominal capacity.
    pulse: duration of a pulse in s; the end of the window ends it earlier.
    rest: open-circuit time after a pulse in s, the least one where `relaxed` is given.
    relaxed: magnitude of dV/dt in V/s, such as "0.1 mV/h", below which a rest ends; 0 ends every
        rest after its time.
    relaxation_window: time in s over which dV/dt is taken, by least squares.
    longest_rest: time in s after which a rest ends though the voltage still moves; the evaluation
        flags its pulse.
    window: lower and upper voltage in V against the counter electrode.
    discharge: titrate down the window as well.
    initial_rest: open-circuit time in s before the first pulse, whose start it is.
    """
    lower, upper = window
    if rate <= 0.0:
        raise BadInputError("rate: write a positive C-rate; the protocol knows the sign")
    if pulse <= 0.0 or rest <= 0.0 or initial_rest <= 0.0:
        raise BadInputError("pulse, rest, initial_rest: must be more than 0 s")
    if relaxed < 0.0:
        raise BadInputError('relaxed: write a magnitude such as "0.1 mV/h", or "0 V/s"')
    rested: tuple[Condition, ...] = (ELAPSED >= rest,)
    if relaxed > 0.0:
        if not 0.0 < relaxation_window <= longest_rest or rest > longest_rest:
            raise BadInputError("longest_rest: must be as long as relaxation_window and rest")
        steady = abs(VOLTAGE.slope(relaxation_window)) <= relaxed
        rested = (ELAPSED >= longest_rest, (ELAPSED >= rest) & steady)

    every_reading = RecordConditions(every=0.0)
    most = math.ceil(MOST_CHARGE / (rate * pulse))
    current = rate * cell.capacity
    yield Rest((ELAPSED >= initial_rest,), label="initial rest", cycle=1)
    for sign, end in ((1, VOLTAGE >= upper), (-1, VOLTAGE <= lower))[: 2 if discharge else 1]:
        label = "charge pulse" if sign > 0 else "discharge pulse"
        for _ in range(most):
            titration = yield ConstantCurrent(
                sign * current, (ELAPSED >= pulse, end), label=label, cycle=1, record=every_reading
            )
            yield Rest(rested, label="rest", cycle=1)
            if titration.ended_by(end):
                break
