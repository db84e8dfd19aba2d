"""Potentiostatic intermittent titration."""

from __future__ import annotations

from operando.instruments.conditions import CURRENT, ELAPSED
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, Seconds, Voltages, Volts
from operando.instruments.recipe import RecordConditions
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import ConstantVoltage, Rest


@protocol(
    source="the method of Wen, Boukamp, Huggins and Weppner, J. Electrochem. Soc. 126 (1979) 2258; "
    "step height, cut-off and longest time are our choice"
)
def pitt(
    cell: Cell,
    *,
    step: Volts = "10 mV",  # type: ignore[assignment]
    cutoff: CRate = "C/100",  # type: ignore[assignment]
    longest: Seconds = "2 h",  # type: ignore[assignment]
    current_limit: CRate = "1C",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    discharge: bool = True,
    initial_rest: Seconds = "30 min",  # type: ignore[assignment]
) -> Steps:
    """Titrate with steps of the voltage, each held until the current has decayed.

    step: height of a step in V.
    cutoff: magnitude of the current that ends a step, as a C-rate of the nominal capacity.
    longest: time in s after which a step ends though the current is larger.
    current_limit: largest current as a C-rate.
    window: lower and upper voltage in V against the counter electrode.
    discharge: step down the window as well.
    initial_rest: open-circuit time in s before the first step, which starts from its voltage; from
        the nearer end of the window where that voltage lies outside.
    """
    lower, upper = window
    if step <= 0.0:
        raise BadInputError("step: write a positive voltage; the protocol knows the sign")
    if not 0.0 < cutoff < current_limit:
        raise BadInputError("cutoff: must be more than 0 and smaller than current_limit")
    if longest <= 0.0 or initial_rest <= 0.0:
        raise BadInputError("longest, initial_rest: must be more than 0 s")

    every_reading = RecordConditions(every=0.0)
    decayed = abs(CURRENT) <= cutoff * cell.capacity
    limit = current_limit * cell.capacity
    rest = yield Rest((ELAPSED >= initial_rest,), label="initial rest", cycle=1)
    level = min(max(rest.voltage, lower), upper)
    for sign, end in ((1, upper), (-1, lower))[: 2 if discharge else 1]:
        label = "step up" if sign > 0 else "step down"
        first = level
        # Levels are counted from the first: sums of many steps would drift.
        for number in range(1, 1 + round(abs(end - first) / step + 0.499)):
            level = first + sign * min(number * step, abs(end - first))
            yield ConstantVoltage(
                round(level, 6), limit, (ELAPSED >= longest, decayed), label=label, cycle=1,
                record=every_reading,
            )  # fmt: skip
