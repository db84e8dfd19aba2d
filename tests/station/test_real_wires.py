"""Runs over real sockets and pseudo-terminals, with the simulation in a process of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from lab import simulated, wait_until, write_bench, write_recipe
from operando import evaluation
from operando.drivers.transports.visa import VisaSession
from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.recipe import load_recipe
from operando.instruments.wires import Framing
from operando.protocols import RunState
from operando.records import Record
from operando.station.engine import Engine, Run, order_from
from operando.station.simulate import clock_for

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals"),
]

NARROW = 'charge_rate = "1C"\ndischarge_rate = "1C"\nwindow = ["2.5 V", "3.95 V"]\n'
NARROW += 'constant_voltage = false\nrest = "1 min"'


@pytest.mark.parametrize("load_cell", ["pt113", "pt113-modbus"])
def test_the_curve_over_sockets_is_that_of_virtual_time(tmp_path: Path, load_cell: str) -> None:
    bench = load_bench(write_bench(tmp_path, speed=60.0, load_cell=load_cell))
    order = order_from(load_recipe(write_recipe(tmp_path, NARROW, interval="5 s")))

    async def execute(clock: Clock) -> Run:
        async with Engine(bench, clock) as engine:
            return await engine.run("A1", order, tmp_path / clock.mode)

    with simulated(bench.path) as process:
        wired = run_coroutine(execute(clock_for(bench)))
        assert process.relays() == {"smu1": False}
    virtual = run_coroutine(execute(Clock("virtual")), virtual=True)
    assert wired.result.state is virtual.result.state is RunState.COMPLETED

    curves, slopes = [], []
    for run in (wired, virtual):
        record = Record.open(run.folder)
        step = next(step for step in record.steps() if step.label == "discharge")
        samples = record.samples(step=step.index)
        curves.append((-samples["step_charge"], samples["voltage"]))
        slopes.append(evaluation.cccv(record).cycles[0].pressure.discharge_slope)
    charge = np.linspace(0.1, 0.9, 40) * min(curve[0].max() for curve in curves)
    first, second = (np.interp(charge, q, v) for q, v in curves)
    # The noise of a reading is 20 uV; 1 ms of wall time at a set-point is 0.06 s of laboratory time
    # and, on the slope of the curve, another 0.03 mV.
    assert np.abs(first - second).max() < 1e-3
    # Per charge, because a step that ends late by 0.1 s of wall time moves 20 s more of it.
    assert slopes[0] > 0.0
    assert slopes[0] == pytest.approx(slopes[1], rel=0.03)


def test_a_hung_driver_thread_is_left_behind_and_the_output_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library call that never returns: a second session identifies, switches off, reads back."""
    hang, hanging, let_go = threading.Event(), threading.Event(), threading.Event()
    sound = VisaSession.exchange

    def exchange(self: VisaSession, request: bytes, framing: Framing, timeout: float) -> bytes:
        if hang.is_set() and not hanging.is_set():
            hanging.set()
            let_go.wait(60.0)
        return sound(self, request, framing, timeout)

    monkeypatch.setattr(VisaSession, "exchange", exchange)
    bench = load_bench(write_bench(tmp_path))
    order = order_from(load_recipe(write_recipe(tmp_path, 'charge_rate = "C/2"', interval="0.2 s")))

    async def execute() -> Run:
        async with Engine(bench, Clock()) as engine:
            running = asyncio.create_task(engine.run("A1", order, tmp_path / "runs"))
            while "A1" not in engine.runners or engine.runners["A1"].state is not RunState.RUNNING:
                assert not running.done()
                await asyncio.sleep(0.05)
            hang.set()
            return await running

    with simulated(bench.path) as process:
        threads = set(threading.enumerate())
        try:
            run = run_coroutine(execute())
            assert hanging.is_set()
            assert run.result.state is RunState.FAULTED
            assert run.result.safe
            assert process.relays() == {"smu1": False}
        finally:
            let_go.set()
        wait_until(lambda: not [t for t in set(threading.enumerate()) - threads if t.is_alive()])
