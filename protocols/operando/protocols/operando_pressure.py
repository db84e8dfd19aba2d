"""Operando pressure: cycling with the stack pressure measured, at fixed gap or constant force."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED, PRESSURE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import CRate, Pascals, PascalsPerSecond, Seconds, Voltages
from operando.instruments.recipe import RecordConditions
from operando.protocols.actuator_steps import HoldPressure, within
from operando.protocols.cccv import cccv
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Rest

RELAXATION = "relaxation"
"""Label of the rest in which the stack creeps: the evaluation fits its drift there."""


@protocol(
    source="stack pressure during cycling: Dandena et al., EES Batteries 2025, 1, 692, section 4.6 "
    "(rate and base pressure not printed); 12 h of relaxation and cycles at C/10 are our choice"
)
def operando_pressure(
    cell: Cell,
    *,
    constant_force: bool = False,
    pressure: Pascals = "5 MPa",  # type: ignore[assignment]
    maximum_pressure: Pascals = "6 MPa",  # type: ignore[assignment]
    slew: PascalsPerSecond = "1 MPa/min",  # type: ignore[assignment]
    relaxation: Seconds = "12 h",  # type: ignore[assignment]
    cycles: int = 3,
    charge_rate: CRate = "C/10",  # type: ignore[assignment]
    discharge_rate: CRate = "C/10",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    cv_cutoff: CRate = "C/20",  # type: ignore[assignment]
    rest: Seconds = "1 h",  # type: ignore[assignment]
) -> Steps:
    """Let the stack relax, then cycle; the pressure is measured all the time.

    At fixed gap the frame is closed by hand before the run, and its load cell shows how the cell
    breathes. At constant force the channel's press holds the pressure; a load cell then shows how
    well. Read the load cell together with the potentiostat ([poll] together) and at least once a
    second; record changes of 5 kPa. State in the metadata of the cell: `frame_stiffness` (N/m),
    `piston_area`, `counter_electrode`; a dummy cell tells `thermal_pressure` (Pa per kelvin).

    constant_force: let the channel's pressure controller hold the pressure.
    pressure: that it holds, in Pa.
    maximum_pressure: in Pa, never exceeded on the way there.
    slew: rate at which it gets there in Pa/s.
    relaxation: rest in s before the first cycle, in which the stack creeps.
    cycles: number of cycles.
    charge_rate: charge current as a C-rate of the cell's nominal capacity.
    discharge_rate: discharge current likewise.
    window: lower and upper voltage in V against the counter electrode.
    cv_cutoff: current at which the hold at the upper voltage ends, as a C-rate.
    rest: open-circuit time after each charge and discharge in s; 0 leaves it out.
    """
    if not relaxation > 0.0:
        raise BadInputError("relaxation: write a positive time; the drift is fitted in it")
    if constant_force:
        steady = within(PRESSURE, pressure, 0.02 * pressure).held(60.0)
        ends = (steady, ELAPSED >= 3600.0)
        yield HoldPressure(pressure, slew, maximum_pressure, ends, label="press", cycle=1)
    creep = RecordConditions(every=60.0, on_change={"pressure": 5e3})
    yield Rest((ELAPSED >= relaxation,), label=RELAXATION, cycle=1, record=creep)
    yield from cccv.function(
        cell,
        cycles=cycles,
        charge_rate=charge_rate,
        discharge_rate=discharge_rate,
        window=window,
        cv_cutoff=cv_cutoff,
        constant_voltage=True,
        rest=rest,
        formation_cycles=0,
        formation_rate=charge_rate,
        initial_rest=0.0,
    )
