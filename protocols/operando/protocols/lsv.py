"""Linear sweep voltammetry."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Amperes, Seconds, Voltages, Volts, VoltsPerSecond
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Rest, VoltageSweep


@protocol(
    source="Kim et al., Energy Storage Materials 2026, 105167, section 2.3: stainless steel | "
    "pellet | Li, from open circuit to 5.0 V at 0.1 mV/s; the rest before it, the step of a "
    "staircase and the current limit are our choice"
)
def lsv(
    cell: Cell,
    *,
    end: Volts = "5.0 V",  # type: ignore[assignment]
    rate: VoltsPerSecond = "0.1 mV/s",  # type: ignore[assignment]
    step: Volts = "1 mV",  # type: ignore[assignment]
    current_limit: Amperes = "100 uA",  # type: ignore[assignment]
    window: Voltages = ("0 V", "5.0 V"),  # type: ignore[assignment]
    rest: Seconds = "30 min",  # type: ignore[assignment]
) -> Steps:
    """Sweep the voltage once from open circuit to an end.

    end: voltage in V at which the sweep stops; below the open-circuit voltage it goes down.
    rate: of the sweep in V/s, a magnitude.
    step: height in V of the staircase where the instrument makes one.
    current_limit: largest current in A; beyond it the instrument opens the circuit.
    window: lowest and highest voltage in V that the cell may be found at or taken to.
    rest: open-circuit time in s before the sweep, which starts from its voltage.
    """
    lower, upper = window
    if not lower <= end <= upper:
        raise BadInputError(f"end: {end:g} V lies outside the window, {lower:g} to {upper:g} V")
    if rate <= 0.0 or step <= 0.0 or current_limit <= 0.0 or rest <= 0.0:
        raise BadInputError("rate, step, current_limit, rest: must be positive")
    rested = yield Rest((ELAPSED >= rest,), label="rest", cycle=1)
    if rested.voltage != end:
        yield VoltageSweep(rested.voltage, end, rate, current_limit, step=step, cycle=1)
