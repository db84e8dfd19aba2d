"""Compression and relaxation: the stack is pressed in steps, and creeps after each of them."""

from __future__ import annotations

from operando.instruments.conditions import ELAPSED, PRESSURE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Pascals, PascalsPerSecond, Seconds, Voltages
from operando.instruments.recipe import RecordConditions
from operando.protocols.actuator_steps import HoldPressure, within
from operando.protocols.operando_pressure import RELAXATION
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import Rest


@protocol(source="our procedure: a stack that was clamped or pressed is left alone and watched")
def compression_relaxation(
    cell: Cell,
    *,
    press: bool = False,
    lowest: Pascals = "2 MPa",  # type: ignore[assignment]
    highest: Pascals = "8 MPa",  # type: ignore[assignment]
    levels: int = 4,
    maximum_pressure: Pascals = "10 MPa",  # type: ignore[assignment]
    slew: PascalsPerSecond = "1 MPa/min",  # type: ignore[assignment]
    relaxation: Seconds = "12 h",  # type: ignore[assignment]
    window: Voltages = ("0 V", "4.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Watch the stack pressure of a cell at rest; press it level by level where a press is there.

    In a frame of fixed gap that was closed by hand there is one relaxation; its pressure falls as
    the stack creeps. A press of constant force goes through its levels, up and down again; then
    the pressure stays, and what a displacement gauge would show is not seen here.

    press: let the channel's pressure controller go through the levels.
    lowest: first and last level in Pa.
    highest: level in the middle in Pa.
    levels: number of levels on the way up, both ends included.
    maximum_pressure: in Pa, never exceeded on the way.
    slew: rate at which the pressure is changed in Pa/s.
    relaxation: time at rest after each level in s.
    window: lowest and highest voltage in V at which the cell may be found.
    """
    if not relaxation > 0.0:
        raise BadInputError("relaxation: write a positive time")
    record = RecordConditions(every=60.0, on_change={"pressure": 5e3})
    ends = (ELAPSED >= relaxation,)
    if not press:
        yield Rest(ends, label=RELAXATION, cycle=1, record=record)
        return
    for cycle, level in enumerate(ladder(lowest, highest, levels), start=1):
        steady = within(PRESSURE, level, 0.02 * level).held(30.0)
        there = (steady, ELAPSED >= 3600.0)
        yield HoldPressure(level, slew, maximum_pressure, there, label="press", cycle=cycle)
        yield Rest(ends, label=RELAXATION, cycle=cycle, record=record)


def ladder(lowest: float, highest: float, levels: int) -> tuple[float, ...]:
    """Levels (Pa) up and down again, the highest once. Raises BadInputError."""
    if not 0.0 < lowest < highest:
        raise BadInputError(
            f"lowest: {lowest:g} Pa must be positive and below highest, {highest:g} Pa"
        )
    if levels < 2:
        raise BadInputError("levels: write at least 2, the lowest and the highest")
    up = [lowest + (highest - lowest) * n / (levels - 1) for n in range(levels)]
    return (*up, *up[-2::-1])
