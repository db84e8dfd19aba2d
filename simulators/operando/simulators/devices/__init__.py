"""Simulated instruments, each written from its instrument's documents."""

from operando.simulators.devices.device import Device, Options, noise_stream
from operando.simulators.devices.ports import CellPort, FramePort, TerminalState

__all__ = ["CellPort", "Device", "FramePort", "Options", "TerminalState", "noise_stream"]
