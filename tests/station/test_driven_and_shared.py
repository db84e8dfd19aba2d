"""A chamber that one channel drives and another watches: one connection, one owner."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.conditions import ELAPSED
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import Poll
from operando.protocols import (
    CHAMBER_TEMPERATURE,
    Cell,
    HoldTemperature,
    Rest,
    RunState,
    Steps,
    protocol,
    within,
)
from operando.records import Record
from operando.station.engine import Engine, Order, Run, settle
from station.conditioned import verdicts, write_conditioned_bench

SECOND = """
[instruments.smu2]
driver = "keithley-2450"
address = "TCPIP::127.0.0.1::5026::SOCKET"
[instruments.smu2.simulated]
cell = "c2"

[cells.c2]
preset = "ncm811-caec"
room = "oven"

[channels.A2]
potentiostat = "smu2"
shared = ["oven1"]
"""


@protocol(source="this test")
def warmed(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
    """Hold 40 degC for a while."""
    steady = within(CHAMBER_TEMPERATURE, 313.15, 0.5).held("10 min")
    yield HoldTemperature(313.15, (steady, ELAPSED >= "2 h"))


@protocol(source="this test")
def watched(cell: Cell, *, window: tuple[float, float] = (2.5, 4.25)) -> Steps:
    """Rest beside it."""
    yield Rest((ELAPSED >= "1 h",))


def run_both(folder: Path, *, drop: bool = False) -> tuple[Run, Run, Any]:
    path = write_conditioned_bench(folder)
    path.write_text(path.read_text(encoding="utf-8") + SECOND, encoding="utf-8")
    bench = load_bench(path)

    async def main() -> tuple[Run, Run, Any]:
        clock = Clock("virtual")
        async with Engine(bench, clock) as engine:
            simulation: Any = engine.simulation
            beside = asyncio.create_task(
                engine.run("A2", Order(watched(), poll=Poll(5.0)), folder / "runs")
            )
            await clock.sleep(20.0)
            driving = asyncio.create_task(
                engine.run("A1", Order(warmed(), poll=Poll(5.0)), folder / "runs")
            )
            if drop:
                await clock.sleep(300.0)
                simulation.inject("oven1", "drop 60 s")
            return await driving, await beside, simulation.devices["oven1"]

    return run_coroutine(main(), virtual=True)


@pytest.mark.parametrize("drop", [False, True])
def test_one_run_drives_what_another_watches(tmp_path: Path, drop: bool) -> None:
    driving, beside, oven = run_both(tmp_path, drop=drop)
    assert driving.result.state is beside.result.state is RunState.COMPLETED
    assert driving.result.duration < beside.result.duration
    # The run that drives it switches it at its end; the one that watches does not, at its own.
    assert verdicts(driving) == {"smu1": "verified", "oven1": "verified"}
    assert "oven1" not in verdicts(beside)
    assert oven.mode == "STANDBY"
    warmest = []
    for run in (driving, beside):
        found = Record.open(run.folder).aux("chamber_temperature", source="oven1")["value"]
        warmest.append(np.nanmax(found))
    assert warmest == pytest.approx([313.15, 313.15], abs=0.5)


def test_only_the_channel_that_has_it_in_a_role_may_drive_it(tmp_path: Path) -> None:
    path = write_conditioned_bench(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + SECOND, encoding="utf-8")
    with pytest.raises(BadInputError, match="channel A2 has none; write temperature_controller"):
        settle(load_bench(path), "A2", Order(warmed()))
