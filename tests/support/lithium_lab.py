"""Runs on cells with lithium on a source meter, in virtual time.

The potentiostats of the example laboratory read every half second; a source meter is polled as
slowly as a test wants, which a ramp of a day needs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Plan, RunState
from operando.records import Record
from operando.station.engine import Engine, Order
from support.virtual_lab import LabRun

BENCH = """
[instruments.smu]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::15025::SOCKET"
[instruments.smu.simulated]
cell = "c1"
[channels.A1]
cell = "c1"
potentiostat = "smu"
[cells.c1]
preset = "{preset}"
area = "0.7854 cm2"
voltage_range = ["-5 V", "5 V"]
[cells.c1.metadata]
{metadata}
"""


def run_on_source_meter(
    plan: Plan,
    preset: str,
    folder: Path,
    *,
    poll: float = 20.0,
    record: RecordConditions | None = None,
    metadata: str = "",
    before: Callable[[Any, float], None] | None = None,
    completed: bool = True,
) -> LabRun:
    """Run a plan on the nominal cell of a preset; fail unless it completed, if it must.

    poll: s. before: told of the cell and the time before the run begins, to prepare the cell.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.toml"
    path.write_text(BENCH.format(preset=preset, metadata=metadata), encoding="utf-8")
    order = Order(
        plan, record=record or RecordConditions(every=0.0), poll=Poll(interval=poll), limits=()
    )

    async def execute() -> LabRun:
        clock = Clock("virtual")
        async with Engine(load_bench(path), clock) as engine:
            simulation: Any = engine.simulation
            cell = simulation.cells["c1"]
            if before is not None:
                before(cell, clock.now())
            run = await engine.run("A1", order, folder / "records")
            return LabRun(Record.open(run.folder), run.result, cell, simulation, clock.now())

    ran = run_coroutine(execute(), virtual=True)
    assert not any(ran.simulation.relays().values()), "an output stayed on"
    if completed:
        assert ran.result.state is RunState.COMPLETED, ran.result.reason
    return ran
