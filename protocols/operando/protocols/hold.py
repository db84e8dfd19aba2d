"""CC/CV cycling at a temperature and a stack pressure that the run itself holds."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED, PRESSURE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import (
    CRate,
    KelvinDifference,
    Kelvins,
    Pascals,
    PascalsPerSecond,
    Seconds,
    Voltages,
)
from operando.protocols.actuator_steps import (
    CHAMBER_TEMPERATURE,
    HoldPressure,
    HoldTemperature,
    within,
)
from operando.protocols.cccv import cccv
from operando.protocols.protocol import Cell, Steps, protocol


@protocol(
    source="the cycles of cccv (Kim et al., Energy Storage Materials 2026, 105167, section 2.3) at "
    "conditions that are held; tolerances and soaking times are our choice"
)
def conditioned_cccv(
    cell: Cell,
    *,
    hold_temperature: bool = True,
    temperature: Kelvins = "60 degC",  # type: ignore[assignment]
    temperature_tolerance: KelvinDifference = "0.5 K",  # type: ignore[assignment]
    hold_pressure: bool = False,
    pressure: Pascals = "5 MPa",  # type: ignore[assignment]
    pressure_tolerance: Pascals = "0.1 MPa",  # type: ignore[assignment]
    maximum_pressure: Pascals = "6 MPa",  # type: ignore[assignment]
    slew: PascalsPerSecond = "1 MPa/min",  # type: ignore[assignment]
    soak: Seconds = "1 h",  # type: ignore[assignment]
    patience: Seconds = "4 h",  # type: ignore[assignment]
    cycles: int = 1,
    charge_rate: CRate = "C/10",  # type: ignore[assignment]
    discharge_rate: CRate = "C/10",  # type: ignore[assignment]
    window: Voltages = ("2.5 V", "4.25 V"),  # type: ignore[assignment]
    cv_cutoff: CRate = "C/20",  # type: ignore[assignment]
    rest: Seconds = "10 min",  # type: ignore[assignment]
) -> Steps:
    """Press and warm the cell, wait until both are steady, cycle it, and let go of both.

    hold_temperature: drive the channel's temperature controller.
    temperature: of the chamber in K.
    temperature_tolerance: how far from it the chamber counts as steady, in K.
    hold_pressure: drive the channel's pressure controller.
    pressure: of the stack in Pa.
    pressure_tolerance: how far from it the stack counts as steady, in Pa.
    maximum_pressure: Pa that is never exceeded on the way there.
    slew: rate at which the pressure is changed in Pa/s.
    soak: time in s for which a condition must be within its tolerance before the run goes on.
    patience: time in s after which it goes on anyway.
    cycles: number of cycles.
    charge_rate: charge current as a C-rate of the cell's nominal capacity.
    discharge_rate: discharge current likewise.
    window: lower and upper voltage in V against the counter electrode.
    cv_cutoff: current at which the hold at the upper voltage ends, as a C-rate.
    rest: open-circuit time after each charge and discharge in s; 0 leaves it out.
    """
    if not (hold_temperature or hold_pressure):
        raise BadInputError("hold_temperature: hold that or the pressure, else take cccv")
    if not 0.0 < soak < patience:
        raise BadInputError("soak: must be more than 0 s and shorter than patience")
    if hold_pressure:
        pressed = within(PRESSURE, pressure, pressure_tolerance).held(soak)
        ends = (pressed, ELAPSED >= patience)
        yield HoldPressure(pressure, slew, maximum_pressure, ends, label="press", cycle=1)
    if hold_temperature:
        warm = within(CHAMBER_TEMPERATURE, temperature, temperature_tolerance).held(soak)
        yield HoldTemperature(temperature, (warm, ELAPSED >= patience), label="warm up", cycle=1)
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
