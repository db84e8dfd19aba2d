"""Instruments that are read together, and steps that choose their own rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.clock import Clock
from operando.instruments.clock import run as run_coroutine
from operando.instruments.conditions import ELAPSED, VOLTAGE
from operando.instruments.errors import BadInputError
from operando.instruments.quantities import Voltages
from operando.instruments.recipe import Poll, RecordConditions
from operando.instruments.recorder import Entry
from operando.protocols import Cell, ConstantCurrent, Plan, Rest, RunState, Steps, protocol
from operando.records import Record
from operando.station.engine import Engine, Order, settle

EXAMPLE = load_bench(Path(__file__).parents[2] / "examples" / "bench.toml")
FAST = {
    name: replace(entry, simulated=replace(entry.simulated, options={"baud": 115200.0}))
    if entry.driver == "pt113" and entry.simulated is not None
    else entry
    for name, entry in EXAMPLE.instruments.items()
}
BENCH = replace(EXAMPLE, instruments=FAST)
"""With load cells at 115200 baud: at the usual 9600 an answer takes 40 ms by itself."""
CHANNEL = next(iter(BENCH.channels))
LOAD = BENCH.channels[CHANNEL].roles["load_cell"]


@protocol(source="a test")
def pulse(cell: Cell, *, window: Voltages = ("2.5 V", "4.25 V")) -> Steps:  # type: ignore[assignment]
    """A pulse that is recorded densely, between rests that are not."""
    yield Rest((ELAPSED >= 300.0,))
    yield ConstantCurrent(
        0.1 * cell.capacity / 3600.0,
        (VOLTAGE >= window[1], ELAPSED >= 120.0),
        label="pulse",
        record=RecordConditions(every=2.0),
    )
    yield Rest(
        (ELAPSED >= 300.0,), record=RecordConditions(every=100.0, on_change={"voltage": 5e-3})
    )


def run(plan: Plan, poll: Poll, folder: Path) -> Record:
    async def execute() -> Path:
        async with Engine(BENCH, Clock("virtual")) as engine:
            order = Order(plan, poll=poll, record=RecordConditions(every=60.0))
            ended = await engine.run(CHANNEL, order, folder)
            assert ended.result.state is RunState.COMPLETED, ended.result.reason
            return ended.folder

    return Record.open(run_coroutine(execute(), virtual=True))


def test_a_load_cell_is_read_together_with_the_potentiostat_and_the_skew_is_told(
    tmp_path: Path,
) -> None:
    record = run(pulse(), Poll(interval=2.0, together=(LOAD,)), tmp_path)
    during = record.samples(step=2)["time"]
    readings = record.aux("pressure")
    near = np.min(np.abs(readings["time"][:, None] - during[None, :]), axis=1)
    inside = (readings["time"] > during[0] + 2.0) & (readings["time"] < during[-1])
    assert np.count_nonzero(inside) > 1
    told: Any
    (told,) = [
        entry.data["read together"]
        for entry in record.journal(Entry.NOTE)
        if "read together" in entry.data
    ]
    skew = told[LOAD]
    assert skew["moments"] > 300
    assert skew["largest_skew"] < 0.010
    assert near[inside].max() <= skew["largest_skew"] + 1e-6
    assert readings["uncertainty"].max() < 0.010
    # A source meter integrates for a tenth of a second; the middle of that is its time.
    assert record.samples()["uncertainty"].max() <= 0.05 + 1e-9


def test_without_it_they_are_read_on_grids_of_their_own(tmp_path: Path) -> None:
    record = run(pulse(), Poll(interval=2.0), tmp_path)
    assert not [e for e in record.journal(Entry.NOTE) if "read together" in e.data]


def test_a_step_chooses_its_own_rows(tmp_path: Path) -> None:
    record = run(pulse(), Poll(interval=2.0), tmp_path)
    apart = [np.median(np.diff(record.samples(step=step)["time"])) for step in (1, 2)]
    assert apart == pytest.approx([60.0, 2.0], abs=0.5)
    relaxing = record.samples(step=3)
    jumps = np.abs(np.diff(relaxing["voltage"]))
    assert np.all(
        (jumps >= 4e-3)
        | (np.diff(relaxing["time"]) >= 90.0)
        | (np.arange(len(jumps)) == len(jumps) - 1)
    )


def test_an_instrument_that_is_not_there_is_refused() -> None:
    order = Order(pulse(), poll=replace(Poll(), together=("load9",)))
    with pytest.raises(BadInputError, match=f"no instrument 'load9'.*{LOAD}"):
        settle(BENCH, CHANNEL, order)
