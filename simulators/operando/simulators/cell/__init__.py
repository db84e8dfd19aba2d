"""The simulated cell: one state that gives voltage, current and thickness."""

from operando.simulators.cell.parameters import (
    CellParameters,
    Preset,
    Provenance,
    load_preset,
    presets,
)
from operando.simulators.cell.simulated import SimulatedCell
from operando.simulators.cell.state import CellState, Regulation, Terminal

__all__ = [
    "CellParameters",
    "CellState",
    "Preset",
    "Provenance",
    "Regulation",
    "SimulatedCell",
    "Terminal",
    "load_preset",
    "presets",
]
