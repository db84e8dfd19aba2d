"""Runs whose program dies, and that go on from their records."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.instruments.bench_file import load_bench
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import Poll, RecordConditions
from operando.instruments.recorder import Entry
from operando.protocols import Plan, RunState, cccv
from operando.records import Record, verify
from operando.station.engine import Order
from support.dropped import Mortal

BENCH = Path(__file__).parents[2] / "examples" / "bench.toml"


def order(plan: Plan) -> Order:
    return Order(plan, poll=Poll(interval=10.0), record=RecordConditions(every=60.0))


QUICK = {"charge_rate": "1C", "discharge_rate": "1C", "cv_cutoff": "C/5", "rest": "5 min"}


def cell_charge(lab: Mortal, channel: str) -> float:
    cell = lab.simulation.cells[lab.bench.channels[channel].cell]
    return float(cell.charge_passed(lab.now))


@pytest.mark.parametrize("moments", [(700.0,), (3.0,), (2500.0, 1500.0), (4100.0, 0.5, 900.0)])
def test_a_run_goes_on_where_its_program_died(tmp_path: Path, moments: tuple[float, ...]) -> None:
    plan = order(cccv(cycles=1, **QUICK))
    bench = load_bench(BENCH)
    channel = next(iter(bench.channels))
    with Mortal(bench, tmp_path) as lab:
        lab.start(channel, plan)
        for moment in moments:
            assert not lab.live(moment)
            record = lab.record
            lab.drop()
            assert Record.open(record).state == "killed"
            lab.now += 20.0
            lab.resume(record, plan)
        run = lab.end()
        passed = cell_charge(lab, channel)
    assert run.result.state is RunState.COMPLETED, run.result.reason
    found = Record.open(run.folder)
    assert verify(run.folder)
    assert found.folder == record
    gaps = [gap for gap in found.gaps() if gap.charge_bound >= 0.0]
    assert len(gaps) == len(moments)
    labels = [step.label for step in found.steps()]
    assert labels == ["charge", "rest after charge", "discharge", "rest after discharge"]
    counted = found.samples()["charge"][-1]
    bound = sum(gap.charge_bound for gap in gaps)
    assert abs(passed - counted) <= bound + 0.02
    assert len(found.journal(Entry.RESUMED)) == len(moments)


def test_another_protocol_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    bench = load_bench(BENCH)
    channel = next(iter(bench.channels))
    with Mortal(bench, tmp_path) as lab:
        lab.start(channel, order(cccv(cycles=1, **QUICK)))
        lab.live(1000.0)
        record = lab.record
        lab.drop()
        before = Record.open(record).journal()
        other = order(cccv(cycles=1, **(QUICK | {"charge_rate": "C/2"})))
        with pytest.raises(BadInputError, match="step 1 of the journal is 'charge'"):
            lab.resume(record, other)
        assert Record.open(record).journal() == before
        assert Record.open(record).state == "killed"
