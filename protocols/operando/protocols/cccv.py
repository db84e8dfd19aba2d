"""CC/CV formation and cycling."""

from __future__ import annotations

from operando.instruments.conditions import CURRENT, ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, Seconds, Voltages
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import (
    Block,
    ConstantCurrent,
    ConstantCurrentConstantVoltage,
    Rest,
    Step,
)


@protocol(
    source="Kim et al., Energy Storage Materials 2026, 105167, section 2.3: C/10 formation, then "
    "C/2 CC/CV cycling between 2.5 and 4.25 V (taper to 0.05C assumed by analogy)"
)
def cccv(
    cell: Cell,
    *,
    cycles: int = 1,
    charge_rate: CRate = "C/2",  # type: ignore[assignment]
    discharge_rate: CRate = "C/2",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    cv_cutoff: CRate = "C/20",  # type: ignore[assignment]
    constant_voltage: bool = True,
    rest: Seconds = "10 min",  # type: ignore[assignment]
    formation_cycles: int = 0,
    formation_rate: CRate = "C/10",  # type: ignore[assignment]
    initial_rest: Seconds = "0 s",  # type: ignore[assignment]
) -> Steps:
    """Charge at constant current and constant voltage, discharge at constant current, repeat.

    cycles: number of cycles after formation.
    charge_rate, discharge_rate: currents as C-rates of the cell's nominal capacity.
    window: lower and upper voltage in V against the counter electrode.
    cv_cutoff: current at which the constant-voltage hold ends, as a C-rate.
    constant_voltage: hold the upper voltage until the current has fallen to cv_cutoff.
    rest: open-circuit time after each charge and discharge in s; 0 leaves it out.
    formation_cycles: number of slow cycles before the others.
    formation_rate: charge and discharge rate of the formation cycles, which are charged without
        a constant-voltage hold.
    initial_rest: open-circuit time in s before the first charge; a cell just assembled wants 6 to
        12 h.
    """
    lower, upper = window
    if not lower < upper:
        raise BadInputError(
            f"window: the lower voltage {lower} V must be below the upper {upper} V"
        )
    if cycles < 0 or formation_cycles < 0 or cycles + formation_cycles == 0:
        raise BadInputError("cycles and formation_cycles: ask for at least one cycle in total")
    for name, rate in (
        ("charge_rate", charge_rate),
        ("discharge_rate", discharge_rate),
        ("formation_rate", formation_rate),
        ("cv_cutoff", cv_cutoff),
    ):
        if rate <= 0.0:
            raise BadInputError(f"{name}: write a positive C-rate; the protocol knows the sign")
    if constant_voltage and cv_cutoff >= charge_rate:
        raise BadInputError(
            "cv_cutoff must be smaller than charge_rate, else the hold never starts"
        )

    full, empty = VOLTAGE >= upper, VOLTAGE <= lower
    rested = ELAPSED >= rest
    if initial_rest > 0.0:
        yield Rest((ELAPSED >= initial_rest,), label="initial rest", cycle=1)

    for cycle in range(1, formation_cycles + cycles + 1):
        forming = cycle <= formation_cycles
        charge_current = (formation_rate if forming else charge_rate) * cell.capacity
        discharge_current = (formation_rate if forming else discharge_rate) * cell.capacity
        kind = "formation " if forming else ""
        charge: Step
        if constant_voltage and not forming:
            tapered = abs(CURRENT) <= cv_cutoff * cell.capacity
            charge = ConstantCurrentConstantVoltage(
                charge_current, upper, until=(tapered,), label="charge", cycle=cycle
            )
        else:
            charge = ConstantCurrent(charge_current, (full,), label=f"{kind}charge", cycle=cycle)
        discharge = ConstantCurrent(
            -discharge_current, (empty,), label=f"{kind}discharge", cycle=cycle
        )
        if rest > 0.0:
            after_charge = Rest((rested,), label="rest after charge", cycle=cycle)
            after_discharge = Rest((rested,), label="rest after discharge", cycle=cycle)
            yield Block((charge, after_charge, discharge, after_discharge))
        else:
            yield Block((charge, discharge))
