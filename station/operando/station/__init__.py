"""The station: the engine that executes runs, its watchdog, its API, the command line, scripts.

Names are looked up when they are used: a window needs the client alone, and it must open at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from operando.station.engine import Engine, Order, Run, order_from, settle
    from operando.station.script import RunFailedError, open_bench
    from operando.station.simulate import SimulatedProcess

_HOMES = {
    "Engine": "engine",
    "Order": "engine",
    "Run": "engine",
    "order_from": "engine",
    "settle": "engine",
    "RunFailedError": "script",
    "open_bench": "script",
    "SimulatedProcess": "simulate",
}

__all__ = [
    "Engine",
    "Order",
    "Run",
    "RunFailedError",
    "SimulatedProcess",
    "open_bench",
    "order_from",
    "settle",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
