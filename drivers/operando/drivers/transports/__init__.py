"""How bytes reach real instruments: VISA and serial lines, each behind one owning thread."""

from __future__ import annotations

from operando.drivers.transports.factory import make_wire
from operando.drivers.transports.threaded import Session, ThreadedWire

__all__ = ["Session", "ThreadedWire", "make_wire"]
