"""Drivers: how to speak to one instrument model, one module a model."""

from __future__ import annotations

from operando.drivers.keithley_2450 import Keithley2450, Keithley2461
from operando.drivers.pt113 import PT113, PT113Modbus
from operando.drivers.transports import make_wire

__all__ = ["PT113", "Keithley2450", "Keithley2461", "PT113Modbus", "make_wire"]
