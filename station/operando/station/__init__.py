"""The station: the engine that executes runs, its watchdog, the command line, scripts."""

from operando.station.engine import Engine, Order, Run, order_from, settle
from operando.station.script import RunFailedError, open_bench
from operando.station.simulate import SimulatedProcess

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
