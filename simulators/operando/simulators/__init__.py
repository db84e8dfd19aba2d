"""Simulated instruments, cells and load frames, at byte level."""

from operando.simulators.bench import SimulatedBench
from operando.simulators.cell import SimulatedCell
from operando.simulators.faults import Fault, FaultyPeer, Misbehaving, parse_faults
from operando.simulators.loadframe import LoadFrame

__all__ = [
    "Fault",
    "FaultyPeer",
    "LoadFrame",
    "Misbehaving",
    "SimulatedBench",
    "SimulatedCell",
    "parse_faults",
]
