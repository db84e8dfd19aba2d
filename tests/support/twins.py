"""A cell of the example laboratory, and its twin: the same preset and seed, driven directly.

The twin goes without instruments, runner or record through the same steps; what it has is what an
evaluation must find.
"""

from __future__ import annotations

from pathlib import Path

from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Plan
from operando.simulators.cell import SimulatedCell
from operando.validation.direct import DirectCell
from support.virtual_lab import LabRun, run_on_lab

UPPER, LOWER = 4.25, 2.5
HOUR, DAY = 3600.0, 86400.0


ONE_C_CHARGE = 16.96e-3 * 185.0 * 3.6
"""C that the laboratory takes for 1C of every cell: 16.96 mg at 185 mA/g, whatever a cell holds."""


def twin(preset: str, seed: int) -> DirectCell:
    cell = SimulatedCell.from_preset(preset, seed=seed)
    cell.nominal_capacity = ONE_C_CHARGE
    return DirectCell(cell)


def on_lab(plan: Plan, channel: str, folder: Path, *, poll: float, every: float = 600.0) -> LabRun:
    record = RecordConditions(every, {"voltage": 5e-3})
    return run_on_lab(plan, channel, folder, poll=Poll(poll), record=record)


def pulsed(cell: DirectCell, current: float, times: tuple[float, ...]) -> list[float]:
    """Resistances (ohm) at times (s) of a pulse out of a rest; the last is its length."""
    before = cell.cell.terminal(cell.now).voltage
    cell.cell.source_current(cell.now, current, 5.0)
    start = cell.now
    found = []
    for time in times:
        cell.now = start + time
        found.append((cell.cell.terminal(cell.now).voltage - before) / current)
    return found


def driven(cell: DirectCell, current: float, seconds: float) -> None:
    cell.cell.source_current(cell.now, current, 5.0)
    cell.now += seconds


def side_charge(cell: DirectCell) -> float:
    """Charge that has leaked through the separator or reacted at the cathode so far, C."""
    state = cell.cell.state(cell.now)
    return state.leaked_charge + state.oxidised_charge
