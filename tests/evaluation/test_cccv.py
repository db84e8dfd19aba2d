"""Evaluation of cycling on ideal cells whose answers are known."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from operando.evaluation import CyclingResult, cccv
from operando.evaluation.half_cycles import read_cycling
from operando.instruments.recorder import Entry

MakeRecord = Any
CURRENT, CONSTANT, HELD, TAU = 1e-3, 3600.0, 1200.0, 600.0
CHARGED = CURRENT * (CONSTANT + TAU * (1.0 - math.exp(-HELD / TAU)))  # C
EFFICIENCY = 0.98


@pytest.fixture(params=[True, False], ids=["counted", "integrated"])
def result(make_record: MakeRecord, request: pytest.FixtureRequest) -> CyclingResult:
    return cccv(make_record(counted=request.param))


def test_capacities_and_efficiency_are_those_of_the_cell(result: CyclingResult) -> None:
    assert [cycle.cycle for cycle in result.cycles] == [1, 2]
    for cycle in result.cycles:
        assert cycle.charge_capacity == pytest.approx(CHARGED, rel=1e-5)
        assert cycle.discharge_capacity == pytest.approx(EFFICIENCY * CHARGED, rel=1e-5)
        assert cycle.coulombic_efficiency == pytest.approx(EFFICIENCY, rel=1e-5)
        assert cycle.flags == ()


def test_voltages_and_polarisation_are_those_of_the_cell(result: CyclingResult) -> None:
    constant = CURRENT * CONSTANT
    mean_charge = (3.6 * constant + 4.2 * (CHARGED - constant)) / CHARGED
    mean_discharge = 4.1 - 0.6
    for cycle in result.cycles:
        assert cycle.charge_end_voltage == pytest.approx(4.2)
        assert cycle.discharge_end_voltage == pytest.approx(4.1 - 1.2)
        assert cycle.mean_polarisation == pytest.approx(mean_charge - mean_discharge, abs=1e-4)


def test_the_time_at_constant_voltage_is_known_to_half_an_interval(result: CyclingResult) -> None:
    for cycle in result.cycles:
        assert cycle.constant_voltage_time == pytest.approx(HELD, abs=5.0 + 1e-6)


def test_pressure_swings_with_the_charge_and_has_its_sign(make_record: MakeRecord) -> None:
    for cycle in cccv(make_record()).cycles:
        assert cycle.pressure.swing == pytest.approx(1e5 * CHARGED, rel=1e-6)
        assert cycle.pressure.charge_slope == pytest.approx(1e5, rel=1e-6)
        assert cycle.pressure.discharge_slope == pytest.approx(1e5, rel=1e-6)


def test_a_cell_that_shrinks_on_charge_has_a_negative_swing(make_record: MakeRecord) -> None:
    shrinking = make_record.cell(breathing=-2e5)
    (cycle, _) = cccv(make_record(shrinking)).cycles
    assert cycle.pressure.swing == pytest.approx(-2e5 * CHARGED, rel=1e-6)
    assert cycle.pressure.charge_slope == pytest.approx(-2e5, rel=1e-6)


def test_rows_are_in_the_units_of_the_literature(make_record: MakeRecord) -> None:
    row = cccv(make_record()).rows()[0]
    milliamperehours = CHARGED / 3.6
    assert row["charge_capacity_mAh"] == pytest.approx(milliamperehours)
    assert row["charge_capacity_mAh_per_g"] == pytest.approx(milliamperehours / 0.01)
    assert row["coulombic_efficiency_percent"] == pytest.approx(98.0)
    assert row["pressure_swing_MPa"] == pytest.approx(0.1 * CHARGED)
    assert row["charge_pressure_slope_MPa_per_mAh"] == pytest.approx(0.36)
    assert row["charge_pressure_slope_MPa_per_mAh_per_cm2"] == pytest.approx(0.36 * 0.7854)
    assert row["simulated"] is True
    assert row["cell"] == "ideal"


def test_a_cycle_with_a_gap_is_flagged_and_nothing_is_made_up(make_record: MakeRecord) -> None:
    record = make_record(counted=False, gap=(1003.0, 1047.0))
    first, second = cccv(record).cycles
    assert first.flags == ("gap",)
    assert second.flags == ()
    assert first.charge_capacity == pytest.approx(CHARGED - 0.05, rel=1e-5)  # 1000 s to 1050 s
    assert second.charge_capacity == pytest.approx(CHARGED, rel=1e-5)


def test_a_cycle_that_was_not_finished_is_flagged(make_record: MakeRecord) -> None:
    first, second = cccv(make_record(finish=False)).cycles
    assert first.flags == ()
    assert second.flags == ("incomplete",)


@pytest.mark.parametrize("state", ["aborted", "tripped", "held", "faulted", "refused", None])
def test_the_last_cycle_of_a_run_that_did_not_complete_is_flagged(
    make_record: MakeRecord, state: str | None
) -> None:
    first, second = cccv(make_record(state=state)).cycles
    assert first.flags == ()
    assert second.flags == (f"run {state or 'faulted'}",)


@pytest.mark.parametrize(("kind", "flags"), [
    ("ConstantVoltage", ("incomplete", "run aborted")), ("Rest", ("run aborted",)),
])  # fmt: skip
def test_a_step_that_was_stopped_before_its_first_sample_leaves_the_cycle_incomplete(
    make_record: MakeRecord, kind: str, flags: tuple[str, ...]
) -> None:
    step = {"index": 7, "step_id": 4, "cycle": 2, "label": "more", "kind": kind, "hash": "7"}
    record = make_record(state="aborted", extra=[(Entry.STEP_STARTED, 1e5, step)])
    first, second = cccv(record).cycles
    assert first.flags == ()
    assert second.flags == flags


def test_pauses_and_limits_are_flagged_in_their_cycle(make_record: MakeRecord) -> None:
    limit = {"name": "hot", "when": "w", "action": "hold", "value": 1.0}
    first, second = cccv(
        make_record(extra=[(Entry.PAUSED, 1000.0, {}), (Entry.LIMIT, 1000.0, limit)])
    ).cycles
    assert first.flags == ("paused", "limit hot")
    assert second.flags == ()


def test_a_pressure_reading_that_is_too_old_gives_no_swing(make_record: MakeRecord) -> None:
    record = make_record()
    assert math.isfinite(cccv(record, max_age=0.5).cycles[0].pressure.swing)
    readings = record.aux("pressure")
    readings["time"] += 0.7
    record.aux = lambda *_, **__: readings
    assert math.isnan(cccv(record, max_age=0.5).cycles[0].pressure.swing)


def test_rests_belong_to_neither_half(make_record: MakeRecord) -> None:
    cycling = read_cycling(make_record())
    assert [(half.cycle, half.charging) for half in cycling.halves] == [
        (1, True), (1, False), (2, True), (2, False),
    ]  # fmt: skip
    assert all(cycling.samples["step_time"][half.rows[0]] == 0.0 for half in cycling.halves)


def test_without_mass_specific_capacities_are_unknown(make_record: MakeRecord) -> None:
    row = cccv(make_record(mass=math.nan)).rows()[0]
    assert math.isnan(float(row["charge_capacity_mAh_per_g"]))
    assert row["charge_capacity_mAh"] == pytest.approx(CHARGED / 3.6)


def test_importing_the_evaluation_imports_neither_matplotlib_nor_scipy(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; "
        "import operando.evaluation; "
        "print([m for m in ('matplotlib', 'scipy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"
