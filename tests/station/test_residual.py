"""The residual against the twin: measured minus the voltage that a dry run predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from operando.instruments.conditions import parse
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Action, Limit
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import Plan, RunState, cccv
from operando.station.dry_run import predict
from operando.station.engine import Order, settle
from support.virtual_lab import bench_of, run_order

LIMIT = Limit("unlike_the_twin", parse("abs(residual) > 30 mV for 60 s"), Action.TRIP)
PLAN: Plan = cccv(charge_rate="1C", discharge_rate="1C", cv_cutoff="C/5", rest="5 min")
POLL = Poll(interval=5.0)


def twin_record(folder: Path) -> Path:
    bench = bench_of("C4")
    order = Order(PLAN, poll=POLL, record=RecordConditions(every=20.0))
    kept: list[Path] = []
    predict(bench, "C4", order, output=folder, then=lambda record: kept.append(record.folder))
    return kept[0]


def run(twin: Path, folder: Path, preset: str) -> tuple[RunState, str]:
    changed = bench_of("C4")
    cells = {name: replace(cell, preset=preset) for name, cell in changed.cells.items()}
    ran = run_order(
        replace(changed, cells=cells),
        "C4",
        Order(PLAN, limits=(LIMIT,), poll=POLL, record=RecordConditions(every=60.0), twin=twin),
        folder,
    )
    return ran.result.state, ran.result.reason


def test_a_cell_like_its_twin_passes_and_another_trips(tmp_path: Path) -> None:
    twin = twin_record(tmp_path / "dry")
    assert run(twin, tmp_path / "same", "ncm811-caec")[0] is RunState.COMPLETED
    state, reason = run(twin, tmp_path / "other", "ncm811-bare")
    assert state is RunState.TRIPPED
    assert "unlike_the_twin" in reason


def test_a_residual_without_a_twin_is_refused() -> None:
    order = Order(PLAN, limits=(LIMIT,), poll=POLL)
    with pytest.raises(BadInputError, match="names no twin; make a dry run"):
        settle(bench_of("C4"), "C4", order)


def test_a_twin_of_another_plan_is_refused(tmp_path: Path) -> None:
    twin = twin_record(tmp_path)
    other = Order(cccv(charge_rate="C/2"), limits=(LIMIT,), poll=POLL, twin=twin)
    with pytest.raises(BadInputError, match="the record of another plan"):
        settle(bench_of("C4"), "C4", other)
    with pytest.raises(BadInputError, match=r"twin: .* no manifest"):
        settle(bench_of("C4"), "C4", replace(other, twin=tmp_path / "nothing"))
