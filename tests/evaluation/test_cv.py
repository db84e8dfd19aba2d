"""Cyclic voltammetry on simulated cells: a symmetric one, and one with a peak."""

from __future__ import annotations

import math

import pytest

from operando.evaluation.cv import CvResult, cv
from operando.instruments.errors import BadInputError
from operando.instruments.recipe import Poll, RecordConditions
from operando.protocols import cccv
from operando.protocols.cv import cv as cycles
from operando.simulators.cell import CellParameters, SimulatedCell
from operando.simulators.cell.pellet import PelletCell, PelletParameters
from support.virtual_lab import LabRun, run_on_lab


@pytest.fixture(scope="module")
def symmetric(tmp_path_factory: pytest.TempPathFactory) -> LabRun:
    return run_on_lab(
        cycles(window=("-50 mV", "50 mV"), rate="0.5 mV/s", scans=2, rest="1 min"),
        "D2",
        tmp_path_factory.mktemp("symmetric"),
        poll=Poll(interval=0.5),
        record=RecordConditions(every=0.0),
    )


@pytest.fixture(scope="module")
def result(symmetric: LabRun) -> CvResult:
    return cv(symmetric.record)


def test_the_resistance_is_that_of_the_cell(symmetric: LabRun, result: CvResult) -> None:
    # Against a small current that is driven through the cell right after: 2 %, for the lithium's
    # interfaces are not quite linear over 50 mV.
    cell, now = symmetric.cell, symmetric.now + 60.0
    cell.open_circuit(symmetric.now)
    before = cell.terminal(now).voltage
    cell.source_current(now, 1e-4, 1.0)
    truth = (cell.terminal(now + 1.0).voltage - before) / 1e-4
    assert [scan.number for scan in result.scans] == [1, 2]
    for scan in result.scans:
        assert scan.resistance == pytest.approx(truth, rel=0.02)
        assert scan.resistance_error < 0.01 * truth
        assert scan.rate == pytest.approx(5e-4, rel=0.01)
        assert scan.flags == ()
        assert scan.peaks == ()


def test_a_symmetric_cell_passes_the_same_charge_both_ways(result: CvResult) -> None:
    # A triangle of 50 mV over the resistance, 100 s up and 100 s down. At each turn the instrument
    # stays at the end for a second, which is counted: 1 % of a triangle at its highest current.
    for scan in result.scans:
        triangle = 0.05 / scan.resistance * 100.0
        assert scan.positive_charge == pytest.approx(triangle, rel=0.02)
        assert scan.negative_charge == pytest.approx(-triangle, rel=0.02)


def hysteresis(parameters: PelletParameters) -> float:
    """Half the difference of both sweeps at 0 V over the rate of 5 mV/s, F."""
    cell, now, passing = PelletCell(parameters), 0.0, []
    levels = [*range(0, -100, -1), *range(-100, 100), *range(100, -100, -1)]
    for level in [*levels, *levels[100:]]:
        cell.source_voltage(now, 1e-3 * level, 1e-3)
        now += 0.2
        if level == 0:
            passing.append(cell.terminal(now).current)
    return 0.5 * (passing[-2] - passing[-1]) / 5e-3


def test_a_blocking_pellet_shows_its_capacitance(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = run_on_lab(
        cycles(
            window=("-0.1 V", "0.1 V"), rate="5 mV/s", scans=2, rest="1 min", current_limit="10 uA"
        ),
        "D1",
        tmp_path_factory.mktemp("pellet"),
        poll=Poll(interval=0.5),
        record=RecordConditions(every=0.0),
    )
    scan = cv(run.record).scans[-1]
    p = run.cell.parameters
    # As the pellet answers to the same staircase without an instrument: 1 mV each 0.2 s, read at
    # the end of each step. 3 %: of 65 nA, with the noise of a range of 10 uA averaged over 5 mV.
    assert scan.capacitance == pytest.approx(hysteresis(p), rel=0.03)
    # Electrons leak through it, and the blocked face loses some as well: less than theirs alone.
    electrons = p.thickness / (p.electrolyte_electronic_conductivity * p.area)
    assert 0.2 * electrons < scan.resistance < electrons


def extremes(parameters: CellParameters) -> list[tuple[float, float]]:
    """Voltage (V) and current (A) at the maximum upwards and at the minimum downwards."""
    cell, now, passed = SimulatedCell(parameters), 60.0, {}
    up = [2.5 + 0.005 * n for n in range(351)]
    for level in (*reversed(up[:20]), *up, *reversed(up)):
        cell.source_voltage(now, level, 0.01)
        now += 25.0
        current = cell.terminal(now).current
        passed[level, current > 0.0] = current
    highest, lowest = max(passed, key=passed.__getitem__), min(passed, key=passed.__getitem__)
    return [(highest[0], passed[highest]), (lowest[0], passed[lowest])]


def test_a_full_cell_shows_a_peak_each_way(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = run_on_lab(
        cycles(
            window=("2.5 V", "4.25 V"), rate="0.2 mV/s", scans=1, rest="1 min",
            current_limit="10 mA", step="5 mV",
        ),
        "C1",
        tmp_path_factory.mktemp("full"),
        poll=Poll(interval=10.0),
        record=RecordConditions(every=0.0),
    )  # fmt: skip
    result = cv(run.record)
    (scan,) = result.scans
    ups = [peak for peak in scan.peaks if peak.up]
    downs = [peak for peak in scan.peaks if not peak.up]
    assert ups
    assert downs
    # As the cell answers to the same staircase without an instrument. 15 mV: three steps, for the
    # maximum is flat; 2 %: the current is averaged over 5 mV.
    for peaks, (voltage, current) in zip((ups, downs), extremes(run.cell.parameters), strict=True):
        highest = max(peaks, key=lambda peak: abs(peak.current))
        assert highest.voltage == pytest.approx(voltage, abs=0.015)
        assert highest.current == pytest.approx(current, rel=0.02)
    passed = [step.charge for step in run.record.steps() if step.label.startswith("sweep")]
    assert scan.positive_charge + scan.negative_charge == pytest.approx(sum(passed), rel=0.02)
    assert "not ohmic" in scan.flags
    assert math.isnan(scan.resistance)
    row = result.rows()[0]
    assert row["rate_mV_per_s"] == pytest.approx(0.2, rel=0.01)
    assert "up" in str(row["peaks_V"])


def test_a_record_without_scans_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = run_on_lab(
        cccv(charge_rate="2C", discharge_rate="2C", rest="0 s", constant_voltage=False),
        "C1",
        tmp_path_factory.mktemp("cycled"),
        poll=Poll(interval=30.0),
    )
    with pytest.raises(BadInputError, match="there is no scan"):
        cv(run.record)
