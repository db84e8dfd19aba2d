"""Cyclic voltammetry."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Amperes, Seconds, Voltages, Volts, VoltsPerSecond
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Rest, VoltageSweep


@protocol(
    source="Sun et al., InfoMat 2025, figure 13: a symmetric cell at 0.2 mV/s; vertices, "
    "number of scans and current limit are our choice"
)
def cv(
    cell: Cell,
    *,
    window: Voltages = ("-0.5 V", "0.5 V"),  # type: ignore[assignment]
    rate: VoltsPerSecond = "0.2 mV/s",  # type: ignore[assignment]
    scans: int = 3,
    upwards: bool = True,
    step: Volts = "1 mV",  # type: ignore[assignment]
    current_limit: Amperes = "1 mA",  # type: ignore[assignment]
    rest: Seconds = "10 min",  # type: ignore[assignment]
) -> Steps:
    """Sweep the voltage to and fro between two vertices, from open circuit.

    window: lower and upper vertex in V.
    rate: of the sweeps in V/s, a magnitude.
    scans: number of full scans; each ends at the vertex where it began, which a first sweep from
        open circuit goes to.
    upwards: begin at the lower vertex; else at the upper.
    step: height in V of the staircase where the instrument makes one.
    current_limit: largest current in A; beyond it the instrument opens the circuit.
    rest: open-circuit time in s before the first sweep.
    """
    if scans < 1:
        raise BadInputError("scans: ask for at least one")
    if rate <= 0.0 or step <= 0.0 or current_limit <= 0.0 or rest <= 0.0:
        raise BadInputError("rate, step, current_limit, rest: must be positive")
    first, second = window if upwards else window[::-1]
    rested = yield Rest((ELAPSED >= rest,), label="rest", cycle=1)
    if rested.voltage != first:
        yield VoltageSweep(
            rested.voltage, first, rate, current_limit, step=step, label="to the vertex", cycle=1
        )
    for scan in range(1, scans + 1):
        for start, end in ((first, second), (second, first)):
            label = "sweep up" if end > start else "sweep down"
            yield VoltageSweep(start, end, rate, current_limit, step=step, label=label, cycle=scan)
