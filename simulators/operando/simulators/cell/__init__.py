"""Simulated cells: one state that gives voltage, current, impedance and thickness."""

from operando.simulators.cell.cycling import Cycle, cycle
from operando.simulators.cell.factory import AnyCell, cell_from_preset
from operando.simulators.cell.lithium import LithiumCell, LithiumParameters, LithiumState
from operando.simulators.cell.parameters import (
    CellParameters,
    Preset,
    Provenance,
    load_preset,
    presets,
)
from operando.simulators.cell.pellet import PelletCell, PelletParameters, PelletState
from operando.simulators.cell.port import Cell
from operando.simulators.cell.simulated import SimulatedCell
from operando.simulators.cell.spectrum import impedance
from operando.simulators.cell.state import CellState, Regulation, Terminal

__all__ = [
    "AnyCell",
    "Cell",
    "CellParameters",
    "CellState",
    "Cycle",
    "LithiumCell",
    "LithiumParameters",
    "LithiumState",
    "PelletCell",
    "PelletParameters",
    "PelletState",
    "Preset",
    "Provenance",
    "Regulation",
    "SimulatedCell",
    "Terminal",
    "cell_from_preset",
    "cycle",
    "impedance",
    "load_preset",
    "presets",
]
