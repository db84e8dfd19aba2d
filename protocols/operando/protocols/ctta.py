"""Coulometric titration time analysis of lithium against an electrolyte, on steel."""

from __future__ import annotations

import math

from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import (
    AmperesPerSquareMetre,
    CoulombsPerSquareMetre,
    Seconds,
    Voltages,
    Volts,
)
from operando.instruments.recipe import RecordConditions
from operando.protocols.ccd import electrode_area
from operando.protocols.protocol import Cell, Steps, protocol
from operando.protocols.steps import ConstantCurrent, Rest


@protocol(
    source="Dandena et al., EES Batteries 2025, 1, 692, section 4.1: a fixed charge of lithium is "
    "plated on steel, and again each time the open circuit has risen through 0.05 V. Current, "
    "charge and total time are not published: 0.1 mA/cm2, 2 uAh/cm2 and 100 h are our choice"
)
def ctta(
    cell: Cell,
    *,
    current: AmperesPerSquareMetre = "0.1 mA/cm2",  # type: ignore[assignment]
    titration: CoulombsPerSquareMetre = "2 uAh/cm2",  # type: ignore[assignment]
    trigger: Volts = "0.05 V",  # type: ignore[assignment]
    duration: Seconds = "100 h",  # type: ignore[assignment]
    window: Voltages = ("-0.5 V", "2.5 V"),  # type: ignore[assignment]
) -> Steps:
    """Plate a little lithium on steel, wait until the electrolyte has used it up, and repeat.

    The steel is the positive terminal, so that the plating current is negative. While metal is left
    the open circuit stays near 0 V; it rises when the last of it has reacted. State
    electronic_leakage of the cell, a current density, if it is known: the evaluation subtracts it.

    current: plating current density in A/m2, a magnitude; our default is not published.
    titration: charge of one titration in C/m2; our default is not published.
    trigger: voltage in V through which the open circuit rises when the next titration is due.
    duration: time in s after which no further titration begins.
    window: lowest and highest voltage in V; the cell may be found anywhere inside at the start.
    """
    area = electrode_area(cell)
    lower, upper = window
    if not lower < 0.0 < trigger < upper:
        raise BadInputError(
            "window, trigger: plating goes below 0 V and the trigger lies above; write "
            '["-0.5 V", "2.5 V"] and "0.05 V"'
        )
    if not (current > 0.0 and titration > 0.0):
        raise BadInputError(
            "current, titration: write positive magnitudes; the protocol knows the sign"
        )
    if duration <= 0.0:
        raise BadInputError("duration: must be more than 0 s")
    every_reading = RecordConditions(every=0.0)
    plated = ELAPSED >= titration / current
    used_up = VOLTAGE >= trigger
    # No more titrations than could be plated in the time.
    for number in range(1, 2 + math.ceil(duration * current / titration)):
        plating = yield ConstantCurrent(
            -current * area,
            (plated, VOLTAGE <= lower),
            label="titration",
            cycle=number,
            record=every_reading,
        )
        if not plating.ended_by(plated) or plating.time >= duration:
            return
        waiting = yield Rest(
            (used_up, ELAPSED >= duration - plating.time), label="open circuit", cycle=number
        )
        if not waiting.ended_by(used_up) or waiting.time >= duration:
            return
