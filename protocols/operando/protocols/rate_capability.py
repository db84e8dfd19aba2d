"""Rate capability: the same slow charge before discharges at rising rates."""

from __future__ import annotations

from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, CRates, Seconds, Voltages
from operando.protocols.cycling_steps import (
    charge,
    check_rates,
    check_taper,
    check_times,
    discharge,
    rested,
    to_voltage,
)
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Block, Step


@protocol(
    source="Kim et al., Energy Storage Materials 2026, 105167, section 2.3: charge always C/10 and "
    "held down to 0.05C, discharge at 0.1, 0.2, 0.33, 0.5, 1 and 2C between 2.5 and 4.25 V; the "
    "cycles at each rate and the way back to C/10 are not published: three and three are our choice"
)
def rate_capability(
    cell: Cell,
    *,
    rates: CRates = ("0.1C", "0.2C", "0.33C", "0.5C", "1C", "2C"),  # type: ignore[assignment]
    cycles_per_rate: int = 3,
    recovery_cycles: int = 3,
    recovery_rate: CRate = "C/10",  # type: ignore[assignment]
    charge_rate: CRate = "C/10",  # type: ignore[assignment]
    cv_cutoff: CRate = "C/20",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    rest: Seconds = "10 min",  # type: ignore[assignment]
    formation_cycles: int = 0,
    formation_rate: CRate = "C/10",  # type: ignore[assignment]
    initial_rest: Seconds = "0 s",  # type: ignore[assignment]
) -> Steps:
    """Charge slowly and discharge at each rate of a ladder, then slowly again.

    Each cycle is a block, so that a cycler which can runs it on board. The bench file must state
    the cell's capacity, or its active mass and what 1C is. The fastest discharge sets the poll
    interval: at 2C a second is 0.06 % of the charge. Recording on a voltage change of 5 mV keeps
    the curves whole.

    rates: discharge rates as C-rates of the cell's nominal capacity, in their order.
    cycles_per_rate: number of cycles at each of them; three is good practice, the last is read.
    recovery_cycles: number of cycles behind the ladder, which show what came back; 0 leaves them
        out.
    recovery_rate: discharge rate of those as a C-rate.
    charge_rate: charge current of all cycles as a C-rate.
    cv_cutoff: current at which the hold at the upper voltage ends, as a C-rate.
    window: lower and upper voltage in V against the counter electrode.
    rest: open-circuit time after each charge and discharge in s.
    formation_cycles: number of cycles at the formation rate before the ladder, charged without a
        hold, for a cell that has none behind it.
    formation_rate: charge and discharge rate of those as a C-rate.
    initial_rest: open-circuit time in s before the first charge; a cell just assembled wants 6 to
        12 h.
    """
    lower, upper = window
    if not rates:
        raise BadInputError('rates: write at least one, such as ["0.1C", "1C"]')
    for number, rate in enumerate(rates, 1):
        check_rates(**{f"rates: value {number}": rate})
    check_rates(recovery_rate=recovery_rate, charge_rate=charge_rate, formation_rate=formation_rate)
    check_taper(cv_cutoff, charge_rate)
    check_times(rest=rest)
    if cycles_per_rate < 1:
        raise BadInputError("cycles_per_rate: ask for at least one cycle at each rate")
    if recovery_cycles < 0 or formation_cycles < 0:
        raise BadInputError("recovery_cycles, formation_cycles: write 0 to leave them out")

    if initial_rest > 0.0:
        yield rested(initial_rest, 1, "initial rest")
    ladder = [(rate, "discharge") for rate in rates for _ in range(cycles_per_rate)]
    ladder += [(recovery_rate, "recovery discharge")] * recovery_cycles
    forming = [(formation_rate, "formation discharge")] * formation_cycles
    for cycle, (rate, label) in enumerate(forming + ladder, 1):
        up: Step = charge(cell, charge_rate, upper, cv_cutoff, cycle)
        if cycle <= formation_cycles:
            up = to_voltage(cell, formation_rate, upper, cycle, "formation charge")
        yield Block(
            (
                up,
                rested(rest, cycle, "rest after charge"),
                discharge(cell, rate, lower, cycle, label),
                rested(rest, cycle, "rest after discharge"),
            )
        )
