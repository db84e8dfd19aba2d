"""What runner, limits and record cost a sample in virtual time, and a hundred cycles in seconds.

A cell is cycled as in the cell life test of Kim et al. (C/2 between 2.5 and 4.25 V, held down to
0.05C) on the source meter of `examples/bench.toml`, with a load cell beside it. The runs are made
twice: plain, for the time they take, and under the profiler, which tells how the time is shared
between drivers, simulated instruments and cell, the virtual clock with the memory wires, and what
is left: runner, limits and record. That share of the plain run's processor time is the overhead.

The profiler makes calls dearer than what they do, and the runner's are many and small: its share
comes out too large rather than too small.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock, run
from operando.instruments.recipe import parse_recipe
from operando.records import Record
from operando.station.engine import Engine, Run, order_from

TARGET = 60e-6
"""Runner, limits and record, s a sample."""
TARGET_CYCLES = 15.0
"""A hundred cycles, s."""

BENCH = Path(__file__).parents[1] / "examples" / "bench.toml"
RECIPE = """
protocol = "cccv"

[parameters]
cycles = {cycles}
charge_rate = "C/2"
discharge_rate = "C/2"
cv_cutoff = "0.05C"
window = ["2.5 V", "4.25 V"]

[poll]
interval = "{interval}"
{load_cell}

[limits]
over_voltage = {{ when = "voltage > 4.30 V", action = "trip", stale_after = "10 min" }}
under_voltage = {{ when = "voltage < 2.2 V", action = "trip", stale_after = "10 min" }}
over_current = {{ when = "abs(current) > 0.6C", action = "trip", stale_after = "10 min" }}
"""
OVER_PRESSURE = (
    'over_pressure = { when = "pressure > 12 MPa", action = "trip", stale_after = "10 min" }\n'
)

LAYERS = {
    "/protocols/": "runner",
    "/station/": "runner",
    "/records/": "record",
    "sqlite3": "record",
    "conditions.py": "limits and conditions",
    "evaluators.py": "limits and conditions",
    "limits.py": "limits and conditions",
    "/drivers/": "drivers",
    "/simulators/operando/simulators/cell": "simulated cell",
    "/simulators/": "simulated instruments",
    "wires.py": "memory wires",
    "clock.py": "virtual clock and loop",
    "asyncio": "virtual clock and loop",
}
OURS = ("runner", "limits and conditions", "record")
