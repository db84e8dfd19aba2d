"""What is known of a cell by what it is made of: defaults for `chemistry` of a bench file.

A small table. Every number has its source; those that nobody has published for such cells are our
choice and called so. What a bench file or recipe states itself takes the place of a number here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from operando.instruments.bench import PLAUSIBLE_VOLTAGES, CellEntry
from operando.instruments.conditions import PRESSURE, TEMPERATURE
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Action, Limit
from operando.instruments.parameters import unknown_key
from operando.protocols.actuator_steps import (
    CHAMBER_TEMPERATURE,
    HoldPressure,
    HoldTemperature,
)
from operando.protocols.sheet import DEFAULT_MARK
from operando.protocols.steps import Step

MARGIN_ABOVE_PLAN = 10.0
"""K by which a default limit of the temperature stands above the hottest step. Our choice."""

PRESSURE_MARGIN = 1.1
"""Times the highest pressure of a step at which its default limit stands at least. Our choice."""

SLOW_STALE_AFTER = 600.0
"""Age in s at which a reading of a default limit of temperature or pressure no longer counts. Both
move slowly, and a radio sensor misses some. Our choice."""

_HOT = 353.15
"""80 degC, K: 20 K above the 60 degC to which cells of this kind are heated on purpose, well below
the melting point of lithium (453.7 K). Our choice."""

_CRUSHED = 25e6
"""Pa: a symmetric lithium cell at 25 MPa shorted within about 48 h, at 5 MPa it ran for more than
1000 h (Doux et al., Advanced Energy Materials 10 (2020) 1903253)."""

_LITHIUM_INDIUM = 0.62
"""V vs Li+/Li of the two-phase region In/InLi (Santhosha et al., Batteries & Supercaps 2019)."""

_TITANATE = 1.55
"""V vs Li+/Li of the two-phase region of Li4Ti5O12. General knowledge."""

_REVERSAL = -0.05
"""V: a full cell is never driven through zero. The 50 mV leave noise its room at a cut-off of
exactly 0 V. Our choice."""

_HIGHEST = 4.6
"""V vs Li+/Li. NCM811 is cycled to 4.25 V, and to 4.35 V as a stress test (Kim et al., Energy
Storage Materials 2026, 105167, section 2.3); above lies room for polarisation. Our choice."""

_CHARGED = 4.4
"""V vs Li+/Li, above every state in which such a cell is left at rest: 4.35 V is the highest upper
voltage of Kim et al. and 50 mV are the margin. Our choice."""

_ASSEMBLED = 2.0
"""V vs Li+/Li. NCM | Li6PS5Cl | In cells rest at 2.5 to 2.7 V vs Li+/Li as assembled (Puls et al.,
Nature Energy 9 (2024) 1310), well below the pristine cathode's own voltage. Half a volt below that
is accepted. Our choice."""


@dataclass(frozen=True, slots=True)
class Chemistry:
    """Defaults of one kind of cell.

    voltage_range: between which it may be, V: no window, set-point or limit lies beyond it.
    open_circuit: in which a healthy one is found before its first step, V, as assembled or in any
    state of charge. temperature: default limit, K; pressure: default limit, Pa, infinite where
    there is none. summary: what it is, positive electrode first.
    """

    name: str
    summary: str
    voltage_range: tuple[float, float]
    open_circuit: tuple[float, float]
    temperature: float = _HOT
    pressure: float = math.inf


CHEMISTRIES: Mapping[str, Chemistry] = {
    one.name: one
    for one in (
        Chemistry(
            "ncm811-li", "NCM811 | solid electrolyte | lithium", (_REVERSAL, _HIGHEST),
            (_ASSEMBLED, _CHARGED), pressure=_CRUSHED,
        ),
        # Indium that holds no lithium yet does not rest at its plateau: half a volt more is let be.
        Chemistry(
            "ncm811-in", "NCM811 | solid electrolyte | indium",
            (_REVERSAL, round(_HIGHEST - _LITHIUM_INDIUM, 4)),
            (round(_ASSEMBLED - _LITHIUM_INDIUM - 0.5, 4), round(_CHARGED - _LITHIUM_INDIUM, 4)),
        ),
        # Both electrodes are made at about 3 V vs Li+/Li, so the cell rests near 0 V until it has
        # been charged, and its polarity cannot be told until then. General knowledge.
        Chemistry(
            "ncm811-lto", "NCM811 | solid electrolyte | Li4Ti5O12",
            (-0.5, round(_HIGHEST - _TITANATE, 4)), (-0.5, round(_CHARGED - _TITANATE, 4)),
        ),
        # Two electrodes of one kind: at rest 0 V but for differences of their surfaces. Beyond 2 V
        # a metal of a shorted or voided cell would meet an oxidised electrolyte. Our choice.
        Chemistry(
            "li-symmetric", "lithium | solid electrolyte | lithium", (-2.0, 2.0), (-0.1, 0.1),
            pressure=_CRUSHED,
        ),
        # Nothing but the electrolyte between metals: it may float. Li6PS5Cl oxidises from about
        # 2.0 V vs Li+/Li, but against an unknown reference: 1 V either way is our choice. Heated
        # for Arrhenius ladders; argyrodites are used up to 160 degC.
        Chemistry(
            "blocking-pellet", "metal | solid electrolyte or composite | metal", (-1.0, 1.0),
            (-1.0, 1.0), temperature=433.15,
        ),
        # From plating, a little below 0 V, to sweeps up to 5 V. Steel that holds no lithium rests
        # anywhere between. Our choice.
        Chemistry(
            "steel-li", "steel, bare or coated | solid electrolyte | lithium", (-1.0, 5.5),
            (-0.1, 3.3), pressure=_CRUSHED,
        ),
    )
}  # fmt: skip
"""Chemistries by name."""


def chemistry_of(cell: CellEntry) -> Chemistry | None:
    """The chemistry that a cell states; None if it states none. Raises BadInputError."""
    if not cell.chemistry:
        return None
    found = CHEMISTRIES.get(cell.chemistry)
    if found is None:
        problem = unknown_key(cell.chemistry, list(CHEMISTRIES)).replace("key", "chemistry")
        place = f"{cell.where}: " if cell.where else ""
        raise BadInputError(
            f"{place}[cells.{cell.name}] chemistry: {problem}; there are {', '.join(CHEMISTRIES)}"
        )
    return found


def with_chemistry(cell: CellEntry) -> CellEntry:
    """The cell with what its chemistry means for it. Raises BadInputError for an unknown one."""
    chemistry = chemistry_of(cell)
    if chemistry is None or cell.voltage_range != PLAUSIBLE_VOLTAGES:
        return cell
    return replace(cell, voltage_range=chemistry.voltage_range)


def chemistry_limits(
    chemistry: Chemistry, measured: Collection[str], steps: Iterable[Step], interval: float
) -> tuple[Limit, ...]:
    """Default limits beside those of voltage and current, of what the channel measures.

    measured: quantities. steps: of the plan; no limit stands where they go themselves. interval:
    longest time between two readings of a monitor, s.
    """
    steps = list(steps)
    hottest = max((s.temperature for s in steps if isinstance(s, HoldTemperature)), default=0.0)
    pressed = max((s.maximum for s in steps if isinstance(s, HoldPressure)), default=0.0)
    hot = max(chemistry.temperature, hottest + MARGIN_ABOVE_PLAN)
    crushed = max(chemistry.pressure, PRESSURE_MARGIN * pressed)
    stale_after = max(SLOW_STALE_AFTER, 3.0 * interval)
    return tuple(
        Limit(f"over_{live.name}{DEFAULT_MARK}", live > bound, Action.TRIP, stale_after=stale_after)
        for live, bound in ((TEMPERATURE, hot), (CHAMBER_TEMPERATURE, hot), (PRESSURE, crushed))
        if live.name in measured and math.isfinite(bound)
    )
